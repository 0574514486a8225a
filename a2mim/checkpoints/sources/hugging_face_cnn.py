"""Hugging Face transformers: ConvNeXt, ConvNeXt V2 and ResNet, with or without the base model's prefix.

A configuration's epsilon is that of the last norm alone; inside of the stages it is fixed.
"""

from a2mim.checkpoints.convert import Source, Tensors
from a2mim.checkpoints.sources.common import IMAGENET, LEAF
from a2mim.checkpoints.sources.hugging_face import BASE, WHERE

STAGE = r"encoder\.stages\.([0-3])"
CONVNEXT_NAMES = {
    r"embeddings\.patch_embeddings\.(.*)": r"stem.0.\1",
    r"embeddings\.layernorm\.(.*)": r"stem.1.\1",
    rf"{STAGE}\.downsampling_layer\.([01])\.(.*)": r"stages.\1.downsample.\2.\3",
    rf"{STAGE}\.layers\.(\d+)\.dwconv\.(.*)": r"stages.\1.blocks.\2.conv_dw.\3",
    rf"{STAGE}\.layers\.(\d+)\.layernorm\.(.*)": r"stages.\1.blocks.\2.norm.\3",
    rf"{STAGE}\.layers\.(\d+)\.pwconv([12])\.(.*)": r"stages.\1.blocks.\2.mlp.fc\3.\4",
    rf"{STAGE}\.layers\.(\d+)\.grn\.{LEAF}": r"stages.\1.blocks.\2.mlp.grn.\3",
    rf"{STAGE}\.layers\.(\d+)\.layer_scale_parameter": r"stages.\1.blocks.\2.gamma",
    r"layernorm\.(.*)": r"head.norm.\1",
    rf"classifier\.{LEAF}": r"head.fc.\1",
}

RESNET_NAMES = {
    r"embedder\.embedder\.convolution\.(.*)": r"conv1.\1",
    r"embedder\.embedder\.normalization\.(.*)": r"bn1.\1",
    rf"classifier\.1\.{LEAF}": r"fc.\1",
    **{
        rf"encoder\.stages\.{stage}\.layers\.(\d+)\.{there}\.(.*)": rf"layer{stage + 1}.\1.{here}.\2"
        for stage in range(4)
        for there, here in {
            r"shortcut\.convolution": "downsample.0",
            r"shortcut\.normalization": "downsample.1",
            **{rf"layer\.{n}\.convolution": f"conv{n + 1}" for n in range(3)},
            **{rf"layer\.{n}\.normalization": f"bn{n + 1}" for n in range(3)},
        }.items()
    },
}


def flat_grn(tensors: Tensors) -> Tensors:
    """The weights of the global response norm, 1×1×1×C there, are vectors in timm."""
    return {
        key: x.flatten() if ".mlp.grn." in key and x.ndim == 4 and x.shape[:3] == (1, 1, 1) else x
        for key, x in tensors.items()
    }


CONVNEXT = Source(
    "hugging face",
    f"{WHERE.format('convnext', 'convnext')} and convnextv2",
    marks=(rf"{BASE}encoder\.stages\.0\.layers\.0\.dwconv\.weight",),
    prefix=BASE,
    names=CONVNEXT_NAMES,
    finish=flat_grn,
    norm_eps={"": 1e-6, "head.norm": 1e-12},
    config_eps="head.norm",
    pixels=IMAGENET,
)
RESNET = Source(
    "hugging face",
    WHERE.format("resnet", "resnet"),
    marks=(rf"{BASE}embedder\.embedder\.convolution\.weight",),
    prefix=BASE,
    names=RESNET_NAMES,
    pixels=IMAGENET,
)

HUGGING_FACE_CNN = (CONVNEXT, RESNET)
