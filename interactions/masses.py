"""Middle mass of a model, and of two models of the same images: M, the mean of J over the order ratios 0.3 to 0.7.

M is smooth in the images and gets the studentised interval. M of J_rms is a mean of roots: where noise rules one of
their squares, its interval comes from those of the squares (`roots_interval`). No interval goes beyond what M can be: J
is at least 0 and has the mean 1 over the orders.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from interactions.intervals import (
    MIN_IMAGES,
    RESAMPLES,
    Statistic,
    lifted,
    roots_interval,
    square_interval,
    studentised_interval,
)
from interactions.strength import (
    COLUMN_OF,
    MEASURES,
    SIGNED,
    known_mean,
    measure_statistic,
    square_statistic,
    telling_images,
)

MASS_MEASURES = ("J", "J_corrected", "J_rms")
MIDDLE = (0.3, 0.7)

Drawing = tuple[int, int, float]
"""Resamples, seed and confidence of a bootstrap."""
Interval = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The estimate of each of MASS_MEASURES, and the ends of its interval, NaN below eight images."""


def middle_mass(
    images: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """M = mean of J over the listed ratios 0.3 to 0.7, of each kind of J: columns measure, M, M_low, M_high, images.

    Raises:
        ValueError: no listed ratio between 0.3 and 0.7.
    """
    estimate, low, high = mass_interval(images, resamples=resamples, seed=seed, confidence=confidence)
    about = {"measure": MASS_MEASURES, "M": estimate, "M_low": low, "M_high": high}
    return pd.DataFrame({**about, "images": images.image.nunique()})


def paired_mass(
    runs: Mapping[str, pd.DataFrame], *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """Differences of M between every two runs over the images that they share, resampled together.

    Returns:
        Columns run_a, run_b, measure, difference (M of a − M of b), low, high, images.

    Raises:
        ValueError: two runs that share no image; runs of other orders.
    """
    rows, names = [], list(runs)
    for position, a in enumerate(names):
        for b in names[position + 1 :]:
            shared = np.intersect1d(runs[a].image, runs[b].image)
            if len(shared) == 0:
                raise ValueError(f"the runs {a} and {b} share no image: compare runs over the same images")
            parts = [runs[name][runs[name].image.isin(shared)] for name in (a, b)]
            found = mass_interval(*parts, resamples=resamples, seed=seed, confidence=confidence)
            rows += [(a, b, *each, len(shared)) for each in zip(MASS_MEASURES, *found, strict=True)]
    return pd.DataFrame(rows, columns=["run_a", "run_b", "measure", "difference", "low", "high", "images"])


def mass_interval(
    images: pd.DataFrame,
    minus: pd.DataFrame | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """M of one run, or the difference to that of another one.

    Raises:
        ValueError: runs over other images or orders; as `mass_statistic`.
    """
    tables = [images] if minus is None else [images, minus]
    if any(set(table.image) != set(images.image) for table in tables):
        raise ValueError("the two runs hold other images: compare them over those that both hold")
    refuse_other_orders(tables)
    count, drawing = images.image.nunique(), (resamples, seed, confidence)
    statistics = [mass_statistic(table) for table in tables]
    statistic = statistics[0] if minus is None else difference_of(*statistics)
    estimate, half = studentised_interval(statistic, count, *drawing)
    few_K = np.any([few_tell(table) for table in tables], axis=0)
    low, high = estimate - half, estimate + half
    row = MASS_MEASURES.index("J_rms")
    if count >= MIN_IMAGES and np.isfinite(estimate[row]):
        low[row], high[row] = _ends_of_roots(tables, count, drawing) or (low[row], high[row])
    low, high = (np.where(few_K, np.nan, end) for end in (low, high))
    return within_possible((estimate, low, high), *tables)


def refuse_other_orders(tables: Sequence[pd.DataFrame]) -> None:
    """Raise ValueError where tables list other orders: J is relative to the mean over the list, so that M of one and of
    another are other numbers."""
    first, *others = [sorted(table.ratio.unique()) for table in tables]
    if other := next((ratios for ratios in others if ratios != first), None):
        words = " and ".join(", ".join(f"{ratio:g}" for ratio in ratios) for ratios in (first, other))
        raise ValueError(
            f"the runs list other orders (ratios {words}), and J is relative to the mean over those that are listed: "
            "keep the same ones of each"
        )


def few_tell(images: pd.DataFrame) -> np.ndarray:
    """Of which of MASS_MEASURES a middle order says something in too few images for an interval, K."""
    middle_M = middle_orders(images)
    telling = [telling_images(images, COLUMN_OF[name])[middle_M].min() for name in MASS_MEASURES]
    return np.array(telling) < MIN_IMAGES


def within_possible(found: Interval, images: pd.DataFrame, minus: pd.DataFrame | None = None) -> Interval:
    """An interval of M of one run, or of a difference to that of another one, cut to what it can be."""
    estimate, low, high = found
    least = np.where(np.isin(MASS_MEASURES, SIGNED), -np.inf, 0.0) if minus is None else -largest_mass(minus)
    return estimate, np.maximum(low, least), np.minimum(high, largest_mass(images))


def largest_mass(images: pd.DataFrame) -> np.ndarray:
    """What M of each of MASS_MEASURES can be at most, K: with all of J at its orders. Infinite for one whose J may be
    negative elsewhere."""
    count, rows = images.image.nunique(), [MEASURES.index(name) for name in MASS_MEASURES]
    value, _ = measure_statistic(images)(np.arange(count)[None])
    known_K = np.isfinite(value[rows][:, middle_orders(images), 0]).sum(1)
    return np.where(np.isin(MASS_MEASURES, SIGNED), np.inf, images.order.nunique() / np.clip(known_K, 1, None))


def _ends_of_roots(tables: Sequence[pd.DataFrame], count: int, drawing: Drawing) -> tuple[float, float] | None:
    """Of M of J_rms of one run, or of its difference to that of a second one; None where no square is near 0."""
    squares, weights, near = [], [], False
    for sign, table in zip((1, -1)[: len(tables)], tables, strict=True):
        statistic, middle_M = square_statistic(table), middle_orders(table)
        value, influence = (each[1, middle_M, 0] for each in statistic(np.arange(count)[None]))
        known_M = np.isfinite(value)
        near |= bool(lifted(value[known_M], influence[known_M]).any())
        squares.append((statistic, np.flatnonzero(middle_M)[known_M], influence[known_M]))
        weights.append(np.full(known_M.sum(), sign / known_M.sum()))
    if not near:  # looked at before the bootstrap, which is the dear part
        return None
    ends = [[each[1, rows] for each in square_interval(statistic, count, *drawing)] for statistic, rows, _ in squares]
    square_M, low_M, high_M = map(np.concatenate, zip(*ends, strict=True))
    influence_MI = np.concatenate([influence for *_, influence in squares])
    _, low, high = roots_interval(np.concatenate(weights), square_M, low_M, high_M, influence_MI)
    return low, high


def mass_statistic(images: pd.DataFrame) -> Statistic:
    """M of each of MASS_MEASURES, K×R, as a function of the images drawn, which are named by their place in ascending
    order.

    Raises:
        ValueError: no rows, images that lack orders, no listed ratio between 0.3 and 0.7.
    """
    measures, middle_M = measure_statistic(images), middle_orders(images)
    rows = [MEASURES.index(name) for name in MASS_MEASURES]

    def masses(index_RI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, influence = measures(index_RI)
        return known_mean(value[rows][:, middle_M], 1), known_mean(influence[rows][:, middle_M], 1)

    return masses


def difference_of(a: Statistic, b: Statistic) -> Statistic:
    """a − b over the same images."""

    def difference(index_RI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (value_a, influence_a), (value_b, influence_b) = a(index_RI), b(index_RI)
        return value_a - value_b, influence_a - influence_b

    return difference


def in_middle(ratio: float) -> bool:
    """Whether M counts an order, by the ratio that it was asked by."""
    return MIDDLE[0] - 1e-6 < ratio < MIDDLE[1] + 1e-6


def middle_orders(images: pd.DataFrame) -> np.ndarray:
    """Which of the orders, ascending, M is the mean over; ValueError where none is."""
    ratio_M = images.groupby("order").ratio.first().to_numpy()
    middle_M = np.array([in_middle(ratio) for ratio in ratio_M])
    if not middle_M.any():
        raise ValueError(f"no listed order lies between {MIDDLE[0]} and {MIDDLE[1]} of n − 2: there is no middle mass")
    return middle_M
