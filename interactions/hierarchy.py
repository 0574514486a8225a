"""Middle mass of several training seeds: how far it is known for a method, not for one trained network.

A model trained from one seed is one draw of what its method makes. The intervals of `strength.py` hold for the trained
network as it is; those here also for another seed, as far as the seeds at hand can tell. Images and seeds are crossed:
every seed is measured on the same images. So the variance of the mean over both is that of the seeds, from how their
masses differ, plus that of the images, from how the mean over the seeds changes where one of them is left out (the
jackknife: M is no mean of images, and linearised its variance comes out too small where few images hold much of an
order); and since three seeds tell little about their own variance, the interval is Student's t with the degrees of
freedom that Satterthwaite's rule gives to such a sum.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pandas as pd
from scipy.stats import t as student

from interactions.intervals import RESAMPLES, Statistic
from interactions.masses import (
    MASS_MEASURES,
    Interval,
    few_tell,
    mass_interval,
    mass_statistic,
    refuse_other_orders,
    within_possible,
)

Seeds = Sequence[pd.DataFrame]
BLOCK = 200_000
"""Drawn images that are looked at together."""


def seeded_masses(
    runs: Mapping[str, Seeds], *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """M of every run, the mean over its seeds and over the images that all of its seeds share.

    Args:
        runs: of each run the tables of `image_row` rows (with image, order, ratio), one for each seed.
        resamples, seed: of the bootstrap, where there is a single seed.

    Returns:
        Columns run, measure, M, M_low, M_high, images, seeds. With one seed the interval speaks of images alone.

    Raises:
        ValueError: a run without seeds; seeds that share no image, or list other orders; no order in the middle.
    """
    rows = []
    for name, tables in runs.items():
        shared = _shared_images(name, tables)
        found = _interval(_of_images(tables, shared), [], resamples, seed, confidence)
        rows += _rows({"run": name}, "M", found, {"images": len(shared), "seeds": len(tables)})
    return pd.DataFrame(rows)


def seeded_differences(
    runs: Mapping[str, Seeds],
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """M of run a minus M of run b for each pair, over the images that all seeds of both share.

    Images are paired, and seeds are not: those of two methods have nothing in common. Where a run has one seed, the
    first of the other stands against it, and the interval speaks of images alone.

    Returns:
        Columns run_a, run_b, measure, difference, low, high, p, images, seeds (the fewer of the two). p: two-sided,
        against no difference, of the same t; NaN where either run has one seed, whose variance nothing tells.

    Raises:
        ValueError: as `seeded_masses`.
    """
    rows = []
    for a, b in pairs:
        shared = _shared_images(f"{a} and {b}", [*runs[a], *runs[b]])
        of_a, of_b = _as_many(*(_of_images(runs[name], shared) for name in (a, b)))
        found = _interval(of_a, of_b, resamples, seed, confidence)
        about = {"images": len(shared), "seeds": min(len(runs[a]), len(runs[b]))}
        p_K = _p_values(of_a, of_b)
        of_pair = _rows({"run_a": a, "run_b": b}, "difference", found, about)
        rows += [row | {"p": p} for row, p in zip(of_pair, p_K, strict=True)]
    columns = ["run_a", "run_b", "measure", "difference", "low", "high", "p", "images", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def bootstrapped_differences(
    runs: Mapping[str, Seeds],
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """The differences of `seeded_differences` with percentile intervals of a hierarchical bootstrap, to look at beside
    it: seeds are drawn with replacement for each run, and images for both together.

    A bootstrap of n seeds sees (n − 1)/n of their variance, and does not know how little three tell of it: over few
    seeds its intervals come out too narrow, which is why those of `seeded_differences` are the ones to go by.

    Returns:
        Columns run_a, run_b, measure, boot_low, boot_high; NaN where there are too few images for an interval.

    Raises:
        ValueError: as `seeded_masses`.
    """
    rows = []
    for a, b in pairs:
        shared = _shared_images(f"{a} and {b}", [*runs[a], *runs[b]])
        generator = np.random.default_rng(seed)
        index_RI = generator.integers(len(shared), size=(resamples, len(shared)))
        both = _as_many(*(_of_images(runs[name], shared) for name in (a, b)))
        drawn = [_drawn(tables, index_RI, generator) for tables in both]
        differences = drawn[0] - drawn[1]
        # A resample without any image that tells an order could have any M: it counts for both ends.
        unknown, tails = np.isnan(differences), ((-1, (1 - confidence) / 2), (1, (1 + confidence) / 2))
        with np.errstate(invalid="ignore"):  # where no resample tells
            ends = np.stack([np.quantile(np.where(unknown, sign * np.inf, differences), q, -1) for sign, q in tails])
        ends[:, _few_tell([*both[0], *both[1]])] = np.nan
        rows += [
            {"run_a": a, "run_b": b, "measure": measure, "boot_low": low, "boot_high": high}
            for measure, low, high in zip(MASS_MEASURES, *ends, strict=True)
        ]
    return pd.DataFrame(rows, columns=["run_a", "run_b", "measure", "boot_low", "boot_high"])


def _drawn(tables: Seeds, index_RI: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """K×R: the mean over as many seeds as there are, drawn anew for each resample of the images."""
    value_SKR = np.stack([_values(mass_statistic(table), index_RI) for table in tables])
    seed_RS = generator.integers(len(tables), size=(len(index_RI), len(tables)))
    value_KRS = np.moveaxis(value_SKR, 0, -1)
    return np.take_along_axis(value_KRS, np.broadcast_to(seed_RS, value_KRS.shape), -1).mean(-1)


def _shared_images(name: str, tables: Seeds) -> np.ndarray:
    if not tables:
        raise ValueError(f"{name} has no run: measure one seed at least")
    shared = reduce(np.intersect1d, [table.image.unique() for table in tables])
    if len(shared) == 0:
        raise ValueError(f"the runs of {name} share no image: measure them over the same images")
    refuse_other_orders(tables)
    return shared


def _as_many(first: Seeds, second: Seeds) -> tuple[Seeds, Seeds]:
    """The first seed of each where one run has no other: an interval over the seeds of the other alone would speak
    neither of images nor of seeds."""
    return (first[:1], second[:1]) if min(len(first), len(second)) == 1 else (first, second)


def _of_images(tables: Seeds, shared: np.ndarray) -> list[pd.DataFrame]:
    return [table[table.image.isin(shared)] for table in tables]


def _interval(first: Seeds, second: Seeds, resamples: int, seed: int, confidence: float) -> Interval:
    """Mean over the first run's seeds minus that over the second's (nothing, where it has none), with its ends."""
    if len(first) == 1 and len(second) <= 1:
        return mass_interval(*first, *second, resamples=resamples, seed=seed, confidence=confidence)
    estimate_K, variance_K, freedom_K = _spread(first, second)
    variance_K = np.where(_few_tell([*first, *second]), np.nan, variance_K)
    with np.errstate(invalid="ignore"):  # where nothing varies
        half_K = student.ppf((1 + confidence) / 2, freedom_K) * np.sqrt(variance_K)
    half_K = np.where(variance_K > 0, half_K, variance_K)  # 0, or missing
    return within_possible((estimate_K, estimate_K - half_K, estimate_K + half_K), first[0], *second[:1])


def _p_values(first: Seeds, second: Seeds) -> np.ndarray:
    """Two-sided, against no difference; NaN where it cannot be told."""
    if min(len(first), len(second)) < 2:
        return np.full(len(MASS_MEASURES), np.nan)
    estimate_K, variance_K, freedom_K = _spread(first, second)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_K = 2 * student.sf(abs(estimate_K) / np.sqrt(variance_K), freedom_K)
    return np.where(_few_tell([*first, *second]), np.nan, p_K)


def _few_tell(tables: Seeds) -> np.ndarray:
    """Of which measures too few images of any of the tables say something for an interval, K."""
    return np.any([few_tell(table) for table in tables], axis=0)


def _spread(first: Seeds, second: Seeds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first run's seeds minus that over the second's, its variance, and that one's degrees of freedom."""
    images = first[0].image.nunique()
    parts = [_of_seeds(tables, images) for tables in (first, second) if tables]
    values = [values_SK for values_SK, _ in parts]
    estimate_K = np.subtract.reduce([values_SK.mean(0) for values_SK in values])
    without_KI = np.subtract.reduce([without for _, without in parts])
    several = [values_SK for values_SK in values if len(values_SK) > 1]
    with np.errstate(invalid="ignore", divide="ignore"):  # one image, or nothing varies
        of_images_K = (images - 1) * without_KI.var(1)
        variance_VK = np.stack([of_images_K, *(values_SK.var(0, ddof=1) / len(values_SK) for values_SK in several)])
        freedom_V1 = np.array([[images - 1], *([len(values_SK) - 1] for values_SK in several)])
        variance_K = variance_VK.sum(0)
        return estimate_K, variance_K, variance_K**2 / (variance_VK**2 / freedom_V1).sum(0)


def _of_seeds(tables: Seeds, images: int) -> tuple[np.ndarray, np.ndarray]:
    """M of each seed, S×K, and their mean without each of the images, K×I."""
    statistics = [mass_statistic(table) for table in tables]
    value_SK = np.stack([_values(each, np.arange(images)[None])[:, 0] for each in statistics])
    if images == 1:
        return value_SK, np.full((value_SK.shape[1], 1), np.nan)
    others_II = np.array([np.delete(np.arange(images), left_out) for left_out in range(images)])
    return value_SK, np.mean([_values(each, others_II) for each in statistics], axis=0)


def _values(statistic: Statistic, index_RI: np.ndarray) -> np.ndarray:
    """A statistic of each drawing of images, K×R, so many drawings at a time as memory bears."""
    step = max(1, BLOCK // index_RI.shape[1])
    blocks = [index_RI[first : first + step] for first in range(0, len(index_RI), step)]
    return np.concatenate([statistic(block)[0] for block in blocks], -1)


def _rows(who: Mapping[str, str], value: str, found: Interval, about: Mapping[str, int]) -> list[dict[str, object]]:
    names = (value, "low", "high") if value == "difference" else (value, f"{value}_low", f"{value}_high")
    return [
        {**who, "measure": measure, **dict(zip(names, ends, strict=True)), **about}
        for measure, *ends in zip(MASS_MEASURES, *found, strict=True)
    ]
