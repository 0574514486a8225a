"""ConvNeXt in the original's names, SparK's sparse encoders, whose weights are those of the dense network, and AugNet.

github.com/facebookresearch/ConvNeXt (models/convnext.py), github.com/keyu-tian/SparK (pretrain/spark.py, encoder.py).
SparK pre-trains a ConvNeXt without its last norm, and a ResNet without its classifier.
"""

from a2mim.checkpoints.convert import Source, Tensors, substitute
from a2mim.checkpoints.sources.common import DECODER, IMAGENET, MASK_TOKEN, PROJECTOR

LEAF = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
CONVNEXT_EPS = {"": 1e-6}

CONVNEXT_NAMES = {
    r"downsample_layers\.0\.(\d)\.(.*)": r"stem.\1.\2",
    r"downsample_layers\.([123])\.(\d)\.(.*)": r"stages.\1.downsample.\2.\3",
    r"stages\.(\d)\.(\d+)\.dwconv\.(.*)": r"stages.\1.blocks.\2.conv_dw.\3",
    r"stages\.(\d)\.(\d+)\.pwconv([12])\.(.*)": r"stages.\1.blocks.\2.mlp.fc\3.\4",
    r"stages\.(\d)\.(\d+)\.(norm\..*|gamma)": r"stages.\1.blocks.\2.\3",
    r"norm\.(.*)": r"head.norm.\1",
    r"(head|fc)\.(weight|bias)": r"head.fc.\2",
}


def is_convnext(tensors: Tensors) -> bool:
    return "downsample_layers.0.0.weight" in tensors and "stages.0.0.dwconv.weight" in tensors


def convert_convnext(tensors: Tensors) -> Tensors:
    return substitute(tensors, CONVNEXT_NAMES)


CONVNEXT = Source("convnext", is_convnext, convert_convnext, norm_eps=CONVNEXT_EPS, pixels=IMAGENET)


def is_spark(tensors: Tensors) -> bool:
    return any(key.startswith("sparse_encoder.sp_cnn.") for key in tensors)


def convert_spark(tensors: Tensors) -> Tensors:
    """Off with the sparse encoder's prefix; ConvNeXts have the original's names, ResNets timm's."""
    stripped = substitute(tensors, {r"sparse_encoder\.sp_cnn\.(.*)": r"\1"})
    return convert_convnext(stripped) if is_convnext(stripped) else stripped


SPARK = Source(
    "spark",
    is_spark,
    convert_spark,
    {
        rf"densify_(norms|projs)\.\d+\.{LEAF}": DECODER,
        rf"dense_decoder\.(\w+\.)*{LEAF}": DECODER,
        r"mask_tokens\.\d+": MASK_TOKEN,
        r"imn_[ms]|norm_black": "pixel constants of the pre-training",
    },
    CONVNEXT_EPS,
    pixels=IMAGENET,
)


# AugNet's ResNet-50 as in the PyPI package imgsim: torchvision's names behind `pre.`, and a projection as its fc.


def is_augnet(tensors: Tensors) -> bool:
    return "pre.conv1.weight" in tensors and all(key.startswith("pre.") for key in tensors)


AUGNET = Source(
    "imgsim",
    is_augnet,
    lambda tensors: substitute(tensors, {r"pre\.(.*)": r"\1"}),
    {r"pre\.fc\.(weight|bias)": PROJECTOR},
    pixels=IMAGENET,
)
