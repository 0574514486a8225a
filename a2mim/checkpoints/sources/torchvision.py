"""torchvision's ViT and ConvNeXt (its ResNets have timm's names)."""

from a2mim.checkpoints.convert import Source, Tensors
from a2mim.checkpoints.sources.common import IMAGENET, VIT_EPS

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
