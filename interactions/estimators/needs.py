"""What a design needs: the passes without which it refuses, and those that give every pair a standard error.

Both follow from order, pairs and players alone, so that they can be told before a model is opened.
"""

from math import ceil, sqrt

from torch import Tensor

from interactions.estimators import exact, pooled, shared
from interactions.estimators.auto import LEAST_BUDGET
from interactions.estimators.sample import MIN_DRAWS

DRAWS = 8
"""Draws a pair that pairwise and shared differences take at the least, where no plan says otherwise."""
SURE = 4.0
"""Standard deviations that the number of a pair's draws, where that is random, is kept away from too few."""


def least_budget(design: str, order: int, pairs_P2: Tensor, n_players: int) -> int:
    """The passes without which a design refuses an order; 0 where it takes what it needs."""
    if order in (0, n_players - 2) or design == "exact":
        return 0
    if design == "auto":
        return LEAST_BUDGET
    if design == "pairwise":
        return 4 * DRAWS
    if design == "pooled":
        return 5 * pooled.LEAST
    return int(shared.passes_for_group(DRAWS, order, pairs_P2, n_players)) + 1


def check_budget(budget: int, design: str, order: int, pairs_P2: Tensor, n_players: int) -> None:
    """Raises ValueError for a budget, or for players, that the design will refuse."""
    if design == "exact" and order not in (0, n_players - 2):
        exact.check_players(n_players)
    least = least_budget(design, order, pairs_P2, n_players)
    if budget < least:
        raise ValueError(
            f"a budget of {budget} passes is too small for {design} at order {order}: give at least {least}"
        )


def passes_for_errors(order: int, pairs_P2: Tensor, n_players: int) -> dict[str, int]:
    """The passes with which each design measures every pair with a standard error; orders 0 and n − 2 are exact, the
    single context of every pair."""
    if order in (0, n_players - 2):
        return {"exact": 1 + len(pairs_P2.unique()) + len(pairs_P2)}
    groups = shared.group_pairs(pairs_P2)
    cost, (_, both) = float(groups.expected_passes(order, n_players).mean()), shared.coverage(order, n_players)
    # The smallest d with d − SURE √(d (1 − both)) ≥ MIN_DRAWS, d the mean number of draws of a pair.
    half = SURE * sqrt(1 - both) / 2
    contexts = shared.contexts_for(ceil((half + sqrt(half**2 + MIN_DRAWS)) ** 2), order, n_players)
    needs = {
        "pairwise": 4 * MIN_DRAWS * len(pairs_P2),
        "shared": ceil(cost * contexts * len(groups.pairs_GE)) + 1,
        "pooled": _passes_of_pool(order, n_players),
    }
    return needs | ({"exact": exact.passes(order, n_players)} if n_players <= exact.MAX_PLAYERS else {})


def _passes_of_pool(order: int, n_players: int) -> int:
    """The smallest pool whose effective draws suffice for a standard error."""

    def enough(budget: int) -> bool:
        return pooled.effective_draws(order, n_players, *pooled.allocation(budget)) >= MIN_DRAWS

    low = high = 5 * pooled.LEAST
    while not enough(high):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
