"""What a value of a pool counts for a pair: by how many of the pair's cells its coalition shows (`pooled`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """What a value counts for a pair, by how many of the pair's cells its coalition shows.

    `none`, `one` and `both` weigh the three terms of the formula; `single_3` is φ for 0, 1 and 2 cells shown.
    """

    none: float
    one: float
    both: float
    single_3: tuple[float, float, float]

    @classmethod
    def of(cls, order: int, n_players: int) -> "Weights":
        none = 1 / pattern_probabilities(order, n_players)[0]
        one = 1 / pattern_probabilities(order + 1, n_players)[1]
        both = 1 / pattern_probabilities(order + 2, n_players)[2]
        # A square adds one of n−m−1 hidden cells and takes away one of m+1 shown ones.
        expected_one = both / (n_players - order - 1) + none / (order + 1) - one
        return cls(none, one, both, (none, expected_one, both))

    def corners(self) -> list[tuple[float, float, float]]:
        """What the corners S, S∪{a}, S∪{b}, S∪{a,b} of a square count: the three terms, less the middle's mean v φ."""
        none, one, both = self.single_3
        middle = (-none / 2, -(self.one + one) / 2, -both / 2)
        return [(self.none, 0.0, 0.0), middle, middle, (0.0, 0.0, self.both)]

    def moments(self, order: int, n_players: int) -> tuple[float, float]:
        """Mean square and mean fourth power of what a single counts for a pair, if its value is standard normal."""
        none, one, both = pattern_probabilities(order + 1, n_players)
        squared = [(chance, weight**2) for chance, weight in zip((none, 2 * one, both), self.single_3, strict=True)]
        return normal_moments(squared)

    def square_moments(self, order: int, n_players: int) -> tuple[float, float]:
        """The same of a square, whose four values are drawn apart."""
        # Where a cell can be: in S, the one that is a, the one that is b, or outside; and in which corners it is shown.
        places = {(1, 1, 1, 1): order, (0, 1, 0, 1): 1, (0, 0, 1, 1): 1, (0, 0, 0, 0): n_players - order - 2}
        squared = []
        for (first, count), (second, other) in product(places.items(), repeat=2):
            chance = count * (other - (first == second)) / (n_players * (n_players - 1))
            shown_4 = [i + j for i, j in zip(first, second, strict=True)]
            weights = [corner[shown] for corner, shown in zip(self.corners(), shown_4, strict=True)]
            squared.append((chance, sum(weight**2 for weight in weights)))
        return normal_moments(squared)

    def square_terms(self, shown_RN: Tensor, v_R: Tensor, both_PR: Tensor, first_P: Tensor, second_P: Tensor) -> Tensor:
        """What each square counts for each pair, P×Q; R = 4Q rows, corner by corner, as `pattern_sums` has them."""
        corner_R3 = v_R.new_tensor(self.corners()).repeat_interleave(len(v_R) // 4, 0)
        none_R, one_R, both_R = (corner_R3 * v_R[:, None]).T
        cell_NQ = (shown_RN * (one_R - none_R)[:, None]).unflatten(0, (4, -1)).sum(0).T
        pair_PQ = (both_PR * (none_R - 2 * one_R + both_R)).unflatten(1, (4, -1)).sum(1)
        return none_R.unflatten(0, (4, -1)).sum(0) + cell_NQ[first_P] + cell_NQ[second_P] + pair_PQ


def normal_moments(squared: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Second and fourth moment of a mixture of normal variables, of (chance, variance) of each."""
    return sum(c * v for c, v in squared), 3 * sum(c * v**2 for c, v in squared)


def pattern_probabilities(size: int, n_players: int) -> tuple[float, float, float]:
    """Chances that a uniform coalition of `size` cells shows neither of two cells, the first alone, and both."""
    k, n = size, n_players
    return tuple(count / (n * (n - 1)) for count in ((n - k) * (n - k - 1), k * (n - k), k * (k - 1)))  # type: ignore


def pattern_sums(
    pattern_R3: Tensor, values_RF: Tensor, shown_RN: Tensor, both_PR: Tensor, first_P: Tensor, second_P: Tensor
) -> Tensor:
    """Σ over R coalitions of value × pattern[how many cells of the pair are shown], P×F; both_PR: both are."""
    # pattern[T_i + T_j] = p0 + (p1 − p0)(T_i + T_j) + (p0 − 2 p1 + p2) T_i T_j
    none_R1, one_R1, both_R1 = pattern_R3.T[..., None]
    cell_NF = shown_RN.T @ (values_RF * (one_R1 - none_R1))
    pair_PF = both_PR @ (values_RF * (none_R1 - 2 * one_R1 + both_R1))
    return (values_RF * none_R1).sum(0) + cell_NF[first_P] + cell_NF[second_P] + pair_PF
