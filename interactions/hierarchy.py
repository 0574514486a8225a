"""Middle mass of several training seeds: images and seeds resampled together, and differences paired by image.

A model trained from one seed is one draw of what its method makes. The intervals of `strength.py` hold for the trained
network as it is; those here also for another seed, as far as the seeds at hand can tell: a bootstrap of two levels,
which draws seeds with replacement and, in each resample, the same images for every seed and every run.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pandas as pd

from interactions.strength import MASS_MEASURES, masses_of_resamples

Seeds = Sequence[pd.DataFrame]


def seeded_masses(
    runs: Mapping[str, Seeds], *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """M of every run, the mean over its seeds and over the images that all of its seeds share.

    Args:
        runs: of each run the tables of `image_row` rows (with image, order, ratio), one for each seed.

    Returns:
        Columns run, measure, M, M_low, M_high, images, seeds. With one seed the interval speaks of images alone.

    Raises:
        ValueError: a run without seeds; seeds that share no image; no order in the middle.
    """
    rows = []
    for name, tables in runs.items():
        shared = _shared_images(name, tables)
        masses_KR = _resampled(tables, shared, *_draws(len(shared), [len(tables)], resamples, seed))
        rows += _rows({"run": name}, "M", masses_KR, confidence, {"images": len(shared), "seeds": len(tables)})
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

    A resample draws the images once for both runs, and the seeds of each run for itself, since seeds of two methods
    have nothing in common.

    Returns:
        Columns run_a, run_b, measure, difference, low, high, images, seeds (the fewer of the two).

    Raises:
        ValueError: as `seeded_masses`.
    """
    rows = []
    for a, b in pairs:
        shared = _shared_images(f"{a} and {b}", [*runs[a], *runs[b]])
        count = [len(runs[a]), len(runs[b])]
        image_RI, seeds_a, seeds_b = _draws(len(shared), count, resamples, seed)
        difference_KR = _resampled(runs[a], shared, image_RI, seeds_a) - _resampled(runs[b], shared, image_RI, seeds_b)
        about = {"images": len(shared), "seeds": min(count)}
        rows += _rows({"run_a": a, "run_b": b}, "difference", difference_KR, confidence, about)
    return pd.DataFrame(rows)


def _shared_images(name: str, tables: Seeds) -> np.ndarray:
    if not tables:
        raise ValueError(f"{name} has no run: measure one seed at least")
    shared = reduce(np.intersect1d, [table.image.unique() for table in tables])
    if len(shared) == 0:
        raise ValueError(f"the runs of {name} share no image: measure them over the same images")
    return shared


def _draws(images: int, seeds: Sequence[int], resamples: int, seed: int) -> list[np.ndarray]:
    """Image numbers (R+1)×I and, of each run, seed numbers (R+1)×S; row 0 is the sample itself."""
    rng = np.random.default_rng(seed)
    return [np.vstack([np.arange(count), rng.integers(count, size=(resamples, count))]) for count in (images, *seeds)]


def _resampled(tables: Seeds, shared: np.ndarray, image_RI: np.ndarray, seed_RS: np.ndarray) -> np.ndarray:
    """Each measure of M averaged over the drawn seeds, K×(R+1)."""
    parts = [table[table.image.isin(shared)] for table in tables]
    masses_SKR = np.stack([masses_of_resamples(part, image_RI) for part in parts])
    drawn_KRS = np.take_along_axis(masses_SKR.transpose(1, 2, 0), seed_RS[None], axis=2)
    return drawn_KRS.mean(2)


def _rows(
    who: Mapping[str, str], value: str, drawn_KR: np.ndarray, confidence: float, about: Mapping[str, int]
) -> list[dict[str, object]]:
    low, high = ("low", "high") if value == "difference" else (f"{value}_low", f"{value}_high")
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows: list[dict[str, object]] = []
    for measure, drawn_R in zip(MASS_MEASURES, drawn_KR, strict=True):
        known_R = drawn_R[1:][np.isfinite(drawn_R[1:])]
        varied = len(known_R) and (about["images"] > 1 or about["seeds"] > 1)
        bounds = np.quantile(known_R, tails) if varied else (np.nan, np.nan)
        rows.append({**who, "measure": measure, value: drawn_R[0], low: bounds[0], high: bounds[1], **about})
    return rows
