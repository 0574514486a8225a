"""Middle mass over several seeds: against hand-made tables, the flat bootstrap, and the coverage of known truths."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from interactions.hierarchy import bootstrapped_differences, seeded_differences, seeded_masses
from interactions.masses import middle_mass, paired_mass

ORDERS, RATIOS = (3, 30, 59), (0.05, 0.5, 0.95)


def table(strength_IM, images=None):
    """Rows of images whose interactions are known without noise: every half is the strength itself."""
    rows = []
    for image, strengths in zip(images or range(len(strength_IM)), strength_IM, strict=True):
        for order, ratio, value in zip(ORDERS, RATIOS, strengths, strict=True):
            row = {"image": image, "order": order, "ratio": ratio, "pairs": 5}
            row |= {"mean_abs": value, "mean_abs_sum": value, "mean_abs_difference": 0.0, "mean_square": value**2}
            rows.append(row)
    return pd.DataFrame(rows)


def drawn(rng, images=8, lift=0.0):
    strength = rng.uniform(0.5, 1.5, (images, 3))
    strength[:, 1] += lift
    return table(strength)


def test_the_mass_is_the_mean_over_seeds_of_the_published_one():
    first, second = table([[1, 2, 3], [2, 4, 6]]), table([[1, 1, 1], [3, 3, 3]])
    masses = seeded_masses({"run": [first, second]}).set_index("measure")
    # J of the middle order: 3 / mean(1.5, 3, 4.5) = 1 in the first seed, 1 in the second.
    assert masses.loc["J", "M"] == pytest.approx(1.0)
    third = table([[1, 4, 1], [1, 4, 1]])  # 4 / 2 = 2
    masses = seeded_masses({"run": [first, third]}).set_index("measure")
    assert masses.loc["J", "M"] == pytest.approx(1.5) and masses.loc["J_rms", "M"] > 1.4
    assert (masses.images == 2).all() and (masses.seeds == 2).all()


def test_one_seed_is_the_bootstrap_over_images():
    rng = np.random.default_rng(0)
    a, b = drawn(rng, 12), drawn(rng, 12, lift=0.4)
    flat, deep = middle_mass(a, resamples=8000), seeded_masses({"a": [a]}, resamples=8000)
    np.testing.assert_allclose(deep[["M", "M_low", "M_high"]], flat[["M", "M_low", "M_high"]], atol=0.01)
    flat = paired_mass({"b": b, "a": a}, resamples=8000)
    deep = seeded_differences({"a": [a], "b": [b]}, [("b", "a")], resamples=8000)
    np.testing.assert_allclose(deep[["difference", "low", "high"]], flat[["difference", "low", "high"]], atol=0.01)


def test_images_are_paired_and_seeds_are_not():
    rng = np.random.default_rng(1)
    base = rng.uniform(0.2, 2.0, (10, 3))
    same = {"a": [table(base)], "b": [table(base)]}
    alike = seeded_differences(same, [("a", "b")]).set_index("measure")
    assert (alike[["difference", "low", "high"]] == 0).all(axis=None)  # the same images in both: nothing is left
    seeds = [table(base * [1, 1 + lift, 1]) for lift in (0.0, 0.5, 1.0)]
    spread = seeded_differences({"a": seeds, "b": seeds}, [("a", "b")]).set_index("measure")
    assert spread.loc["J", "difference"] == 0 and spread.loc["J", "low"] < -0.05 < 0.05 < spread.loc["J", "high"]


def test_a_run_of_one_seed_stands_against_the_first_of_the_other():
    rng = np.random.default_rng(2)
    several, one = [drawn(rng, 12, lift) for lift in (0.0, 0.5, 1.0)], [drawn(rng, 12)]
    for of in (seeded_differences, bootstrapped_differences):
        found, expected = (of({"a": a, "b": one}, [("a", "b")]) for a in (several, several[:1]))
        pd.testing.assert_frame_equal(found, expected)


def test_the_interval_holds_the_truth_where_seeds_differ_more_than_images():
    rng, held, held_flat = np.random.default_rng(2), 0, 0
    draws = rng.normal(1.0, 0.3, 1_000_000)
    truth = np.mean(3 * draws / (2 + draws))
    for _ in range(40):
        lifts = rng.normal(1.0, 0.3, 8)
        seeds = [table(np.ones((8, 3)) * [1, lift, 1] * rng.uniform(0.9, 1.1, (8, 1))) for lift in lifts]
        row = seeded_masses({"a": seeds}, resamples=100).set_index("measure").loc["J"]
        held += row.M_low <= truth <= row.M_high
        one = middle_mass(seeds[0], resamples=100).set_index("measure").loc["J"]
        held_flat += one.M_low <= truth <= one.M_high
    assert held >= 33 and held_flat < 14


def test_a_p_value_below_five_per_cent_is_an_interval_that_leaves_out_nothing():
    rng, below = np.random.default_rng(4), set()
    for lift in (0.0, 0.15, 0.3, 0.45):
        runs = {"a": [drawn(rng, lift=lift) for _ in range(3)], "b": [drawn(rng) for _ in range(2)]}
        for row in seeded_differences(runs, [("a", "b")]).itertuples():
            below.add(row.p < 0.05)
            assert (row.p < 0.05) == (row.low > 0 or row.high < 0)
            edge = seeded_differences(runs, [("a", "b")], confidence=1 - row.p).set_index("measure").loc[row.measure]
            assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-9)
    assert below == {True, False}
    one = seeded_differences({"a": runs["a"], "b": runs["b"][:1]}, [("a", "b")], resamples=10)
    assert one.p.isna().all() and one.low.notna().all()


def test_the_bootstrap_over_seeds_and_images_is_narrower_by_what_it_cannot_see():
    rng = np.random.default_rng(5)
    seeds = [table(np.ones((8, 3)) * [1, lift, 1] * rng.uniform(0.9, 1.1, (8, 1))) for lift in (0.5, 1.0, 1.5)]
    runs = {"a": seeds, "b": [table(np.ones((8, 3)))] * 3}
    drawn_ends = bootstrapped_differences(runs, [("a", "b")]).set_index("measure").loc["J"]
    told = seeded_differences(runs, [("a", "b")]).set_index("measure").loc["J"]
    masses = [3 * lift / (2 + lift) for lift in (0.5, 1.0, 1.5)]
    # Three draws of three seeds: the ends are near those of the seeds' own means, 1.96 of their spread at most.
    assert drawn_ends.boot_low == pytest.approx(masses[0] - 1, abs=0.06)
    assert drawn_ends.boot_high == pytest.approx(masses[2] - 1, abs=0.06)
    assert told.low < drawn_ends.boot_low < told.difference < drawn_ends.boot_high < told.high


def test_what_cannot_be_compared_is_said():
    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match="share no image"):
        seeded_differences({"a": [drawn(rng)], "b": [table([[1, 2, 3]], images=[99])]}, [("a", "b")], resamples=10)
    with pytest.raises(ValueError, match="has no run"):
        seeded_masses({"a": []})
    few = table([[1, 2, 3]])
    with pytest.raises(ValueError, match="the runs list other orders"):
        seeded_differences({"a": [few], "b": [few[few["ratio"] > few["ratio"].min()]]}, [("a", "b")], resamples=10)
    lonely = seeded_masses({"a": [table([[1, 2, 3]])]}, resamples=10)
    assert lonely.M.notna().all() and lonely.M_low.isna().all()


@pytest.mark.parametrize("images", [7, 8])
def test_the_bootstrap_has_an_interval_where_the_other_has(images):
    rng = np.random.default_rng(6)
    runs = {name: [drawn(rng, images) for _ in range(2)] for name in "ab"}
    told, beside = (of(runs, [("a", "b")], resamples=10) for of in (seeded_differences, bootstrapped_differences))
    assert len(beside) == len(told) and (beside.boot_low.isna() == told.low.isna()).all()
    assert (beside.boot_high.isna() == (images < 8)).all()


def test_no_interval_goes_beyond_what_a_mass_can_be():
    rng = np.random.default_rng(4)
    seeds = [table(rng.uniform(0.9, 1.1, (8, 3)) * [1, middle, 1]) for middle in (0.2, 8.0)]
    masses = seeded_masses({"a": seeds}).set_index("measure").loc[["J", "J_rms"]]
    assert (masses.M_low == 0).all() and (masses.M_high == 3).all()  # of three orders, of which one is the middle
    differences = seeded_differences({"a": seeds, "b": seeds}, [("a", "b")]).set_index("measure").loc[["J", "J_rms"]]
    assert (differences.low == -3).all() and (differences.high == 3).all()


def test_the_variance_over_images_is_that_of_leaving_each_of_them_out():
    """Linearised it is too small where one image holds much of an order: M is no mean of images."""
    rng = np.random.default_rng(5)
    seeds = [drawn(rng, 10), drawn(rng, 10)]
    for each in seeds:  # which it does of this one
        each.loc[(each.image == 3) & (each.order == 30), list(each.columns[4:])] *= 6.0
    found = seeded_masses({"a": seeds}).set_index("measure")
    of_seeds = pd.concat([middle_mass(each).set_index("measure").M for each in seeds], axis=1)
    without = [
        pd.concat([middle_mass(each[each.image != image]).set_index("measure").M for each in seeds], axis=1).mean(
            axis=1
        )
        for image in range(10)
    ]
    of_images = 9 / 10 * ((np.array(without) - np.mean(without, 0)) ** 2).sum(0)
    parts, freedom = np.array([of_images, of_seeds.var(axis=1, ddof=1) / 2]), np.array([[9], [1]])
    half = stats.t.ppf(0.975, parts.sum(0) ** 2 / (parts**2 / freedom).sum(0)) * np.sqrt(parts.sum(0))
    raw = found.loc["J"]
    np.testing.assert_allclose(raw.M_low, max(0.0, raw.M - half[0]), rtol=1e-9)
    np.testing.assert_allclose(of_seeds.mean(axis=1), found.M)
    signed = found.loc["J_corrected"]  # which no bound cuts
    np.testing.assert_allclose([signed.M_low, signed.M_high], signed.M + half[1] * np.array([-1, 1]), rtol=1e-9)


def test_the_bootstrap_is_not_missing_by_chance():
    """8 of 100 images tell an order: some of 2,000 resamples have none of them in two of five runs."""
    tables = [drawn(np.random.default_rng(seed), 100) for seed in range(3)]
    for rows in tables:
        rows.loc[(rows.order == 30) & (rows.image >= 8), "mean_square"] = np.nan
    runs = {"a": tables, "b": [drawn(np.random.default_rng(9 + seed), 100) for seed in range(3)]}
    for seed in range(4):
        found = bootstrapped_differences(runs, [("a", "b")], seed=seed)
        assert np.isfinite(found[["boot_low", "boot_high"]]).all(axis=None)


def test_an_order_that_few_images_tell_has_no_interval_over_seeds_either():
    tables = [drawn(np.random.default_rng(seed), 20) for seed in range(3)]
    for rows in tables:
        rows.loc[(rows.order == 30) & (rows.image >= 3), "mean_square"] = np.nan
    runs = {"a": tables, "b": [drawn(np.random.default_rng(9 + seed), 20) for seed in range(3)]}
    masses = seeded_masses(runs).set_index(["run", "measure"])
    assert masses.loc[("a", "J_rms"), ["M_low", "M_high"]].isna().all() and masses.loc[("a", "J_rms"), "M"] > 0
    assert masses.drop(("a", "J_rms"))[["M_low", "M_high"]].notna().all(axis=None)
    found = seeded_differences(runs, [("a", "b")]).merge(bootstrapped_differences(runs, [("a", "b")]))
    ends = found.set_index("measure")[["low", "high", "p", "boot_low", "boot_high"]]
    assert ends.loc["J_rms"].isna().all() and ends.drop("J_rms").notna().all(axis=None)
