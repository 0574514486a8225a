"""Mean and deviation of the images as OpenMMLab's `data_preprocessor` keeps them beside a network: of values to 255.

github.com/open-mmlab/mmpretrain, mmpretrain/models/utils/data_preprocessor.py. They are those of the channels in the
order that the network sees, which its configuration may leave as OpenCV reads them: blue first.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from a2mim.checkpoints.errors import CheckpointError
from a2mim.checkpoints.sources.common import IMAGENET

MOST = 256
"""Channels of an image."""

BLUE_FIRST = tuple(255 * x for x in IMAGENET[0][::-1])


def kept_pixels(content: Any, left_out: Mapping[str, Tensor], path: Path) -> list[list[float]] | None:
    """Mean and deviation of values to 1; None where the file keeps none.

    Raises CheckpointError for a network that was shown blue first, as timm's models are not.
    """
    kept = [left_out.get(f"data_preprocessor.{name}") for name in ("mean", "std")]
    mean, std = ([] if x is None or x.numel() > MOST else [float(each) for each in x.flatten()] for x in kept)
    if blue_first(content, mean):
        raise CheckpointError(
            f"checkpoint '{path}' is of a network that was shown images with blue first (its data_preprocessor, or its "
            "configuration, says so): turn the input channels of its first layer and save its weights alone"
        )
    return [[x / 255 for x in mean], [x / 255 for x in std]] if mean and std else None


def blue_first(content: Any, mean: list[float]) -> bool:
    """Whether the means are ImageNet's from blue to red, or all that the configuration says of it."""
    meta = content.get("meta")
    text = str(meta.get("config") or meta.get("cfg")) if isinstance(meta, Mapping) else ""
    said = set(re.findall(r"to_rgb\s*=\s*(True|False)", text))
    turned = len(mean) == 3 and all(abs(a - b) < 0.5 for a, b in zip(mean, BLUE_FIRST, strict=True))
    return turned or said == {"False"}
