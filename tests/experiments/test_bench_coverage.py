"""`a2mim bench coverage`: its intervals against other libraries, and its counts against what is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from experiments.benchmarks import coverage as bench
from interactions.intervals import Statistic


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
    table = bench.fixed_sizes(settings, "normal", (mean_of(population), 5000, ["mean"])).set_index("method")
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
    assert list(bench.named((Path("/a/trained/profile"), Path("/a/random/profile")))) == ["trained", "random"]
    with pytest.raises(ValueError, match="twice"):
        bench.named((Path("/a"), Path("/a")))
    with pytest.raises(ValueError, match="no run"):
        bench.named(())
