"""How a tensor holds a map of the image, told from what it holds for images that differ in one quadrant.

What convolution, pooling, norm, activation, addition and plain rearrangement make of a map is one, too (tracing.py).
Where that thread breaks, as between windows, a change in one quadrant of the image must change that quadrant of the map
most, and tokens in raster order may stand behind prefix tokens (class token …).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["NCHW", "NHWC", "NLC", "NCL"]


@dataclass(frozen=True)
class Layout:
    """How a tensor holds a map: NCHW, NHWC, or tokens in raster order (NLC, NCL), in NLC behind `prefix` others."""

    kind: Kind
    channels: int
    height: int
    width: int
    prefix: int = 0

    @property
    def positions(self) -> int:
        return self.height * self.width


def to_map(x: Tensor, layout: Layout) -> Tensor:
    """A tensor in `layout` as a map B×C×H×W, without prefix tokens."""
    if layout.kind == "NCHW":
        return x
    if layout.kind == "NHWC":
        return x.permute(0, 3, 1, 2)
    if layout.kind == "NCL":
        return x.unflatten(2, (layout.height, layout.width))
    return x[:, layout.prefix :].transpose(1, 2).unflatten(2, (layout.height, layout.width))


_LOCAL = 0.5
"""How local a change must be. Tokens in raster order score 0.9 and more, in another order (grouped by window, say) less
than 0.4."""


def quadrant_images(image_shape: Sequence[int]) -> Tensor:
    """(5, C, H, W): an image of noise, and the same with other noise in each of its quadrants."""
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    changed = torch.where(_quadrants(*image_shape[1:])[:, None] > 0, noise[1], noise[0])
    return torch.cat([noise[:1], changed])


def _quadrants(height: int, width: int) -> Tensor:
    """(4, height, width): indicators of the quadrants; fractions where a grid of odd size straddles the middle."""
    rows = (0.5 * height - torch.arange(height)).clamp(0, 1)
    columns = (0.5 * width - torch.arange(width)).clamp(0, 1)
    return torch.stack([r[:, None] * c for r in (rows, 1 - rows) for c in (columns, 1 - columns)])


def read_layout(x: Tensor, aspect: float, prefixes: Sequence[int]) -> Layout | None:
    """How x, computed from `quadrant_images`, holds a map of an image of that height / width; None if it does not."""
    options: list[Layout] = []
    if x.ndim == 4:
        _, a, b, c = x.shape
        options = [Layout("NCHW", a, b, c), Layout("NHWC", c, a, b)]
    elif x.ndim == 3:
        for prefix in prefixes:
            tokens = x.shape[1] - prefix
            sides = [h for h in range(1, tokens + 1) if tokens % h == 0] if tokens > 1 else []
            options += [Layout("NLC", x.shape[2], h, tokens // h, prefix) for h in sides]
    options = [option for option in options if _has_aspect(option, aspect)]
    options.sort(key=lambda option: abs(math.log(option.height / option.width / aspect)))
    return next((option for option in options if _locality(to_map(x, option)) >= _LOCAL), None)


def _has_aspect(layout: Layout, aspect: float) -> bool:
    """Whether the map has the image's proportions, but for less than a position that rounding adds or takes."""
    height, width = layout.height, layout.width
    return height - 1 < aspect * (width + 1) and aspect * (width - 1) < height + 1


def _locality(x_BCHW: Tensor) -> float:
    """How well the change that a quadrant of the image causes keeps to that quadrant of the map.

    At each position, the share that its own quadrant has in the changes by all four, against that of the quadrant which
    changes it most. 0: no more than the quarter of chance; 1: its own does, or nothing can be said because all four
    change it alike.
    """
    change_4HW = (x_BCHW[1:] - x_BCHW[:1]).abs().sum(1).double().cpu()
    share_4HW = (change_4HW / change_4HW.sum(0)).nan_to_num(nan=0.25)
    quadrants_4HW = _quadrants(*share_4HW.shape[1:]).double()
    own = float((share_4HW * quadrants_4HW).sum(0).mean())
    best = float(share_4HW.max(0).values.mean())
    return (own - 0.25) / (best - 0.25) if best > 0.3 else 1.0
