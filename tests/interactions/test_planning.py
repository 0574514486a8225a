"""The passes and the design of an order from its pilot: where pools pay, a run begins with enough of them."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from interactions.allocation import (
    LEAST_BUDGET,
    OVERHEAD,
    SINGLE_NOISE,
    Parts,
    Turn,
    Way,
    allocate,
    in_best_ways,
    noise_of,
)
from interactions.estimators import Plan
from interactions.estimators.auto import BETWEEN, FIRST_BUDGETS, Pilot, first_budget, least_pool, plan_from
from interactions.grid import PatchGrid
from interactions.planning import Planning, learnt

GRID = PatchGrid(14)
PAIRS_P2 = GRID.neighbours(2)
# Of EfficientNet-Lite0 on two photographs: few squares at 58, where pools pay, and large ones at 19, where they do not.
PILOTS = {19: Pilot(7.24, 0.616, 108.8, 0.241, 192), 58: Pilot(5.61, 0.414, 5.78, 0.0207, 192)}
PLANNING = Planning("auto", PAIRS_P2, GRID.n_players)


ORDERS = [{"order": order, "ratio": order / 194, "pilot": asdict(pilot)} for order, pilot in PILOTS.items()]
ORDERS.append({"order": 0, "ratio": 0.0, "pilot": None})


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


def test_an_order_turns_from_pairs_to_pools_at_some_passes():
    turns = PLANNING.turns(ORDERS)
    assert turns.keys() == PILOTS.keys() and turns[58].passes == 800
    assert least_pool(PILOTS[58], 58, PAIRS_P2, GRID.n_players) == 800
    assert plan_from(PILOTS[58], 58, PAIRS_P2, GRID.n_players, 650).design != "pooled"
    plan = plan_from(PILOTS[58], 58, PAIRS_P2, GRID.n_players, LEAST_BUDGET)
    assert turns[58].single == pytest.approx(LEAST_BUDGET * plan.predicted[f"pairwise {plan.options['draws']}"] ** 2)
    assert turns[19].passes == np.inf  # where few large squares are, pools never pay
    assert Planning("pairwise", PAIRS_P2, GRID.n_players).turns(ORDERS) == {}
    assert PLANNING.first_budget(ORDERS[1], 500) == 800 and PLANNING.first_budget(ORDERS[2], 500) == 300


def test_a_design_that_was_asked_for_is_every_orders():
    planning = Planning("shared", PAIRS_P2, GRID.n_players)
    assert planning.plan({"order": 58, "pilot": None}, 400) == Plan("shared")
    assert planning.first_budget({"order": 58, "pilot": None}, 500) == 300


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
    bound, images = allocate(replace(parts, least_M=np.array([LEAST_BUDGET, 1000, LEAST_BUDGET])), 0.1)
    assert free[1] < 1000 == bound[1] and bound[0] >= LEAST_BUDGET
    assert np.sqrt(parts.of_budgets(bound).max() / images) == pytest.approx(0.1, rel=0.01)


POOLS = Way(0.0, 1e4, 1000)
"""Of an order that is measured from pools: next to no noise from 1,000 passes on."""


def parts_of(between, pairs):
    """The second order was measured from pools, and can be from pairs; the first asks for so many images."""
    between_M, single_M = np.array([between, 0.01]), np.array([50.0, POOLS.single])
    ways = {"least_M": np.array([LEAST_BUDGET, POOLS.least]), "others": {1: Way(pairs, 0.0)}}
    return Parts(50, np.ones(2), np.eye(2), between_M, single_M, np.array([0.0, POOLS.product]), **ways)


@pytest.mark.parametrize(("between", "pairs", "turned"), [(1, 30, True), (1, 3000, False), (0.001, 300, False)])
def test_pools_are_left_where_other_orders_ask_for_many_images(between, pairs, turned):
    """By all four choices of ways: the one of least cost is found."""
    parts = parts_of(between, pairs)
    found, _ = in_best_ways(parts, 0.1)
    cost = {}
    for other in (False, True):
        budgets_M, images = allocate(parts.otherwise(1) if other else parts, 0.1)
        cost[other] = images * (OVERHEAD + budgets_M.sum())
    assert (found.others[1] == POOLS) == turned == (cost[True] < cost[False])
    assert found.single_M[1] == (pairs if turned else POOLS.single)
    assert found.least_M[1] == (LEAST_BUDGET if turned else POOLS.least)
    assert parts.otherwise(1).otherwise(1).others == parts.others


def rows_of(pools, pairs, generator):
    """Of one order: images with pools of 1,000 passes, and others with four pairs, 100 passes."""
    square = generator.normal(1, 0.5, pools + pairs)
    spread, variance = np.full(pools + pairs, 0.04), np.full(pools + pairs, np.nan)
    variance[pools:] = 0.9
    passes = np.where(np.arange(pools + pairs) < pools, 1000, 100)
    square[pools:] += generator.normal(0, 0.9**0.5, pairs)
    told = {"mean_square": square, "square_spread": spread, "pair_variance": variance, "passes": passes}
    return pd.DataFrame({"image": np.arange(pools + pairs), "order": 5, **told})


def test_ways_are_measured_where_images_have_them_and_predicted_elsewhere():
    generator, turn = np.random.default_rng(0), Turn(800, 12.0)
    for pools, pairs in ((40, 0), (40, 20), (20, 40), (0, 40)):
        rows = rows_of(pools, pairs, generator)
        ways, seen = noise_of(rows, turn)
        by_least = {way.least: way for way in ways}
        few = by_least[LEAST_BUDGET]
        assert few.single == pytest.approx(90 if pairs else 12, rel=0.3) and few.product == 0
        assert (800 in by_least) == (pools > 0)
        if pools:
            assert by_least[800].product == pytest.approx(0.04 * 1000**2)
            # 0.25 between images, of which a share counts as noise of single halves
            assert by_least[800].single == pytest.approx(SINGLE_NOISE * 0.25 * 1000, rel=0.8)
        assert ways[0].least == (LEAST_BUDGET if pairs > pools else 800)
        share = pairs / (pools + pairs)
        of_pools = 0.04 + by_least[800].single / 1000 if pools else 0.0
        assert seen == pytest.approx(share * few.single / 100 + (1 - share) * of_pools)
        (alone,), _ = noise_of(rows)
        assert alone == replace(ways[0], least=LEAST_BUDGET)


def test_few_images_of_a_way_do_not_tell_it():
    rows = rows_of(40, 7, np.random.default_rng(0))
    (_, pairs), _ = noise_of(rows, Turn(800, 12.0))
    assert pairs.single == 12.0
    (pairs,), _ = noise_of(rows, Turn(np.inf, 12.0))  # pools are no choice any more
    assert pairs == Way(12.0, 0.0)
    ways, _ = noise_of(rows_of(7, 40, np.random.default_rng(0)), Turn(800, 12.0))
    assert len(ways) == 1 and ways[0].least == LEAST_BUDGET


def test_exact_orders_have_no_noise():
    told = {"mean_square": [1.0, 2.0], "square_spread": 0.0, "pair_variance": np.nan, "passes": 59}
    rows = pd.DataFrame({"image": [0, 1], "order": 5, **told})
    assert noise_of(rows) == ((Way(0.0, 0.0, 59.0),), 0.0)  # with fewer passes they would not be exact


def test_a_tail_that_three_pairs_do_not_show_is_noise_of_theirs():
    """Images of few pairs vary by 25, of which their own pairs tell 0.9; those of pools by 0.25."""
    generator = np.random.default_rng(1)
    rows = rows_of(200, 200, generator)
    rows.loc[200:, "mean_square"] = generator.normal(1, 5, 200)
    (_, pairs), seen = noise_of(rows, Turn(800, 12.0))
    assert pairs.single == pytest.approx(100 * 25, rel=0.25) and seen == pytest.approx(12.5, rel=0.25)
