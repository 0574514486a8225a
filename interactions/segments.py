"""Segments: the players of the game are the regions of a label map over one image, such as superpixels."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


class Segments:
    """Regions of an image as players, in place of a grid's cells.

    Args:
        labels: H×W whole numbers, one for each region; regions are numbered in ascending order of their labels.

    Raises:
        ValueError: another shape, what is no whole number, or fewer than two regions.
    """

    def __init__(self, labels: ArrayLike | Tensor) -> None:
        map_HW = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
        if map_HW.ndim != 2 or not np.issubdtype(map_HW.dtype, np.integer):
            raise ValueError(
                f"a label map is H×W whole numbers, one map for all images, got {map_HW.dtype} of shape {map_HW.shape}"
            )
        self.labels, place = np.unique(map_HW, return_inverse=True)
        self.region_HW = torch.from_numpy(place.reshape(map_HW.shape))
        if len(self.labels) < 2:
            raise ValueError("a label map of one region has no pairs to measure: give one of two regions or more")

    @classmethod
    def cells(cls, rows: int, columns: int, height: int, width: int) -> "Segments":
        """The cells of a grid of rows × columns over an image of that size, numbered row by row.

        Raises:
            ValueError: more rows or columns than the image has pixels, or fewer than two cells.
        """
        if not (1 <= rows <= height and 1 <= columns <= width):
            raise ValueError(f"a grid of {rows}×{columns} cells does not fit an image of {height}×{width} pixels")
        row_H, column_W = torch.arange(height) * rows // height, torch.arange(width) * columns // width
        return cls(row_H[:, None] * columns + column_W)

    @property
    def n_players(self) -> int:
        return len(self.labels)

    @property
    def max_order(self) -> int:
        """The largest possible number of regions in a context, n − 2."""
        return self.n_players - 2

    def all_pairs(self) -> Tensor:
        """Every unordered pair of regions; P×2, first < second, in ascending order."""
        return torch.combinations(torch.arange(self.n_players))

    @cached_property
    def touching(self) -> Tensor:
        """Unordered pairs of regions that share a border, corners among them; P×2, first < second, ascending."""
        region_HW = self.region_HW
        beside = [
            (region_HW[:-1], region_HW[1:]),
            (region_HW[:, :-1], region_HW[:, 1:]),
            (region_HW[:-1, :-1], region_HW[1:, 1:]),
            (region_HW[:-1, 1:], region_HW[1:, :-1]),
        ]
        pairs_P2 = torch.cat([torch.stack([one.flatten(), other.flatten()], 1) for one, other in beside])
        return pairs_P2[pairs_P2[:, 0] != pairs_P2[:, 1]].sort(1).values.unique(dim=0)

    def pixels(self, coalitions_BN: Tensor, height: int, width: int, channels: int = 1) -> Tensor:
        """Which pixels a coalition shows: bool B×channels×height×width, as a grid's.

        Raises:
            ValueError: an image of another size than the label map.
        """
        if (height, width) != tuple(self.region_HW.shape):
            size = "×".join(map(str, self.region_HW.shape))
            raise ValueError(f"a label map of {size} does not fit an image of {height}×{width} pixels")
        region_X = self.region_HW.to(coalitions_BN.device).flatten().repeat_interleave(channels)
        return coalitions_BN.index_select(1, region_X).view(-1, height, width, channels).permute(0, 3, 1, 2)
