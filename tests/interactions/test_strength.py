"""From interactions to curves, against NumPy loops, numbers worked by hand and simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from interactions.estimators.sample import Interactions, halving_sides
from interactions.masses import mass_statistic, middle_mass
from interactions.strength import (
    MEASURES,
    _measures,
    _moments,
    corrected_abs,
    image_row,
    pair_variance_of,
    square_statistic,
    strength_table,
)

pytestmark = pytest.mark.filterwarnings("error")

RATIOS = (0.0, 0.3, 0.5, 0.7, 1.0)
NORMAL_ABS = np.sqrt(2 / np.pi)
"""E|X| of a standard normal X."""


def rows_of(raw_IM, sum_IM=None, difference_IM=None, square_IM=None, ratios=None):
    """Rows as a profile has them, from tables images × orders; by default noise-free, |I| = raw."""
    raw_IM = np.asarray(raw_IM, dtype=float)
    sum_IM = raw_IM if sum_IM is None else np.asarray(sum_IM, dtype=float)
    difference_IM = np.zeros_like(raw_IM) if difference_IM is None else np.asarray(difference_IM, dtype=float)
    square_IM = raw_IM**2 if square_IM is None else np.asarray(square_IM, dtype=float)
    count, orders = raw_IM.shape
    ratios = np.linspace(0, 1, orders) if ratios is None else ratios
    image_IM, order_IM = np.mgrid[:count, :orders]
    return pd.DataFrame(
        {
            "image": image_IM.ravel(),
            "order": order_IM.ravel() * 10,
            "ratio": np.tile(ratios, count),
            "pairs": 20,
            "mean_abs": raw_IM.ravel(),
            "mean_abs_sum": sum_IM.ravel(),
            "mean_abs_difference": difference_IM.ravel(),
            "mean_square": square_IM.ravel(),
        }
    )


def made_up(count=40, orders=4, seed=0, ratios=None):
    """Images whose moments vary independently; every order has a positive mean square."""
    generator = np.random.default_rng(seed)
    raw_IM, noise_IM = generator.lognormal(size=(2, count, orders)) * np.arange(1, orders + 1)
    square_IM = raw_IM**2 + generator.normal(size=raw_IM.shape)
    return rows_of(raw_IM, raw_IM * 0.9, noise_IM * 0.5, square_IM, ratios)


# One image


def interactions_of(mean, halvings):
    """Of means P and one halving 2×P, or several."""
    mean, halvings = np.asarray(mean, dtype=float), np.asarray(halvings, dtype=float)
    halvings_S2P = torch.from_numpy(halvings.reshape(-1, 2, len(mean)))
    none_P = torch.full((len(mean),), torch.nan)
    pairs_P2 = torch.zeros(len(mean), 2, dtype=torch.long)
    return Interactions(3, pairs_P2, torch.from_numpy(mean), none_P, halvings_S2P, none_P, passes=1, design="shared")


def corrected(row):
    return float(corrected_abs(np.array(row["mean_abs_sum"]), np.array(row["mean_abs_difference"])))


def test_image_row_by_hand():
    nan = np.nan
    mean, halves = [1.0, -2.0, 4.0, nan], [[2.0, -5.0, nan, nan], [0.0, 1.0, 4.0, nan]]
    # Pair 2 has one half only, pair 3 none; the halves' sums are 1 and −2, their differences 1 and −3.
    expected = {
        "pairs": 3,
        "mean_abs": 7 / 3,
        "mean_abs_sum": 1.5,
        "mean_abs_difference": 2,
        "mean_square": -2.5,
        "square_spread": 0,
        "pair_variance": 3.125,  # squares 0 and −5: 12.5 / 2, of two of four pairs
    }
    assert image_row(interactions_of(mean, halves)) == pytest.approx(expected)


def test_image_row_is_a_plain_loop():
    generator = np.random.default_rng(0)
    halvings = generator.normal(size=(3, 2, 50))
    halvings[0, 0, :7] = halvings[1:, 1, 5:9] = np.nan
    mean = generator.normal(size=50)
    mean[6] = np.nan
    row = image_row(interactions_of(mean, halvings))
    both = [[(a, b) for a, b in ways if np.isfinite(a) and np.isfinite(b)] for ways in halvings.transpose(2, 0, 1)]

    def over_pairs(moment):
        return pytest.approx(np.mean([np.mean([moment(a, b) for a, b in ways]) for ways in both if ways]))

    assert row["pairs"] == sum(np.isfinite(mean))
    assert row["mean_abs"] == pytest.approx(np.mean([abs(m) for m in mean if np.isfinite(m)]))
    assert row["mean_abs_sum"] == over_pairs(lambda a, b: abs((a + b) / 2))
    assert row["mean_abs_difference"] == over_pairs(lambda a, b: abs((a - b) / 2))
    assert row["mean_square"] == over_pairs(lambda a, b: a * b)


def test_image_row_says_nothing_about_what_was_not_measured():
    row = image_row(interactions_of([np.nan, np.nan], [[np.nan, 1.0], [np.nan, np.nan]]))
    assert row.pop("pairs") == 0
    assert np.isnan(list(row.values())).all()


def test_exact_interactions_have_no_noise_to_take_out():
    row = image_row(interactions_of([1.0, -3.0], [[1.0, -3.0], [1.0, -3.0]]))
    assert row.pop("square_spread") == 0 and np.isnan(row.pop("pair_variance"))
    assert row == {"pairs": 2, "mean_abs": 2, "mean_abs_sum": 2, "mean_abs_difference": 0, "mean_square": 5}
    assert corrected(row) == 2


@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0, 3.0])
def test_the_variance_of_a_subset_holds_the_noise_beside_a_signal(signal):
    """27 of 30 pairs alike, eight draws each: nearly all of the variance is noise, which halvings show a part of."""
    generator, side_S8 = np.random.default_rng(5), halving_sides().numpy()
    rows = []
    for _ in range(1000):
        part_DP = generator.normal(signal, 1, size=(8, 30))
        part_DP[:, 27:] = np.nan
        halvings = [[part_DP[on].mean(0) for on in (side, ~side)] for side in side_S8]
        rows.append(image_row(interactions_of(part_DP.mean(0), np.stack(halvings))))
    table = pd.DataFrame(rows)
    assert table.pair_variance.mean() == pytest.approx(table.mean_square.var(), rel=0.15)


@pytest.mark.parametrize(("parts", "products"), [(8, 28), (4, 6), (3, 3)])
def test_the_spread_of_halvings_is_the_noise_of_their_products(parts, products):
    """Parts without signal: the mean square is nothing but products of noise, and its variance is what is told."""
    generator, side_S8 = np.random.default_rng(3), halving_sides().numpy()
    rows = []
    for _ in range(1500):
        part_DP = generator.normal(size=(parts, 3))
        on_SD, none_P = side_S8[:, :parts], np.full(3, np.nan)
        halvings = [[part_DP[on].mean(0) if on.any() else none_P for on in (side, ~side)] for side in on_SD]
        rows.append(image_row(interactions_of(part_DP.mean(0), np.stack(halvings))))
    table = pd.DataFrame(rows)
    assert table.square_spread.mean() == pytest.approx(table.mean_square.var(), rel=0.1)
    assert table.square_spread.mean() == pytest.approx(1 / products / 3, rel=0.1)


def test_pairs_tell_the_variance_of_a_mean_over_some_of_them():
    """By brute force: the mean over four of six squares, every choice of them."""
    square_P = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 30.0])
    means, told = [], []
    for chosen in itertools.combinations(range(6), 4):
        some_P = np.full(6, np.nan)
        some_P[list(chosen)] = square_P[list(chosen)]
        means.append(np.nanmean(some_P))
        told.append(pair_variance_of(torch.from_numpy(some_P)))
    assert np.mean(told) == pytest.approx(np.var(means))
    assert np.isnan(pair_variance_of(torch.from_numpy(square_P)))


def test_two_draws_do_not_tell_the_spread():
    halvings = np.full((7, 2, 1), np.nan)
    halvings[:4] = 1.0
    assert np.isnan(image_row(interactions_of([1.0], halvings))["square_spread"])


# The correction


def test_corrected_abs_by_hand():
    values = corrected_abs(np.array([5.0, 3.0, 0.0, 1.0, np.nan]), np.array([3.0, 5.0, 0.0, 1.0, 1.0]))
    np.testing.assert_allclose(values, [4, -4, 0, 0, np.nan])


def simulated_row(spread, noise, pairs, generator):
    """An image whose interactions are normal with that spread, each estimated with a normal error of size `noise`."""
    interaction_P = generator.normal(size=pairs) * spread
    halves_2P = interaction_P + generator.normal(size=(2, pairs)) * noise * np.sqrt(2)
    return image_row(interactions_of(halves_2P.mean(0), halves_2P))


@pytest.mark.parametrize(("spread", "noise"), [(1.0, 0.0), (1.0, 0.5), (0.3, 0.6)])
def test_the_correction_removes_the_lift_of_noise(spread, noise):
    row = simulated_row(spread, noise, 400_000, np.random.default_rng(1))
    assert row["mean_abs"] == pytest.approx(NORMAL_ABS * np.hypot(spread, noise), rel=0.01)
    assert corrected(row) == pytest.approx(NORMAL_ABS * spread, rel=0.02)
    assert row["mean_square"] == pytest.approx(spread**2, rel=0.03)


def test_pure_noise_averages_to_nothing():
    generator = np.random.default_rng(2)
    rows = pd.DataFrame([simulated_row(0.0, 1.0, 30, generator) for _ in range(600)])
    corrected_I = corrected_abs(rows.mean_abs_sum.to_numpy(), rows.mean_abs_difference.to_numpy())
    for values in (corrected_I, rows.mean_square.to_numpy()):
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert rows.mean_abs.mean() == pytest.approx(NORMAL_ABS, rel=0.03)  # the raw strength sees plenty
    assert np.clip(corrected_I, 0, None).mean() > 0.1  # so would one that is cut at 0


# The table


def test_every_measure_is_its_formula():
    images = made_up().sample(frac=1, random_state=1)
    table = strength_table(images, resamples=50)
    by_order = [group for _, group in sorted(images.groupby("order"))]
    a = np.array([group.mean_abs.mean() for group in by_order])
    squares = [group.mean_abs_sum**2 - group.mean_abs_difference**2 for group in by_order]
    corrected = np.array([np.mean([np.sign(s) * np.sqrt(abs(s)) for s in square]) for square in squares])
    square = np.array([group.mean_square.mean() for group in by_order])
    rms = np.sqrt(square)
    expected = {
        "A": a,
        "J": a / a.mean(),
        "A_corrected": corrected,
        "J_corrected": corrected / corrected.mean(),
        "mean_square": square,
        "rms": rms,
        "J_rms": rms / rms.mean(),
    }
    assert tuple(expected) == MEASURES
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-12, err_msg=name)
        assert (table[f"{name}_low"] < table[name]).all() and (table[name] < table[f"{name}_high"]).all()
    assert table.order.tolist() == [0, 10, 20, 30]
    np.testing.assert_allclose(table.ratio, [0, 1 / 3, 2 / 3, 1])
    assert (table.images == 40).all() and (table.pairs == 20).all() and (table.rms_note == "").all()


def test_relative_strengths_average_to_1():
    table = strength_table(made_up(orders=7), resamples=10)
    for name in ("J", "J_corrected", "J_rms"):
        assert table[name].mean() == pytest.approx(1)


def test_a_negative_mean_square_stays_and_has_no_root():
    square_IM = np.array([[4.0, -3.0, 9.0], [4.0, 1.0, 9.0]] * 4)
    table = strength_table(rows_of(np.ones((8, 3)), square_IM=square_IM), resamples=200)
    assert table.mean_square.tolist() == [4, -1, 9]
    np.testing.assert_array_equal(table.rms, [2, np.nan, 3])
    np.testing.assert_allclose(table.J_rms, [2 / (5 / 3), np.nan, 3 / (5 / 3)])  # nothing found counts as 0
    assert [bool(note) for note in table.rms_note] == [False, True, False]
    assert "noise exceeds the signal" in table.rms_note[1]
    assert -4.5 < table.mean_square_low[1] < -2 and 0 < table.mean_square_high[1] < 1.5
    assert table.rms_low[1] == 0 and table.rms_high[1] == np.sqrt(table.mean_square_high[1])
    assert table.J_rms_low[1] == 0 < table.J_rms_high[1]


def test_no_relative_strength_goes_beyond_the_number_of_orders():
    generator = np.random.default_rng(1)
    square_IM = generator.normal(size=(24, 5)) ** 3 / 8 + [0.0, 0.02, 0.03, 0.02, 0.0]
    table = strength_table(rows_of(np.ones((24, 5)), square_IM=square_IM, ratios=RATIOS), resamples=100)
    assert (table.J_rms_high == 5).all() and (table.J_rms_low == 0).all()  # 7 to 225 by the intervals of the squares
    assert (table.J_high <= 5).all()


def test_nothing_but_noise_has_a_table_too():
    table = strength_table(rows_of(np.ones((3, 2)), square_IM=-np.ones((3, 2))), resamples=20)
    assert table[["rms", "J_rms"]].isna().all(axis=None)
    assert (table.mean_square == -1).all()
    assert (table.J == 1).all()


def test_without_halves_only_the_published_measures_remain():
    nothing_IM = np.full((3, 2), np.nan)
    table = strength_table(rows_of([[1, 2], [2, 4], [3, 6]], nothing_IM, nothing_IM, nothing_IM), resamples=20)
    assert table.A.tolist() == [2, 4]
    assert table[["A_corrected", "J_corrected", "mean_square", "rms", "J_rms"]].isna().all(axis=None)
    assert table.rms_note.str.contains("no pair has two independent halves").all()


def test_an_image_without_a_number_is_left_out_of_that_mean_only():
    raw_IM = [[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]]
    table = strength_table(rows_of(raw_IM), resamples=20)
    assert table.A.tolist() == [3, 4]
    assert (table.images == 3).all()


def test_orders_near_the_numerical_floor_are_flagged():
    images = rows_of(np.ones((2, 4)) * 2, square_IM=[[1.0, 1.0, -1.0, -1.0]] * 2)
    floors = {0: 0.099, 10: 0.101, 20: 0.19, 30: 0.21}  # rms 1, 1, and A = 2 where there is no rms
    table = strength_table(images, resamples=10, floors=floors)
    assert table.near_floor.tolist() == [False, True, False, True]
    assert table.floor.tolist() == [0.099, 0.101, 0.19, 0.21]
    unmeasured = strength_table(images, resamples=10)
    assert not unmeasured.near_floor.any() and unmeasured.floor.isna().all()


def test_no_images_and_missing_orders_are_refused():
    images = made_up(3, 3)
    with pytest.raises(ValueError, match="no image was measured"):
        strength_table(images[:0])
    with pytest.raises(ValueError, match="image 1 was measured at 2 of 3 orders"):
        strength_table(images.drop(index=4))
    # Images 0 and 1 have two orders each, but not the same.
    with pytest.raises(ValueError, match="image 0 was measured at 2 of 3 orders"):
        strength_table(images[images.image < 2].drop(index=[0, 4]))


# Intervals


def studentised(values_I, influence_of, confidence, draws_RI):
    """The half width of a symmetric studentised interval, resample by resample."""
    estimate, influence_I = influence_of(values_I)
    ratios = []
    for draw_I in draws_RI:
        value, spread_I = influence_of(values_I[draw_I])
        ratios.append(abs(value - estimate) / (np.std(spread_I, ddof=1) / np.sqrt(len(draw_I))))
    return np.quantile(ratios, confidence) * np.std(influence_I, ddof=1) / np.sqrt(len(values_I))


@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_intervals_of_means_are_studentised(confidence):
    images = made_up(60, 3)
    table = strength_table(images, resamples=3000, seed=1, confidence=confidence)
    columns = {"A": images.mean_abs}
    columns["A_corrected"] = pd.Series(
        corrected_abs(images.mean_abs_sum.to_numpy(), images.mean_abs_difference.to_numpy())
    )
    draws_RI = np.random.default_rng(2).integers(60, size=(3000, 60))
    for name, column in columns.items():
        for row, order in enumerate(table.order):
            values_I = column[images.order == order].to_numpy()
            half = studentised(values_I, lambda x: (x.mean(), x - x.mean()), confidence, draws_RI)
            assert table[f"{name}_high"][row] - table[name][row] == pytest.approx(half, rel=0.12)
            assert table[name][row] - table[f"{name}_low"][row] == pytest.approx(half, rel=0.12)


def test_intervals_of_squares_are_studentised_where_noise_would_be_normal():
    """asinh of four standard errors, its own derivative, and back; the rms has the roots of the ends."""
    images = made_up(60, 3)
    table = strength_table(images, resamples=3000, seed=1)
    draws_RI = np.random.default_rng(2).integers(60, size=(3000, 60))
    for row, order in enumerate(table.order):
        values_I = images.mean_square[images.order == order].to_numpy()
        scale = 4 * values_I.std(ddof=1) / np.sqrt(60)

        def folded(x, scale=scale):
            return np.arcsinh(x.mean() / scale), (x - x.mean()) / np.sqrt(x.mean() ** 2 + scale**2)

        half = studentised(values_I, folded, 0.95, draws_RI)
        for end, sign in (("low", -1), ("high", 1)):
            reached = np.arcsinh(table[f"mean_square_{end}"][row] / scale) - folded(values_I)[0]
            assert reached == pytest.approx(sign * half, rel=0.12)
            assert table[f"rms_{end}"][row] == np.sqrt(max(table[f"mean_square_{end}"][row], 0))


def test_intervals_hold_the_truth_where_noise_rules():
    """An order of which there is next to no signal among six that are known: its square is negative in many runs."""
    generator, truth, held, missing = np.random.default_rng(9), np.array([1.0, 0.02, 0.6, 0.5, 0.4, 0.5, 0.6]), 0, 0
    noise = np.where(truth == 0.02, 0.5, 0.05)
    for seed in range(150):
        square_IM = truth * generator.lognormal(-0.125, 0.5, (24, 7)) + noise * generator.normal(size=(24, 7))
        table = strength_table(rows_of(np.ones((24, 7)), square_IM=square_IM), resamples=150, seed=seed)
        held += table.J_rms_low[1] <= np.sqrt(truth[1]) / np.sqrt(truth).mean() <= table.J_rms_high[1]
        missing += np.isnan(table.J_rms[1])
    assert held >= 0.9 * 150 and missing > 40


def test_the_influence_of_an_image_is_what_more_of_it_changes():
    """Every image twenty times, and one of them once more: the derivative by its weight, for J, J_rms, rms and M."""
    images = made_up(12, 5, ratios=RATIOS)
    whole_I = np.tile(np.arange(12), 20)
    more_RI = np.stack([np.append(whole_I, k) for k in range(12)])
    for statistic in (_measures(_moments(images)), square_statistic(images), mass_statistic(images)):
        value, influence = statistic(np.arange(12)[None])
        change = (statistic(more_RI)[0] - value) * more_RI.shape[1]
        np.testing.assert_allclose(influence[..., 0, :], change, rtol=0.1, atol=0.02 * abs(change).max())


def test_few_images_have_no_interval_and_the_table_says_why():
    seven, eight = strength_table(made_up(7), resamples=50), strength_table(made_up(8), resamples=50)
    assert seven.J_low.isna().all() and seven.interval_note.str.contains("fewer than 8 images").all()
    assert eight.J_low.notna().all() and (eight.interval_note == "").all()
    mass = middle_mass(made_up(7, 5, ratios=RATIOS), resamples=50)
    assert mass.M.notna().all() and mass[["M_low", "M_high"]].isna().all(axis=None)


def test_orders_are_resampled_together():
    """Where one order is always three times the other, J is known without error, however much the images differ."""
    raw_I = np.random.default_rng(3).lognormal(size=20)
    table = strength_table(rows_of(np.stack([raw_I, 3 * raw_I], 1)), resamples=200)
    for name in ("J", "J_corrected", "J_rms"):
        for end in ("", "_low", "_high"):
            np.testing.assert_allclose(table[f"{name}{end}"], [0.5, 1.5], rtol=1e-9)
    assert (table.A_high > 1.2 * table.A_low).all()


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(4)
    hits = 0
    for seed in range(70):
        images = rows_of(generator.normal(5, 1, size=(30, 1)))
        table = strength_table(images, resamples=300, seed=seed, confidence=0.7)
        hits += int(table.A_low[0] < 5 < table.A_high[0])
    assert 33 <= hits <= 64  # binomial, four standard deviations


def test_intervals_shrink_with_more_images():
    generator = np.random.default_rng(5)
    few, many = (strength_table(rows_of(generator.gamma(4, size=(count, 3))), resamples=500) for count in (50, 800))
    for name in ("A", "J", "A_corrected", "mean_square", "rms"):
        ratio = (few[f"{name}_high"] - few[f"{name}_low"]).mean() / (many[f"{name}_high"] - many[f"{name}_low"]).mean()
        assert 2.7 < ratio < 6, name  # √16 = 4


def test_a_single_image_has_no_interval():
    table = strength_table(made_up(1))
    assert table[list(MEASURES)].notna().all(axis=None)
    ends = [f"{name}_{end}" for name in MEASURES for end in ("low", "high")]
    assert table[ends].isna().all(axis=None)
    mass = middle_mass(made_up(1, 5, ratios=RATIOS))
    assert mass.M.notna().all() and mass[["M_low", "M_high"]].isna().all(axis=None)


def test_the_seed_decides_the_intervals():
    images = made_up(10)
    first, again, other = (strength_table(images, resamples=100, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert (first.A == other.A).all() and (first.A_low != other.A_low).any()


def test_noise_does_not_shrink_with_the_share_of_the_pairs():
    """Pairs without signal, 18 of 20 measured: the mean square varies by its noise alone, and by all of it."""
    generator, side_S8 = np.random.default_rng(5), halving_sides().numpy()
    rows = []
    for _ in range(600):
        part_8P = generator.normal(size=(8, 20))
        part_8P[:, 18:] = np.nan
        halvings = [[part_8P[on].mean(0) for on in (side, ~side)] for side in side_S8]
        rows.append(image_row(interactions_of(part_8P.mean(0), np.stack(halvings))))
    table = pd.DataFrame(rows)
    assert table.pair_variance.mean() == pytest.approx(table.mean_square.var(), rel=0.15)
    some_P = torch.tensor([1.0, 2.0, np.nan])
    assert pair_variance_of(some_P, np.nan) == pytest.approx(0.5 / 2)  # noise that is not known may be all of it


def test_an_order_that_few_images_tell_has_no_interval():
    images = made_up(12)
    images.loc[(images.order == 10) & (images.image >= 7), "mean_square"] = np.nan
    table = strength_table(images, resamples=50).set_index("order")
    ends = [f"{name}_{end}" for name in ("mean_square", "rms", "J_rms") for end in ("low", "high")]
    assert table.loc[10, ends].isna().all() and "fewer than 8 images" in table.interval_note[10]
    assert table.loc[10, ["A_low", "A_high"]].notna().all()
    assert table.drop(10)[ends].notna().all(axis=None) and (table.drop(10).interval_note == "").all()


def test_what_one_image_holds_has_an_interval_without_an_end():
    """Of many resamples some lack the one image that is not 0, and have no spread of their own."""
    raw_IM = np.ones((8, 3))
    raw_IM[:, 1] = [0, 0, 0, 0, 0, 0, 0, 2.0]
    table = strength_table(rows_of(raw_IM), resamples=200)
    assert table.A[1] == 0.25 and table.A_low[1] == 0 and table.A_high[1] == np.inf
    assert table.drop(1)[["A_low", "A_high"]].notna().all(axis=None)


def test_a_resample_that_no_telling_image_is_in_does_not_take_the_interval_away():
    """8 of 100 images tell an order: some resample of 2,000 has none of them in half of all runs."""
    square_IM = np.random.default_rng(2).lognormal(size=(100, 3))
    square_IM[8:, 1] = np.nan
    for seed in range(4):
        images = rows_of(np.sqrt(np.nan_to_num(square_IM, nan=1.0)), square_IM=square_IM)
        table = strength_table(images, seed=seed)
        assert (table.interval_note == "").all() and table[["rms_low", "rms_high"]].notna().all(axis=None)


def test_an_order_that_is_nought_everywhere_has_no_noise_to_blame():
    table = strength_table(rows_of(np.ones((8, 3)) * [1, 0, 2]), resamples=50)
    assert table.rms.tolist() == [1, 0, 2] and table.J_rms[1] == 0 and (table.rms_note == "").all()


def test_signal_below_the_floor_is_flagged_however_noisy():
    square_IM = np.tile([1.0, 1.0], (20, 1)) + np.random.default_rng(0).normal(size=(20, 2)) * [0.1, 1e-5]
    square_IM[:, 1] -= 1.00001  # its mean is below 0, and it is far nearer to 0 than ten floors
    table = strength_table(rows_of(np.full((20, 2), 3.0), square_IM=square_IM), floors={0: 0.01, 10: 0.01})
    assert np.isnan(table.rms[1]) and table.near_floor.tolist() == [False, True]


@pytest.mark.parametrize("draws", [3, 4, 8])
@pytest.mark.parametrize("signal", [0.0, 0.5])
def test_what_is_told_of_the_noise_is_its_variance_by_any_number_of_draws(draws, signal):
    generator, on_SD = np.random.default_rng(4), halving_sides().numpy()[:, :draws]
    told, squares = [], []
    for _ in range(1500):
        part_DP = generator.normal(signal, 1, size=(draws, 20))
        part_DP[:, 19] = np.nan
        none_P = np.full(20, np.nan)
        halvings = [[part_DP[on].mean(0) if on.any() else none_P for on in (side, ~side)] for side in on_SD]
        row = image_row(interactions_of(part_DP.mean(0), np.stack(halvings)))
        told.append(row["pair_variance"])
        squares.append(row["mean_square"])
    assert np.mean(told) == pytest.approx(np.var(squares), rel=0.15)


def test_pairs_that_lack_a_half_are_no_noise_of_those_that_have_it():
    """I is 1 and 3 without any noise, and each halving leaves out another pair; all pairs were measured."""
    halvings = np.array([[[1, 1, 3, 3.0]] * 2] * 7)
    for halving in range(7):
        halvings[halving, halving % 2, halving % 4] = np.nan
    row = image_row(interactions_of([1, 1, 3, 3], halvings))
    assert row["square_spread"] == 0 and np.isnan(row["pair_variance"])
    halvings[:, 1, 0] = np.nan  # the first pair has no two halves at all, and was measured
    assert np.isnan(image_row(interactions_of([1, 1, 3, 3], halvings))["pair_variance"])
    assert image_row(interactions_of([np.nan, 1, 3, 3], halvings))["pair_variance"] > 0


def test_squares_that_few_images_hold_have_no_upper_end_and_m_ends_where_it_can():
    """Resamples without these images have next to no spread: half widths of hundreds were ends of 10^132."""
    square_IM = 1e-6 * (1 + 1e-3 * np.random.default_rng(0).normal(size=(10, 5)))
    square_IM[:2, 2] = [4.0, 1.0]
    images = rows_of(np.sqrt(square_IM), square_IM=square_IM, ratios=RATIOS)
    table = strength_table(images)
    assert table.rms_high[2] == np.inf and table.rms_low[2] == 0 and table.J_rms_high[2] == 5
    assert np.isfinite(table.drop(2)[["rms_low", "rms_high"]]).all(axis=None)
    mass = middle_mass(images).set_index("measure").loc["J_rms"]
    assert 0 <= mass.M_low < 0.1 and mass.M_high == pytest.approx(5 / 3)


def test_a_model_without_interactions_says_so():
    table = strength_table(rows_of(np.zeros((9, 3))), resamples=50)
    assert (table.rms == 0).all() and table.J_rms.isna().all()
    assert set(table.rms_note) == {"no interaction at any order: J is relative to nothing"}
