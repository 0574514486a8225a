"""ViTDet's windowed attention for a plain transformer (Li et al. 2022, arXiv 2203.16527, section 3): of its blocks, the
last of each quarter attend to the whole picture, all others within windows that do not overlap.

As in Detectron2's modeling/backbone (vit.py and utils.py), attention alone sees windows: behind the norm of the block,
zeros are put right of and below the cells, up to whole windows, and are attended to like cells (no mask). Two things
differ. A side of the grid that is shorter than the window is one window, without zeros: a window as large as the grid
is global attention, to the last bit. Prefix tokens (class, registers), which ViTDet drops, stand in every window, as in
the small pictures that a network was pre-trained on, and leave with the mean of what the windows made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.layouts import attached, evaluating

GLOBAL_BLOCKS = 4


class Windows:
    """Windows of side × side cells for the attention of some blocks; these have `prefix` tokens before the cells.

    grid: rows and columns of cells of the next images.
    """

    def __init__(self, side: int, prefix: int, grid: tuple[int, int] = (0, 0)) -> None:
        self.side, self.prefix, self.grid = side, prefix, grid

    def attach(self, attention: nn.Module) -> None:
        # Methods, not closures: a copy of the network (a moving average) gets windows of its own along with it.
        attention.register_forward_pre_hook(self._apart)
        attention.register_forward_hook(self._together)

    def _apart(self, attention: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (apart(args[0], self.grid, self.side, self.prefix), *args[1:])

    def _together(self, attention: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return together(output, self.grid, self.side, self.prefix)


def apart(x_BNC: Tensor, grid: tuple[int, int], side: int, prefix: int) -> Tensor:
    """Tokens of whole grids to those of their windows, all of one size, (B·windows, prefix + cells of a window, C)."""
    (batch, _, width), (rows, columns), (high, wide) = x_BNC.shape, *tiling(grid, side)
    cells_BHWC = x_BNC[:, prefix:].reshape(batch, *grid, width)
    cells_BHWC = F.pad(cells_BHWC, (0, 0, 0, columns * wide - grid[1], 0, rows * high - grid[0]))
    cells = cells_BHWC.reshape(batch, rows, high, columns, wide, width).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    others = x_BNC[:, None, :prefix].expand(-1, rows * columns, -1, -1)
    return torch.cat([others, cells], 2).flatten(0, 1)


def together(x_LNC: Tensor, grid: tuple[int, int], side: int, prefix: int) -> Tensor:
    """The inverse of `apart`: without the cells beside the grid, with the mean of each prefix token."""
    (rows, columns), (high, wide) = tiling(grid, side)
    x = x_LNC.unflatten(0, (-1, rows * columns))
    cells = x[:, :, prefix:].unflatten(2, (high, wide)).unflatten(1, (rows, columns))
    cells_BHWC = cells.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, : grid[0], : grid[1]]
    return torch.cat([x[:, :, :prefix].mean(1), cells_BHWC.flatten(1, 2)], 1)


def tiling(grid: tuple[int, int], side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of windows, and rows and columns of cells of each."""
    high, wide = min(side, grid[0]), min(side, grid[1])
    return (-(-grid[0] // high), -(-grid[1] // wide)), (high, wide)


def windowed_blocks(depth: int) -> list[int]:
    """All but the last of each quarter: of twelve all but 2, 5, 8 and 11 (Detectron2's mask_rcnn_vitdet.py)."""
    whole = {depth * part // GLOBAL_BLOCKS - 1 for part in range(1, GLOBAL_BLOCKS + 1)}
    return [n for n in range(depth) if n not in whole]


def in_windows(
    backbone: nn.Module, side: int, image_1CHW: Tensor, run: Callable[[Tensor], Any], stride: int
) -> Windows:
    """Have the attention of most blocks see windows of side × side cells from now on.

    image_1CHW, run: an image, and what takes the backbone over it; stride: pixels along a cell's side.

    Raises ValueError for a backbone that is no plain transformer, and for attention that needs the whole grid.
    """
    name, blocks = type(backbone).__name__, getattr(backbone, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not all(hasattr(block, "attn") for block in blocks):
        raise ValueError(unfit(name, "has no row of blocks with an attention each"))
    chosen: list[Any] = [blocks[n] for n in windowed_blocks(len(blocks))]
    if not chosen:
        raise ValueError(unfit(name, f"has {len(blocks)} blocks, and {GLOBAL_BLOCKS} attend to the whole picture"))
    grid = (image_1CHW.shape[2] // stride, image_1CHW.shape[3] // stride)
    with evaluating(backbone):
        calls = seen([module for block in chosen for module in (block, block.attn)], partial(run, image_1CHW), name)
        windows = Windows(side, prefix_of(calls, grid, getattr(backbone, "num_prefix_tokens", None) or 0, name))
        for block in chosen:
            windows.attach(block.attn)
        for block in chosen:
            refuse_mixing(block, windows, calls[0].first.shape[-1], name)
    return windows


class Call(NamedTuple):
    first: Any
    others: tuple[Any, ...]


def seen(modules: Sequence[nn.Module], run: Callable[[], Any], name: str) -> list[Call]:
    """The arguments of the first call of each module that is run."""
    found: dict[nn.Module, Call] = {}

    def keep(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        found.setdefault(module, Call(args[0] if args else None, (*args[1:], *named.values())))

    with attached(*(module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules)):
        run()
    if len(found) < len(modules):
        raise ValueError(unfit(name, "does not run its blocks one by one"))
    return list(found.values())


def prefix_of(calls: Sequence[Call], grid: tuple[int, int], prefix: int, name: str) -> int:
    """How many tokens stand before the cells. Raises ValueError for what is no row of tokens, one for each cell."""
    shapes = {tuple(call.first.shape) if isinstance(call.first, Tensor) else () for call in calls}
    (shape, *more) = shapes
    before = shape[1] - grid[0] * grid[1] if len(shape) == 3 and not more else -1
    if before not in (0, prefix):
        raise ValueError(unfit(name, "has blocks that do not take one token for each patch"))
    if any(isinstance(other, Tensor) for call in calls for other in call.others):
        raise ValueError(unfit(name, "gives its attention the positions of the whole picture"))
    return before


def refuse_mixing(block: nn.Module, windows: Windows, width: int, name: str) -> None:
    """Raise ValueError where the block does not run on four windows of a cell, or a change in one of them reaches
    others."""
    trial, windows.side, windows.grid = (windows.side, windows.grid), 1, (2, 2)
    weight = next(block.parameters())
    x_BNC = torch.randn(1, windows.prefix + 4, width, generator=torch.Generator().manual_seed(0)).to(weight)
    changed_BNC = x_BNC.clone()
    changed_BNC[:, windows.prefix] += 1
    try:
        made, other = (block(x)[:, windows.prefix + 1 :] for x in (x_BNC, changed_BNC))
    except Exception as error:
        raise ValueError(unfit(name, "has blocks that only take the whole picture")) from error
    finally:
        windows.side, windows.grid = trial
    if not torch.equal(made, other):
        raise ValueError(unfit(name, "has blocks in which more than attention joins patches"))


def unfit(name: str, why: str) -> str:
    return f"{name} {why}: leave out --window, which is for plain transformers such as vit_base_patch16_224"
