"""A CNN on the visible part of an image: sparse convolution by masking (SparK, Tian et al., ICLR 2023, section 3.1).

Dense layers run as they are, and a mask keeps what they make of masked positions at zero, so that these act as if they
did not exist: no mask pattern erodes from layer to layer, and no statistic counts them.

- Everything with weights, and every other layer that fills masked positions (pooling), has its output masked.
- Batch normalisation sees the visible positions alone, gathered into one long list: its statistics are theirs.
- Global pooling inside of a block (squeeze-and-excitation) becomes the mean over visible positions.

All of it is done by hooks that live only while `sparse` is entered: the backbone stays timm's own. Which layers need
what is read off by running it, so it works for any CNN whose maps have sides that the mask's grid divides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.layouts import Layout, attached, evaluating, intercept, read_layouts

__all__ = ["SparsePlan", "Visible", "read_sparse", "sparse"]

# Of each position by itself, or (GlobalResponseNorm: a sum over positions) blind to zeros.
SOUND_NORMS = (_BatchNorm, nn.LayerNorm, GlobalResponseNorm)
# timm's variants of these hold their activation as a child.
NORMS = (*SOUND_NORMS, nn.GroupNorm)


@dataclass(frozen=True)
class SparsePlan:
    """What is done to which modules of a backbone, by name.

    masked: module -> how its output holds the map (NCHW or NHWC); gathered: batch normalisations; pooled: the first
    layer behind a mean over the whole map.
    """

    masked: dict[str, str]
    gathered: tuple[str, ...]
    pooled: tuple[str, ...]


class Visible:
    """The visible cells of a batch of masks (B, rows, columns), 1 = masked, the same number in each; at any resolution.

    The masks should lie on the CPU, where counting them waits for no device.
    """

    def __init__(self, mask: Tensor, device: torch.device):
        self.batch, self.rows, self.columns = mask.shape
        count = int((mask[0] == 0).sum())
        self.fraction = count / (self.rows * self.columns)
        self.mask = mask.to(device)
        self.cells_BV = mask.flatten(1).argsort(dim=1, stable=True)[:, :count].to(device)
        self._maps: dict[tuple[int, ...], Tensor] = {}
        self._indices: dict[int, Tensor] = {}

    def map(self, height: int, width: int) -> Tensor:
        """(B, 1, height, width), 1 = visible."""
        if (height, width) not in self._maps:
            finer = (1 - self.mask).repeat_interleave(height // self.rows, 1)
            self._maps[height, width] = finer.repeat_interleave(width // self.columns, 2)[:, None]
        return self._maps[height, width]

    def hide(self, x: Tensor, kind: str = "NCHW") -> Tensor:
        """x with zeros at masked positions."""
        if kind == "NHWC":
            return x * self.map(*x.shape[1:3]).to(x.dtype).permute(0, 2, 3, 1)
        return x * self.map(*x.shape[2:]).to(x.dtype)

    def gather(self, x_BCHW: Tensor) -> Tensor:
        """The visible positions (N, C, 1, 1), image by image and cell by cell."""
        rows = x_BCHW.permute(0, 2, 3, 1).reshape(-1, x_BCHW.shape[1])
        return rows.index_select(0, self._index(x_BCHW.shape[2] // self.rows))[..., None, None]

    def scatter(self, x_NC11: Tensor) -> Tensor:
        """The inverse of `gather`, with zeros at masked positions."""
        scale = math.isqrt(len(x_NC11) // self.cells_BV.numel())
        shape = (self.batch, self.rows * scale, self.columns * scale)
        x = x_NC11.new_zeros(math.prod(shape), x_NC11.shape[1])
        return x.index_copy(0, self._index(scale), x_NC11[..., 0, 0]).view(*shape, -1).permute(0, 3, 1, 2)

    def _index(self, scale: int) -> Tensor:
        """Where the visible positions lie in a flat map of `scale`² positions to a cell."""
        if scale not in self._indices:
            image_B111 = torch.arange(self.batch, device=self.cells_BV.device)[:, None, None, None]
            within = torch.arange(scale, device=self.cells_BV.device)
            row = (self.cells_BV // self.columns)[..., None, None] * scale + within[:, None]
            column = (self.cells_BV % self.columns)[..., None, None] * scale + within
            index = (image_B111 * self.rows * scale + row) * self.columns * scale + column
            self._indices[scale] = index.flatten()
        return self._indices[scale]


@contextmanager
def sparse(backbone: nn.Module, plan: SparsePlan, visible: Visible) -> Iterator[None]:
    """Inside, the backbone's `forward_features` is sparse; masked pixels of its input must be zero."""
    handles = []
    for name in plan.pooled:
        handles.append(intercept(backbone, name, "input", partial(torch.mul, other=1 / visible.fraction)))
    for name in plan.gathered:
        handles += [
            intercept(backbone, name, "input", visible.gather),
            intercept(backbone, name, "output", visible.scatter),
        ]
    for name, kind in plan.masked.items():
        handles.append(intercept(backbone, name, "output", partial(visible.hide, kind=kind)))
    with attached(*handles):
        yield


def read_sparse(backbone: nn.Module, image_size: int, channels: int, grid: tuple[int, int]) -> SparsePlan:
    """Which modules need what, read off by running the backbone (weights and statistics untouched).

    grid: rows and columns of the mask's cells.
    Raises ValueError for a backbone that cannot be made sparse, naming the module.
    """
    name = type(backbone).__name__
    units = dict(_units(backbone))
    layouts = read_layouts(backbone, image_size, list(units))
    for unit, layout in layouts.items():
        if layout is None or layout.kind == "NLC":
            raise ValueError(
                f"{unit} of {name} is no layer on a map of positions: sparse convolution needs a plain CNN."
            )
        kind = type(units[unit]).__name__
        if "Norm" in kind and not isinstance(units[unit], SOUND_NORMS):
            raise ValueError(f"{unit} of {name} is a {kind}, whose statistics would count masked positions.")
        if layout.grid != (1, 1) and (layout.grid[0] % grid[0] or layout.grid[1] % grid[1]):
            raise ValueError(
                f"{unit} of {name} makes a map of {layout.grid[0]}×{layout.grid[1]}, which {grid[0]}×{grid[1]} mask "
                "cells do not divide: choose an image size that is a multiple of the backbone's stride."
            )
    maps: dict[str, str] = {
        unit: layout.kind for unit, layout in layouts.items() if layout is not None and layout.grid != (1, 1)
    }
    gathered = tuple(unit for unit in maps if isinstance(units[unit], _BatchNorm))
    heavy = [u for u in maps if u not in gathered and any(True for _ in (*units[u].parameters(), *units[u].buffers()))]
    pooled = _pooled(backbone, [unit for unit in layouts if unit not in maps], layouts, image_size, channels)
    first = SparsePlan({unit: maps[unit] for unit in heavy}, gathered, pooled)
    light = {unit: maps[unit] for unit in maps if unit not in gathered and unit not in heavy}
    return SparsePlan(first.masked | _filling(backbone, first, light, image_size, channels, grid), gathered, pooled)


def _units(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Layers: modules without children, and normalisations (timm's hold their activation)."""
    for name, child in module.named_children():
        if isinstance(child, NORMS) or not any(True for _ in child.children()):
            yield prefix + name, child
        else:
            yield from _units(child, f"{prefix}{name}.")


def _pooled(
    backbone: nn.Module, units: list[str], layouts: dict[str, Layout | None], size: int, channels: int
) -> tuple[str, ...]:
    """The first of each block's layers on a single position, which must get the mean over the block's input.

    Raises ValueError where a layer is fed by anything else.
    """
    blocks: dict[str, str] = {}
    for unit in units:
        blocks.setdefault(unit.rpartition(".")[0], unit)
    means: dict[str, Tensor] = {}
    fed: dict[str, bool] = {}

    def keep(block: str, x: Tensor) -> None:
        means[block] = x.mean((2, 3), keepdim=True) if x.ndim == 4 else x

    def compare(block: str, x: Tensor) -> None:
        fed[block] = x.shape == means[block].shape and torch.allclose(x, means[block], rtol=1e-4, atol=1e-6)

    handles = [intercept(backbone, block, "input", partial(keep, block)) for block in blocks]
    handles += [intercept(backbone, first, "input", partial(compare, block)) for block, first in blocks.items()]
    with evaluating(backbone), attached(*handles):
        backbone.forward_features(_noise(backbone, size, channels))  # type: ignore[operator]
    for block, first in blocks.items():
        if not fed.get(block):
            raise ValueError(f"{first} of {type(backbone).__name__} pools the map by something else than its mean.")
    return tuple(blocks.values())


def _filling(
    backbone: nn.Module, plan: SparsePlan, units: dict[str, str], size: int, channels: int, grid: tuple[int, int]
) -> dict[str, str]:
    """Those of the weightless `units` that put something into masked positions, as pooling does.

    Raises ValueError where masked positions of the features are filled by something that is no layer.
    """
    # A chequerboard and its mirror image: even of 2×2 cells, a masked one has visible ones on each of its sides.
    board = (torch.arange(grid[0])[:, None] + torch.arange(grid[1]) + 1).remainder(2).float()
    mask = torch.stack([board, board.flip(1)])
    image = _noise(backbone, size, channels)
    visible = Visible(mask, image.device)
    found: dict[str, str] = {}

    def look(unit: str, x: Tensor) -> Tensor | None:
        hidden = visible.hide(x, units[unit])
        if torch.equal(hidden, x):
            return None
        found[unit] = units[unit]
        return hidden

    handles = [intercept(backbone, unit, "output", partial(look, unit)) for unit in units]
    with evaluating(backbone), sparse(backbone, plan, visible):
        with attached(*handles):
            features = backbone.forward_features(visible.hide(image))  # type: ignore[operator]
        if not torch.equal(visible.hide(features), features):
            raise ValueError(f"{type(backbone).__name__} fills masked positions between its layers.")
    return found


def _noise(backbone: nn.Module, size: int, channels: int) -> Tensor:
    image = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    return image.to(next(backbone.parameters()))
