"""Middle mass and its differences, by hand and by simulation, and where noise rules an order."""

import numpy as np
import pytest

from interactions.intervals import roots_interval
from interactions.masses import MASS_MEASURES, middle_mass, paired_mass
from interactions.strength import strength_table
from tests.interactions.test_strength import RATIOS, made_up, rows_of

pytestmark = pytest.mark.filterwarnings("error")


def test_a_sum_of_roots_by_hand():
    """Two uncorrelated squares 4 and 9, with ends 1 to 16 and 4 to 25: roots 2 ± 1 (+2) and 3 ± 1 (+2)."""
    ends = np.array([4.0, 9.0]), np.array([1.0, 4.0]), np.array([16.0, 25.0])
    influence = np.array([[1.0, -1, 1, -1], [1.0, 1, -1, -1]])
    total = roots_interval(np.array([1.0, 1.0]), *ends, influence)
    np.testing.assert_allclose(total, [5, 5 - np.sqrt(2), 5 + np.sqrt(8)])
    # 2 − 3: downwards by the first one's lower and the second one's upper distance, 1 and 2
    difference = roots_interval(np.array([1.0, -1.0]), *ends, influence)
    np.testing.assert_allclose(difference, [-1, -1 - np.sqrt(5), -1 + np.sqrt(5)])
    alike = roots_interval(np.array([1.0, -1.0]), *ends, influence[[0, 0]])
    np.testing.assert_allclose(alike, [-1, -2, 0])  # what moves the one moves the other


def test_roots_near_0_do_not_average_out():
    """Nothing but noise at two orders: both roots are too large, so that towards 0 their distances add up in full."""
    influence = np.array([[1.0, -1, 1, -1], [1.0, 1, -1, -1]])
    square = np.array([0.25, 0.25])
    value, low, high = roots_interval(np.array([0.5, 0.5]), square, square - 1, square + 0.75, influence)
    assert (value, low) == (0.5, 0)
    assert high == pytest.approx(0.5 + 0.5 * np.sqrt(2) / 2)


def test_the_mass_holds_the_truth_where_noise_rules_some_of_its_orders():
    truth = np.array([1.0, 0.004, 0.003, 0.004, 0.6])
    generator, held, apart = np.random.default_rng(10), 0, 0
    mass = (np.sqrt(truth) / np.sqrt(truth).mean())[1:4].mean()
    for seed in range(60):
        squares = [truth * generator.lognormal(-0.125, 0.5, (24, 5)) for _ in range(2)]
        noisy = [each + generator.normal(size=each.shape) * [0.05, 0.1, 0.1, 0.1, 0.05] for each in squares]
        runs = {
            name: rows_of(np.ones((24, 5)), square_IM=each, ratios=RATIOS)
            for name, each in zip("ab", noisy, strict=True)
        }
        found = middle_mass(runs["a"], resamples=100, seed=seed).iloc[2]
        held += found.M_low <= mass <= found.M_high
        difference = paired_mass(runs, resamples=100, seed=seed).iloc[2]
        apart += difference.low <= 0 <= difference.high
    assert held >= 53 and apart >= 53


def test_no_interval_goes_beyond_what_a_mass_can_be():
    """Next to nothing but noise: M may be anything up to that of five orders' J at the middle three."""
    generator, runs, most = np.random.default_rng(1), {}, pytest.approx(5 / 3)
    for name in "ab":
        squares = generator.normal(size=(24, 5)) ** 3 / 8 + [0.0, 0.02, 0.03, 0.02, 0.0]
        runs[name] = rows_of(np.ones((24, 5)), square_IM=squares, ratios=RATIOS)
    alone = middle_mass(runs["a"], resamples=100).iloc[2]
    difference = paired_mass(runs, resamples=100).iloc[2]
    assert (alone.M_low, alone.M_high) == (0, most)  # 0 to 7.0 by the squares' intervals
    assert (difference.low, difference.high) == (-most.expected, most)  # −2.2 to 6.4


def by_hand_runs():
    """A is 4, 1, 2, 1, 2; corrected A is 1 at every order; rms is 1, 2, 3, 2, 2."""
    raw_IM = np.array([[5.0, 1, 1, 1, 2], [3.0, 1, 3, 1, 2]] * 4)
    square_IM = np.array([[0.5, 4, 10, 3, 4], [1.5, 4, 8, 5, 4]] * 4)
    return rows_of(raw_IM, np.full((8, 5), 5 / 4), np.full((8, 5), 3 / 4), square_IM, RATIOS)


def test_middle_mass_by_hand():
    mass = middle_mass(by_hand_runs(), resamples=100)
    assert mass.measure.tolist() == ["J", "J_corrected", "J_rms"]
    # J is 2, .5, 1, .5, 1; then 1 everywhere; then .5, 1, 1.5, 1, 1.
    np.testing.assert_allclose(mass.M, [2 / 3, 1, 3.5 / 3])
    assert (mass.images == 8).all()
    np.testing.assert_allclose(mass.loc[1, ["M_low", "M_high"]].astype(float), [1, 1])  # J_corrected never varies
    assert mass.M_low[0] < 2 / 3 < mass.M_high[0]


def test_middle_mass_is_the_mean_of_the_curve_from_0_3_to_0_7():
    images = made_up(30, 7, ratios=(0.1, 0.2999, 0.3, 0.45, 0.7, 0.7001, 0.95))
    table = strength_table(images, resamples=10)
    mass = middle_mass(images, resamples=10).set_index("measure").M
    for name in MASS_MEASURES:
        assert mass[name] == pytest.approx(table[name][2:5].mean())


def test_middle_mass_needs_a_middle():
    with pytest.raises(ValueError, match=r"no listed order lies between 0\.3 and 0\.7"):
        middle_mass(made_up(3, 2, ratios=(0.1, 0.9)))


# Differences between runs


def raw_mass(images):
    """M of the published J, from a table images × orders."""
    a_M = images.mean(0)
    return (a_M / a_M.mean())[1:4].mean()


def test_a_run_does_not_differ_from_itself():
    images = made_up(12, 5, ratios=RATIOS)
    table = paired_mass({"one": images, "same": images.copy()}, resamples=100)
    assert table.columns.tolist() == ["run_a", "run_b", "measure", "difference", "low", "high", "images"]
    assert table.measure.tolist() == list(MASS_MEASURES)
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert (table.run_a == "one").all() and (table.run_b == "same").all()


def test_differences_are_over_the_shared_images_only():
    a, b = made_up(10, 5, seed=6, ratios=RATIOS), made_up(10, 5, seed=7, ratios=RATIOS)
    b["image"] += 6  # 6 to 15: shared are 6 to 9
    table = paired_mass({"a": a, "b": b.sample(frac=1, random_state=0)}, resamples=100)
    masses = [middle_mass(run[run.image.between(6, 9)], resamples=10).M for run in (a, b)]
    np.testing.assert_allclose(table.difference, masses[0] - masses[1])
    assert (table.images == 4).all()
    swapped = paired_mass({"b": b, "a": a}, resamples=100)
    np.testing.assert_allclose(swapped.difference, -table.difference)


def test_intervals_of_differences_resample_both_runs_together():
    generator = np.random.default_rng(8)
    a_IM = generator.lognormal(size=(40, 5)) * (1, 2, 3, 2, 1)
    b_IM = a_IM * generator.normal(1, 0.1, size=a_IM.shape)  # nearly the same images' strengths
    table = paired_mass({"a": rows_of(a_IM, ratios=RATIOS), "b": rows_of(b_IM, ratios=RATIOS)}, resamples=3000)
    draws = generator.integers(40, size=(3000, 40))
    together = [raw_mass(a_IM[index]) - raw_mass(b_IM[index]) for index in draws]
    row = table[table.measure == "J"].iloc[0]
    assert row.difference == pytest.approx(raw_mass(a_IM) - raw_mass(b_IM))
    assert row.high - row.low == pytest.approx(2 * 1.96 * np.std(together), rel=0.35)  # skewed images: wider
    apart = [raw_mass(a_IM[index]) - raw_mass(b_IM[other]) for index, other in zip(draws, draws[::-1], strict=True)]
    assert row.high - row.low < 0.4 * np.ptp(np.percentile(apart, [2.5, 97.5]))


def test_every_two_runs_are_compared():
    runs = {name: made_up(5, 5, seed, RATIOS) for seed, name in enumerate("abc")}
    table = paired_mass(runs, resamples=10)
    pairs = list(zip(table.run_a, table.run_b, strict=True))
    assert pairs == [pair for pair in (("a", "b"), ("a", "c"), ("b", "c")) for _ in MASS_MEASURES]


def test_runs_of_other_orders_are_not_compared():
    """J is relative to the mean over the listed orders: leaving some out made a difference of no difference."""
    a = made_up(9, 5, ratios=RATIOS)
    with pytest.raises(ValueError, match="the runs list other orders"):
        paired_mass({"a": a, "b": a[a["ratio"] > min(RATIOS)]})


def test_runs_without_a_shared_image_are_not_compared():
    a, b = made_up(3, 5, ratios=RATIOS), made_up(3, 5, ratios=RATIOS)
    b["image"] += 3
    with pytest.raises(ValueError, match="the runs a and b share no image"):
        paired_mass({"a": a, "b": b})
