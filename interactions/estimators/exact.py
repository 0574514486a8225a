"""Exact interactions of small games, by enumeration of the coalitions: the ground truth of every other design."""

from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from interactions.estimators.sample import Interactions, check_order, check_pairs

MAX_PLAYERS = 16


@dataclass(frozen=True)
class ExactSample:
    """All coalitions of m, m + 1 or m + 2 of n ≤ 16 players: a row shows the cells of a code's binary digits, and
    codes ascend."""

    order: int
    pairs_P2: Tensor
    coalitions_BN: Tensor

    def estimate(self, values_B: Tensor) -> Interactions:
        """I^(m)(i,j) = mean of v(S∪{i,j}) − v(S∪{i}) − v(S∪{j}) + v(S) over all S ⊆ N∖{i,j} of m cells."""
        coalitions_BN = self.coalitions_BN.to(values_B.device)
        first_P, second_P = (1 << self.pairs_P2.to(values_B.device)).T
        code_B = (coalitions_BN << torch.arange(coalitions_BN.shape[1], device=values_B.device)).sum(1)
        context_C = code_B[coalitions_BN.sum(1) == self.order]
        outside_PC = (context_C & (first_P | second_P)[:, None]) == 0
        context_PS = context_C.expand(len(self.pairs_P2), -1)[outside_PC].view(len(self.pairs_P2), -1)
        value_B, i_P1, j_P1 = values_B.double(), first_P[:, None], second_P[:, None]

        def value(code_PS: Tensor) -> Tensor:
            return value_B[torch.searchsorted(code_B, code_PS)]

        delta_PS = (
            value(context_PS | i_P1 | j_P1) - value(context_PS | i_P1) - value(context_PS | j_P1) + value(context_PS)
        )
        mean_P = delta_PS.mean(1)
        return Interactions(
            order=self.order,
            pairs=self.pairs_P2,
            mean=mean_P,
            standard_error=torch.zeros_like(mean_P),
            halvings=mean_P.expand(1, 2, -1),
            draws=torch.full_like(mean_P, torch.inf),
            passes=len(self.coalitions_BN),
            design="exact",
        )


def draw(order: int, pairs_P2: Tensor, n_players: int) -> ExactSample:
    """Every coalition that an interaction of the order asks for.

    Raises:
        ValueError: more than 16 players, or impossible order or pairs.
    """
    check_order(order, n_players)
    check_pairs(pairs_P2, n_players)
    check_players(n_players)
    code_B = torch.arange(1 << n_players)
    coalitions_BN = (code_B[:, None] >> torch.arange(n_players) & 1).bool()
    size_B = coalitions_BN.sum(1)
    return ExactSample(order, pairs_P2, coalitions_BN[(size_B >= order) & (size_B <= order + 2)])


def passes(order: int, n_players: int) -> int:
    """The number of those coalitions."""
    return sum(comb(n_players, size) for size in range(order, order + 3))


def check_players(n_players: int) -> None:
    """Raises ValueError for more players than can be enumerated."""
    if n_players > MAX_PLAYERS:
        raise ValueError(
            f"exact enumeration of {n_players} players takes most of their 2^{n_players} coalitions: use a grid of up "
            "to 4×4 cells, or another design"
        )
