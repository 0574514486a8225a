"""PatchGrid: the players of the game are the cells of a square grid laid over one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nextafter

import torch
from torch import Tensor

from interactions.settings import LARGEST_GRID, PAPER_RATIOS, refuse_single, whole

__all__ = ["PAPER_RATIOS", "PatchGrid", "orders_of", "ratios_of"]


@dataclass(frozen=True)
class PatchGrid:
    """A side × side grid of cells over an image; its n = side² cells are the players, numbered row by row.

    Raises:
        ValueError: a grid of fewer than two cells a side (no order could be estimated), or of more than any image has.
    """

    side: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", whole(self.side, "the side of the grid"))
        if self.side > LARGEST_GRID:
            raise ValueError(f"a grid of {self.side} cells a side is too fine: choose a side of {LARGEST_GRID} at most")
        if self.side < 2:
            raise ValueError(
                f"a grid of {self.side}×{self.side} cells has no pairs to measure: choose a side of 2 or more"
            )

    @property
    def n_players(self) -> int:
        return self.side**2

    @property
    def max_order(self) -> int:
        """The largest possible number of context cells, n − 2."""
        return self.n_players - 2

    def neighbours(self, radius: int) -> Tensor:
        """Unordered pairs of cells at most `radius` rows and columns apart; P×2, first < second, in ascending order.

        Raises:
            ValueError: a radius below 1 or one that reaches beyond the grid.
        """
        radius = whole(radius, "the radius")
        if not 1 <= radius < self.side:
            raise ValueError(f"radius {radius} is not possible on a {self.side}×{self.side} grid: 1 to {self.side - 1}")
        cells_N = torch.arange(self.n_players)
        down_S, right_S = torch.cartesian_prod(torch.arange(radius + 1), torch.arange(-radius, radius + 1)).T
        later_S = (down_S > 0) | (right_S > 0)  # of the two cells of a pair, the second one in reading order
        rows_NS = (cells_N // self.side)[:, None] + down_S[later_S]
        columns_NS = (cells_N % self.side)[:, None] + right_S[later_S]
        first, step = ((rows_NS < self.side) & (columns_NS >= 0) & (columns_NS < self.side)).nonzero().T
        return torch.stack([first, rows_NS[first, step] * self.side + columns_NS[first, step]], dim=1)

    def all_pairs(self) -> Tensor:
        """Every unordered pair of cells; P×2 with P = n(n−1)/2, first < second, in ascending order."""
        return torch.combinations(torch.arange(self.n_players))

    def pixels(self, coalitions_BN: Tensor, height: int, width: int, channels: int = 1) -> Tensor:
        """Which pixels a coalition shows: bool B×channels×height×width, on the device of the coalitions, in
        channels-last layout.

        A pixel belongs to the cell that nearest-neighbour upsampling gives it, as in the published code, so the
        grid need not divide the image. (Exactly: torch's own upsampling rounds in float32, and at some sizes, 7 cells
        on 287 pixels for one, shifts a border by a pixel.)

        Raises:
            ValueError: an image with fewer rows or columns than the grid.
        """
        if min(height, width) < self.side:
            raise ValueError(f"a {self.side}×{self.side} grid does not fit an image of {height}×{width} pixels")
        device = coalitions_BN.device
        row_H = torch.arange(height, device=device) * self.side // height
        column_WC = torch.arange(width * channels, device=device) // channels * self.side // width
        # One after the other: what is copied row by row takes a twentieth of the time of single pixels.
        wide_BRX = coalitions_BN.reshape(-1, self.side).index_select(1, column_WC).view(-1, self.side, len(column_WC))
        return wide_BRX.index_select(1, row_H).view(-1, height, width, channels).permute(0, 3, 1, 2)


def ratios_of(orders: Sequence[int], n_players: int) -> tuple[float, ...]:
    """Ratios that give these orders by the released rule: the paper's where it has one, which says whether the order is
    one of the middle; else m/(n − 2).

    Raises:
        ValueError: no order, or one that no context can have.
    """
    refuse_single(orders, "orders")
    numbers = [whole(order, "an order") for order in orders]
    if not numbers or not all(0 <= order <= n_players - 2 for order in numbers):
        raise ValueError(f"orders must lie between 0 and {n_players - 2} with {n_players} players, got {numbers}")
    listed = {int((n_players - 2) * ratio): ratio for ratio in reversed(PAPER_RATIOS)}
    ratios = [listed[order] if order in listed else order / (n_players - 2) for order in numbers]
    # A quotient that was rounded down would give the order below.
    return tuple(
        ratio if int((n_players - 2) * ratio) == order else nextafter(ratio, 1)
        for order, ratio in zip(numbers, ratios, strict=True)
    )


def orders_of(ratios: tuple[float, ...], n_players: int) -> dict[int, float]:
    """Order m = int((n − 2)·ratio) of each ratio, by the released rule; ratios that give the same order fall together.

    Raises:
        ValueError: a ratio outside 0 to 1, or none at all.
    """
    if not ratios or not all(0 <= ratio <= 1 for ratio in ratios):
        raise ValueError(f"order ratios must lie between 0 and 1, got {list(ratios)}")
    return {int((n_players - 2) * ratio): ratio for ratio in sorted(ratios, reverse=True)}
