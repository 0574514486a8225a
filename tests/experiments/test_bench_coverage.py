"""`a2mim bench coverage`: its intervals against other libraries, and its counts against what is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from experiments.benchmarks import coverage as bench
from interactions.intervals import Statistic
from interactions.masses import middle_mass, paired_mass
from interactions.strength import strength_table


def mean_of(population_I: np.ndarray) -> Statistic:
    """The mean of a number, 1×R, with each drawn image's influence on it."""

    def statistic(index_RI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        drawn_RI = population_I[index_RI]
        mean_R = drawn_RI.mean(1)
        return mean_R[None], (drawn_RI - mean_R[:, None])[None]

    return statistic


def test_the_intervals_of_a_mean_are_scipys():
    sample = np.random.default_rng(0).exponential(size=40)
    found = bench.intervals(mean_of(sample), np.arange(40), 20_000, np.random.default_rng(1))
    for method, of_scipy in (("percentile", "percentile"), ("accelerated", "BCa")):
        known = scipy.stats.bootstrap((sample,), np.mean, method=of_scipy, n_resamples=20_000, rng=2)
        assert np.ravel(found[method]) == pytest.approx(list(known.confidence_interval), abs=0.02)
    known = scipy.stats.t.interval(0.95, 39, sample.mean(), scipy.stats.sem(sample))
    assert np.ravel(found["t"]) == pytest.approx(list(known))
    assert set(found) == set(bench.METHODS)


def test_intervals_of_normal_numbers_hold_as_often_as_they_say():
    population = np.random.default_rng(0).normal(size=5000)
    settings = bench.Settings(runs=(), sizes=(8,), repetitions=600, resamples=100)
    known = bench.Population(mean_of(population), 5000, ["mean"])
    table = bench.fixed_sizes(settings, "normal", known).set_index("method")
    assert table.low["t"] < 0.95 < table.high["t"]
    assert table.high["percentile"] < 0.95  # over eight images, and by about five hundredths


def images(count: int = 60, seed: int = 0) -> pd.DataFrame:
    """Rows of three orders, whose squares are skewed and unalike."""
    generator = np.random.default_rng(seed)
    rows = []
    for order, (ratio, scale) in enumerate([(0.0, 1.0), (0.5, 0.2), (1.0, 2.0)]):
        square_I = scale * generator.gamma(2, 0.5, count)
        part = {"image": np.arange(count), "order": order, "ratio": ratio, "passes": 100, "pairs": 10}
        part |= {"mean_square": square_I, "square_spread": 0.0, "mean_abs": 0.8 * np.sqrt(square_I)}
        rows.append(pd.DataFrame(part | {"mean_abs_sum": part["mean_abs"], "mean_abs_difference": 0.0}))
    return pd.concat(rows)


def test_what_is_written_of_a_sample_is_what_a_run_of_these_images_writes():
    """Of the whole population drawn once, the tables of the population; of two runs, their difference."""
    runs = {"a": images(), "b": images(seed=1)}
    found = bench.populations(runs)
    low_Q, high_Q = bench.written(found["a"], np.arange(60), 50, np.random.default_rng(4))
    seed = int(np.random.default_rng(4).integers(2**31))
    table, mass = strength_table(runs["a"], resamples=50, seed=seed), middle_mass(runs["a"], resamples=50, seed=seed)
    named = dict(zip(found["a"].called, zip(low_Q, high_Q, strict=True), strict=True))
    assert named["J_rms(1)"] == (table.J_rms_low[1], table.J_rms_high[1])
    assert named["M of J"] == (mass.M_low[0], mass.M_high[0])
    low_K, high_K = bench.written(found["a − b"], np.arange(60), 50, np.random.default_rng(4))
    difference = paired_mass(runs, resamples=50, seed=seed)
    np.testing.assert_array_equal([low_K, high_K], [difference.low, difference.high])
    drawn = bench.sample(bench.by_image(runs["a"].sample(frac=1, random_state=0)), np.array([3, 3, 5]))
    assert drawn.image.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and drawn.order.tolist() == [0, 1, 2] * 3
    of_5 = runs["a"][runs["a"].image == 5].mean_square.to_numpy()
    np.testing.assert_array_equal(drawn.mean_square[drawn.image == 2], of_5)


def test_a_sample_stops_when_it_is_narrow_enough():
    population = images()
    wide, narrow = (
        len(bench.stopped_sample(population, precision, np.random.default_rng(3), 50)) for precision in (0.5, 0.08)
    )
    assert wide == 32 < narrow <= 300


def test_the_numbers_have_their_names():
    found = bench.quantities(images())(np.arange(60)[None])[0][:, 0]
    named = dict(zip(bench.labels(images()), found, strict=True))
    rms = np.sqrt([images()[images().order == order].mean_square.mean() for order in range(3)])
    assert [named[f"J_rms({order})"] for order in range(3)] == pytest.approx(rms / rms.mean())
    assert named["M of J_rms"] == pytest.approx(rms[1] / rms.mean())


def test_runs_are_named_by_what_tells_them_apart():
    assert list(bench.named((Path("/a/trained/profile"), Path("/a/random/profile")))) == [
        "trained/profile",
        "random/profile",
    ]
    with pytest.raises(ValueError, match="twice"):
        bench.named((Path("/a"), Path("/a")))
    with pytest.raises(ValueError, match="no run"):
        bench.named(())
