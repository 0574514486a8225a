"""What a design needs is what it takes: below it refuses, and with it every pair has a standard error."""

import pytest
import torch

from interactions.estimators import DESIGNS, Plan, auto, draw, enough_passes, estimate_interactions, passes_for_errors
from interactions.estimators.needs import least_budget
from interactions.grid import PatchGrid
from tests.interactions.games import network_game

GRID = PatchGrid(4)
PAIRS = GRID.neighbours(1)


@pytest.mark.parametrize("order", [1, 7, 12])
@pytest.mark.parametrize("design", DESIGNS)
def test_the_least_budget_is_where_a_design_stops_to_refuse(design, order):
    least, generator = least_budget(design, order, PAIRS, 16), torch.Generator().manual_seed(0)
    draw(Plan(design), order, PAIRS, 16, least, generator)
    with pytest.raises(ValueError, match="too small"):
        draw(Plan(design), order, PAIRS, 16, least - 1, generator)


@pytest.mark.parametrize("order", [1, 5, 12])
@pytest.mark.parametrize("design", DESIGNS)
def test_every_pair_has_a_standard_error_with_what_is_needed(design, order):
    game, needs = network_game("convolution", 4), passes_for_errors(order, PAIRS, 16)
    measured = estimate_interactions(game, order, PAIRS, needs[design], design)
    assert measured.standard_error.isfinite().all()
    if design != "shared":  # whose numbers of draws are random
        fewer = estimate_interactions(game, order, PAIRS, needs[design] - 4, design)
        assert not fewer.standard_error.isfinite().all()


def test_auto_keeps_to_what_gives_every_pair_one():
    game = network_game("convolution", 4)
    enough = enough_passes(passes_for_errors(2, PAIRS, 16))
    measured = estimate_interactions(game, 2, PAIRS, enough, every_pair=True)
    assert measured.standard_error.isfinite().all() and measured.passes <= enough
    with pytest.raises(ValueError, match=f"do not give every pair a standard error at order 2: give {enough}"):
        estimate_interactions(game, 2, PAIRS, 200, every_pair=True)


@pytest.mark.parametrize("budget", [96, 100, 150, 200])
@pytest.mark.parametrize("square", [1e-3, 1.0])
def test_auto_never_rests_on_one_pair(budget, square):
    """However little a pilot found, and so however much noise it wants to average away."""
    grid = PatchGrid(14)
    pilot = auto.Pilot(4.0, 1.0, 1e4, square, 96)
    for order in (9, 97, 155):
        plan = auto.plan_from(pilot, order, grid.neighbours(2), grid.n_players, budget)
        sample = draw(plan, order, grid.neighbours(2), grid.n_players, budget, torch.Generator().manual_seed(0))
        values_B = torch.zeros(len(sample.coalitions_BN), dtype=torch.float64)
        assert int(sample.estimate(values_B).mean.isfinite().sum()) >= 3


def test_a_plan_near_all_cells_measures_more_pairs_with_fewer_draws():
    """Where squares have the longest tails: here with a variance of a difference of eight times the mean square."""
    pairs, pilot = PatchGrid(14).neighbours(2), auto.Pilot(4.0, 0.25, 1e4, 0.25 / 8, 96)
    draws = {order: auto.plan_from(pilot, order, pairs, 196, 130).options["draws"] for order in (97, 135, 155, 184)}
    assert draws[155] == draws[184] == 4 and draws[97] == draws[135] == 8


@pytest.mark.parametrize("order", [0, 14])
def test_a_pair_whose_single_context_was_not_measured_is_not_known(order):
    game, needs = network_game("convolution", 4), passes_for_errors(order, PAIRS, 16)
    some = estimate_interactions(game, order, PAIRS, 40)
    missing = some.mean.isnan()
    assert 0 < int(missing.sum()) < len(PAIRS)
    assert some.standard_error.isnan().equal(missing) and some.draws.isinf().equal(~missing)
    assert (some.draws[missing] == 0).all() and (some.standard_error[~missing] == 0).all()
    with pytest.raises(ValueError, match="do not give every pair a standard error"):
        estimate_interactions(game, order, PAIRS, needs["exact"] - 1, every_pair=True)
    every = estimate_interactions(game, order, PAIRS, enough_passes(needs), every_pair=True)
    assert every.mean.isfinite().all() and every.passes == needs["exact"]
