"""Middle mass of several training seeds: how far it is known for a method, not for one trained network.

A model trained from one seed is one draw of what its method makes. The intervals of `strength.py` hold for the trained
network as it is; those here also for another seed, as far as the seeds at hand can tell. Images and seeds are crossed:
every seed is measured on the same images. So the variance of the mean over both is that of the seeds, from how their
masses differ, plus that of the images, from their influence on the mean over the seeds; and since three seeds tell
little about their own variance, the interval is Student's t with the degrees of freedom that Satterthwaite's rule gives
to such a sum.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pandas as pd
from scipy.stats import t as student

from interactions.intervals import MIN_IMAGES, Statistic, standard_error, studentised_interval
from interactions.strength import MASS_MEASURES, difference_of, mass_statistic

Seeds = Sequence[pd.DataFrame]


def seeded_masses(
    runs: Mapping[str, Seeds], *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """M of every run, the mean over its seeds and over the images that all of its seeds share.

    Args:
        runs: of each run the tables of `image_row` rows (with image, order, ratio), one for each seed.
        resamples, seed: of the bootstrap, where there is a single seed.

    Returns:
        Columns run, measure, M, M_low, M_high, images, seeds. With one seed the interval speaks of images alone.

    Raises:
        ValueError: a run without seeds; seeds that share no image; no order in the middle.
    """
    rows = []
    for name, tables in runs.items():
        shared = _shared_images(name, tables)
        of_seeds = _statistics(tables, shared)
        found = _interval(of_seeds, [], len(shared), resamples, seed, confidence)
        rows += _rows({"run": name}, "M", found, {"images": len(shared), "seeds": len(tables)})
    return pd.DataFrame(rows)


def seeded_differences(
    runs: Mapping[str, Seeds],
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """M of run a minus M of run b for each pair, over the images that all seeds of both share.

    Images are paired, and seeds are not: those of two methods have nothing in common.

    Returns:
        Columns run_a, run_b, measure, difference, low, high, images, seeds (the fewer of the two).

    Raises:
        ValueError: as `seeded_masses`.
    """
    rows = []
    for a, b in pairs:
        shared = _shared_images(f"{a} and {b}", [*runs[a], *runs[b]])
        of_a, of_b = (_statistics(runs[name], shared) for name in (a, b))
        found = _interval(of_a, of_b, len(shared), resamples, seed, confidence)
        about = {"images": len(shared), "seeds": min(len(runs[a]), len(runs[b]))}
        rows += _rows({"run_a": a, "run_b": b}, "difference", found, about)
    return pd.DataFrame(rows)


def _shared_images(name: str, tables: Seeds) -> np.ndarray:
    if not tables:
        raise ValueError(f"{name} has no run: measure one seed at least")
    shared = reduce(np.intersect1d, [table.image.unique() for table in tables])
    if len(shared) == 0:
        raise ValueError(f"the runs of {name} share no image: measure them over the same images")
    return shared


def _statistics(tables: Seeds, shared: np.ndarray) -> list[Statistic]:
    return [mass_statistic(table[table.image.isin(shared)]) for table in tables]


def _interval(
    first: Sequence[Statistic], second: Sequence[Statistic], images: int, resamples: int, seed: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first run's seeds minus that over the second's (nothing, where it has none), and its half width."""
    if len(first) == 1 and len(second) <= 1:
        statistic = difference_of(first[0], second[0]) if second else first[0]
        return studentised_interval(statistic, images, resamples, seed, confidence)
    parts = [_of_seeds(statistics, images) for statistics in (first, second) if statistics]
    values = [values_SK for values_SK, _ in parts]
    estimate_K = np.subtract.reduce([values_SK.mean(0) for values_SK in values])
    if images < MIN_IMAGES:
        return estimate_K, np.full_like(estimate_K, np.nan)
    influence_KI = np.subtract.reduce([influence for _, influence in parts])
    several = [values_SK for values_SK in values if len(values_SK) > 1]
    variance_VK = np.stack(
        [standard_error(influence_KI) ** 2, *(values_SK.var(0, ddof=1) / len(values_SK) for values_SK in several)]
    )
    freedom_V1 = np.array([[images - 1], *([len(values_SK) - 1] for values_SK in several)])
    variance_K = variance_VK.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing varies
        freedom_K = variance_K**2 / (variance_VK**2 / freedom_V1).sum(0)
        half_K = student.ppf((1 + confidence) / 2, freedom_K) * np.sqrt(variance_K)
    return estimate_K, np.where(variance_K > 0, half_K, variance_K)


def _of_seeds(statistics: Sequence[Statistic], images: int) -> tuple[np.ndarray, np.ndarray]:
    """M of each seed, S×K, and each image's influence on their mean, K×I."""
    found = [statistic(np.arange(images)[None]) for statistic in statistics]
    return np.stack([value[:, 0] for value, _ in found]), np.mean([influence[:, 0] for _, influence in found], axis=0)


def _rows(
    who: Mapping[str, str], value: str, found: tuple[np.ndarray, np.ndarray], about: Mapping[str, int]
) -> list[dict[str, object]]:
    low, high = ("low", "high") if value == "difference" else (f"{value}_low", f"{value}_high")
    return [
        {**who, "measure": measure, value: estimate, low: estimate - half, high: estimate + half, **about}
        for measure, estimate, half in zip(MASS_MEASURES, *found, strict=True)
    ]
