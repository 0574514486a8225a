"""Every estimator against exact enumeration on small random networks."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from interactions.estimators import (
    DESIGNS,
    Plan,
    choose,
    draw,
    estimate_interactions,
    exact,
    pairwise,
    passes_for_errors,
    pooled,
    shared,
)
from interactions.estimators.differences import DifferenceSample
from interactions.estimators.sample import MIN_DRAWS, halving_sides, random_coalitions
from interactions.estimators.surrogate import RIDGES, Basis, evidence, fit, neighbour_smoothing
from interactions.estimators.weights import Weights
from interactions.grid import PatchGrid
from tests.interactions.games import TableGame, all_coalitions, network_game

GAMES = [("convolution", 3), ("attention", 3)]
PLANS = {
    "pairwise": Plan("pairwise", {"draws": 4}),
    "shared": Plan("shared", {"group_size": 12, "draws": 2}),
    "pooled": Plan("pooled", {"surrogate": False}),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def replicates(game: TableGame, plan: Plan, order: int, budget: int, count: int) -> list:
    pairs = PatchGrid(3).all_pairs()
    samples = [draw(plan, order, pairs, game.n_players, budget, seeded(seed)) for seed in range(count)]
    return [sample.estimate(game(sample.coalitions_BN)) for sample in samples]


def brute_force(game: TableGame, order: int, i: int, j: int) -> float:
    """The definition, context by context."""
    values, others = game.values_B.tolist(), [k for k in range(game.n_players) if k not in (i, j)]
    deltas = []
    for context in combinations(others, order):
        code = sum(1 << k for k in context)
        both, first, second = code | 1 << i | 1 << j, code | 1 << i, code | 1 << j
        deltas.append(values[both] - values[first] - values[second] + values[code])
    return float(np.mean(deltas))


@pytest.mark.parametrize(("kind", "side"), GAMES)
def test_exact_is_the_definition(kind: str, side: int) -> None:
    game, pairs = network_game(kind, side), PatchGrid(side).all_pairs()
    for order in range(side**2 - 1):
        expected = [brute_force(game, order, i, j) for i, j in pairs.tolist()]
        assert game.exact(order, pairs).mean.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("kind", "side"), GAMES)
@pytest.mark.parametrize("design", PLANS)
def test_unbiased_at_every_order(kind: str, side: int, design: str) -> None:
    game, pairs, count = network_game(kind, side), PatchGrid(side).all_pairs(), 40
    ends = (0, side**2 - 2)  # which are exact
    for order in range(side**2 - 1) if kind == "attention" else (*ends, 4):
        truth = game.exact(order, pairs)
        runs = replicates(game, PLANS[design], order, 900, 3 if order in ends else count)
        mean_RP = torch.stack([run.mean for run in runs])
        if order in ends:
            assert torch.allclose(mean_RP, truth.mean.expand_as(mean_RP), atol=1e-10)
            continue
        known_P = mean_RP.isfinite().sum(0)
        error_RP = mean_RP - truth.mean
        z_P = error_RP.nanmean(0) / (error_RP.square().nanmean(0) / known_P).sqrt()
        # 36 z-scores of a true mean, correlated as pairs share coalitions: none beyond what chance allows in hundreds.
        assert (known_P > 0.8 * count).all()
        assert z_P.abs().max() < 4.5, (order, z_P)


@pytest.mark.parametrize("design", PLANS)
@pytest.mark.parametrize("order", [1, 3, 6])
def test_standard_errors_are_calibrated(design: str, order: int) -> None:
    game, pairs = network_game("convolution", 3), PatchGrid(3).all_pairs()
    truth = game.exact(order, pairs).mean
    runs = replicates(game, PLANS[design], order, 6000, 80)
    known = torch.stack([run.draws for run in runs]) >= MIN_DRAWS
    z_RP = torch.stack([(run.mean - truth) / run.standard_error for run in runs])
    assert torch.equal(known, z_RP.isfinite())
    assert known.double().mean() > 0.5
    assert 0.8 < z_RP[known].square().mean() < 1.22


@pytest.mark.parametrize("design", PLANS)
def test_too_few_draws_leave_the_standard_error_missing(design: str) -> None:
    game = network_game("convolution", 3)
    run = replicates(game, PLANS[design], 3, 200, 1)[0]
    assert (run.draws < MIN_DRAWS).all()
    assert run.standard_error.isnan().all()
    assert run.mean.isfinite().any()


@pytest.mark.parametrize("design", PLANS)
@pytest.mark.parametrize("order", [1, 3, 6])
def test_mean_square_is_unbiased(design: str, order: int) -> None:
    game, pairs = network_game("attention", 3), PatchGrid(3).all_pairs()
    truth = game.exact(order, pairs).mean
    runs = replicates(game, PLANS[design], order, 1500, 60)
    products = torch.stack([run.halvings.prod(1).nanmean(0) for run in runs])
    per_run = products.nanmean(1)
    z = (per_run.mean() - truth.square().mean()) / (per_run.std() / len(per_run) ** 0.5)
    assert abs(float(z)) < 4


def test_the_surrogate_keeps_the_pool_unbiased_and_calibrated() -> None:
    game, pairs, count = network_game("attention", 3), PatchGrid(3).all_pairs(), 80
    truth = game.exact(3, pairs).mean
    plain, helped = (
        replicates(game, Plan("pooled", {"surrogate": surrogate}), 3, 800, count) for surrogate in (False, True)
    )
    mean_RP = torch.stack([run.mean for run in helped])
    z_P = (mean_RP.mean(0) - truth) / (mean_RP.std(0) / count**0.5)
    assert z_P.abs().max() < 4.5
    assert z_P.square().mean() < 2.2
    z_RP = torch.stack([(run.mean - truth) / run.standard_error for run in helped])
    assert 0.8 < z_RP.square().mean() < 1.25
    error = [torch.stack([(run.mean - truth).square() for run in runs]).mean() for runs in (plain, helped)]
    assert error[1] < 0.7 * error[0]


@pytest.mark.parametrize(
    ("kind", "side", "order", "budget"),
    [("attention", 4, 7, 770), ("convolution", 3, 3, 790), ("convolution", 4, 12, 8_850)],
)
def test_the_least_pools_that_know_their_error_know_it(kind: str, side: int, order: int, budget: int) -> None:
    game, pairs, count = network_game(kind, side), PatchGrid(side).all_pairs(), 100 if side == 3 else 40
    assert 0.97 * budget < passes_for_errors(order, pairs, side**2)["pooled"] <= budget
    truth = game.exact(order, pairs).mean
    samples = [pooled.draw(order, pairs, side**2, budget, seeded(seed)) for seed in range(count)]
    runs = [sample.estimate(game(sample.coalitions_BN)) for sample in samples]
    z_RP = torch.stack([(run.mean - truth) / run.standard_error for run in runs])
    # A 3×3 grid has 126 coalitions of one size, so that parts share some and their errors are a little correlated.
    assert 0.88 < z_RP.square().mean() < (1.2 if side == 3 else 1.12)
    squares_R = torch.stack([run.halvings.prod(1).mean() for run in runs])
    assert abs(float(squares_R.mean() - truth.square().mean())) < 4 * float(squares_R.std()) / count**0.5


@pytest.mark.parametrize("order", [1, 7, 12])
def test_moments_of_what_squares_and_singles_count_are_those_of_normal_values(order: int) -> None:
    pairs_P2, weights = PatchGrid(4).all_pairs(), Weights.of(order, 16)
    sample = pooled.draw(order, pairs_P2, 16, 40_000, seeded(0))
    corners, pairs_2P = 4 * len(sample.part_Q), pairs_P2.T
    shown_RN, v_R = sample.coalitions_BN.double(), torch.randn(40_000, generator=seeded(1), dtype=torch.float64)
    both_PR = shown_RN.T[pairs_2P[0]] * shown_RN.T[pairs_2P[1]]
    of_squares_PQ = weights.square_terms(shown_RN[:corners], v_R[:corners], both_PR[:, :corners], *pairs_2P)
    phi = v_R.new_tensor(weights.single_3)
    of_singles_PS = phi[shown_RN[corners:][:, pairs_P2].sum(2).long()].T * v_R[corners:]
    expected = weights.square_moments(order, 16), weights.moments(order, 16)
    for terms, (second, fourth) in zip((of_squares_PQ, of_singles_PS), expected, strict=True):
        assert float(terms.square().mean()) == pytest.approx(second, rel=0.06)
        assert float(terms.pow(4).mean()) == pytest.approx(fourth, rel=0.15)


def test_pooled_mean_over_all_pairs_is_the_second_difference_of_the_mean_value() -> None:
    game, n = network_game("convolution", 3), 9
    size_B = all_coalitions(n).sum(1)
    for order in range(1, n - 2):
        level = [game.values_B[size_B == order + k].mean() for k in range(3)]
        mean = game.exact(order, PatchGrid(3).all_pairs()).mean.mean()
        assert float(mean) == pytest.approx(float(level[2] - 2 * level[1] + level[0]), rel=1e-9, abs=1e-12)


def test_a_quadratic_game_has_a_close_surrogate() -> None:
    n, order = 9, 4
    generator = seeded(1)
    linear_N = torch.randn(n, generator=generator, dtype=torch.float64)
    matrix_NN = torch.randn(n, n, generator=generator, dtype=torch.float64)
    matrix_NN = 0.2 * (matrix_NN + matrix_NN.T)

    def game(coalitions_BN: torch.Tensor) -> torch.Tensor:
        shown = coalitions_BN.double()
        return shown @ linear_N + ((shown @ matrix_NN) * shown).sum(1)

    basis = Basis.quadratic(n, order, None)
    shown_BN = random_coalitions(400, n, order, generator).double()
    functions_BD = basis.functions(shown_BN)
    gram_1DD, target_1D = (functions_BD.T @ functions_BD)[None], (functions_BD.T @ game(shown_BN))[None]
    g_1D = fit(gram_1DD, target_1D, torch.tensor([0.003], dtype=torch.float64))
    fresh_BN = random_coalitions(50, n, order + 1, generator).double()
    spread = game(fresh_BN).var()
    assert (basis.functions(fresh_BN) @ g_1D[0] - game(fresh_BN)).square().mean() < 0.05 * spread
    # Δg = 2 B_ij for every context.
    i, j = torch.tensor([0]), torch.tensor([5])
    context_N = torch.zeros(1, n, dtype=torch.float64)
    context_N[0, [1, 2, 7]] = 1
    corners = [context_N.clone() for _ in range(4)]
    corners[0][0, [0, 5]] = corners[1][0, 0] = corners[2][0, 5] = 1
    both, first, second, none = (float(basis.functions(corner) @ g_1D[0]) for corner in corners)
    assert both - first - second + none == pytest.approx(float(basis.second_differences(g_1D, i, j)), rel=1e-9)


def test_the_basis_makes_up_the_kernel_of_the_prior() -> None:
    generator, similar_NN = seeded(0), neighbour_smoothing(3)
    shown_BN = random_coalitions(20, 9, 4, generator).double()
    z_BN, variance = shown_BN - 4 / 9, 4 / 9 * 5 / 9
    linear_BB = z_BN @ similar_NN @ z_BN.T / (variance * similar_NN.trace())
    functions_BD = Basis.quadratic(9, 4, similar_NN).functions(shown_BN)
    torch.testing.assert_close(functions_BD @ functions_BD.T, 1 + linear_BB + 0.3 * linear_BB**2)
    # A large grid is cut down to the functions that matter most.
    assert (
        100 < Basis.quadratic(196, 98, neighbour_smoothing(14)).functions(torch.zeros(1, 196).double()).shape[1] < 250
    )


def test_evidence_is_the_likelihood_of_a_normal_distribution() -> None:
    u_1RL = torch.randn(1, 12, 3, generator=seeded(0), dtype=torch.float64)
    values_1R = torch.randn(1, 12, generator=seeded(1), dtype=torch.float64)
    values_1R -= values_1R.mean()
    linear_RR = u_1RL[0] @ u_1RL[0].T
    expected = []
    for ridge in RIDGES:
        shape_RR = linear_RR + 0.3 * linear_RR**2 + ridge * torch.eye(12)
        scale = float(values_1R[0] @ torch.linalg.solve(shape_RR, values_1R[0])) / 12
        expected.append(-2 * multivariate_normal(np.zeros(12), scale * shape_RR.numpy()).logpdf(values_1R[0].numpy()))
    found_C = evidence(u_1RL, values_1R)[0].numpy()
    np.testing.assert_allclose(found_C - found_C[0], np.array(expected) - expected[0], atol=1e-9)


def test_the_pool_is_the_plain_formula_with_any_surrogate() -> None:
    # Of one part and half, coalition by coalition, from the definition of the three terms.
    game, pairs, order, n = network_game("attention", 4), PatchGrid(4).neighbours(1), 6, 16
    sample = pooled.draw(order, pairs, n, 400, seeded(2))
    values_B = game(sample.coalitions_BN)
    parts, basis = sample._parts(values_B), pooled.basis_of(n, order + 1, 1.2, pooled.features_for(400))
    fits_H4D = pooled.fit_without(basis, parts, [basis.functions(part.shown_RN) for part in parts])
    weights, squares, half = Weights.of(order, n), len(sample.part_Q), 5
    i, j = pairs[7].tolist()
    shown, part_B = sample.coalitions_BN.numpy().astype(int), torch.cat([sample.part_Q.repeat(4), sample.part_S])
    phi, total = weights.single_3, 0.0
    for part, coefficients_D in zip(pooled.halves_of_parts()[half].tolist(), fits_H4D[half], strict=True):
        left = (values_B - basis.functions(sample.coalitions_BN.double()) @ coefficients_D).numpy()
        terms, singles = [], []
        for q in (sample.part_Q == part).nonzero().flatten().tolist():
            none, a, b, both = (corner * squares + q for corner in range(4))
            term = weights.both * left[both] * shown[both, i] * shown[both, j]
            term += weights.none * left[none] * (1 - shown[none, i]) * (1 - shown[none, j])
            for middle in (a, b):
                cells = shown[middle, i] + shown[middle, j]
                term -= left[middle] * (weights.one * (cells == 1) + phi[cells]) / 2
            terms.append(term)
        for row in range(4 * squares, len(shown)):
            if part_B[row] == part:
                singles.append(left[row] * phi[shown[row, i] + shown[row, j]])
        two_b = basis.second_differences(coefficients_D[None], pairs[7:8, 0], pairs[7:8, 1])
        total += (float(two_b) + np.mean(terms) + np.mean(singles)) / 4
    assert float(sample.estimate(values_B).halvings.flatten(0, 1)[half, 7]) == pytest.approx(total, rel=1e-9)


def test_nothing_fitted_to_a_part_corrects_it_or_the_other_half() -> None:
    game, n = network_game("attention", 4), 16
    sample = pooled.draw(6, PatchGrid(4).neighbours(1), n, 400, seeded(2))
    values_B, basis = game(sample.coalitions_BN), pooled.basis_of(n, 7, 1.2)
    part_B = torch.cat([sample.part_Q.repeat(4), sample.part_S])

    def fits(values_B: torch.Tensor) -> torch.Tensor:
        parts = sample._parts(values_B)
        return pooled.fit_without(basis, parts, [basis.functions(part.shown_RN) for part in parts])

    before_H4D = fits(values_B)
    for part in range(8):
        moved_H4 = (fits(values_B + 5 * (part_B == part) * torch.randn(400, generator=seeded(part))) != before_H4D).any(
            2
        )
        halves_H4 = pooled.halves_of_parts()
        assert torch.equal(moved_H4, (halves_H4 == part).any(1)[:, None] & (halves_H4 != part))


def test_no_pair_counts_for_more_where_one_shared_group_is_measured() -> None:
    pairs_P2 = PatchGrid(4).neighbours(1)  # 42 pairs: groups of 11 and of 10
    weight_P = torch.zeros(len(pairs_P2), dtype=torch.float64)
    for first in range(len(pairs_P2)):
        for group_E in shared.group_pairs(pairs_P2, first=first).pairs_GE:
            measured = group_E[group_E >= 0]
            weight_P[measured] += 1 / len(measured)
    torch.testing.assert_close(weight_P, weight_P.mean().expand_as(weight_P))
    drawn = {tuple(shared.draw(7, pairs_P2, 16, 300, seeded(seed)).pair_D.unique().tolist()) for seed in range(60)}
    assert len(drawn) > 20  # the groups begin at a random pair: from one place there are four


@pytest.mark.parametrize("order", [2, 97, 192])
def test_shared_coalitions_are_the_corners_they_claim_to_be(order: int) -> None:
    grid = PatchGrid(14)
    pairs = grid.neighbours(2)
    sample = shared.draw(order, pairs, 196, 900, seeded(0))
    both, first, second, none = sample.coalitions_BN[sample.corners_4D]
    pair_D2 = pairs[sample.pair_D]
    rows = torch.arange(len(pair_D2))
    assert (none.sum(1) == order).all()
    assert not none[rows, pair_D2[:, 0]].any() and not none[rows, pair_D2[:, 1]].any()
    for corner, added in ((first, [0]), (second, [1]), (both, [0, 1])):
        expected = none.clone()
        for end in added:
            expected[rows, pair_D2[:, end]] = True
        assert torch.equal(corner, expected) or torch.equal(corner, swapped(none, pair_D2, added))
    assert sample.part_D.unique().tolist() == list(range(8))
    assert 0.5 * 900 < len(sample.coalitions_BN) < 1.5 * 900


def swapped(none: torch.Tensor, pair_D2: torch.Tensor, added: list[int]) -> torch.Tensor:
    """In a mirrored context the corner without i is the one that holds j."""
    expected = none.clone()
    for end in added:
        expected[torch.arange(len(pair_D2)), pair_D2[:, 1 - end]] = True
    return expected


def test_pooled_coalitions_are_squares_and_singles() -> None:
    sample = pooled.draw(97, PatchGrid(14).neighbours(2), 196, 1000, seeded(0))
    squares = len(sample.part_Q)
    none, a, b, both = sample.coalitions_BN[: 4 * squares].view(4, squares, -1)
    assert (none.sum(1) == 97).all() and (a.sum(1) == 98).all() and (b.sum(1) == 98).all() and (both.sum(1) == 99).all()
    assert torch.equal(a | b, both) and torch.equal(a & b, none)
    assert (sample.coalitions_BN[4 * squares :].sum(1) == 98).all()
    assert len(sample.coalitions_BN) == 1000


def test_any_two_parts_stand_apart_in_four_of_the_seven_halvings() -> None:
    side_S8 = halving_sides()
    assert side_S8.shape == (7, 8) and (side_S8.sum(1) == 4).all()
    apart = (side_S8[:, :, None] != side_S8[:, None, :]).sum(0)
    assert torch.equal(apart, 4 - 4 * torch.eye(8, dtype=torch.long))
    assert side_S8[0].tolist() == [True, False] * 4


@pytest.mark.parametrize("design", PLANS)
def test_all_halvings_have_little_more_than_half_the_noise_of_one(design: str) -> None:
    # Pure noise: every product of halves has the mean 0, and 8/7·2 instead of 4 times the squared variance of a pair.
    pairs, generator = PatchGrid(3).all_pairs(), seeded(5)
    products_RS = []
    for _ in range(100):
        sample = draw(PLANS[design], 3, pairs, 9, 1600, generator)
        run = sample.estimate(torch.randn(len(sample.coalitions_BN), generator=generator))
        products_RS.append(run.halvings.prod(1).nanmean(1))
    each_RS, every_R = torch.stack(products_RS), torch.stack(products_RS).mean(1)
    assert abs(float(every_R.mean() / every_R.std())) < 4 / len(every_R) ** 0.5
    assert 0.45 < float(every_R.var() / each_RS.var(0).mean()) < 0.72


def test_differences_are_halved_as_the_parts_say() -> None:
    sample = pairwise.draw(2, torch.tensor([[0, 1], [4, 7]]), 9, 8 * 11, seeded(1), draws=11)
    values_B = torch.randn(len(sample.coalitions_BN), generator=seeded(2), dtype=torch.float64)
    halvings = sample.estimate(values_B).halvings
    delta = sample.differences(values_B).view(2, 11).numpy()
    for split, side in zip(halvings.numpy(), halving_sides().numpy(), strict=True):
        chosen = side[np.arange(11) % 8]
        np.testing.assert_allclose(split, [delta[:, chosen].mean(1), delta[:, ~chosen].mean(1)])


def test_random_coalitions_are_uniform() -> None:
    shown_BN = random_coalitions(40_000, 5, 2, seeded(0))
    codes, counts = (shown_BN.long() << torch.arange(5)).sum(1).unique(return_counts=True)
    assert len(codes) == 10
    assert (counts - 4000).abs().max() < 5 * (40_000 * 0.1 * 0.9) ** 0.5


@pytest.mark.parametrize("design", ["auto", "pairwise", "shared", "pooled"])
def test_one_verb_for_all_designs(design: str) -> None:
    game, pairs = network_game("attention", 4), PatchGrid(4).neighbours(2)
    truth = game.exact(7, pairs).mean
    game.passes = 0
    run = estimate_interactions(game, 7, pairs, 4000, design, seeded(3))
    assert run.passes == game.passes
    assert 0.7 * 4000 < run.passes < 1.2 * 4000
    assert run.order == 7 and torch.equal(run.pairs, pairs)
    assert run.mean.dtype == torch.float64 and run.halvings.shape == (7, 2, len(pairs))
    assert torch.allclose(run.halves, run.halvings[0], equal_nan=True)
    measured = run.mean.isfinite()
    assert np.corrcoef(run.mean[measured], truth[measured])[0, 1] > 0.5


@pytest.mark.parametrize("design", ["auto", *DESIGNS])
def test_the_ends_are_exact_whatever_the_design(design: str) -> None:
    game, pairs = network_game("attention", 4), PatchGrid(4).neighbours(1)
    for order in (0, 14):
        run = estimate_interactions(game, order, pairs, 1000, design)
        assert run.design == "exact"
        assert run.mean.tolist() == pytest.approx(game.exact(order, pairs).mean.tolist(), rel=1e-9, abs=1e-12)
        assert run.standard_error.tolist() == [0] * len(pairs)
        assert torch.equal(run.halves[0], run.mean) and torch.equal(run.halves[1], run.mean)
        assert run.passes == 1 + 16 + len(pairs)


def test_the_ends_measure_a_uniform_part_of_the_pairs_within_a_small_budget() -> None:
    game, pairs = network_game("attention", 4), PatchGrid(4).neighbours(2)
    truth, counts, means = game.exact(14, pairs).mean, torch.zeros(len(pairs)), []
    for seed in range(300):
        design = ("auto", "pairwise", "shared", "pooled")[seed % 4]
        run = estimate_interactions(game, 14, pairs, 41, design, seeded(seed))
        measured = run.mean.isfinite()
        assert run.passes <= 41 and measured.sum() == 24 and run.design == "exact"
        assert torch.allclose(run.mean[measured], truth[measured], atol=1e-10)
        assert torch.equal(run.halves[0].nan_to_num(), run.mean.nan_to_num())
        counts += measured
        means.append(run.halvings.prod(1).nanmean())
    expected = 300 * 24 / len(pairs)
    assert (counts - expected).abs().max() < 4.5 * (expected * (1 - 24 / len(pairs))) ** 0.5
    error = torch.stack(means).std() / 300**0.5
    assert abs(float(torch.stack(means).mean() - truth.square().mean())) < 4 * float(error)
    # Who asks for exactness gets all pairs, and so does a budget that holds them.
    for budget, design in ((41, "exact"), (1 + 16 + len(pairs), "auto")):
        assert estimate_interactions(game, 0, pairs, budget, design).mean.isfinite().all()
    with pytest.raises(ValueError, match="budget of 3 passes"):
        estimate_interactions(game, 0, pairs, 3, "pooled")


def test_a_hundred_passes_are_enough_for_auto() -> None:
    game, pairs = network_game("attention", 4), PatchGrid(4).neighbours(2)
    truth = game.exact(7, pairs).mean.square().mean()
    runs = [estimate_interactions(game, 7, pairs, 100, "auto", seeded(seed)) for seed in range(150)]
    assert np.mean([run.passes for run in runs]) < 115
    found_R = torch.stack([run.halvings.prod(1).nanmean() for run in runs])
    assert abs(float(found_R.mean() - truth)) < 4 * float(found_R.std()) / 150**0.5


@pytest.mark.parametrize("budget", [118, 150, 243])
def test_auto_measures_with_what_the_pilot_leaves(budget: int) -> None:
    """The design is chosen for the whole budget, also where the rest holds no group of pairs that share contexts."""
    for order in range(1, 14):
        measured = estimate_interactions(network_game("attention", 4), order, PatchGrid(4).neighbours(1), budget)
        assert bool(measured.mean.isfinite().any())


def test_the_same_seed_gives_the_same_estimate() -> None:
    game, pairs = network_game("convolution", 3), PatchGrid(3).all_pairs()
    first, again, other = (estimate_interactions(game, 3, pairs, 1000, "auto", seeded(s)) for s in (5, 5, 6))
    assert torch.equal(first.mean.nan_to_num(), again.mean.nan_to_num())
    assert not torch.equal(first.mean.nan_to_num(), other.mean.nan_to_num())


def test_auto_leaves_out_a_pool_with_too_few_draws() -> None:
    grid = PatchGrid(14)
    weights_N = torch.linspace(-1, 1, 196, dtype=torch.float64)

    class Smooth:
        n_players = 196

        def __call__(self, coalitions_BN: torch.Tensor) -> torch.Tensor:
            return torch.tanh(coalitions_BN.double() @ weights_N)

    few = choose([Smooth()], 9, grid.neighbours(2), 1000, seeded(0))
    many = choose([Smooth()], 97, grid.neighbours(2), 1000, seeded(0))
    assert "pooled" not in few.predicted and few.design != "pooled"
    assert "pooled" in many.predicted
    assert many.predicted[" ".join([many.design, *map(str, many.options.values())])] == min(many.predicted.values())
    assert few.passes <= 200


def test_budget_too_small_for_all_pairs_measures_whole_pairs_at_random() -> None:
    pairs = PatchGrid(14).neighbours(2)
    counts = torch.zeros(len(pairs))
    for seed in range(200):
        sample = draw(Plan("pairwise"), 97, pairs, 196, 1600, seeded(seed))
        measured = sample.pair_D.unique()  # type: ignore[attr-defined]
        assert len(measured) == 50
        counts[measured] += 1
    assert (counts - 200 * 50 / 1950).abs().max() < 5.5 * (200 * 50 / 1950) ** 0.5


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"order": 8}, "order 8"),
        ({"order": -1}, "order -1"),
        ({"budget": 3}, "budget of 3"),
        ({"design": "magic"}, "unknown design"),
        ({"pairs": torch.tensor([[1, 1]])}, "two different cells"),
        ({"pairs": torch.tensor([[1, 9]])}, "0 to 8"),
        ({"pairs": torch.empty(0, 2, dtype=torch.long)}, "no pairs"),
    ],
)
@pytest.mark.parametrize("design", ["pairwise", "shared", "pooled", "auto"])
def test_bad_input_is_one_sentence(design: str, arguments: dict, word: str) -> None:
    asked = {"order": 3, "pairs": PatchGrid(3).all_pairs(), "budget": 1000, "design": design} | arguments
    with pytest.raises(ValueError, match=word):
        estimate_interactions(network_game("convolution", 3), **asked)


def test_exact_enumeration_plays_what_an_order_asks_for() -> None:
    """Coalitions of m, m + 1 and m + 2 cells: C(9, 3) + C(9, 4) + C(9, 5) of 2^9."""
    sample = exact.draw(3, PatchGrid(3).all_pairs(), 9)
    assert len(sample.coalitions_BN) == len(sample.coalitions_BN.unique(dim=0)) == 84 + 126 + 126 == exact.passes(3, 9)
    assert {*sample.coalitions_BN.sum(1).tolist()} == {3, 4, 5}


def test_exact_enumeration_has_a_limit() -> None:
    with pytest.raises(ValueError, match="2\\^25"):
        exact.draw(3, PatchGrid(5).all_pairs(), 25)


class Undefined:
    """A game that has no value where nothing is shown."""

    n_players = 6

    def __call__(self, coalitions_BN: torch.Tensor) -> torch.Tensor:
        return coalitions_BN.double().sum(1).log()


@pytest.mark.parametrize("design", ["auto", "exact", "pairwise"])
def test_values_that_are_none_are_no_pairs_left_out(design: str) -> None:
    with pytest.raises(ValueError, match="the game gave NaN or infinity for"):
        estimate_interactions(Undefined(), 0, [(0, 1), (2, 3)], 200, design)


def test_a_game_on_several_images_is_no_game_on_one() -> None:
    game = TableGame(torch.zeros(2**9))
    game.n_images = 2
    with pytest.raises(ValueError, match=r"the game is on 2 images: estimate game.of\(image\) of each"):
        estimate_interactions(game, 1, [(0, 1)], 200)


def test_errors_of_thirty_draws_are_as_large_as_errors_are() -> None:
    """Student's factor: by the variance of the mean alone, z of 30 normal draws varies by 29/27."""
    pairs, draws = 8000, 30
    pair_D = torch.arange(pairs).repeat_interleave(draws)
    corners_4D = torch.arange(4 * len(pair_D)).view(4, -1)
    sample = DifferenceSample(
        1, torch.zeros(pairs, 2), "pairwise", torch.zeros(4 * len(pair_D), 1), corners_4D, pair_D, pair_D * 0
    )
    values_B = torch.randn(4 * len(pair_D), generator=seeded(5), dtype=torch.float64)
    found = sample.estimate(values_B)
    assert (found.mean / found.standard_error).square().mean() == pytest.approx(1, abs=0.03)
