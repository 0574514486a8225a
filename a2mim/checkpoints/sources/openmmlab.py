"""OpenMixup (A²MIM's own code) and mmpretrain: `backbone.`, `neck.` and `head.` of an OpenMMLab model, or the backbone
alone as their extraction scripts write it.

github.com/Westlake-AI/openmixup (openmixup/models/backbones: vision_transformer.py, mim_vit.py, convnext.py,
mim_resnet.py; tools/model_converters), github.com/open-mmlab/mmpretrain. Their ResNets have torchvision's names.
"""

import re

from torch import Tensor

from a2mim.checkpoints.convert import Source, Tensors, substitute
from a2mim.checkpoints.sources.common import (
    ATTENTION_MASK,
    DECODER,
    IMAGENET,
    INDEX,
    MASK_TOKEN,
    POSITION_INDEX,
    PROJECTOR,
    fold_batch_norm,
)

DROPS = {
    POSITION_INDEX: INDEX,
    ATTENTION_MASK: INDEX,
    r"(backbone\.)?mask_(token|gamma)": MASK_TOKEN,
    r"neck\.(\w+\.)*\w+": f"{DECODER}, or its projector",
    r"head\.(predictor|decoder)\.(\w+\.)*\w+": PROJECTOR,
    r"(momentum_encoder|target_generator|target_network)\.(\w+\.)*\w+": "target network of the pre-training",
    r"data_preprocessor\.(mean|std)": "pixel mean and deviation of the data",
}

VIT_NAMES = {
    r"patch_embed\.projection\.(.*)": r"patch_embed.proj.\1",
    r"layers\.(\d+)\.(?:ln|norm)([12])\.(.*)": r"blocks.\1.norm\2.\3",
    r"layers\.(\d+)\.attn\.gamma1\.(?:weight|scale)": r"blocks.\1.gamma_1",
    r"layers\.(\d+)\.ffn\.gamma2\.(?:weight|scale)": r"blocks.\1.gamma_2",
    r"layers\.(\d+)\.ffn\.layers\.0\.0\.(.*)": r"blocks.\1.mlp.fc1.\2",
    r"layers\.(\d+)\.ffn\.layers\.1\.(.*)": r"blocks.\1.mlp.fc2.\2",
    r"layers\.(\d+)\.(attn\..*|gamma_[12])": r"blocks.\1.\2",
    r"(?:ln|norm)1\.(.*)": r"norm.\1",
    # The norm behind the mean over the patches.
    r"(?:ln|norm)2\.(.*)": r"fc_norm.\1",
    r"head\.(?:fc|layers\.head)\.(weight|bias)": r"head.\1",
    r"head\.layers\.head_dist\.(weight|bias)": r"head_dist.\1",
}
PLAIN_LAYER_SCALE = {r"blocks\.(\d+)\.gamma_([12])": r"blocks.\1.ls\2.gamma"}

RESNET_NAMES = {r"head\.fc\.(weight|bias)": r"fc.\1"}

CONVNEXT_NAMES = {
    r"downsample_layers\.0\.(\d)\.(.*)": r"stem.\1.\2",
    r"downsample_layers\.([123])\.(\d)\.(.*)": r"stages.\1.downsample.\2.\3",
    r"stages\.(\d)\.(\d+)\.depthwise_conv\.(.*)": r"stages.\1.blocks.\2.conv_dw.\3",
    r"stages\.(\d)\.(\d+)\.pointwise_conv([12])\.(.*)": r"stages.\1.blocks.\2.mlp.fc\3.\4",
    r"stages\.(\d)\.(\d+)\.(norm\..*|gamma)": r"stages.\1.blocks.\2.\3",
    r"norm3\.(.*)": r"head.norm.\1",
    r"head\.fc\.(weight|bias)": r"head.fc.\1",
}

SWIN_NAMES = {
    r"patch_embed\.projection\.(.*)": r"patch_embed.proj.\1",
    r"stages\.(\d)\.blocks\.(\d+)\.attn\.w_msa\.(.*)": r"layers.\1.blocks.\2.attn.\3",
    r"stages\.(\d)\.blocks\.(\d+)\.(norm[12]\..*)": r"layers.\1.blocks.\2.\3",
    r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.0\.0\.(.*)": r"layers.\1.blocks.\2.mlp.fc1.\3",
    r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.1\.(.*)": r"layers.\1.blocks.\2.mlp.fc2.\3",
    **{rf"stages\.{n}\.downsample\.(.*)": rf"layers.{n + 1}.downsample.\1" for n in range(3)},
    r"norm3\.(.*)": r"norm.\1",
    r"head\.fc\.(weight|bias)": r"head.fc.\1",
}

VIT_MARK = r"(backbone\.)?layers\.0\.ffn\.layers\.0\.0\.weight"
RESNET_MARK = r"(backbone\.)?layer1\.0\.conv1\.weight"
CONVNEXT_MARK = r"(backbone\.)?stages\.0\.0\.depthwise_conv\.weight"
SWIN_MARK = r"(backbone\.)?stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight"


def has(tensors: Tensors, mark: str) -> bool:
    return any(re.fullmatch(mark, key) for key in tensors)


def is_resnet(tensors: Tensors) -> bool:
    """A ResNet that is told from torchvision's by `backbone.` or by a mask token, which is a map here."""
    marked = any(key.startswith("backbone.") for key in tensors) or "mask_token" in tensors
    return marked and has(tensors, RESNET_MARK)


def strip_backbone(tensors: Tensors) -> Tensors:
    return substitute(tensors, {r"backbone\.(.*)": r"\1"})


def convert_vit(tensors: Tensors) -> Tensors:
    """The layer scale gets the name that timm's plain ViT has, unless there is what only its Beit can hold."""
    tensors = fold_batch_norm(tensors, norm="head.bn", linear="head.fc", eps=1e-6, into="head")
    converted = substitute(strip_backbone(tensors), VIT_NAMES)
    beit = any(key.endswith(("relative_position_bias_table", "attn.q_bias")) for key in converted)
    return converted if beit else substitute(converted, PLAIN_LAYER_SCALE)


def convert_convnext(tensors: Tensors) -> Tensors:
    """Linear layers that were written as 1×1 convolutions become matrices, as timm has them."""
    return {
        key: x.flatten(1) if ".mlp.fc" in key and x.ndim == 4 and x.shape[2:] == (1, 1) else x
        for key, x in substitute(strip_backbone(tensors), CONVNEXT_NAMES).items()
    }


def convert_swin(tensors: Tensors) -> Tensors:
    """Patch merging joins four pixels by `nn.Unfold`, channels before pixels and rows first; timm's does it the other
    way round."""
    return {
        key: pixels_first(x)
        if re.fullmatch(r"layers\.\d\.downsample\.(norm\.(weight|bias)|reduction\.weight)", key)
        else x
        for key, x in substitute(strip_backbone(tensors), SWIN_NAMES).items()
    }


def pixels_first(x: Tensor) -> Tensor:
    """(…, C·4) in the order of nn.Unfold → (…, 4·C) in the order (0,0), (1,0), (0,1), (1,1) of timm."""
    if x.shape[-1] % 4:
        return x
    return x.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)


OPENMMLAB = (
    Source("openmixup or mmpretrain", lambda x: has(x, VIT_MARK), convert_vit, DROPS, {"": 1e-6}, pixels=IMAGENET),
    Source(
        "openmixup or mmpretrain", lambda x: has(x, CONVNEXT_MARK), convert_convnext, DROPS, {"": 1e-6}, pixels=IMAGENET
    ),
    Source("openmixup or mmpretrain", lambda x: has(x, SWIN_MARK), convert_swin, DROPS, {"": 1e-5}, pixels=IMAGENET),
    Source(
        "openmixup or mmpretrain",
        is_resnet,
        lambda x: substitute(strip_backbone(x), RESNET_NAMES),
        DROPS,
        pixels=IMAGENET,
    ),
)
