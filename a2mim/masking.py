"""Which cells of an image are masked, what a masked pixel shows, and what becomes of a masked feature.

A mask is a float tensor (B, rows, columns) over square cells, 1 = masked. All randomness comes from a CPU generator, so
that masks are the same on any device.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.backbones import Place
from a2mim.layouts import token_grid

Strategy = Literal["random", "blockwise", "whole_blocks"]
Fill = Literal["image_mean", "visible_mean", "zero", "none"]

__all__ = [
    "Fill",
    "MaskToken",
    "Strategy",
    "check_mask",
    "fill_colour",
    "fill_masked",
    "mask_grid",
    "masked_count",
    "pixel_mask",
    "random_mask",
]


def mask_grid(image_size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Rows and columns of mask cells of `cell` pixels. Raises ValueError where they do not tile the image."""
    height, width = image_size
    if cell < 1 or height % cell or width % cell:
        divisors = [d for d in range(1, min(height, width) + 1) if height % d == 0 and width % d == 0]
        raise ValueError(
            f"A mask cell of {cell} px does not divide an image of {height}×{width} px: choose one of {divisors}."
        )
    return height // cell, width // cell


Count = Literal["up", "nearest", "visible"]


def masked_count(cells: int, ratio: float, rounded: Count = "up") -> int:
    """ceil(ratio · cells), or the nearest whole number, or what leaves the nearest whole number visible; of two equally
    near ones the even one. ratio is read as the decimal that was written (0.7 of 10 cells are 7).

    Raises ValueError where no cell or every cell would be masked.
    """
    masked = round(ratio * cells, 9)
    count = {"up": math.ceil(masked), "nearest": round(masked), "visible": cells - round(cells - masked)}[rounded]
    if cells < 2:
        raise ValueError("One mask cell covers the whole image: use a smaller --mask-cell, or larger images.")
    if not 0 < count < cells:
        raise ValueError(
            f"A mask ratio of {ratio} masks {count} of {cells} cells: some must be masked and some visible, so choose "
            f"a ratio in (0, {1 - 1 / cells:.3g}] or smaller mask cells (--mask-cell)."
        )
    return count


@torch.compiler.disable  # a compiled graph holds no generator
def random_mask(
    batch: int,
    grid: tuple[int, int],
    ratio: float,
    generator: torch.Generator,
    strategy: Strategy = "random",
    rounded: Count = "up",
) -> Tensor:
    """(B, rows, columns) masks on the CPU, each with exactly `masked_count` masked cells, of whole blocks at most.

    random: the cells of a uniform permutation (A²MIM and SimMIM; their code calls it block-wise).
    blockwise: unions of random rectangles, of at least 8 % of the cells and of an aspect ratio between 0.3 and 1/0.3
        (BEiT, algorithm 1), the last one cut at random to meet the count.
    whole_blocks: unions of such rectangles, of a fifth of the count and more, as long as they fit into the nearest
        whole number to ratio · cells: that many masked cells or fewer (SlowFast, for MaskFeat).
    """
    rows, columns = grid
    if strategy == "whole_blocks":
        return _whole_blocks(batch, rows, columns, masked_count(rows * columns, ratio, "nearest"), generator)
    count = masked_count(rows * columns, ratio, rounded)
    if strategy == "random":
        mask = torch.zeros(batch, rows * columns)
    elif strategy == "blockwise":
        mask = _rectangles(batch, rows, columns, count, generator).flatten(1)
    else:
        raise ValueError(f"There is no masking strategy {strategy!r}: choose random, blockwise or whole_blocks.")
    # the random order decides among equals: among all cells, or among those of the rectangle that overshot
    order = (mask + torch.rand(mask.shape, generator=generator)).argsort(1, descending=True)
    return torch.zeros_like(mask).scatter_(1, order[:, :count], 1.0).view(batch, rows, columns)


def check_mask(
    image_size: int, cell: int, ratio: float, strategy: Strategy = "random", rounded: Count = "up"
) -> tuple[int, int]:
    """Rows and columns of the mask cells of square images. Raises ValueError as `mask_grid` and `random_mask` do, where
    no mask of that kind can be drawn for them."""
    grid = mask_grid((image_size, image_size), cell)
    random_mask(1, grid, ratio, torch.Generator(), strategy, rounded)
    return grid


def _rectangles(batch: int, rows: int, columns: int, count: int, generator: torch.Generator) -> Tensor:
    """Unions of rectangles (B, rows, columns) of at least `count` cells: 1 in the last rectangle, 2 in earlier ones."""
    cells = rows * columns
    smallest = max(1.0, 16 / 196 * cells)  # BEiT's 16 of 14×14 patches
    mask = torch.zeros(batch, rows, columns)
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    while (short := (mask > 0).sum((1, 2)) < count).any():
        u_area, u_aspect, u_top, u_left = torch.rand(4, batch, 1, 1, generator=generator)
        missing = (count - (mask > 0).sum((1, 2))).clamp(min=1).view(-1, 1, 1)
        height, width = _sides(smallest + u_area * (missing - smallest).clamp(min=0), u_aspect)
        height, width = height.clamp(1, rows), width.clamp(1, columns)
        top = (u_top * (rows - height + 1)).floor()
        left = (u_left * (columns - width + 1)).floor()
        inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
        new = inside & (mask == 0) & short.view(-1, 1, 1)
        mask = torch.where(short.view(-1, 1, 1) & (mask > 0), 2.0, mask).masked_fill(new, 1.0)
    return mask


ATTEMPTS = 10
"""So many blocks in a row that do not fit end a mask of whole blocks, as released."""


def _whole_blocks(batch: int, rows: int, columns: int, count: int, generator: torch.Generator) -> Tensor:
    """Unions of whole rectangles (B, rows, columns) of `count` cells or fewer, the rules of each those of SlowFast.

    A rectangle as high or as wide as the grid, or with more new cells than are missing, is drawn again. In grids so
    small that none fits, the one cell that is masked is none of the released rules.
    """
    smallest = count // 5
    mask = torch.zeros(batch, rows, columns)
    failed = torch.zeros(batch, 1, 1)
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    while (open := ((missing := count - mask.sum((1, 2), keepdim=True)) > 0) & (failed < ATTEMPTS)).any():
        u_area, u_aspect, u_top, u_left = torch.rand(4, batch, 1, 1, generator=generator)
        # where less than the smallest area is missing, areas lie between the two
        height, width = _sides(smallest + u_area * (missing - smallest), u_aspect)
        top = (u_top * (rows - height + 1)).floor()
        left = (u_left * (columns - width + 1)).floor()
        inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
        new = inside & (mask == 0)
        added = new.sum((1, 2), keepdim=True)
        fits = open & (height < rows) & (width < columns) & (added > 0) & (added <= missing)
        mask = mask.masked_fill(new & fits, 1.0)
        failed = torch.where(fits, 0.0, failed + 1)
    empty = mask.sum((1, 2)) == 0
    cell = torch.randint(rows * columns, (batch,), generator=generator)
    mask.view(batch, -1)[empty, cell[empty]] = 1.0
    return mask


def _sides(area: Tensor, u_aspect: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width, in whole cells, of rectangles of these areas and of aspect ratios between 0.3 and 1/0.3."""
    aspect = torch.exp((2 * u_aspect - 1) * math.log(1 / 0.3))
    return (area * aspect).sqrt().round(), (area / aspect).sqrt().round()


def pixel_mask(mask: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, rows, columns) cells -> (B, 1, H, W) pixels."""
    return F.interpolate(mask[:, None], size, mode="nearest")


def fill_colour(image_BCHW: Tensor, mask_B1HW: Tensor, fill: Fill) -> Tensor | None:
    """The colour (B, C, 1, 1) that masked pixels show; None for "none".

    image_mean: mean of the whole image, as published (so the colour knows the masked pixels); visible_mean: of its
    visible pixels; zero: the data set's mean colour in normalised space; none: masked pixels stay, so they leak into
    whatever looks at pixels. The released code's mask colour 'zero' is "none" here.
    """
    if fill == "none":
        return None
    if fill == "image_mean":
        return image_BCHW.mean((2, 3), keepdim=True)
    if fill == "visible_mean":
        visible = 1 - mask_B1HW
        return (image_BCHW * visible).sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True)
    if fill == "zero":
        return image_BCHW.new_zeros(image_BCHW.shape[0], image_BCHW.shape[1], 1, 1)
    raise ValueError(f"There is no fill {fill!r}: choose image_mean, visible_mean, zero or none.")


def fill_masked(image_BCHW: Tensor, mask_B1HW: Tensor, colour_BC11: Tensor | None) -> Tensor:
    """The image with its masked pixels in the given colour; untouched where the colour is None."""
    return image_BCHW if colour_BC11 is None else torch.where(mask_B1HW > 0, colour_BC11, image_BCHW)


class MaskToken(nn.Module):
    """A learnable token T that is put into a backbone wherever the image is masked (A²MIM, section 4.1).

    Adding: x + T·M. With `gamma_init`, the variant of the released CNN configurations: x(1−M) + γ·x·M + T·M.
    Replacing (SimMIM): x(1−M) + T·M. M is the mask at the resolution of the place: the mask cells repeated where the
    place is finer than they are, averaged where it is coarser.

    The token lives outside of the backbone, and acts through a hook: the backbone's state dict stays timm's own. While
    `mask` is None the backbone behaves as if there were no token.
    """

    def __init__(
        self,
        backbone: nn.Module,
        place: Place,
        how: Literal["add", "replace"] = "add",
        gamma_init: float | None = None,
    ):
        super().__init__()
        if gamma_init is not None and how == "replace":
            raise ValueError("gamma_init scales features that stay: it needs an added mask token, not a replacing one.")
        self.place, self.how = place, how
        self.token_C = nn.Parameter(nn.init.trunc_normal_(torch.empty(place.layout.channels), std=0.02))
        self.gamma_C: nn.Parameter | None = None
        if gamma_init is not None:
            self.gamma_C = nn.Parameter(torch.full((place.layout.channels,), float(gamma_init)))
        self.mask: Tensor | None = None  # (B, rows, columns) of mask cells, 1 = masked
        module = backbone.get_submodule(place.module)
        if place.side == "input":
            module.register_forward_pre_hook(self._on_input)
        else:
            module.register_forward_hook(self._on_output)

    def _on_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return None if self.mask is None else (self.insert(args[0], self.mask), *args[1:])

    def _on_output(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        return None if self.mask is None else self.insert(output, self.mask)

    def insert(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: the tensor at the place, in its layout; mask (B, rows, columns). Returns x with the token put in."""
        m = self._mask_like(x, mask)
        shape = (-1, 1, 1) if self.place.layout.kind == "NCHW" else (-1,)
        token = self.token_C.to(x.dtype).view(shape)
        if self.how == "replace":
            return x * (1 - m) + token * m
        if self.gamma_C is not None:
            x = x * (1 - m) + self.gamma_C.to(x.dtype).view(shape) * x * m
        return x + token * m

    def _mask_like(self, x: Tensor, mask: Tensor) -> Tensor:
        """The mask, resized and laid out to multiply x: (B, 1, h, w), (B, h, w, 1) or (B, prefix + h·w, 1)."""
        layout = self.place.layout
        if layout.kind == "NLC":
            grid: tuple[int, ...] = token_grid(x.shape[1] - layout.prefix, mask.shape[1] / mask.shape[2])
        else:
            grid = tuple(x.shape[2:] if layout.kind == "NCHW" else x.shape[1:3])
        m = F.interpolate(mask[:, None].to(x.dtype), grid, mode="area")
        if layout.kind == "NCHW":
            return m
        if layout.kind == "NHWC":
            return m.permute(0, 2, 3, 1)
        return F.pad(m.flatten(2), (layout.prefix, 0)).transpose(1, 2)
