"""Pooled design: all pairs of cells from one pool of coalitions, in two levels.

With U_k uniform over coalitions of size k, T_i = 1 where cell i is shown, and p11, p10, p00 the probabilities of the
patterns (the idea of the stratified SVARM-IQ estimator on three strata),

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

from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from interactions.estimators.sample import (
    MIN_DRAWS,
    PARTS,
    Interactions,
    check_order,
    check_pairs,
    halving_sides,
    random_coalitions,
)
from interactions.estimators.surrogate import (
    FEATURES,
    RIDGES,
    SELECTION_ROWS,
    Basis,
    evidence,
    fit,
    neighbour_smoothing,
)
from interactions.estimators.weights import Weights, pattern_probabilities, pattern_sums

SQUARE_SHARE = 0.3
"""Share of the passes spent on squares, near the optimum that was measured (experiments/results/estimators)."""
LEAST = 2 * PARTS
MANY, FEWER_FEATURES = 2_000, 64
"""Below so many passes the surrogate has fewer functions: with 500 and 1,000 passes of EfficientNet-Lite0 they raised
the noise by less than 1.5 %, and fitting takes a third of the time."""
BLOCK_ELEMENTS = 1_000_000


@dataclass(frozen=True)
class PooledSample:
    """Q squares, whose S, S∪{a}, S∪{b} and S∪{a,b} are rows q, Q+q, 2Q+q and 3Q+q, and then single coalitions.

    `part_Q` and `part_S` say which of the parts, that make the halves, a square or a single coalition belongs to.
    `smoothing` is that of `draw`, None for no surrogate. In two levels of precision singles are evaluated in a reduced
    one (`reduced_B`), and those numbered by `again_C` once more in full: these rows come last.
    """

    order: int
    pairs_P2: Tensor
    coalitions_BN: Tensor
    part_Q: Tensor
    part_S: Tensor
    smoothing: float | None
    again_C: Tensor | None = None

    @property
    def reduced_B(self) -> Tensor | None:
        """Which rows are to be evaluated in reduced precision; None where none is."""
        if self.again_C is None:
            return None
        row_B, first = torch.arange(len(self.coalitions_BN)), 4 * len(self.part_Q)
        return (row_B >= first) & (row_B < first + len(self.part_S))

    def estimate(self, values_B: Tensor) -> Interactions:
        values_B = values_B.double()
        parts = self._parts(values_B)
        pairs_2P = self.pairs_P2.to(values_B.device).T
        features, n_players = features_for(len(values_B)), self.coalitions_BN.shape[1]
        basis = basis_of(n_players, self.order + 1, self.smoothing, features).to(values_B.device)
        functions_8RD = [basis.functions(part.shown_RN) for part in parts]
        fits_H4D = fit_without(basis, parts, functions_8RD)
        halves_HP = basis.second_differences(fits_H4D.mean(1), *pairs_2P)
        variance_P, single_variance = torch.zeros_like(halves_HP[0]), halves_HP.new_zeros(())
        for k, (part, functions_RD) in enumerate(zip(parts, functions_8RD, strict=True)):
            half_7, place_7 = (halves_of_parts() == k).nonzero(as_tuple=True)
            left_R7 = part.corrected_R[:, None] - functions_RD @ fits_H4D[half_7, place_7].T
            mean_P7, part_variance_P = part.mean_and_variance(left_R7, pairs_2P)
            halves_HP[half_7] += mean_P7.T / 4
            variance_P += part_variance_P / PARTS**2
            single_variance += part.single_rows(left_R7).mean(1).var() / PARTS
        halvings_S2P = halves_HP.unflatten(0, (-1, 2))
        draws = self._draws(values_B, single_variance)
        # Student's factor: with it z-scores have unit variance, although the variance is itself estimated.
        error_P = torch.where(draws >= MIN_DRAWS, (variance_P * draws / (draws - 2)).sqrt(), torch.nan)
        return Interactions(
            order=self.order,
            pairs=self.pairs_P2,
            mean=halvings_S2P.mean((0, 1)),
            standard_error=error_P,
            halvings=halvings_S2P,
            draws=draws.expand(len(variance_P)),
            passes=len(self.coalitions_BN),
            design="pooled",
        )

    def _parts(self, values_B: Tensor) -> list["Part"]:
        squares, device = len(self.part_Q), values_B.device
        weights = Weights.of(self.order, self.coalitions_BN.shape[1])
        correction_S = self._corrections(values_B)
        parts = []
        for k in range(PARTS):
            square_Q = (self.part_Q == k).nonzero().flatten()
            single_S = (self.part_S == k).nonzero().flatten()
            rows_R = torch.cat([*(corner * squares + square_Q for corner in range(4)), 4 * squares + single_S])
            shown_RN = self.coalitions_BN[rows_R].to(device, torch.float64)
            values_R = corrected_R = values_B[rows_R.to(device)]
            if correction_S is not None:
                corrected_R = values_R.clone()
                corrected_R[4 * len(square_Q) :] += correction_S[single_S.to(device)]
            parts.append(Part(weights, len(square_Q), len(single_S), shown_RN, values_R, corrected_R))
        return parts

    def _corrections(self, values_B: Tensor) -> Tensor | None:
        """What reduced precision did to the singles that were evaluated again, S, 0 for the others.

        Times singles over those evaluated again, part by part: then the mean of the corrected values is that of the
        reduced ones plus the mean error of the sample, and nothing crosses the halves.
        """
        if self.again_C is None:
            return None
        part_C, error_C = self.part_S[self.again_C], self._errors(values_B, self.again_C)
        share_8 = self.part_S.bincount(minlength=PARTS) / part_C.bincount(minlength=PARTS)
        correction_S = values_B.new_zeros(len(self.part_S))
        correction_S[self.again_C.to(values_B.device)] = error_C * share_8[part_C].to(error_C)
        return correction_S

    def _errors(self, values_B: Tensor, again_C: Tensor) -> Tensor:
        """Full less reduced precision, of the singles that were evaluated in both, C."""
        first = 4 * len(self.part_Q)
        return values_B[first + len(self.part_S) :] - values_B[first + again_C.to(values_B.device)]

    def _draws(self, values_B: Tensor, single_variance: Tensor) -> Tensor:
        """Effective draws, a scalar; those of the correction count by its share of the singles' variance."""
        n_players, squares, singles = self.coalitions_BN.shape[1], len(self.part_Q), len(self.part_S)
        if self.again_C is None:
            return single_variance.new_full((), effective_draws(self.order, n_players, squares, singles))
        again, error_C = len(self.again_C), self._errors(values_B, self.again_C)
        share = (error_C.var() / again / (single_variance / singles)).nan_to_num(0).clamp(0, 1)
        return effective_draws(self.order, n_players, squares, singles, again, share)


@dataclass(frozen=True)
class Part:
    """The coalitions of one part, R×n, squares corner by corner and then singles, with their values.

    Means are taken of `corrected_R`; surrogates are fitted to `values_R`, free of large corrections' noise.
    """

    weights: "Weights"
    squares: int
    singles: int
    shown_RN: Tensor
    values_R: Tensor
    corrected_R: Tensor

    def single_rows(self, of_R: Tensor) -> Tensor:
        """The singles' rows of something that has one for each coalition."""
        return of_R[4 * self.squares :]

    def mean_and_variance(self, left_RF: Tensor, pairs_2P: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the squares' terms plus mean of the singles', P×F, for F kinds of values.

        With it the variance, P, of the average of these kinds, which are functions chosen without this part.
        """
        block = max(1, BLOCK_ELEMENTS // len(left_RF))
        blocks = [self._block(left_RF, *cells_2P) for cells_2P in pairs_2P.split(block, 1)]
        mean_PF, variance_P = (torch.cat(each) for each in zip(*blocks, strict=True))
        return mean_PF, variance_P

    def _block(self, left_RF: Tensor, first_P: Tensor, second_P: Tensor) -> tuple[Tensor, Tensor]:
        weights, corners, pairs = self.weights, 4 * self.squares, (first_P, second_P)
        shown_NR = self.shown_RN.T.bool().contiguous()  # bytes are gathered faster
        both_PR = (shown_NR[first_P] & shown_NR[second_P]).to(left_RF)
        squares_R3 = left_RF.new_tensor(weights.corners()).repeat_interleave(self.squares, 0)
        singles_S3 = left_RF.new_tensor([weights.single_3]).expand(self.singles, -1)
        pattern_R3 = torch.cat([squares_R3 / self.squares, singles_S3 / self.singles])
        mean_PF = pattern_sums(pattern_R3, left_RF, self.shown_RN, both_PR, *pairs)
        average_R = left_RF.mean(1)
        terms_PQ = weights.square_terms(self.shown_RN[:corners], average_R[:corners], both_PR[:, :corners], *pairs)
        centred_PQ = terms_PQ - terms_PQ.mean(1, keepdim=True)
        square_P = centred_PQ.square().sum(1) / ((self.squares - 1) * self.squares)
        # φ² is a function of how many of a pair's cells are shown, as φ is.
        single_S1, of_singles = average_R[corners:, None], (self.shown_RN[corners:], both_PR[:, corners:], *pairs)
        total_P = pattern_sums(singles_S3, single_S1, *of_singles)[:, 0]
        squared_P = pattern_sums(singles_S3**2, single_S1**2, *of_singles)[:, 0]
        single_P = (squared_P - total_P**2 / self.singles) / ((self.singles - 1) * self.singles)
        return mean_PF, square_P + single_P


def features_for(passes: int) -> int:
    """How many functions a surrogate gets, by a rule that no value has a say in."""
    return FEATURES if passes >= MANY else FEWER_FEATURES


@cache
def basis_of(n_players: int, size: int, smoothing: float | None, features: int = FEATURES) -> Basis:
    """About so many functions for the surrogate, on the CPU; the constant alone without smoothing (None)."""
    if smoothing is None:
        return Basis.constant(n_players)
    side = isqrt(n_players)
    square = smoothing > 0 and side**2 == n_players
    return Basis.quadratic(n_players, size, neighbour_smoothing(side, smoothing) if square else None, features)


@cache
def halves_of_parts() -> Tensor:
    """The four parts of each half, two halves for each way of halving: H×4."""
    sides = [side for one in halving_sides() for side in (one, ~one)]
    return torch.stack([side.nonzero().flatten() for side in sides])


@cache
def threes_of_parts() -> tuple[Tensor, Tensor]:
    """Every choice of three parts, 1 for these and 0 elsewhere, F×8; and which of them are a half's other three, for
    each part of each half, H×4."""
    halves_H4 = halves_of_parts()
    in_half_H8 = torch.zeros(len(halves_H4), PARTS).scatter(1, halves_H4, 1.0)
    others_H48 = in_half_H8[:, None] - nn.functional.one_hot(halves_H4, PARTS)
    threes_F8, three_of = others_H48.flatten(0, 1).unique(dim=0, return_inverse=True)
    return threes_F8, three_of.unflatten(0, (-1, 4))


def fit_without(basis: Basis, parts: list[Part], functions_8RD: list[Tensor]) -> Tensor:
    """Coefficients H×4×D of surrogates, for each part of each half that of the half's other three.

    The same three choose the ridge.
    """
    gram_8DD = torch.stack([functions_RD.T @ functions_RD for functions_RD in functions_8RD])
    target_8D = torch.stack(
        [functions_RD.T @ part.values_R for part, functions_RD in zip(parts, functions_8RD, strict=True)]
    )
    rows = min(SELECTION_ROWS, min(part.singles for part in parts))
    u_8RL = torch.stack([part.single_rows(own_RD)[:rows] for part, own_RD in zip(parts, functions_8RD, strict=True)])
    values_8R = torch.stack([part.single_rows(part.values_R)[:rows] for part in parts])
    losses_8C, ridges = evidence(basis.linear_of(u_8RL), values_8R), values_8R.new_tensor(RIDGES)
    threes_F8, three_H4 = threes_of_parts()
    threes_F8 = threes_F8.to(gram_8DD)
    gram_FDD, target_FD, losses_FC = (
        (threes_F8 @ of_8.flatten(1)).unflatten(1, of_8.shape[1:]) for of_8 in (gram_8DD, target_8D, losses_8C)
    )
    return fit(gram_FDD, target_FD, ridges[losses_FC.argmin(1)])[three_H4.to(gram_8DD.device)]


def draw(
    order: int,
    pairs_P2: Tensor,
    n_players: int,
    budget: int,
    generator: torch.Generator,
    *,
    smoothing: float = 1.2,
    surrogate: bool = True,
    again: float = 0.0,
    cost: float = 1.0,
) -> PooledSample:
    """Squares and singles for `budget` passes, `SQUARE_SHARE` of them in squares.

    Args:
        smoothing: over how many cells of a square grid the surrogate expects effects to be alike; 0 for none. It has
            no meaning, and no effect, where n is not a square number.
        surrogate: whether to use one at all.
        again: with more than 0, singles are for reduced precision, and this share of them for full precision as well.
        cost: of a reduced pass, in full ones, in which the budget counts.

    Raises:
        ValueError: impossible order or pairs, an order without neighbouring sizes, or too small a budget.
    """
    check_order(order, n_players)
    check_pairs(pairs_P2, n_players)
    if budget < 5 * LEAST:
        raise ValueError(f"a budget of {budget} passes is too small for a pool: give at least {5 * LEAST}")
    squares, singles = allocation(budget)
    again_C = None
    if again:
        singles, evaluated_again = levels(budget, again, cost)
        again_C = torch.arange(evaluated_again)
    # The first `order` cells of a random permutation are S, the next two a and b.
    ranks_QN = torch.rand(squares, n_players, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    none_QN = ranks_QN < order
    single_SN = random_coalitions(singles, n_players, order + 1, generator)
    square_4QN = [none_QN, none_QN | (ranks_QN == order), none_QN | (ranks_QN == order + 1), ranks_QN < order + 2]
    return PooledSample(
        order=order,
        pairs_P2=pairs_P2,
        coalitions_BN=torch.cat([*square_4QN, single_SN, *([] if again_C is None else [single_SN[again_C]])]),
        part_Q=torch.arange(squares) % PARTS,
        part_S=torch.arange(singles) % PARTS,
        smoothing=smoothing if surrogate else None,
        again_C=again_C,
    )


def allocation(budget: int) -> tuple[int, int]:
    """How many squares and how many singles a budget buys."""
    squares = max(LEAST, int(budget * SQUARE_SHARE / 4))
    return squares, budget - 4 * squares


def levels(budget: int, again: float, cost: float) -> tuple[int, int]:
    """How many singles in reduced precision, and how many of these in full precision again, a budget buys."""
    _, full = allocation(budget)
    # Where the share is small, the least sample of each part is what counts.
    singles = max(LEAST, int(min(full / (cost + again), (full - LEAST) / cost)))
    return singles, min(singles, max(LEAST, round(again * singles)))


def effective_draws(
    order: int, n_players: int, squares: int, singles: int, again: int = 0, correction: Tensor | float = 0.0
) -> Any:
    """How many draws the standard error of a pair rests on: the degrees of freedom of its variance (Welch and
    Satterthwaite's rule for a sum of means), if what the surrogate leaves of v is white.

    Where the patterns that weigh most are rare, the variance of a level is that of few of its coalitions: by their
    kurtosis, 2 / (kurtosis − 1) of them. The mean of each part takes one away. In two levels of precision `again`
    singles carry the share `correction` of the singles' variance.
    """
    weights = Weights.of(order, n_players)
    square_2, square_4 = weights.square_moments(order, n_players)
    single_2, single_4 = weights.moments(order, n_players)
    # The correction makes the singles' variance 1 / (1 − correction) of what it would be.
    kept = (1 - correction) * square_2 / squares
    of_squares = kept / (kept + single_2 / singles)
    square_part = (square_4 / square_2**2 - 1) / 2 / (squares - PARTS)
    single_part = (1 - correction) ** 2 / (singles - PARTS)
    if again:
        single_part += correction**2 / (again - PARTS)
    single_part *= (single_4 / single_2**2 - 1) / 2
    return 1 / (of_squares**2 * square_part + (1 - of_squares) ** 2 * single_part)


def rarest_draws(order: int, n_players: int, squares: int, singles: int) -> float:
    """About how many coalitions show a pair's rarest pattern, squares and singles by their shares of the passes: with
    few the halves of a pair say little, and no pool is considered (`auto`)."""
    none, one, both = pattern_probabilities(order + 1, n_players)
    rarest_square = min(
        pattern_probabilities(order, n_players)[0], 2 * one, pattern_probabilities(order + 2, n_players)[2]
    )
    of_singles = (1 - SQUARE_SHARE) ** 2 / ((singles - PARTS) * min(none, 2 * one, both))
    return 1 / (of_singles + SQUARE_SHARE**2 / ((squares - PARTS) * rarest_square))
