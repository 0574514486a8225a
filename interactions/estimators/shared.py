"""Shared design: one context serves all wanted pairs of a group of cells, at close to one pass a difference.

Up to the middle order S is drawn with |S| = m, and v(S), every v(S∪{i}) and every v(S∪{i,j}) of the group's cells
outside S is evaluated once. Above the middle it is mirrored: U with |U| = m+2, and pairs inside U are taken away, since
few pairs of a large S lie outside it. The group does not depend on S, and S may hold other cells of the group: drawing
S from the cells outside the group would be biased.
"""

from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor

from interactions.estimators.differences import DifferenceSample
from interactions.estimators.sample import PARTS, check_order, check_pairs, random_coalitions

GROUP_PAIRS = 12
"""More share more passes, but lie closer together and so tell less of the whole image."""


@dataclass(frozen=True)
class Groups:
    """Pairs in groups of nearly equal size, each with the cells that it touches; padded with −1.

    Attributes:
        pairs_GE: pair numbers of each group.
        cells_GC: its cells.
        ends_GE2: where in `cells_GC` the two cells of a pair stand.
    """

    pairs_GE: Tensor
    cells_GC: Tensor
    ends_GE2: Tensor

    def expected_passes(self, order: int, n_players: int) -> Tensor:
        """Passes that one context of each group costs on average; float64 G."""
        one, both = coverage(order, n_players)
        return 1 + one * (self.cells_GC >= 0).sum(1).double() + both * (self.pairs_GE >= 0).sum(1).double()


def coverage(order: int, n_players: int) -> tuple[float, float]:
    """Chances that a context leaves one given cell, and both cells of a given pair, to be toggled."""
    free = n_players - order if 2 * order <= n_players - 2 else order + 2
    return free / n_players, free * (free - 1) / (n_players * (n_players - 1))


def contexts_for(draws: int, order: int, n_players: int) -> int:
    """An even number of contexts that gives each pair of a group about `draws` differences."""
    return 2 * ceil(draws / 2 / coverage(order, n_players)[1])


def group_pairs(pairs_P2: Tensor, size: int = GROUP_PAIRS, first: int = 0) -> Groups:
    """Cut the pairs, in ascending order, into groups of `size` or one fewer: neighbours in the list share cells.

    first: where in the list, which is taken for a ring, the first group begins; its first groups are the larger ones.
    """
    order_P = (pairs_P2[:, 0] * (int(pairs_P2.max()) + 1) + pairs_P2[:, 1]).argsort(stable=True)
    chunks = order_P.roll(-first).tensor_split(-(-len(order_P) // size))
    cells = [pairs_P2[chunk].unique() for chunk in chunks]
    ends = [torch.searchsorted(own, pairs_P2[chunk]) for own, chunk in zip(cells, chunks, strict=True)]
    pad = torch.nn.utils.rnn.pad_sequence
    return Groups(pad(list(chunks), True, -1), pad(cells, True, -1), pad(ends, True, 0))


def passes_for_group(draws: int, order: int, pairs_P2: Tensor, n_players: int) -> float:
    """Passes that give each pair of one group about `draws` differences, on average over the groups."""
    cost_G = group_pairs(pairs_P2).expected_passes(order, n_players)
    return float(cost_G.mean()) * contexts_for(draws, order, n_players)


def draw(
    order: int,
    pairs_P2: Tensor,
    n_players: int,
    budget: int,
    generator: torch.Generator,
    *,
    draws: int = 8,
    group_size: int = GROUP_PAIRS,
) -> DifferenceSample:
    """About `draws` differences, or more, for each pair measured.

    All pairs if the budget holds them, else the pairs of a uniform subset of the groups; what is left is spent on
    further contexts. The budget is met on average, since the number of free pairs is random. The groups begin at a
    random pair: those of a smaller group count for more in a mean over the pairs measured, and none shall more often.

    Raises:
        ValueError: impossible order or pairs, or a budget that holds no group.
    """
    check_order(order, n_players)
    check_pairs(pairs_P2, n_players)
    groups = group_pairs(pairs_P2, group_size)
    cost_G = groups.expected_passes(order, n_players)
    total, cost, contexts = len(cost_G), float(cost_G.mean()), contexts_for(draws, order, n_players)
    measured = min(int(budget / (cost * contexts)), total)
    if measured < 1:
        raise ValueError(
            f"a budget of {budget} passes is too small for order {order}: give at least {int(cost * contexts) + 1}"
        )
    first = int(torch.randint(len(pairs_P2), (), generator=generator))
    groups = group_pairs(pairs_P2, group_size, first)
    turn_R = torch.arange(int(budget / cost))
    group_R = torch.randperm(total, generator=generator)[turn_R % measured]
    part_R = turn_R // measured % PARTS
    return from_groups(order, pairs_P2, n_players, groups, group_R, part_R, generator)


def draw_exact(
    order: int, pairs_P2: Tensor, n_players: int, budget: int | None = None, generator: torch.Generator | None = None
) -> DifferenceSample:
    """Orders 0 and n − 2: the single context of every pair, each coalition once.

    Args:
        budget: passes that are not exceeded: too few for all pairs, and a uniform subset of them, each exact, is
            measured, so that the mean over the measured is an unbiased one over all. None for all pairs.
        generator: source of the subset.

    Raises:
        ValueError: another order, impossible pairs, or a budget that holds no pair.
    """
    check_pairs(pairs_P2, n_players)
    if order not in (0, n_players - 2):
        raise ValueError(f"order {order} has more than one context: only 0 and {n_players - 2} have a single one")
    cells = len(pairs_P2.unique())
    subset_P = torch.arange(len(pairs_P2))
    if budget is not None and budget < 1 + cells + len(pairs_P2):
        # As many as fit however few cells they share: a number that hung on the pairs drawn would favour some of them.
        measured = max((budget - 1) // 3, budget - 1 - cells)
        if measured < 1:
            raise ValueError(f"a budget of {budget} passes is too small for one pair: give at least 4")
        subset_P = torch.randperm(len(pairs_P2), generator=generator)[:measured].sort().values
    groups = group_pairs(pairs_P2[subset_P], len(subset_P))
    groups = replace(groups, pairs_GE=subset_P[groups.pairs_GE])
    zero_R = torch.zeros(1, dtype=torch.long)
    return from_groups(order, pairs_P2, n_players, groups, zero_R, zero_R, torch.Generator(), exact=True)


def from_groups(
    order: int,
    pairs_P2: Tensor,
    n_players: int,
    groups: Groups,
    group_R: Tensor,
    part_R: Tensor,
    generator: torch.Generator,
    exact: bool = False,
) -> DifferenceSample:
    """One fresh context for each of the R rows, and every difference that it offers to the pairs of its group."""
    mirrored = 2 * order > n_players - 2
    base_RN = random_coalitions(len(group_R), n_players, order + 2 if mirrored else order, generator)
    cells_RC, pairs_RE, ends_RE2 = groups.cells_GC[group_R], groups.pairs_GE[group_R], groups.ends_GE2[group_R]
    # A cell can be toggled if it lies outside S, or inside U when mirrored.
    free_RC = (base_RN.gather(1, cells_RC.clamp(min=0)) == mirrored) & (cells_RC >= 0)
    free_RE2 = free_RC.gather(1, ends_RE2.flatten(1)).view_as(ends_RE2)
    row_D, column_D = (free_RE2.all(2) & (pairs_RE >= 0)).nonzero(as_tuple=True)
    ends_D2 = ends_RE2[row_D, column_D]
    # Evaluate S∪{i} only where some difference of this context uses it.
    used_RC = torch.zeros_like(free_RC)
    used_RC[row_D[:, None], ends_D2] = True
    row_U, slot_U = used_RC.nonzero(as_tuple=True)
    single_RC = torch.zeros(used_RC.shape, dtype=torch.long)
    single_RC[row_U, slot_U] = len(group_R) + torch.arange(len(row_U))
    one_UN = base_RN[row_U].clone()
    one_UN[torch.arange(len(row_U)), cells_RC[row_U, slot_U]] ^= True
    two_DN = base_RN[row_D].clone()
    toggled_D2 = cells_RC[row_D[:, None], ends_D2]
    two_DN[torch.arange(len(row_D))[:, None], toggled_D2] ^= True
    two_D = len(group_R) + len(row_U) + torch.arange(len(row_D))
    first_D, second_D = single_RC[row_D, ends_D2[:, 0]], single_RC[row_D, ends_D2[:, 1]]
    return DifferenceSample(
        order=order,
        pairs_P2=pairs_P2,
        design="exact" if exact else "shared",
        coalitions_BN=torch.cat([base_RN, one_UN, two_DN]),
        corners_4D=torch.stack([row_D, first_D, second_D, two_D] if mirrored else [two_D, first_D, second_D, row_D]),
        pair_D=pairs_RE[row_D, column_D],
        part_D=part_R[row_D],
        exact=exact,
    )
