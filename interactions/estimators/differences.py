"""Second differences Δv(i,j,S) = v(S∪{i,j}) − v(S∪{i}) − v(S∪{j}) + v(S), and their means over contexts.

Pairwise and shared designs differ in which coalitions the four corners of a difference point to, and in nothing else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from interactions.estimators.sample import MIN_DRAWS, Interactions


@dataclass(frozen=True)
class DifferenceSample:
    """D second differences over B coalitions.

    Attributes:
        corners_4D: rows of `coalitions_BN` that hold S∪{i,j}, S∪{i}, S∪{j} and S.
        pair_D: which of the P pairs a difference measures.
        half_D: 0 or 1; contexts, never pairs, are split between the halves.
        exact: each pair has its only possible context.
    """

    order: int
    pairs_P2: Tensor
    design: str
    coalitions_BN: Tensor
    corners_4D: Tensor
    pair_D: Tensor
    half_D: Tensor
    exact: bool = False

    def differences(self, values_B: Tensor) -> Tensor:
        """Δv of every drawn (pair, context), float64 D."""
        both_D, first_D, second_D, none_D = values_B.double()[self.corners_4D.to(values_B.device)]
        return both_D - first_D - second_D + none_D

    def estimate(self, values_B: Tensor) -> Interactions:
        delta_D = self.differences(values_B)
        pairs = len(self.pairs_P2)
        pair_D, half_D = self.pair_D.to(delta_D.device), self.half_D.to(delta_D.device)
        mean_P, count_P = group_means(delta_D, pair_D, pairs)
        if self.exact:
            zero_P, endless_P = torch.zeros_like(mean_P), torch.full_like(mean_P, torch.inf)
            halves_2P = mean_P.expand(2, -1).clone()
            return self._result(mean_P, zero_P, halves_2P, endless_P)
        squared_P, _ = group_means((delta_D - mean_P[pair_D]) ** 2, pair_D, pairs)
        error_P = (squared_P / (count_P - 1)).sqrt()
        error_P = error_P.where(count_P >= MIN_DRAWS, torch.nan)
        halves_2P = group_means(delta_D, half_D * pairs + pair_D, 2 * pairs)[0].view(2, pairs)
        return self._result(mean_P, error_P, halves_2P, count_P)

    def _result(self, mean_P: Tensor, error_P: Tensor, halves_2P: Tensor, draws_P: Tensor) -> Interactions:
        passes = len(self.coalitions_BN)
        return Interactions(self.order, self.pairs_P2, mean_P, error_P, halves_2P, draws_P, passes, self.design)


def group_means(values_D: Tensor, group_D: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean of the values of each group (NaN for an empty one) and their number, both float64 of length `groups`."""
    count = values_D.new_zeros(groups).index_add_(0, group_D, torch.ones_like(values_D))
    total = values_D.new_zeros(groups).index_add_(0, group_D, values_D)
    return total / count, count
