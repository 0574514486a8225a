"""Star design: all pairs of a few centre cells, from the marginals of the centres.

With d_a(S) = v(S∪{a}) − v(S), an interaction is the change that j makes to what the centre a contributes:

    I^(m)(a,j) = E[ d_a(S') | j ∈ S' ] − E[ d_a(S) | j ∉ S ],   |S'| = m+1 and |S| = m, uniform over subsets of N∖{a}.

One marginal tells of every partner j at once, as one coalition of the pooled design does, but with the variance of a
marginal in place of that of v; the price is that the passes measure only the pairs of the centres. A context serves all
centres that are free in it, at one pass a marginal; above the middle order it is mirrored, as in the shared design:
d_a(S') = v(U) − v(U∖{a}) with S' = U∖{a}.

As in the pooled design two levels keep apart what the two sizes have in common. With π1 the chance of j ∈ S', π0 that
of j ∉ S, and φ_j = 1/π1 − 1/((m+1) π0) where S' holds j, −1/π0 where not (so that E φ = 0),

    I^(m)(a,j) = E_{S', b ∈ S'}[ d_a(S') [j ∈ S'] / π1 − d_a(S'∖{b}) [j ∉ S'∖{b}] / π0 − d_a(S') φ_j ]
                 + cov(d_a(S'), φ_j)

The second term is a plain sample covariance, unbiased; the first, a few contexts of twice the price, is a small
correction.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interactions.estimators.sample import MIN_DRAWS, Interactions, check_order, check_pairs, random_coalitions

CORRECTION_SHARE = 0.25
"""Share of the passes spent on the first term."""
LEAST = 4
"""Contexts of the first term, two a half."""


@dataclass(frozen=True)
class Marginals:
    """Rows of coalitions that hold the marginals of the centres in R contexts.

    Attributes:
        shown_RN: the cells of S' or, mirrored, of U; what it says of the centre itself is not used.
        with_RC, without_RC: coalitions whose values differ by the centre; 0 where the centre is not free.
        free_RC: whether it is.
    """

    shown_RN: Tensor
    with_RC: Tensor
    without_RC: Tensor
    free_RC: Tensor

    def values(self, values_B: Tensor) -> Tensor:
        """d_a of each context and centre, float64 R×C, 0 where not free."""
        return (values_B[self.with_RC] - values_B[self.without_RC]) * self.free_RC


@dataclass(frozen=True)
class StarSample:
    """Marginals at S' for the covariance (`large`), and at S' and S'∖{b} for the correction (`upper`, `lower`)."""

    order: int
    pairs_P2: Tensor
    centres_C: Tensor
    coalitions_BN: Tensor
    large: Marginals
    upper: Marginals
    lower: Marginals

    def estimate(self, values_B: Tensor) -> Interactions:
        # Products of matrices of a few thousand rows: the CPU repeats them to the bit.
        values_B = values_B.double().cpu()
        parts = [self._half(values_B, half) for half in range(2)]
        halves_2P = torch.stack([mean_P for mean_P, _, _ in parts])
        draws_P = parts[0][2] + parts[1][2]
        error_P = (parts[0][1] + parts[1][1]).sqrt() / 2
        return Interactions(
            order=self.order,
            pairs=self.pairs_P2,
            mean=halves_2P.mean(0),
            standard_error=error_P.where(draws_P >= MIN_DRAWS, torch.nan),
            halves=halves_2P,
            draws=draws_P,
            passes=len(self.coalitions_BN),
            design="star",
        )

    def _half(self, values_B: Tensor, half: int) -> tuple[Tensor, Tensor, Tensor]:
        """Estimate, its variance and its draws for each pair, NaN without a centre, from every second context."""
        n_players, rows = self.coalitions_BN.shape[1], slice(half, None, 2)
        inside, outside = inclusion(self.order, n_players)
        phi_2 = weights(self.order, n_players)
        mirrored = is_mirrored(self.order, n_players)
        # Covariance of the marginals at S' with φ of the partners.
        free_RC = self.large.free_RC[rows].double()
        d_RC = self.large.values(values_B)[rows]
        count_C = free_RC.sum(0)
        centre_C = d_RC.sum(0) / count_C
        centred_RC = (d_RC - centre_C) * free_RC
        large = Means.of([(centred_RC, phi_2[self.large.shown_RN[rows].long()])], count_C, count_C - 1)
        # Where two centres are both free, each has the other as a hidden partner (or, mirrored, as a shown one).
        both_CC = phi_2[int(mirrored)] ** 2 * (centred_RC.T @ centred_RC)
        # The correction: the two terms at S' and S'∖{b}, minus what the covariance already holds. It vanishes for a
        # constant marginal, so the mean of the other, independent contexts may be taken off.
        upper_QN, lower_QN = self.upper.shown_RN[rows], self.lower.shown_RN[rows]
        free_QC = self.upper.free_RC[rows].double()
        upper_QC = (self.upper.values(values_B)[rows] - centre_C) * free_QC
        lower_QC = (self.lower.values(values_B)[rows] - centre_C) * free_QC
        terms = [
            (upper_QC, upper_QN / inside - phi_2[upper_QN.long()]),
            (-lower_QC, (~lower_QN).double() / outside),
        ]
        count_K = free_QC.sum(0)
        small = Means.of(terms, count_K, count_K)
        seen_QC = upper_QC / (self.order + 1) if mirrored else upper_QC - lower_QC
        both_corrections_CC = seen_QC.T @ seen_QC / outside**2
        shared_CC = both_CC / (count_C[:, None] * count_C) + both_corrections_CC / (count_K[:, None] * count_K)
        draws_C = effective_draws(self.order, n_players, count_C, count_K)
        # A centre that was hardly ever free tells nothing.
        draws_C = draws_C.where((count_C >= 2) & (count_K >= 2), 0.0)
        return self._of_pairs(large.mean_CN + small.mean_CN, large.variance_CN + small.variance_CN, shared_CC, draws_C)

    def _of_pairs(
        self, mean_CN: Tensor, variance_CN: Tensor, shared_CC: Tensor, draws_C: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From centres and partners to pairs; a pair of two centres is the mean of both views, which are correlated."""
        place_N = torch.full((mean_CN.shape[1],), -1)
        place_N[self.centres_C] = torch.arange(len(self.centres_C))
        total_P, variance_P, views_P, draws_P = torch.zeros(4, len(self.pairs_P2), dtype=torch.float64)
        place_P2 = place_N[self.pairs_P2]
        for view in range(2):
            centre_P, partner_P = place_P2[:, view], self.pairs_P2[:, 1 - view]
            tells_P = (centre_P >= 0) & (draws_C[centre_P] > 0)
            total_P += mean_CN[centre_P, partner_P].where(tells_P, 0.0)
            variance_P += variance_CN[centre_P, partner_P].where(tells_P, 0.0)
            draws_P += draws_C[centre_P].where(tells_P, 0.0)
            views_P += tells_P
        variance_P += 2 * shared_CC[place_P2[:, 0], place_P2[:, 1]].where(views_P == 2, 0.0)
        return total_P / views_P, variance_P / views_P**2, draws_P


@dataclass(frozen=True)
class Means:
    """Means over contexts of sums of products d_a w_j, for every centre a and partner j, and their variances, C×N."""

    mean_CN: Tensor
    variance_CN: Tensor

    @classmethod
    def of(cls, terms: list[tuple[Tensor, Tensor]], count_C: Tensor, divisor_C: Tensor) -> "Means":
        """From pairs of marginals R×C, 0 where not free, and weights R×N. `divisor_C` is the number of contexts, or one
        less where the marginals were centred on their own mean."""
        total_CN = sum((d_RC.T @ w_RN for d_RC, w_RN in terms), torch.zeros(()))
        square_CN = sum(
            ((d_RC * e_RC).T @ (w_RN * u_RN) for d_RC, w_RN in terms for e_RC, u_RN in terms), torch.zeros(())
        )
        mean_CN = total_CN / divisor_C[:, None]
        return cls(mean_CN, (square_CN / count_C[:, None] - mean_CN**2) / (divisor_C[:, None] - 1))


def draw(
    order: int,
    pairs_P2: Tensor,
    n_players: int,
    budget: int,
    generator: torch.Generator,
    *,
    centres: int = 16,
) -> StarSample:
    """Contexts for uniformly drawn centres: every pair has the same chance to be measured.

    The budget is met on average, since the number of free centres is random.

    Raises:
        ValueError: impossible order or pairs, the orders 0 and n − 2 (which are exact), or too small a budget.
    """
    check_order(order, n_players)
    check_pairs(pairs_P2, n_players)
    cells = pairs_P2.unique()
    centres_C = cells[torch.randperm(len(cells), generator=generator)[: min(centres, len(cells))]].sort().values
    contexts, corrections = allocation(order, n_players, budget, len(centres_C))
    if corrections < LEAST:
        raise ValueError(f"a budget of {budget} passes is too small for {len(centres_C)} centres: give more, or fewer")
    rows = Rows(n_players)
    large = rows.add(*bases(order, contexts, n_players, centres_C, generator), centres_C)
    shown_QN, free_QC = bases(order, corrections, n_players, centres_C, generator)
    # b, a uniform cell of S', serves all centres; where it is itself one, that centre sits this context out.
    b_Q = (torch.rand(shown_QN.shape, generator=generator) * shown_QN).argmax(1)
    free_QC = free_QC & (centres_C != b_Q[:, None])
    smaller_QN = shown_QN.clone()
    smaller_QN[torch.arange(corrections), b_Q] = False
    upper, lower = rows.add(shown_QN, free_QC, centres_C), rows.add(smaller_QN, free_QC, centres_C)
    return StarSample(order, pairs_P2, centres_C, torch.cat(rows.coalitions), large, upper, lower)


class Rows:
    """Coalitions collected one after the other. State: how many there are."""

    def __init__(self, n_players: int) -> None:
        self.coalitions: list[Tensor] = [torch.zeros(0, n_players, dtype=torch.bool)]

    def add(self, shown_RN: Tensor, free_RC: Tensor, centres_C: Tensor) -> Marginals:
        """The contexts themselves, and each with every free centre toggled."""
        start = sum(len(part) for part in self.coalitions)
        row_F, place_F = free_RC.nonzero(as_tuple=True)
        toggled_FN = shown_RN[row_F].clone()
        toggled_FN[torch.arange(len(row_F)), centres_C[place_F]] ^= True
        self.coalitions += [shown_RN, toggled_FN]
        base_RC = (start + torch.arange(len(shown_RN)))[:, None].expand_as(free_RC)
        other_RC = base_RC.clone()
        other_RC[row_F, place_F] = start + len(shown_RN) + torch.arange(len(row_F))
        has_RC = shown_RN[:, centres_C]
        return Marginals(
            shown_RN, torch.where(has_RC, base_RC, other_RC), torch.where(has_RC, other_RC, base_RC), free_RC
        )


def is_mirrored(order: int, n_players: int) -> bool:
    """Whether centres are taken out of U rather than put into S'."""
    return 2 * order > n_players - 2


def bases(
    order: int, count: int, n_players: int, centres_C: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random S' (or U, mirrored) and which centres are free in each: bool count×n and count×C."""
    mirrored = is_mirrored(order, n_players)
    shown_RN = random_coalitions(count, n_players, order + 2 if mirrored else order + 1, generator)
    return shown_RN, shown_RN[:, centres_C] == mirrored


def allocation(order: int, n_players: int, budget: int, centres: int) -> tuple[int, int]:
    """How many contexts for the covariance, and how many pairs of contexts for the correction, a budget buys."""
    cost = 1 + centres * free_share(order, n_players)
    return int(budget * (1 - CORRECTION_SHARE) / cost), int(budget * CORRECTION_SHARE / (2 * cost))


def free_share(order: int, n_players: int) -> float:
    """The share of contexts in which a centre is free."""
    return (order + 2 if is_mirrored(order, n_players) else n_players - order - 1) / n_players


def effective_draws(order: int, n_players: int, contexts: Any, corrections: Any) -> Any:
    """How many draws a standard error rests on (Welch and Satterthwaite's rule), counting the rarer state of a partner
    and taking a term's share of the variance to be its share of the passes."""
    rarest, share = min(inclusion(order, n_players)), CORRECTION_SHARE
    return rarest / ((1 - share) ** 2 / contexts + share**2 / corrections)


def inclusion(order: int, n_players: int) -> tuple[float, float]:
    """π1, the chance of a partner in S' of m+1 cells, and π0, that of one outside S of m cells."""
    return (order + 1) / (n_players - 1), (n_players - 1 - order) / (n_players - 1)


def weights(order: int, n_players: int) -> Tensor:
    """φ of a partner outside and inside S', float64 of length 2."""
    inside, outside = inclusion(order, n_players)
    return torch.tensor([-1 / outside, 1 / inside - 1 / ((order + 1) * outside)], dtype=torch.float64)
