"""What every design shares: a sample of coalitions to evaluate, and the interactions estimated from their values.

A design is split in two so that coalitions of many images can share batches: `draw(…)` returns a `Sample`, whose
`coalitions_BN` anybody evaluates, and `Sample.estimate(values_B)` returns the `Interactions`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import hadamard
from torch import Tensor

from interactions.settings import whole

PARTS = 8
"""Independent draws are dealt to so many parts; a half is four of them."""
MIN_DRAWS = 30
"""Below this effective number of draws a standard error is not to be trusted and is reported as missing."""


class Game(Protocol):
    """Coalitions (bool, B×n) in, v (float64, B) out."""

    n_players: int

    def __call__(self, coalitions_BN: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Interactions:
    """Estimates of I^(m)(i,j), all in units of v, float64.

    Attributes:
        order: m, the number of context cells.
        pairs: P×2 cell numbers.
        mean: P; NaN where a pair was not measured.
        standard_error: P; 0 where exact, NaN where fewer than `MIN_DRAWS` effective draws cannot tell it.
        halvings: S×2×P, two independent estimates for each way of halving the draws (`halving_sides`); one way, both
            equal to `mean`, where exact; NaN where a half has no draw.
        draws: P, the effective number of draws (infinite where exact).
        passes: evaluations of v that were spent, a pilot included.
        design: exact | pairwise | shared | pooled.
    """

    order: int
    pairs: Tensor
    mean: Tensor
    standard_error: Tensor
    halvings: Tensor
    draws: Tensor
    passes: int
    design: str

    @property
    def halves(self) -> Tensor:
        """2×P, the two independent estimates of the first halving."""
        return self.halvings[0]


class Sample(Protocol):
    """Coalitions drawn by a design, waiting for their values."""

    @property
    def coalitions_BN(self) -> Tensor: ...

    def estimate(self, values_B: Tensor) -> Interactions: ...


def halving_sides() -> Tensor:
    """The seven halvings of the parts in which any two parts stand apart equally often: bool S×8, True for one half.

    Averaged over them, a product of halves has little more than half the noise variance of a single halving's, since
    it uses the products of all parts. In the first, even parts face odd ones.
    """
    return torch.from_numpy(hadamard(PARTS)[1:] > 0)


def random_coalitions(count: int, n_players: int, size: int, generator: torch.Generator) -> Tensor:
    """`count` independent coalitions, each uniform among those of `size` cells: bool count×n.

    Drawn on the CPU, so that the same seed gives the same coalitions whatever the device.
    """
    ranks_BN = torch.rand(count, n_players, generator=generator, dtype=torch.float64).argsort(1)
    coalitions_BN = torch.zeros(count, n_players, dtype=torch.bool)
    return coalitions_BN.scatter_(1, ranks_BN[:, :size], True)


def check_order(order: int, n_players: int) -> None:
    """Raises ValueError for an order that no context can have."""
    if not 0 <= order <= n_players - 2:
        raise ValueError(
            f"order {order} is not possible with {n_players} players: contexts have 0 to {n_players - 2} cells"
        )


def as_pairs(pairs: ArrayLike | Tensor) -> Tensor:
    """Pairs of cells, from a tensor, an array or a list, as integers P×2.

    Raises:
        ValueError: another shape, or what is no whole number.
    """
    numbers = pairs.detach().cpu().numpy() if isinstance(pairs, Tensor) else np.asarray(pairs)
    if numbers.ndim != 2 or numbers.shape[1] != 2:
        shape = "×".join(map(str, numbers.shape)) or "a single number"
        raise ValueError(f"pairs are P×2 cell numbers, got {shape}: give one row of two cells for each pair")
    cells = [[whole(cell, "a cell of a pair") for cell in pair] for pair in numbers.tolist()]
    return torch.tensor(cells, dtype=torch.long).reshape(-1, 2)


def check_pairs(pairs_P2: Tensor, n_players: int) -> None:
    """Raises ValueError for no pairs, a pair of one cell with itself, or a cell outside the grid."""
    if len(pairs_P2) == 0:
        raise ValueError("no pairs to measure: give at least one")
    if bool((pairs_P2[:, 0] == pairs_P2[:, 1]).any()) or int(pairs_P2.min()) < 0 or int(pairs_P2.max()) >= n_players:
        raise ValueError(f"pairs must be two different cells out of 0 to {n_players - 1}")


def finite(values_B: Tensor) -> Tensor:
    """The values of a game. Raises ValueError for NaN or infinity, which would read as pairs that were left out."""
    if broken := int((~values_B.isfinite()).sum()):
        raise ValueError(
            f"the game gave NaN or infinity for {broken} of {len(values_B)} coalitions: give finite values"
        )
    return values_B
