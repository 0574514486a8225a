"""The passes and the design of an order from its pilot: where pools pay, a run begins with enough of them."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from interactions.allocation import LEAST_BUDGET, Parts, allocate
from interactions.estimators import Plan
from interactions.estimators.auto import BETWEEN, FIRST_BUDGETS, Pilot, first_budget, least_pool, plan_from
from interactions.grid import PatchGrid
from interactions.planning import Planning, learnt
from interactions.rounds import entry_of

GRID = PatchGrid(14)
PAIRS_P2 = GRID.neighbours(2)
# Of EfficientNet-Lite0 on two photographs: few squares at 58, where pools pay, and large ones at 19, where they do not.
PILOTS = {19: Pilot(7.24, 0.616, 108.8, 0.241, 192), 58: Pilot(5.61, 0.414, 5.78, 0.0207, 192)}
PLANNING = Planning("auto", PAIRS_P2, GRID.n_players)


def record_of(budgets):
    orders = [{"order": order, "ratio": order / 194, "pilot": asdict(pilot)} for order, pilot in PILOTS.items()]
    orders.append({"order": 0, "ratio": 0.0, "pilot": None})
    plans = {each["order"]: PLANNING.plan(each, budgets[each["order"]]) for each in orders}
    return {"orders": orders, "rounds": [entry_of(0, 16, plans, budgets, 0)]}


@pytest.mark.parametrize("order", PILOTS)
def test_the_first_passes_are_those_that_tell_most_of_a_mean_over_images(order):
    """With N images of b passes each for a fixed N·b, the variance of the mean is as b·(between + noise)."""
    asked = (PILOTS[order], order, PAIRS_P2, GRID.n_players)
    variance = {
        budget: budget
        * (BETWEEN * PILOTS[order].mean_square ** 2 + min(plan_from(*asked, budget).predicted.values()) ** 2)
        for budget in FIRST_BUDGETS
    }
    chosen = first_budget(*asked)
    assert variance[chosen] == min(variance.values())
    assert (plan_from(*asked, chosen).design == "pooled") == (order == 58)


def test_an_order_that_is_measured_from_pools_stays_with_them():
    record = record_of({0: 300, 19: 100, 58: 800})
    assert PLANNING.least(record) == {58: 800}
    assert least_pool(PILOTS[58], 58, PAIRS_P2, GRID.n_players) == 800
    assert plan_from(PILOTS[58], 58, PAIRS_P2, GRID.n_players, 650).design != "pooled"
    assert PLANNING.least(record_of({0: 300, 19: 100, 58: 300})) == {}  # from pairs, which more passes may change
    assert PLANNING.first_budget(record["orders"][1]) == 800 and PLANNING.first_budget(record["orders"][2]) == 300


def test_a_design_that_was_asked_for_is_every_orders():
    planning = Planning("shared", PAIRS_P2, GRID.n_players)
    assert planning.plan({"order": 58, "pilot": None}, 400) == Plan("shared")
    assert planning.first_budget({"order": 58, "pilot": None}) == 300


def test_what_the_images_told_corrects_a_pilot():
    """EfficientNet-Lite0 at m = 155: six pairs had a mean square of 0.0043, 128 photographs one of 0.040, by few pairs
    with a relative spread of five, where pools tell more."""
    pilot = {"order": 155, "pilot": asdict(Pilot(11.228, 0.0859, 20.80, 0.0043, 192))}
    rows = pd.DataFrame({"order": [155, 155, 155, 0], "mean_square": [0.02, 0.06, np.nan, 9.0]})
    (order,) = learnt([pilot], rows)
    assert order == {**pilot, "mean_square": pytest.approx(0.04)}
    assert PLANNING.plan(pilot, 1526).design == "pairwise" and PLANNING.plan(order, 1526).design == "pooled"
    assert PLANNING.plan(order, 300).design == "pairwise"
    found = plan_from(Pilot(11.228, 0.0859, 20.80, 0.04, 192), 155, PAIRS_P2, GRID.n_players, 1526)
    assert PLANNING.plan(order, 1526) == found
    # Noise alone: the least that there may be, as of a pilot.
    (nothing,) = learnt([pilot], rows.assign(mean_square=-1.0))
    (unknown,) = learnt([pilot], rows[rows.order == 0])
    assert PLANNING.plan(nothing, 1526) == PLANNING.plan(pilot | {"mean_square": 0.05 * 0.0859}, 1526)
    assert unknown["mean_square"] is None and PLANNING.plan(unknown, 1526) == PLANNING.plan(pilot, 1526)


def test_the_allocation_keeps_to_the_least_passes():
    parts = Parts(50, np.ones(3), np.eye(3), np.full(3, 0.5), np.full(3, 50.0), np.zeros(3))
    free, _ = allocate(parts, 0.1)
    bound, images = allocate(parts, 0.1, np.array([LEAST_BUDGET, 1000, LEAST_BUDGET]))
    assert free[1] < 1000 == bound[1] and bound[0] >= LEAST_BUDGET
    assert np.sqrt(parts.of_budgets(bound).max() / images) == pytest.approx(0.1, rel=0.01)
