"""Estimators of multi-order interactions, all behind one verb: `estimate_interactions`.

A `Plan` names a design and its options; `draw` turns it into a sample of coalitions. Orders 0 and n − 2 have a single
context a pair: what is measured there is exact, whatever the plan, and a budget too small for all pairs measures some.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from interactions.estimators import exact, pairwise, pooled, shared
from interactions.estimators.auto import DRAWS, LEAST_BUDGET, Plan, choose, pilot_passes
from interactions.estimators.needs import check_budget, passes_for_errors
from interactions.estimators.sample import Game, Interactions, Sample, as_pairs, finite
from interactions.settings import whole

DESIGNS: dict[str, Callable[..., Sample]] = {
    "pairwise": pairwise.draw,
    "shared": shared.draw,
    "pooled": pooled.draw,
}
DESIGN_NAMES = ("auto", "exact", *DESIGNS)

__all__ = [
    "DESIGN_NAMES",
    "Game",
    "Interactions",
    "Plan",
    "Sample",
    "check_budget",
    "choose",
    "draw",
    "enough_passes",
    "estimate_interactions",
    "passes_for_errors",
]


def estimate_interactions(
    game: Game,
    order: int,
    pairs: ArrayLike | Tensor,
    budget: int = 3000,
    design: str = "auto",
    generator: torch.Generator | None = None,
    every_pair: bool = False,
) -> Interactions:
    """Interactions I^(m)(i,j) of the wanted pairs of cells, and how well they are known.

    Args:
        game: coalitions (bool, B×n) to values (float64, B).
        order: m, the number of context cells, 0 to n − 2.
        pairs: P×2 cell numbers, for instance `grid.neighbours(2)`; a tensor, an array or a list of pairs.
        budget: passes to spend, a pilot included. The exact design takes what it needs.
        design: exact | pairwise | shared | pooled, or auto: what a pilot predicts to measure the strength best.
            A budget too small for all pairs measures a uniform subset of them; the others are NaN.
        generator: CPU source of the coalitions; seed 0 when None. Where several images, or orders, are averaged, each
            needs one of its own: with the same, all see the same pairs and contexts, which no interval over images
            knows of.
        every_pair: let auto choose only among the designs that measure every pair with a standard error.

    Raises:
        ValueError: an impossible order, pair, budget or design; with every_pair, a budget that no design makes do with;
            a game on several images, of which `game.of(image)` is one; values that are NaN or infinite.
    """
    if getattr(game, "n_images", 1) > 1:
        raise ValueError(f"the game is on {game.n_images} images: estimate game.of(image) of each")  # type: ignore[attr-defined]
    if design not in DESIGN_NAMES:
        raise ValueError(f"unknown design {design!r}: choose one of {', '.join(DESIGN_NAMES)}")
    generator = generator or torch.Generator().manual_seed(0)
    order, budget, pairs_P2 = whole(order, "the order"), whole(budget, "the budget"), as_pairs(pairs)
    plan = Plan(design)
    if design == "auto":
        plan = choose([game], order, pairs_P2, budget, generator)
        if every_pair:
            plan = keep_to_every_pair(plan, order, pairs_P2, game.n_players, budget)
        elif plan.design == "shared":
            plan = with_a_group(plan, order, pairs_P2, game.n_players, budget)
    sample = draw(plan, order, pairs_P2, game.n_players, budget - plan.passes, generator)
    measured = sample.estimate(finite(game(sample.coalitions_BN)))
    return replace(measured, passes=measured.passes + plan.passes)


def with_a_group(plan: Plan, order: int, pairs_P2: Tensor, n_players: int, budget: int) -> Plan:
    """The shared plan, or a pairwise one of as many draws where the pilot left too few passes for a single group."""
    least = shared.passes_for_group(int(plan.options["draws"]), order, pairs_P2, n_players)
    return plan if least <= budget - plan.passes else replace(plan, design="pairwise")


def keep_to_every_pair(plan: Plan, order: int, pairs_P2: Tensor, n_players: int, budget: int) -> Plan:
    """The plan with the least predicted error among those that measure every pair with a standard error.

    Raises:
        ValueError: a budget with which none does; says what the cheapest needs.
    """
    needs = passes_for_errors(order, pairs_P2, n_players)
    fit = [design for design, passes in needs.items() if passes <= budget - plan.passes]
    if not fit:
        raise ValueError(
            f"{budget} passes do not give every pair a standard error at order {order}: give {enough_passes(needs)}"
        )
    predicted = {"exact": 0.0, "pooled": plan.predicted.get("pooled", inf)}
    predicted |= {design: plan.predicted.get(f"{design} {max(DRAWS)}", inf) for design in ("pairwise", "shared")}
    return replace(plan, design=min(fit, key=lambda design: predicted[design]), options={})


def enough_passes(needs: Mapping[str, int]) -> int:
    """The budget with which auto finds a design that gives every pair a standard error: the cheapest, and a pilot."""
    least = min(needs.values())
    if needs.keys() == {"exact"}:  # the single context of every pair: there is no design to choose
        return least
    return max(least + pilot_passes(2 * least), LEAST_BUDGET)


def draw(plan: Plan, order: int, pairs: Tensor, n_players: int, budget: int, generator: torch.Generator) -> Sample:
    """The coalitions that a plan asks for: a `Sample` to evaluate and then to estimate from."""
    if order in (0, n_players - 2):
        every = plan.design == "exact" and not plan.options.get("subset", False)
        return shared.draw_exact(order, pairs, n_players, None if every else budget, generator)
    if plan.design == "exact":
        return exact.draw(order, pairs, n_players)
    return DESIGNS[plan.design](order, pairs, n_players, budget, generator, **plan.options)
