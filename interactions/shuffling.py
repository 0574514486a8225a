"""Images whose cells have changed places."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from interactions.game import PatchGame

SHUFFLE_GRIDS = (1, 2, 4, 8, 14, 16)


class ShuffledGame(PatchGame):
    """The game whose rows are not coalitions, but orders B×k² of the cells of a k×k cut."""

    def _refuse_other_players(self, coalitions_BN: Tensor) -> None:
        """Rows of any length are orders of some cut."""

    def _pictures(self, order_BN: Tensor, image_B: Tensor) -> Tensor:
        return shuffle_cells(self.images_ICHW[image_B], order_BN)


def shuffle_cells(images_BCHW: Tensor, order_BN: Tensor) -> Tensor:
    """Images cut into k×k = N equal cells, numbered row by row, of which place p then shows cell order[p]."""
    batch, channels, height, width = images_BCHW.shape
    side = math.isqrt(order_BN.shape[1])
    cut = (batch, channels, side, height // side, side, width // side)
    cells_BNChw = images_BCHW.reshape(cut).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    moved_BNChw = cells_BNChw[torch.arange(batch, device=order_BN.device)[:, None], order_BN]
    rows_Bkk = moved_BNChw.unflatten(1, (side, side))
    return rows_Bkk.permute(0, 3, 1, 4, 2, 5).reshape(images_BCHW.shape)


def shuffle_grids(wanted: Sequence[int] | None, size: Sequence[int]) -> list[int]:
    """The cuts for patch shuffling, ascending: those wanted, or of the usual ones those that divide the image.

    Raises:
        ValueError: a cut that does not divide the image: its cells could not change places.
    """
    height, width = size
    sides = SHUFFLE_GRIDS if wanted is None else wanted
    fits = sorted({side for side in sides if side >= 1 and height % side == width % side == 0})
    if wanted is not None and (unfit := [side for side in wanted if side not in fits]):
        raise ValueError(
            f"{unfit[0]}×{unfit[0]} cells do not divide an image of {height}×{width} pixels evenly, so they cannot be "
            "shuffled: give shuffle grids that do"
        )
    return fits
