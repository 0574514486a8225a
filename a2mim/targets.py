"""What a masked-image method predicts: colours, patches of a normalised contrast, histograms of oriented gradients."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["hog", "normalised", "patchify", "sobel_hog", "unpatchify"]


def patchify(image_BCHW: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, L, patch²·C): L square patches in raster order, each row by row, colours last (MAE, SparK).

    Raises ValueError where the patches do not tile the image.
    """
    batch, channels, height, width = image_BCHW.shape
    if height % patch or width % patch:
        raise ValueError(f"Patches of {patch} px do not tile an image of {height}×{width} px.")
    x = image_BCHW.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def unpatchify(patches_BLD: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `patchify`; size: (H, W) of the image."""
    rows, columns = size[0] // patch, size[1] // patch
    x = patches_BLD.reshape(len(patches_BLD), rows, columns, patch, patch, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(len(patches_BLD), -1, *size)


def normalised(patches_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(x − mean) / √(variance + 1e-6) of each patch by itself, over its pixels and colours together, with the unbiased
    variance (MAE and SparK, released code); and the means and standard deviations (B, L, 1) that undo it. In float32.
    """
    x = patches_BLD.float()
    mean, std = x.mean(-1, keepdim=True), (x.var(-1, keepdim=True) + 1e-6).sqrt()
    return (x - mean) / std, mean, std


@torch.no_grad()
def hog(
    image_BCHW: Tensor,
    orientations: int = 9,
    cell: int = 8,
    channels: Literal["strongest", "each"] = "strongest",
    norm: Literal["l2", "l2-hys"] = "l2",
) -> Tensor:
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), one block per cell.

    Central differences (zero at the border), unsigned orientations in [0, 180) degrees counted in whole bins by
    gradient magnitude, every cell's histogram normalised to length 1 by itself. With these conventions it equals
    scikit-image's `hog(…, cells_per_block=(1, 1), block_norm="L2" or "L2-Hys")`, which the released A²MIM code uses
    (L2-Hys; on 8-bit images: normalised ones weigh the channels by 1/std, which matters where two channels are close).

    channels: "strongest" takes every pixel's gradient from its channel of largest magnitude, as scikit-image does;
        "each" gives each channel a histogram of its own.
    Returns (B, orientations, H/cell, W/cell), or (B, C·orientations, …) for "each", in float32 or better.
    Raises ValueError where the cells do not divide the image.
    """
    _check_cells(image_BCHW, cell)
    x = image_BCHW if image_BCHW.dtype == torch.float64 else image_BCHW.float()
    gy, gx = torch.zeros_like(x), torch.zeros_like(x)
    gy[:, :, 1:-1] = x[:, :, 2:] - x[:, :, :-2]
    gx[:, :, :, 1:-1] = x[:, :, :, 2:] - x[:, :, :, :-2]
    magnitude = torch.hypot(gx, gy)
    if channels == "strongest":
        strongest = magnitude.argmax(1, keepdim=True)
        gy, gx, magnitude = (g.gather(1, strongest) for g in (gy, gx, magnitude))
    bins = (torch.atan2(gy, gx) % math.pi * (orientations / math.pi)).long() % orientations
    counts = _unit(_histograms(bins, magnitude, orientations, cell))
    if norm == "l2-hys":
        counts = _unit(counts.clamp(max=0.2))
    return counts.flatten(1, 2)


@torch.no_grad()
def sobel_hog(image_BCHW: Tensor, orientations: int = 9, cell: int = 8) -> Tensor:
    """Histograms of oriented gradients as MaskFeat's released layer makes them (Wei et al., CVPR 2022; SlowFast's
    HOGLayerC), for each channel by itself.

    Sobel gradients gx, gy of the image, reflected at its border; unsigned orientations in bins of the angle from the
    *vertical*, floor(orientations · atan2(gx, gy)/π) modulo their number; votes by magnitude; each cell's histogram of
    length 1.

    Returns (B, C·orientations, H/cell, W/cell) in float32 or better. Raises ValueError where the cells do not divide
    the image.
    """
    _check_cells(image_BCHW, cell)
    x = image_BCHW if image_BCHW.dtype == torch.float64 else image_BCHW.float()
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    # Differences before sums: at the sides of the image, where both neighbours are one pixel, gx is 0 and not a
    # rounding error, whose sign would choose between the first and the last bin.
    dx, dy = padded[..., 2:] - padded[..., :-2], padded[:, :, 2:] - padded[:, :, :-2]
    gx = dx[:, :, :-2] + 2 * dx[:, :, 1:-1] + dx[:, :, 2:]
    gy = dy[..., :-2] + 2 * dy[..., 1:-1] + dy[..., 2:]
    bins = (torch.atan2(gx, gy) / math.pi * orientations).floor().long() % orientations
    return F.normalize(_histograms(bins, torch.hypot(gx, gy), orientations, cell), dim=2).flatten(1, 2)


def _check_cells(image_BCHW: Tensor, cell: int) -> None:
    height, width = image_BCHW.shape[2:]
    if height % cell or width % cell:
        raise ValueError(f"HOG cells of {cell} px do not divide an image of {height}×{width} px.")


def _histograms(bins_BCHW: Tensor, magnitude_BCHW: Tensor, orientations: int, cell: int) -> Tensor:
    """(B, C, orientations, H/cell, W/cell): the mean magnitude of each bin in each cell."""
    votes = F.one_hot(bins_BCHW, orientations).movedim(-1, 2) * magnitude_BCHW[:, :, None]
    return F.avg_pool2d(votes.flatten(0, 1), cell).unflatten(0, votes.shape[:2])


def _unit(counts: Tensor) -> Tensor:
    return counts / (counts.square().sum(2, keepdim=True) + 1e-5**2).sqrt()
