"""OpenMixup (A²MIM's own code) and mmpretrain: `backbone.`, `neck.` and `head.` of an OpenMMLab model, or the backbone
alone as their extraction scripts write it.

github.com/Westlake-AI/openmixup (openmixup/models/backbones: vision_transformer.py, mim_vit.py, convnext.py,
mim_resnet.py; tools/model_converters), github.com/open-mmlab/mmpretrain. Their ResNets have torchvision's names.
"""

import re
from dataclasses import replace
from typing import Any

from torch import Tensor

from a2mim.checkpoints.convert import Source, Tensors, substitute
from a2mim.checkpoints.sources.common import (
    ANY,
    ATTENTION_MASK,
    DECODER,
    INDEX,
    MASK_TOKEN,
    POSITION_INDEX,
    PROJECTOR,
    fold_batch_norm,
)
from a2mim.checkpoints.sources.convnext import STAGE_NAMES

NECK = {rf"neck\.{ANY}": f"{DECODER}, or its projector"}
DROPS = {
    POSITION_INDEX: INDEX,
    ATTENTION_MASK: INDEX,
    r"(backbone\.)?mask_(token|gamma)": MASK_TOKEN,
    **NECK,
    rf"head\.(predictor|decoder)\.{ANY}": PROJECTOR,
    rf"(momentum_encoder|target_generator|target_network)\.{ANY}": "target network of the pre-training",
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
    **STAGE_NAMES,
    r"norm3\.(.*)": r"head.norm.\1",
    r"head\.fc\.(weight|bias)": r"head.fc.\1",
}
NORM_OF_THE_MAP = {r"norm3\.(.*)": r"norm_pre.\1"}

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


def plain_or_beit(tensors: Tensors) -> Tensors:
    """The layer scale gets the name that timm's plain ViT has, unless there is what only its Beit can hold."""
    beit = any(key.endswith(("relative_position_bias_table", "attn.q_bias")) for key in tensors)
    folded = fold_batch_norm(tensors, norm="head.bn", linear="head", eps=1e-6, into="head")
    return folded if beit else substitute(folded, PLAIN_LAYER_SCALE)


def matrices(tensors: Tensors) -> Tensors:
    """Linear layers that were written as 1×1 convolutions become matrices, as timm has them."""
    return {
        key: x.flatten(1) if ".mlp.fc" in key and x.ndim == 4 and x.shape[2:] == (1, 1) else x
        for key, x in tensors.items()
    }


def merged_pixels_first(tensors: Tensors) -> Tensors:
    """Patch merging joins four pixels by `nn.Unfold`, channels before pixels and rows first; timm's does it the other
    way round."""
    return {
        key: pixels_first(x)
        if re.fullmatch(r"layers\.\d\.downsample\.(norm\.(weight|bias)|reduction\.weight)", key)
        else x
        for key, x in tensors.items()
    }


def pixels_first(x: Tensor) -> Tensor:
    """(…, C·4) in the order of nn.Unfold → (…, 4·C) in the order (0,0), (1,0), (0,1), (1,1) of timm."""
    if x.shape[-1] % 4:
        return x
    return x.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)


OWN: dict[str, Any] = {
    "name": "openmixup or mmpretrain",
    "where": "github.com/Westlake-AI/openmixup, github.com/open-mmlab/mmpretrain",
    "prefix": r"backbone\.",
    "drops": DROPS,
}
CONVNEXT_MARK = r"(backbone\.)?stages\.0\.0\.depthwise_conv\.weight"

VIT = Source(
    marks=(r"(backbone\.)?layers\.0\.ffn\.layers\.0\.0\.weight",),
    names=VIT_NAMES,
    finish=plain_or_beit,
    norm_eps={"": 1e-6},
    **OWN,
)
PRETRAINED_CONVNEXT = Source(
    marks=(CONVNEXT_MARK, r"neck\.decoder.*"),
    names={**CONVNEXT_NAMES, **NORM_OF_THE_MAP},
    finish=matrices,
    norm_eps={"": 1e-6},
    **OWN,
)
CONVNEXT = Source(marks=(CONVNEXT_MARK,), names=CONVNEXT_NAMES, finish=matrices, norm_eps={"": 1e-6}, **OWN)
SWIN = Source(
    marks=(r"(backbone\.)?stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight",),
    names=SWIN_NAMES,
    finish=merged_pixels_first,
    norm_eps={"": 1e-5},
    **OWN,
)
RESNET = Source(
    # torchvision's names: what else an OpenMMLab model has tells them from a ResNet behind somebody else's `backbone.`.
    marks=(r"(backbone\.)?layer1\.0\.conv1\.weight", rf"neck\.{ANY}|head\.fc\.weight|(backbone\.)?mask_token"),
    names=RESNET_NAMES,
    **OWN,
)


def classified(source: Source, linear: str) -> Source:
    """The same names with a classifier behind the neck, which then computes and is not left out: a batch norm without
    affine (ClsBatchNormNeck, of MAE's linear probe) becomes a part of the classifier, and nothing else is known.

    linear: timm's name of the classifier.
    """

    def finish(tensors: Tensors) -> Tensors:
        return fold_batch_norm(source.finish(tensors), norm="neck.bn", linear=linear, eps=1e-6, into=linear)

    marks = (*source.marks, r"head\.(?:fc|layers\.head)\.weight", rf"neck\.{ANY}")
    drops = {rule: why for rule, why in source.drops.items() if rule not in NECK}
    return replace(source, marks=marks, drops=drops, finish=finish)


OPENMMLAB = (
    classified(VIT, "head"),
    *(classified(each, "head.fc") for each in (CONVNEXT, SWIN)),
    classified(RESNET, "fc"),
    *(VIT, PRETRAINED_CONVNEXT, CONVNEXT, SWIN, RESNET),
)
