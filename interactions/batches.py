"""Whole batches from rows that come order by order: what one order leaves over waits for the rows of the next.

A compiled network is built for one shape of batch, and a last one is filled up with copies. With some hundred rows an
order, as a run to a precision takes, and an accelerator's batches, those would be most of what it plays.
"""

import torch
from torch import Tensor

from interactions.game import PatchGame
from interactions.runs.unfinished import Unfinished


class Batches:
    """Rows of a game in, their values out, as they came.

    Args:
        kept: keeps the values of what is played, under every second step from `first` on.
    """

    def __init__(self, game: PatchGame, kept: Unfinished | None, first: int = 0) -> None:
        self.game, self.kept, self.step = game, kept, first
        self.rows_BN = torch.zeros(0, game.n_players, dtype=torch.bool)
        self.image_B = torch.zeros(0, dtype=torch.long)
        self.parts: list[Tensor] = []

    def add(self, rows_BN: Tensor, image_B: Tensor) -> None:
        """Play as many whole batches as there are now. Under `drop` all of it: rows of one order are as long."""
        self.rows_BN, self.image_B = torch.cat([self.rows_BN, rows_BN]), torch.cat([self.image_B, image_B])
        size = self.game.batch_size if self.game.tokens is None else None
        self._play(len(self.rows_BN) // (size or 1) * (size or 1))

    def values(self) -> Tensor:
        """The values of all rows, float64 B, once what is left is played as well."""
        self._play(len(self.rows_BN))
        return torch.cat([torch.zeros(0, dtype=torch.float64, device=self.game.device), *self.parts])

    def _play(self, count: int) -> None:
        rows_BN, image_B = self.rows_BN[:count], self.image_B[:count]
        self.rows_BN, self.image_B = self.rows_BN[count:], self.image_B[count:]
        if count:
            self.parts.append(self._values(rows_BN, image_B).to(self.game.device))
        self.step += 2

    def _values(self, rows_BN: Tensor, image_B: Tensor) -> Tensor:
        size = self.game.batch_size
        if self.kept is None or size is None:
            return self.game(rows_BN, image_B)
        return self.kept.evaluate(self.step, self.game, rows_BN, image_B, size)
