"""From interactions of single images to the strength of a model: A(m), J(m), corrected and noise-free, with intervals.

Four measures, none a substitute for another (estimators.md, "noise-free strength"):

    A, J             as published: the mean of |Î| over images and pairs; sampling noise lifts it.
    A_corrected,     the mean of |I| with the noise taken out. With Î₁, Î₂ the independent halves of a pair, the half
      J_corrected    difference (Î₁−Î₂)/2 is noise of the same size as that in the half sum (Î₁+Î₂)/2, so that for
                     normally distributed I and noise A² = (mean |half sum|)² − (mean |half difference|)², image by
                     image; a negative difference keeps its sign under the root, so that no image is clipped upward.
    mean_square      mean of Î₁·Î₂ over pairs and halvings: an unbiased estimate of E[I²], negative where noise rules;
                     never clipped.
    rms, J_rms       its square root, missing where the mean is not positive.

J divides by the unweighted mean over the listed orders, so it depends on the list. Images are the independent units:
every interval is a bootstrap over images.
"""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import DegenerateDataWarning, bootstrap

from interactions.estimators.sample import Interactions

MEASURES = ("A", "J", "A_corrected", "J_corrected", "mean_square", "rms", "J_rms")
MASS_MEASURES = ("J", "J_corrected", "J_rms")
MIDDLE = (0.3, 0.7)
FLOOR_FACTOR = 10
"""An order whose strength is below so many times the numerical floor is flagged."""

ROW_COLUMNS = ("mean_abs", "mean_abs_sum", "mean_abs_difference", "mean_square")


def image_row(interactions: Interactions) -> dict[str, float]:
    """One image at one order, averaged over its measured pairs, equally weighted; NaN where nothing can be said.

    Returns:
        pairs: how many pairs were measured. mean_abs: of |Î|, as published. mean_abs_sum and mean_abs_difference: of
        |Î₁ ± Î₂|/2 over the pairs that have both halves in some halving. mean_square: of Î₁·Î₂ over the same.
    """
    measured_P = interactions.mean.isfinite()
    first_SP, second_SP = interactions.halvings.unbind(1)
    moments = {
        "mean_abs_sum": (first_SP + second_SP).abs() / 2,
        "mean_abs_difference": (first_SP - second_SP).abs() / 2,
        "mean_square": first_SP * second_SP,
    }
    # A pair counts once, however many of the halvings leave it a draw in each half.
    over_pairs = {name: float(values_SP.nanmean(0).nanmean()) for name, values_SP in moments.items()}
    return {"pairs": int(measured_P.sum()), "mean_abs": float(interactions.mean[measured_P].abs().mean()), **over_pairs}


def corrected_abs(mean_abs_sum: np.ndarray, mean_abs_difference: np.ndarray) -> np.ndarray:
    """A_corrected of single images: the signed root of (mean |half sum|)² − (mean |half difference|)²."""
    square = np.asarray(mean_abs_sum) ** 2 - np.asarray(mean_abs_difference) ** 2
    return np.sign(square) * np.sqrt(np.abs(square))


def strength_table(
    images: pd.DataFrame,
    *,
    resamples: int = 2000,
    seed: int = 0,
    floors: Mapping[int, float] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """One row per order: every measure with its bootstrap interval over images (`X`, `X_low`, `X_high`).

    Args:
        images: rows of `image_row` with the columns image, order and ratio; every image at every order.
        floors: numerical floor of Δv per order, in units of v.

    Raises:
        ValueError: no rows, or images that lack orders.
    """
    moments = _moments(images)
    orders = moments["mean_abs"].columns
    low, high = bootstrap_interval(
        lambda index: _measures(moments, index), len(moments["mean_abs"]), resamples, seed, confidence
    )
    estimate = _measures(moments, np.arange(len(moments["mean_abs"]))[None])[:, 0]
    columns: dict[str, object] = {
        "order": orders,
        "ratio": images.groupby("order").ratio.first().loc[orders].to_numpy(),
    }
    columns["images"] = len(moments["mean_abs"])
    columns["pairs"] = images.groupby("order").pairs.mean().loc[orders].to_numpy()
    columns["floor"] = [(floors or {}).get(int(order), np.nan) for order in orders]
    for row, name in enumerate(MEASURES):
        columns |= {name: estimate[row], f"{name}_low": low[row], f"{name}_high": high[row]}
    table = pd.DataFrame(columns)
    negative = table.mean_square <= 0
    table.loc[negative, ["rms", "J_rms"]] = np.nan
    table["rms_note"] = np.where(negative, "mean square is not positive: the noise exceeds the signal", "")
    table.loc[table.mean_square.isna(), "rms_note"] = "no pair has two independent halves: spend more passes"
    table["near_floor"] = table.rms.fillna(table.A) < FLOOR_FACTOR * table.floor
    return table


def middle_mass(
    images: pd.DataFrame, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """M = mean of J over the listed ratios 0.3 to 0.7, of each kind of J: columns measure, M, M_low, M_high, images.

    Raises:
        ValueError: no listed ratio between 0.3 and 0.7.
    """
    moments = _moments(images)
    count, middle_M = len(moments["mean_abs"]), _middle(images)
    low, high = bootstrap_interval(lambda index: _masses(moments, middle_M, index), count, resamples, seed, confidence)
    estimate = _masses(moments, middle_M, np.arange(count)[None])[:, 0]
    return pd.DataFrame({"measure": MASS_MEASURES, "M": estimate, "M_low": low, "M_high": high, "images": count})


def paired_mass(
    runs: Mapping[str, pd.DataFrame], *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> pd.DataFrame:
    """Differences of M between every two runs over the images that they share, resampled together.

    Returns:
        Columns run_a, run_b, measure, difference (M of a − M of b), low, high, images.

    Raises:
        ValueError: two runs that share no image.
    """
    rows, names = [], list(runs)
    for position, a in enumerate(names):
        for b in names[position + 1 :]:
            shared = np.intersect1d(runs[a].image, runs[b].image)
            if len(shared) == 0:
                raise ValueError(f"the runs {a} and {b} share no image: compare runs over the same images")
            rows += _paired_rows(a, runs[a], b, runs[b], shared, resamples, seed, confidence)
    return pd.DataFrame(rows, columns=["run_a", "run_b", "measure", "difference", "low", "high", "images"])


def masses_of_resamples(images: pd.DataFrame, index_RI: np.ndarray) -> np.ndarray:
    """M of each of MASS_MEASURES over R resamples of the images, which index_RI names by their place in ascending
    order: len(MASS_MEASURES)×R."""
    return _masses(_moments(images), _middle(images), index_RI)


def _paired_rows(
    a: str,
    images_a: pd.DataFrame,
    b: str,
    images_b: pd.DataFrame,
    shared: np.ndarray,
    resamples: int,
    seed: int,
    confidence: float,
) -> list[tuple[object, ...]]:
    parts = [part[part.image.isin(shared)] for part in (images_a, images_b)]
    (moments_a, moments_b), (middle_a, middle_b) = [_moments(part) for part in parts], [_middle(part) for part in parts]

    def difference(index_RI: np.ndarray) -> np.ndarray:
        return _masses(moments_a, middle_a, index_RI) - _masses(moments_b, middle_b, index_RI)

    low, high = bootstrap_interval(difference, len(shared), resamples, seed, confidence)
    estimate = difference(np.arange(len(shared))[None])[:, 0]
    return [(a, b, name, estimate[k], low[k], high[k], len(shared)) for k, name in enumerate(MASS_MEASURES)]


def _moments(images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each column of `image_row` as a table images × orders, both ascending."""
    if len(images) == 0:
        raise ValueError("no image was measured: there is no strength to report")
    moments = {name: images.pivot(index="image", columns="order", values=name) for name in ROW_COLUMNS}
    counts, orders = images.groupby("image").order.nunique(), images.order.nunique()
    if counts.min() < orders:
        raise ValueError(f"image {counts.idxmin()} was measured at {counts.min()} of {orders} orders")
    return moments


def _middle(images: pd.DataFrame) -> np.ndarray:
    ratio_M = images.groupby("order").ratio.first().to_numpy()
    middle_M = (ratio_M > MIDDLE[0] - 1e-6) & (ratio_M < MIDDLE[1] + 1e-6)
    if not middle_M.any():
        raise ValueError(f"no listed order lies between {MIDDLE[0]} and {MIDDLE[1]} of n − 2: there is no middle mass")
    return middle_M


def _measures(moments: Mapping[str, pd.DataFrame], index_RI: np.ndarray) -> np.ndarray:
    """Every measure of R resamples of the images, len(MEASURES)×R×M. NaN of single images is left out of means."""
    arrays = {name: table.to_numpy() for name, table in moments.items()}
    arrays["corrected"] = corrected_abs(arrays["mean_abs_sum"], arrays["mean_abs_difference"])
    raw, corrected, square = (
        _mean(arrays[name][index_RI], axis=1) for name in ("mean_abs", "corrected", "mean_square")
    )
    rms = np.sqrt(np.clip(square, 0, None))  # of the grand mean; a resample without signal counts as 0
    with np.errstate(invalid="ignore", divide="ignore"):  # all orders may be 0
        relative = [values / _mean(values, axis=1)[:, None] for values in (raw, corrected, rms)]
    return np.stack([raw, relative[0], corrected, relative[1], square, rms, relative[2]])


def _masses(moments: Mapping[str, pd.DataFrame], middle_M: np.ndarray, index_RI: np.ndarray) -> np.ndarray:
    """M of each kind of J for R resamples, len(MASS_MEASURES)×R."""
    rows = [MEASURES.index(name) for name in MASS_MEASURES]
    return _mean(_measures(moments, index_RI)[rows][:, :, middle_M], axis=2)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean without NaN; NaN where nothing is left."""
    present = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(present, values, 0).sum(axis) / present.sum(axis)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray], count: int, resamples: int, seed: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap over `count` images of a statistic of image numbers R×count; NaN for a single image."""
    if count < 2:
        unknown = np.full_like(statistic(np.zeros((1, 1), dtype=int))[:, 0], np.nan)
        return unknown, unknown

    def along(index: np.ndarray, axis: int) -> np.ndarray:
        values = statistic(np.atleast_2d(index).astype(int))
        return np.moveaxis(values, 1, -1) if np.ndim(index) > 1 else values[:, 0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # where a measure is missing, so is its interval
        result = bootstrap(
            (np.arange(count),),
            along,
            n_resamples=resamples,
            batch=256,
            confidence_level=confidence,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
    return np.asarray(result.confidence_interval.low), np.asarray(result.confidence_interval.high)
