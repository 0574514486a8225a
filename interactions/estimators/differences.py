"""Second differences Δv(i,j,S) = v(S∪{i,j}) − v(S∪{i}) − v(S∪{j}) + v(S), and their means over contexts.

Pairwise and shared designs differ in which coalitions the four corners of a difference point to, and in nothing else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from interactions.estimators.sample import MIN_DRAWS, PARTS, Interactions, halving_sides


@dataclass(frozen=True)
class DifferenceSample:
    """D second differences over B coalitions.

    Attributes:
        corners_4D: rows of `coalitions_BN` that hold S∪{i,j}, S∪{i}, S∪{j} and S.
        pair_D: which of the P pairs a difference measures.
        part_D: 0 to 7; contexts, never pairs, are dealt to the parts that make the halves.
        exact: each pair has its only possible context.
    """

    order: int
    pairs_P2: Tensor
    design: str
    coalitions_BN: Tensor
    corners_4D: Tensor
    pair_D: Tensor
    part_D: Tensor
    exact: bool = False

    def differences(self, values_B: Tensor) -> Tensor:
        """Δv of every drawn (pair, context), float64 D."""
        both_D, first_D, second_D, none_D = values_B.double()[self.corners_4D.to(values_B.device)]
        return both_D - first_D - second_D + none_D

    def estimate(self, values_B: Tensor) -> Interactions:
        delta_D = self.differences(values_B)
        pairs, pair_D, part_D = len(self.pairs_P2), self.pair_D.to(delta_D.device), self.part_D.to(delta_D.device)
        mean_P, count_P = group_means(delta_D, pair_D, pairs)
        if self.exact:
            zero_P = torch.zeros_like(mean_P).where(count_P > 0, torch.nan)
            endless_P = torch.full_like(mean_P, torch.inf).where(count_P > 0, 0)
            return self._result(mean_P, zero_P, mean_P.expand(1, 2, -1), endless_P)
        squared_P, _ = group_means((delta_D - mean_P[pair_D]) ** 2, pair_D, pairs)
        # Student's factor, as pools have it: (k − 1)/(k − 3) times the variance of the mean of k draws.
        error_P = (squared_P / (count_P - 3)).sqrt()
        error_P = error_P.where(count_P >= MIN_DRAWS, torch.nan)
        total_8P, count_8P = group_totals(delta_D, part_D * pairs + pair_D, PARTS * pairs).view(2, PARTS, pairs)
        side_S8 = halving_sides().to(delta_D)
        sides_S28 = torch.stack([side_S8, 1 - side_S8], 1)
        return self._result(mean_P, error_P, (sides_S28 @ total_8P) / (sides_S28 @ count_8P), count_P)

    def _result(self, mean_P: Tensor, error_P: Tensor, halvings_S2P: Tensor, draws_P: Tensor) -> Interactions:
        passes = len(self.coalitions_BN)
        return Interactions(self.order, self.pairs_P2, mean_P, error_P, halvings_S2P, draws_P, passes, self.design)


def group_totals(values_D: Tensor, group_D: Tensor, groups: int) -> Tensor:
    """Sum of the values of each group, and their number: float64 2×groups."""
    both_2D = torch.stack([values_D, torch.ones_like(values_D)])
    return values_D.new_zeros(2, groups).index_add_(1, group_D, both_2D)


def group_means(values_D: Tensor, group_D: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean of the values of each group (NaN for an empty one) and their number, both float64 of length `groups`."""
    total, count = group_totals(values_D, group_D, groups)
    return total / count, count
