"""Position embeddings and tables of relative positions for another number of patches, by the source's own rules."""

import math
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

PositionRule = Literal["bicubic", "antialiased", "align corners", "dino"]
RULES: tuple[PositionRule, ...] = get_args(PositionRule)


def square_side(n: int) -> int:
    """The side of a square of n cells; 0 where n is no square."""
    side = math.isqrt(max(n, 0))
    return side if side * side == n else 0


def resize_positions(x_1LD: Tensor, grid: tuple[int, int], prefix: int, rule: PositionRule) -> Tensor:
    """Position embeddings (1, prefix + s·s, D) → (1, prefix + h·w, D); the first `prefix` (class token …) stay.

    rule: bicubic (MAE, DeiT, mmpretrain, Hugging Face); antialiased (timm: differs where the grid shrinks);
    align corners (torchvision's interpolate_embeddings); dino (scales by (h + 0.1) / s, which shifts the samples).

    Raises ValueError where the embeddings are no square.
    """
    side = square_side(x_1LD.shape[1] - prefix)
    if not side:
        raise ValueError(f"{x_1LD.shape[1]} position embeddings are not {prefix} and a square")
    map_1DHW = x_1LD[:, prefix:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if rule == "dino":
        scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        resized = F.interpolate(map_1DHW, scale_factor=scale, mode="bicubic")
    else:
        aligned, antialias = rule == "align corners", rule == "antialiased"
        resized = F.interpolate(map_1DHW, size=grid, mode="bicubic", align_corners=aligned, antialias=antialias)
    patches_1LD = resized.flatten(2).transpose(1, 2).to(x_1LD.dtype)
    return torch.cat([x_1LD[:, :prefix], patches_1LD], dim=1)


def resize_table(x_LH: Tensor, window: int, extra: int) -> Tensor:
    """Table of relative positions (s·s + extra, heads) → ((2·window - 1)² + extra, heads).

    BEiT's and SimMIM's rule: the old places lie at distances that grow geometrically, so that they are dense around
    0 and reach as far as the new ones; between them a bicubic spline. The last `extra` (class token) stay.

    Raises ValueError where the table is no square of odd side.
    """
    source, target = square_side(x_LH.shape[0] - extra), 2 * window - 1
    if source % 2 == 0 or source < 3:
        raise ValueError(f"a table of {x_LH.shape[0]} relative positions is not a square of odd side and {extra}")
    places = geometric_places(source // 2, target // 2)
    wanted = np.arange(target) - target // 2
    degree = min(3, source - 1)
    table_HSS = x_LH[: source * source].T.reshape(-1, source, source).double().numpy()
    splines = (RectBivariateSpline(places, places, one_SS, kx=degree, ky=degree) for one_SS in table_HSS)
    resized_HL = np.stack([spline(wanted, wanted).reshape(-1) for spline in splines])
    return torch.cat([torch.from_numpy(resized_HL).T.to(x_LH.dtype), x_LH[source * source :]])


def geometric_places(n: int, reach: int) -> np.ndarray:
    """2n + 1 places around 0, each step q times the one before; q by bisection such that n steps reach `reach`."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1 - q**n) / (1 - q) > reach:
            high = q
        else:
            low = q
    steps = np.cumsum(q ** np.arange(n))
    return np.concatenate([-steps[::-1], [0.0], steps])
