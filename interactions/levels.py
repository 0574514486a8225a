"""Two levels of precision: most singles of a pool in a reduced one, and a few of these in float32 as well.

With σ the spread of what is left of v behind the surrogate, δ that of the rounding error, c what a reduced pass costs
in full ones, n reduced passes and r·n of them again in full have the variance σ²/n + δ²/(r·n) at the cost n·(c + r).
The best r is √c·δ/σ, and float32 alone takes (√c + δ/σ)⁻² times as long.
Squares, differences and exact orders stay in float32: rounding is not far below what they measure.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch

from interactions.estimators import Plan, pooled
from interactions.estimators.auto import UNEXPLAINED
from interactions.estimators.sample import random_coalitions
from interactions.game import PatchGame
from interactions.looks import looks_of
from interactions.outputs import is_out_of_memory
from interactions.rounds import rounds_of
from interactions.speed import in_turns

COALITIONS = (8, 32)
"""From which the rounding of an order is told, at least and at most."""
TIMED = 6
"""Batches that the clock needs: one of each precision to begin with, and two of each that count."""
LEAST_SHARE = 0.05
"""Of singles evaluated again: fewer save little, and standard errors would rest on a handful of them."""
SAFETY = 1.5
"""Of the rounding, which so few coalitions show only roughly: a few passes too many cost less than a few too few."""


def in_precision(game: PatchGame, amp: str | None) -> PatchGame:
    """The same game in that precision; its passes are counted apart."""
    other = copy.copy(game)
    other.amp, other.passes = amp, 0
    return other


def rounding_of(game: PatchGame, amp: str, order: int, coalitions: int, generator: torch.Generator) -> dict[str, float]:
    """Variances of v and of its rounding error over coalitions of an order's singles, on the game's first image."""
    coalitions_BN = random_coalitions(coalitions, game.n_players, order + 1, generator)
    reduced_B, full_B = in_precision(game, amp)(coalitions_BN, 0), game(coalitions_BN, 0)
    game.passes += coalitions
    return {"spread": float(full_B.var()), "rounding": float((reduced_B - full_B).var())}


def cost_of(game: PatchGame, amp: str, size: int) -> float:
    """What a reduced pass takes in full ones, by the clock and in batches of that size or what memory holds; 1 at the
    most, since a pass in full precision does as well."""
    try:
        tasks = [partial(each.trial, size) for each in (game, in_precision(game, amp))]
        full, reduced = in_turns(tasks, game.device)
    except RuntimeError as error:
        if not is_out_of_memory(error) or size == 1:
            raise
        return cost_of(game, amp, size // 2)
    game.passes += TIMED * game.rows(size)
    return min(reduced / full, 1.0)


def check_levels(
    game: PatchGame, amp: str, streams: Mapping[int, torch.Generator], share: int
) -> dict[int, dict[str, dict[str, float]]]:
    """Of each inner order what rounding does to v, and what a reduced pass costs, under the name `reduced`.

    Args:
        streams: the source of coalitions of every order.
        share: passes of an order that this may take, half of them for the clock.
    """
    inner = {order: stream for order, stream in streams.items() if 0 < order < game.n_players - 2}
    size = min(game.batch_size or 1, max(1, share * len(streams) // 2 // TIMED))
    cost, count = cost_of(game, amp, size), min(max(share // 4, COALITIONS[0]), COALITIONS[1])
    found = {order: rounding_of(game, amp, order, count, stream) for order, stream in inner.items()}
    return {order: {"reduced": {"cost": cost, **one}} for order, one in found.items()}


def in_two_levels(plan: Plan, found: Mapping[str, float]) -> Plan:
    """The plan with its pool in two levels where that is quicker; the others are measured in float32.

    Args:
        found: spread and rounding by `rounding_of`, and cost by `cost_of`.
    """
    spread, cost = (UNEXPLAINED * found["spread"]) ** 0.5, found["cost"]
    if plan.design != "pooled" or not spread > 0:
        return plan
    rounding = SAFETY * found["rounding"] ** 0.5 / spread
    if (cost**0.5 + rounding) ** 2 >= 1:
        return plan
    share = min(max(cost**0.5 * rounding, LEAST_SHARE), 1.0)
    return replace(plan, options={**plan.options, "again": share, "cost": cost})


def two_levels(entry: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """The orders of a round that are measured in two levels."""
    return {one["order"]: one for one in entry["orders"] if one["options"].get("again")}


def in_full_passes(images: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """The rows with what they cost in passes in full precision, in which budgets are told, in place of their passes;
    these are `spent`."""
    cost = images.passes.copy()
    for these, one in _rows_in_two_levels(images, record):
        cost[these] = one["budget"]
    return images.assign(passes=cost, spent=images.passes)


def with_levels(images: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """The rows with a design that names both precisions where there are two."""
    design = images.design.copy()
    for these, one in _rows_in_two_levels(images, record):
        share = f"{100 * one['options']['again']:.2g} % in float32"
        design[these] += f" ({record['settings']['amp']} with {share})"
    return images.assign(design=design)


def passes_by_level(record: Mapping[str, Any], passes: int) -> dict[str, int]:
    """Of so many passes that the images took, how many were in which precision."""
    amp, reduced = record["settings"].get("amp"), 0
    for entry in rounds_of(record) if amp else ():
        for one in two_levels(entry).values():
            singles, _ = pooled.levels(one["budget"], one["options"]["again"], one["options"]["cost"])
            reduced += (entry["last"] - entry["first"]) * singles
    return {"float32": passes - reduced} | ({amp: reduced} if amp else {})


def _rows_in_two_levels(images: pd.DataFrame, record: Mapping[str, Any]) -> Iterator[tuple[pd.Series, Any]]:
    """Which rows are of an order and round with two levels, and its plan."""
    for entry in rounds_of(record) if record["settings"].get("amp") else ():
        own = images.image.isin([one["image"] for one in record["images"][entry["first"] : entry["last"]]])
        own &= looks_of(images) == entry.get("look", 0)
        for order, one in two_levels(entry).items():
            yield own & (images.order == order), one


def in_words(record: Mapping[str, Any]) -> str:
    """What a caption says of the precision; nothing of a run in float32 alone."""
    amp, inner = record["settings"].get("amp"), [one for one in record["orders"] if "reduced" in one]
    if not amp:
        return ""
    shares = {order: one["options"]["again"] for each in rounds_of(record) for order, one in two_levels(each).items()}
    if not any(one["design"] == "pooled" for each in rounds_of(record) for one in each["orders"]):
        return f"Precision: float32, since no order was measured by a pool, whose single coalitions {amp} serves."
    if not shares:
        return f"Precision: float32, since {amp} would not have been quicker at any order."
    least, most = (f"{100 * end(shares.values()):.2g}" for end in (min, max))
    share = least if least == most else f"{least} to {most}"
    return (
        f"Precision: single coalitions in {amp} with {share} % of them in float32 as well, at {len(shares)} of "
        f"{len(inner)} inner orders; all else in float32."
    )
