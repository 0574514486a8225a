"""Intervals over images: how far an estimate could be off, since other images might have been drawn.

Images are the independent units, and their strengths are skewed: over 8 to 32 of them a percentile bootstrap covers
the truth too rarely. So the bootstrap is studentised and symmetric (Hall 1988): each resample's deviation is counted in
its own standard errors, and the half width is the estimate's standard error times what 95 % of these deviations stay
below. Standard errors are those of the linearised statistic (infinitesimal jackknife), from each image's influence.
"""

from collections.abc import Callable

import numpy as np

MIN_IMAGES = 8
"""Fewer images get no interval: what the largest of a handful contributes is anybody's guess."""
NO_INTERVAL = f"fewer than {MIN_IMAGES} images: no interval"
BLOCK_ELEMENTS = 20_000_000
ROUNDING = 1e-12
"""Deviations below this share of the estimate are those of float64."""

Statistic = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Image numbers R×I -> the statistic's values …×R, and each drawn image's influence on them …×R×I, whose mean is 0."""


def standard_error(influence: np.ndarray) -> np.ndarray:
    """Standard error of a statistic from the influence of its images (last axis)."""
    count = influence.shape[-1]
    return np.sqrt((influence**2).sum(-1) / (count * (count - 1)))


def studentised_interval(
    statistic: Statistic, count: int, resamples: int, seed: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The estimate over all `count` images, and the half width of its interval; NaN below `MIN_IMAGES`.

    The half width is NaN where the statistic is missing, too.
    """
    values, influence = statistic(np.arange(count)[None])
    estimate = values[..., 0]
    if count < MIN_IMAGES:
        return estimate, np.full_like(estimate, np.nan)
    index_RI = np.random.default_rng(seed).integers(count, size=(resamples, count))
    rows = max(1, BLOCK_ELEMENTS // max(1, influence.size))
    blocks = [statistic(index_RI[first : first + rows]) for first in range(0, resamples, rows)]
    deviation = np.concatenate([abs(block - estimate[..., None]) for block, _ in blocks], -1)
    error = np.concatenate([standard_error(block) for _, block in blocks], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(deviation <= ROUNDING * abs(estimate[..., None]), 0, deviation / error)
    own_error = standard_error(influence[..., 0, :])
    varies = own_error > ROUNDING * abs(estimate)
    return estimate, np.where(varies, np.quantile(ratio, confidence, axis=-1), 1) * own_error
