"""Pooled design: all pairs of cells from one pool of coalitions, in two levels.

With U_k uniform over coalitions of size k, T_i = 1 where cell i is shown, and p11, p10, p00 the probabilities of the
patterns (estimators.md, the pooled estimator; the idea of the stratified SVARM-IQ estimator on three strata),

    I^(m)(i,j) =   E_{U_{m+2}}[v T_i T_j] / p11 − E_{U_{m+1}}[v (T_i(1−T_j) + (1−T_i)T_j)] / p10
                 + E_{U_m}[v (1−T_i)(1−T_j)] / p00.

Independent pools for the three sizes leave a noise that all pairs share, because the mean of v and the effects of
single cells hardly differ between neighbouring sizes and are yet estimated apart. So the sizes are coupled in squares
S, S∪{a}, S∪{b}, S∪{a,b}: what they have in common cancels inside a square. Squares cost four passes; the bulk of the
estimate needs only the middle size. Hence two levels, unbiased for any weights φ,

    I^(m)(i,j) = E_squares[ the three terms − the mean of v φ_ij over S∪{a}, S∪{b} ] + E_{U_{m+1}}[ v(T) φ_ij(T) ],

a few squares for the first and many single coalitions for the second, with φ = 1/p11 where T holds both cells, 1/p00
where neither, and the expectation of a square's terms where one: then only the cells that a square toggles matter in
the first level.

A quadratic surrogate g of v serves as control variate: I_v = I_g + I_{v−g}, where Δg = 2B_ij for every context, and
g is fitted to other coalitions than those whose residuals it corrects, inside each half. The estimate stays unbiased
whatever g is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from interactions.estimators.sample import (
    MIN_DRAWS,
    PARTS,
    Interactions,
    check_order,
    check_pairs,
    halving_sides,
    random_coalitions,
)
from interactions.estimators.surrogate import Quadratic, fit_quadratic, neighbour_smoothing, no_surrogate

SQUARE_SHARE = 0.3
"""Share of the passes spent on squares, near the optimum that was measured (experiments/results/estimators)."""
LEAST = 2 * PARTS
BLOCK_ELEMENTS = 1_000_000


@dataclass(frozen=True)
class PooledSample:
    """Q squares, whose S, S∪{a}, S∪{b} and S∪{a,b} are rows q, Q+q, 2Q+q and 3Q+q, and then single coalitions.

    `part_Q` and `part_S` say which of the parts, that make the halves, a square or a single coalition belongs to.
    """

    order: int
    pairs_P2: Tensor
    coalitions_BN: Tensor
    part_Q: Tensor
    part_S: Tensor
    smoothing_NN: Tensor | None
    surrogate: bool

    def estimate(self, values_B: Tensor) -> Interactions:
        sides_28 = [side for side_8 in halving_sides() for side in (side_8, ~side_8)]
        means, variances = zip(*(self._half(values_B.double(), side_8) for side_8 in sides_28), strict=True)
        halvings_S2P = torch.stack(means).unflatten(0, (-1, 2))
        # The mean of two independent halves; every halving tells it of the same draws.
        error_P = (torch.stack(variances).mean(0) / 2).sqrt()
        draws = self._effective_draws()
        return Interactions(
            order=self.order,
            pairs=self.pairs_P2,
            mean=halvings_S2P.mean((0, 1)),
            standard_error=error_P if draws >= MIN_DRAWS else torch.full_like(error_P, torch.nan),
            halvings=halvings_S2P,
            draws=torch.full_like(error_P, draws),
            passes=len(self.coalitions_BN),
            design="pooled",
        )

    def _half(self, values_B: Tensor, side_8: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate of each pair from one half, each of its parts corrected by the rest of it, and its variance."""
        parts = side_8.nonzero().flatten().tolist()
        means, variances = zip(*(self._part(values_B, part, side_8) for part in parts), strict=True)
        return torch.stack(means).mean(0), torch.stack(variances).sum(0) / len(parts) ** 2

    def _part(self, values_B: Tensor, part: int, side_8: Tensor) -> tuple[Tensor, Tensor]:
        """I_g + I_{v−g} of each pair from one part of a half, and the variance of its second term."""
        device, n_players = values_B.device, self.coalitions_BN.shape[1]
        shown_BN = self.coalitions_BN.to(device, torch.float64)
        first_P, second_P = self.pairs_P2.to(device).T
        part_B = torch.cat([self.part_Q.repeat(4), self.part_S]).to(device)
        rest_B = side_8.to(device)[part_B] & (part_B != part)
        g = self._fit(shown_BN[rest_B], values_B[rest_B])
        own_BN = shown_BN[part_B == part]
        own_B = values_B[part_B == part] - g(own_BN)
        squares = int((self.part_Q == part).sum())
        square_4QN, square_4Q = own_BN[: 4 * squares].view(4, squares, -1), own_B[: 4 * squares].view(4, squares)
        single_1SN, single_1S = own_BN[None, 4 * squares :], own_B[None, 4 * squares :]
        weights = Weights.of(self.order, n_players)
        square_P, square_variance_P = mean_and_variance(weights.square_terms, square_4QN, square_4Q, first_P, second_P)
        single_P, single_variance_P = mean_and_variance(weights.single_terms, single_1SN, single_1S, first_P, second_P)
        return 2 * g.interactions(first_P, second_P) + square_P + single_P, square_variance_P + single_variance_P

    def _fit(self, shown_BN: Tensor, values_B: Tensor) -> Quadratic:
        if not self.surrogate:
            return no_surrogate(shown_BN, values_B)
        smoothing_NN = None if self.smoothing_NN is None else self.smoothing_NN.to(shown_BN)
        return fit_quadratic(shown_BN, values_B, smoothing_NN)

    def variance(self, values_B: Tensor) -> float:
        """Mean over pairs of the variance of their estimates; a rough figure where the effective draws are few."""
        side_8 = halving_sides()[0]
        variances = [self._half(values_B.double(), side)[1].mean() for side in (side_8, ~side_8)]
        return float(torch.stack(variances).mean()) / 2

    def _effective_draws(self) -> float:
        return effective_draws(self.order, self.coalitions_BN.shape[1], len(self.part_Q), len(self.part_S))


def draw(
    order: int,
    pairs_P2: Tensor,
    n_players: int,
    budget: int,
    generator: torch.Generator,
    *,
    smoothing: float = 1.2,
    surrogate: bool = True,
) -> PooledSample:
    """Squares and singles for `budget` passes, `SQUARE_SHARE` of them in squares.

    Args:
        smoothing: over how many cells of a square grid the surrogate expects effects to be alike; 0 for none. It has
            no meaning, and no effect, where n is not a square number.
        surrogate: whether to use one at all.

    Raises:
        ValueError: impossible order or pairs, an order without neighbouring sizes, or too small a budget.
    """
    check_order(order, n_players)
    check_pairs(pairs_P2, n_players)
    if budget < 5 * LEAST:
        raise ValueError(f"a budget of {budget} passes is too small for a pool: give at least {5 * LEAST}")
    squares, singles = allocation(budget)
    side = isqrt(n_players)
    # The first `order` cells of a random permutation are S, the next two a and b.
    ranks_QN = torch.rand(squares, n_players, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    none_QN = ranks_QN < order
    square_4QN = [none_QN, none_QN | (ranks_QN == order), none_QN | (ranks_QN == order + 1), ranks_QN < order + 2]
    return PooledSample(
        order=order,
        pairs_P2=pairs_P2,
        coalitions_BN=torch.cat([*square_4QN, random_coalitions(singles, n_players, order + 1, generator)]),
        part_Q=torch.arange(squares) % PARTS,
        part_S=torch.arange(singles) % PARTS,
        smoothing_NN=neighbour_smoothing(side, smoothing) if smoothing > 0 and side**2 == n_players else None,
        surrogate=surrogate,
    )


def allocation(budget: int) -> tuple[int, int]:
    """How many squares and how many singles a budget buys."""
    squares = max(LEAST, int(budget * SQUARE_SHARE / 4))
    return squares, budget - 4 * squares


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

    def square_terms(self, shown_4QN: Tensor, v_4Q: Tensor, first_P: Tensor, second_P: Tensor) -> Tensor:
        """The three terms minus the mean of v φ over the middle corners, for each square and pair, Q×P."""
        none_QP, a_QP, b_QP, both_QP = shown_4QN[:, :, first_P] + shown_4QN[:, :, second_P]
        none_Q1, a_Q1, b_Q1, both_Q1 = v_4Q[:, :, None]
        terms_QP = self.both * both_Q1 * (both_QP == 2) + self.none * none_Q1 * (none_QP == 0)
        return terms_QP - (a_Q1 * self._middle(a_QP) + b_Q1 * self._middle(b_QP)) / 2

    def single_terms(self, shown_1SN: Tensor, v_1S: Tensor, first_P: Tensor, second_P: Tensor) -> Tensor:
        """v(T) φ(T) of each single coalition and pair, S×P."""
        return v_1S[0][:, None] * self._phi(shown_1SN[0][:, first_P] + shown_1SN[0][:, second_P])

    def _middle(self, count_BP: Tensor) -> Tensor:
        return self.one * (count_BP == 1) + self._phi(count_BP)

    def _phi(self, count_BP: Tensor) -> Tensor:
        return count_BP.new_tensor(self.single_3)[count_BP.long()]


def pattern_probabilities(size: int, n_players: int) -> tuple[float, float, float]:
    """Chances that a uniform coalition of `size` cells shows neither of two cells, the first alone, and both."""
    k, n = size, n_players
    return tuple(count / (n * (n - 1)) for count in ((n - k) * (n - k - 1), k * (n - k), k * (k - 1)))  # type: ignore


def effective_draws(order: int, n_players: int, squares: int, singles: int) -> float:
    """How many draws the standard error of a pair rests on (Welch and Satterthwaite's rule for a sum of two means).

    Of each level only those coalitions count that show the pair's rarest pattern, and a level's share of the variance
    is taken to be its share of the passes, which is so where passes are shared out well.
    """
    none, one, both = pattern_probabilities(order + 1, n_players)
    rarest_single = singles * min(none, 2 * one, both)
    rarest_square = squares * min(
        pattern_probabilities(order, n_players)[0], 2 * one, pattern_probabilities(order + 2, n_players)[2]
    )
    return 1 / ((1 - SQUARE_SHARE) ** 2 / rarest_single + SQUARE_SHARE**2 / rarest_square)


def mean_and_variance(
    terms: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    shown_KBN: Tensor,
    v_KB: Tensor,
    first_P: Tensor,
    second_P: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean over B of the terms B×P and the variance of that mean, in blocks of rows so that memory stays bounded."""
    rows = max(1, BLOCK_ELEMENTS // len(first_P))
    total_P, square_P = first_P.new_zeros(2, len(first_P), dtype=torch.float64)
    for start in range(0, v_KB.shape[1], rows):
        block_BP = terms(shown_KBN[:, start : start + rows], v_KB[:, start : start + rows], first_P, second_P)
        total_P = total_P + block_BP.sum(0)
        square_P = square_P + block_BP.square().sum(0)
    count = v_KB.shape[1]
    mean_P = total_P / count
    return mean_P, (square_P / count - mean_P**2) / (count - 1)
