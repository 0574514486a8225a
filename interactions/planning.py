"""Which design an order of a profile gets for its passes, and how many these are at first, from what a pilot found.

The record holds the pilot of each order, and between the rounds of a run to a precision the mean square that its images
have so far: so every round, and a run that goes on, plans by the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch import Tensor

from interactions.allocation import FIRST_BUDGET, LEAST_BUDGET, Turn
from interactions.estimators import Plan
from interactions.estimators.auto import SIGNAL_RANGE, Pilot, first_budget, least_pool, plan_from
from interactions.levels import in_two_levels

MANY_IMAGES, MOST_FOR_FEW = 300, 2.0
"""A curve to ±0.1 takes some hundreds of images of a hundred passes an order. With fewer than MANY_IMAGES each begins
with as many times the passes as there are too few, MOST_FOR_FEW times at the most: what is missing a look at the images
adds at the orders that need it (`interactions.looks`). Simulated runs of 40 images with noise of pools took about
half as many passes as from five times, for the same width."""

Order = Mapping[str, Any]
"""An order as the record has it, with its pilot, or None where there is nothing to choose."""


@dataclass(frozen=True)
class Planning:
    """What a plan depends on besides the order: the design asked for, the pairs P×2, the number of players."""

    design: str
    pairs_P2: Tensor
    n_players: int

    def plan(self, order: Order, budget: int) -> Plan:
        """The plan of an order for its passes."""
        plan, found = self._in_float32(order, budget), order.get("reduced")
        return plan if found is None else in_two_levels(plan, found)

    def first_budget(self, order: Order, available: int) -> int:
        """The passes of an order in the first round of a run to a precision, for which there are so many images: where
        they are few, passes have to take their place from the first one on."""
        budget = first_budget(*self._pilot(order)) if order.get("pilot") else FIRST_BUDGET
        return int(budget * min(max(MANY_IMAGES / available, 1.0), MOST_FOR_FEW))

    def turns(self, orders: Sequence[Order]) -> dict[int, Turn]:
        """From how many passes on each order is measured by pools, where there is a choice, and what pairs would do."""
        if self.design != "auto":
            return {}
        found = {}
        for asked in [self._pilot(each) for each in orders if each.get("pilot")]:
            plan = plan_from(*asked, LEAST_BUDGET)
            if plan.design != "pooled":
                found[asked[1]] = Turn(least_pool(*asked), LEAST_BUDGET * min(plan.predicted.values()) ** 2)
        return found

    def _pilot(self, order: Order) -> tuple[Pilot, int, Tensor, int]:
        pilot, known = Pilot(**order["pilot"]), order.get("mean_square")
        if known is not None:
            pilot = replace(pilot, mean_square=max(known, SIGNAL_RANGE[0] * pilot.difference_variance))
        return pilot, order["order"], self.pairs_P2, self.n_players

    def _in_float32(self, order: Order, budget: int) -> Plan:
        if self.design != "auto":
            return Plan(self.design, {"exact": True} if order.get("exact") else {})
        if "pilot" not in order:  # of a run from before pilots were kept
            return Plan(order["design"], order["options"])
        if order["order"] in (0, self.n_players - 2):
            return Plan("exact", {"subset": True})
        return plan_from(*self._pilot(order), budget)


def learnt(orders: Sequence[Order], images: pd.DataFrame) -> list[dict[str, Any]]:
    """The orders with the mean square that the images so far have: by a pilot, a handful of pairs, it can be off by ten
    times, and then a few pairs are measured where pools of all would tell more.

    Args:
        images: all rows so far, with order and mean_square.
    """
    found = images.groupby("order").mean_square.mean().dropna().to_dict()
    return [{**each, "mean_square": found.get(each["order"])} for each in orders]


def with_pairs(orders: Sequence[Mapping[str, Any]], images: pd.DataFrame) -> list[dict[str, Any]]:
    """The record of the orders with how many pairs were measured, on average over the images."""
    measured = images.groupby("order").pairs.mean()
    return [{**one, "pairs_measured": float(measured[one["order"]])} for one in orders]
