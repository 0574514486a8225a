"""Intervals over images: how far an estimate could be off, since other images might have been drawn.

Images are the independent units, and their strengths are skewed: over 8 to 32 of them a percentile bootstrap covers
the truth too rarely. So the bootstrap is studentised and symmetric (Hall 1988): each resample's deviation is counted in
its own standard errors, and the half width is the estimate's standard error times what 95 % of these deviations stay
below. Standard errors are those of the linearised statistic (infinitesimal jackknife), from each image's influence.

Squares that noise can make negative, and of which a root is taken, get theirs on the scale asinh(square / 4 standard
errors): linear near 0, where the root has no derivative and its own bootstrap covers far too rarely, and
logarithmic far above it, as skewed sizes ask for. What is made of several such roots, a mean or a difference, gets its
interval from theirs (Zou and Donner 2008).
"""

from collections.abc import Callable

import numpy as np

MIN_IMAGES = 8
"""Fewer images get no interval: what the largest of a handful contributes is anybody's guess."""
RESAMPLES = 2000
"""Of every interval, those by which a run to a precision ends included: what it reached is what its tables say."""
NO_INTERVAL = f"fewer than {MIN_IMAGES} images: no interval"
BLOCK_ELEMENTS = 20_000_000
LINEAR = 4.0
"""Squares below so many of their standard errors are taken as they are, and those above by their logarithm."""
ENDLESS = 20.0
"""Half width on that scale, a factor of e²⁰, from which on few images hold so much that the square has no upper end."""
LIFTED = 2.0
"""Standard errors: squares that are less above 0 are near it."""
ROUNDING = 1e-12
"""Deviations below this share of the estimate are those of float64."""

Statistic = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Image numbers R×I -> the statistic's values …×R, and each drawn image's influence on them …×R×I, whose mean is 0."""


def root_of(square: np.ndarray) -> np.ndarray:
    """The root of a square, which counts as 0 where noise made it negative."""
    return np.sqrt(np.clip(square, 0, None))


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
    ratio = np.where(np.isnan(ratio) & np.isfinite(estimate)[..., None], np.inf, ratio)
    own_error = standard_error(influence[..., 0, :])
    varies = own_error > ROUNDING * abs(estimate)
    # No number between two: where few images hold or tell all that there is, a resample without them has the ratio ∞.
    furthest = np.quantile(ratio, confidence, axis=-1, method="higher")
    return estimate, np.where(varies, furthest, 1) * own_error


def interval_of_mean(
    values_NV: np.ndarray, resamples: int, seed: int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Studentised bootstrap of the mean over N images (`interactions.intervals`), V values resampled together; NaN for
    fewer than eight.

    As products with how often each image was drawn, some resamples at a time: 50,000 images fit into memory.
    """
    count, mean_V = len(values_NV), values_NV.mean(0)
    if count < MIN_IMAGES:
        return np.full_like(mean_V, np.nan), np.full_like(mean_V, np.nan)
    generator, away_NV = np.random.default_rng(seed), values_NV - mean_V
    ratios = []
    for _ in range(0, resamples, 50):
        times_RN = generator.multinomial(count, np.full(count, 1 / count), size=50)
        deviation_RV = times_RN @ away_NV / count
        variance_RV = np.clip(times_RN @ away_NV**2 / count - deviation_RV**2, 0, None) / (count - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.where(deviation_RV == 0, 0, abs(deviation_RV) / np.sqrt(variance_RV)))
    furthest_V = np.quantile(np.concatenate(ratios)[:resamples], confidence, axis=0, method="higher")
    error_V = np.sqrt((away_NV**2).sum(0) / (count * (count - 1)))
    half_V = np.where(error_V > ROUNDING * abs(mean_V), furthest_V, 1) * error_V
    return mean_V - half_V, mean_V + half_V


def square_interval(
    statistic: Statistic, count: int, resamples: int, seed: int, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The estimates of squares over all `count` images, and the ends of their intervals, which can be negative; NaN
    below `MIN_IMAGES`."""
    values, influence = statistic(np.arange(count)[None])
    estimate = values[..., 0]
    if count < MIN_IMAGES:
        return estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    error = LINEAR * standard_error(influence[..., 0, :])
    scale = np.where(error > 0, error, 1.0)[..., None]

    def folded(index_RI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, influence = statistic(index_RI)
        return np.arcsinh(value / scale), influence / np.hypot(value, scale)[..., None]

    centre, half = studentised_interval(folded, count, resamples, seed, confidence)
    half = np.where(half > ENDLESS, np.inf, half)
    low, high = (np.sinh(centre + sign * half) * scale[..., 0] for sign in (-1, 1))
    return estimate, low, high


def lifted(square_M: np.ndarray, influence_MI: np.ndarray) -> np.ndarray:
    """Which squares are so near 0 that their roots are more likely too large than too small."""
    return square_M < LIFTED * standard_error(influence_MI)


def roots_interval(
    weights_M: np.ndarray, square_M: np.ndarray, low_M: np.ndarray, high_M: np.ndarray, influence_MI: np.ndarray
) -> tuple[float, float, float]:
    """Σ weight · root, and the ends of its interval from those of the squares (Zou and Donner 2008, "MOVER").

    To an end of the sum, each root adds the distance to its own end, as correlated as the squares are over the images.
    The roots of squares near 0 are all lifted, since a square below 0 counts as 0: they err to one side together, so
    that towards 0 their distances are added in full.

    Args:
        weights_M: of the roots, of either sign.
        square_M, low_M, high_M: the squares and the ends of their intervals.
        influence_MI: of each image on the squares.
    """
    root_M, low_M, high_M = map(root_of, (square_M, low_M, high_M))
    with np.errstate(invalid="ignore", divide="ignore"):  # a square that does not vary adds nothing
        correlation_MM = np.nan_to_num(np.corrcoef(influence_MI))
    lifted_M = lifted(square_M, influence_MI)
    value, up_M = float(weights_M @ root_M), weights_M > 0

    def reach(upwards_M: np.ndarray) -> float:
        distance_M = weights_M * np.where(upwards_M, high_M - root_M, root_M - low_M)
        if np.isinf(distance_M).any():
            return np.inf
        together_M = lifted_M & ~upwards_M
        of_all_MM = np.where(together_M[:, None] & together_M, 1.0, correlation_MM)
        return float(root_of(distance_M @ of_all_MM @ distance_M))

    return value, value - reach(~up_M), value + reach(up_M)
