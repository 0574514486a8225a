"""torchvision's ViT and ConvNeXt (its ResNets have timm's names)."""

from a2mim.checkpoints.convert import Source, Tensors
from a2mim.checkpoints.sources.common import IMAGENET, VIT_EPS
from a2mim.checkpoints.sources.swin import COMPUTED

LAYER = r"encoder\.layers\.encoder_layer_(\d+)"

VIT_NAMES = {
    r"class_token": "cls_token",
    r"encoder\.pos_embedding": "pos_embed",
    r"conv_proj\.(.*)": r"patch_embed.proj.\1",
    rf"{LAYER}\.ln_([12])\.(.*)": r"blocks.\1.norm\2.\3",
    rf"{LAYER}\.self_attention\.in_proj_(weight|bias)": r"blocks.\1.attn.qkv.\2",
    rf"{LAYER}\.self_attention\.out_proj\.(.*)": r"blocks.\1.attn.proj.\2",
    # Files from before torchvision 0.14 have linear_1 and linear_2 instead of the places in the Sequential.
    rf"{LAYER}\.mlp\.(?:0|linear_1)\.(.*)": r"blocks.\1.mlp.fc1.\2",
    rf"{LAYER}\.mlp\.(?:3|linear_2)\.(.*)": r"blocks.\1.mlp.fc2.\2",
    r"encoder\.ln\.(.*)": r"norm.\1",
    r"heads\.head\.(.*)": r"head.\1",
}


VIT = Source(
    "torchvision vit",
    "github.com/pytorch/vision, torchvision/models/vision_transformer.py",
    marks=(r"conv_proj\.weight", r"encoder\.layers\.encoder_layer_0\..*"),
    names=VIT_NAMES,
    norm_eps=VIT_EPS,
    positions="align corners",
    pixels=IMAGENET,
)

# features.0 is the stem; then stages (odd) and the downsampling before the next one (even) take turns.
CONVNEXT_NAMES = {
    r"features\.0\.([01])\.(.*)": r"stem.\1.\2",
    **{rf"features\.{2 * n}\.([01])\.(.*)": rf"stages.{n}.downsample.\1.\2" for n in (1, 2, 3)},
    **{
        rf"features\.{2 * n + 1}\.(\d+)\.{layer}": rf"stages.{n}.blocks.\1.{name}"
        for n in range(4)
        for layer, name in {
            r"block\.0\.(.*)": r"conv_dw.\2",
            r"block\.2\.(.*)": r"norm.\2",
            r"block\.3\.(.*)": r"mlp.fc1.\2",
            r"block\.5\.(.*)": r"mlp.fc2.\2",
            r"layer_scale": "gamma",
        }.items()
    },
    r"classifier\.0\.(.*)": r"head.norm.\1",
    r"classifier\.2\.(.*)": r"head.fc.\1",
}


def flat_layer_scale(tensors: Tensors) -> Tensors:
    """The layer scale, D×1×1 here, is a vector in timm."""
    return {
        key: x.flatten() if key.endswith(".gamma") and x.ndim == 3 and x.shape[1:] == (1, 1) else x
        for key, x in tensors.items()
    }


CONVNEXT = Source(
    "torchvision convnext",
    "github.com/pytorch/vision, torchvision/models/convnext.py",
    marks=(r"features\.0\.0\.weight", r".*\.layer_scale"),
    names=CONVNEXT_NAMES,
    finish=flat_layer_scale,
    norm_eps={"": 1e-6},
    pixels=IMAGENET,
)

# features.0 holds the patches and their norm; stages (odd) and the merging of patches (even) take turns.
SWIN_NAMES = {
    r"features\.0\.0\.(.*)": r"patch_embed.proj.\1",
    r"features\.0\.2\.(.*)": r"patch_embed.norm.\1",
    **{rf"features\.{2 * n + 1}\.(\d+)\.mlp\.0\.(.*)": rf"layers.{n}.blocks.\1.mlp.fc1.\2" for n in range(4)},
    **{rf"features\.{2 * n + 1}\.(\d+)\.mlp\.3\.(.*)": rf"layers.{n}.blocks.\1.mlp.fc2.\2" for n in range(4)},
    **{rf"features\.{2 * n + 1}\.(\d+)\.((?:norm|attn).*)": rf"layers.{n}.blocks.\1.\2" for n in range(4)},
    **{rf"features\.{2 * n}\.((?:norm|reduction)\..*)": rf"layers.{n}.downsample.\1" for n in range(1, 4)},
    r"head\.(weight|bias)": r"head.fc.\1",
}
SWIN_MARK = r"features\.1\.0\.attn\.qkv\.weight"


def split_bias(tensors: Tensors) -> Tensors:
    """V2's attention sets the bias of its keys to zero wherever it is used: timm has those of queries and values."""
    made = {}
    for key, x in tensors.items():
        attention = key.removesuffix(".qkv.bias")
        if attention != key and x.ndim == 1 and x.shape[0] % 3 == 0:
            made[f"{attention}.q_bias"], _, made[f"{attention}.v_bias"] = x.chunk(3)
        else:
            made[key] = x
    return made


SWIN = Source(
    "torchvision swin",
    "github.com/pytorch/vision, torchvision/models/swin_transformer.py",
    marks=(SWIN_MARK, r"features\.1\.0\.attn\.relative_position_bias_table"),
    drops=COMPUTED,
    names=SWIN_NAMES,
    norm_eps={"": 1e-5},
    pixels=IMAGENET,
)
SWIN_V2 = Source(
    "torchvision swin v2",
    "github.com/pytorch/vision, torchvision/models/swin_transformer.py",
    marks=(SWIN_MARK, r"features\.1\.0\.attn\.logit_scale"),
    drops=COMPUTED,
    names=SWIN_NAMES,
    finish=split_bias,
    norm_eps={"": 1e-5},
    pixels=IMAGENET,
)
SWINS = (SWIN, SWIN_V2)

SEQUENTIAL_RESNET = Source(
    "torchvision's resnet as a list of layers",
    "github.com/lightly-ai/lightly: nn.Sequential(*list(resnet.children())[:-1])",
    marks=(r"0\.weight", r"1\.running_mean", r"4\.0\.conv1\.weight", r"7\.0\.conv1\.weight"),
    names={r"0\.(.*)": r"conv1.\1", r"1\.(.*)": r"bn1.\1", **{rf"{n + 3}\.(.*)": rf"layer{n}.\1" for n in range(1, 5)}},
    pixels=IMAGENET,
)
