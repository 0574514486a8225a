"""From interactions of single images to the strength of a model: A(m), J(m), corrected and noise-free, with intervals.

Four measures, none a substitute for another:

    A, J             as published: the mean of |Î| over images and pairs; sampling noise lifts it.
    A_corrected,     the mean of |I| with the noise taken out. With Î₁, Î₂ the independent halves of a pair, the half
      J_corrected    difference (Î₁−Î₂)/2 is noise of the same size as that in the half sum (Î₁+Î₂)/2, so that for
                     normally distributed I and noise A² = (mean |half sum|)² − (mean |half difference|)², image by
                     image; a negative difference keeps its sign under the root, so that no image is clipped upward.
    mean_square      mean of Î₁·Î₂ over pairs and halvings: an unbiased estimate of E[I²], negative where noise rules;
                     never clipped.
    rms, J_rms       its square root, missing where the mean is not positive.

J divides by the unweighted mean over the listed orders, so it depends on the list. Images are the independent units:
every interval is one over images (`interactions.intervals`), and below eight images there is none.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interactions.estimators.sample import Interactions
from interactions.intervals import (
    MIN_IMAGES,
    NO_INTERVAL,
    RESAMPLES,
    Statistic,
    root_of,
    square_interval,
    standard_error,
    studentised_interval,
)

MEASURES = ("A", "J", "A_corrected", "J_corrected", "mean_square", "rms", "J_rms")
SIGNED = ("A_corrected", "J_corrected", "mean_square")
"""Measures that noise can make negative; the others are not, and neither are their intervals."""
RELATIVE = ("J", "J_rms")
"""Measures that are never negative and 1 on average: at most as much as there are orders."""
SQUARED = ("mean_square", "rms", "J_rms")
"""Measures whose intervals are those of squares (`intervals.square_interval`), or the roots of their ends."""
FLOOR_FACTOR = 10
"""An order whose strength is below so many times the numerical floor is flagged."""

SPREAD = {6: 5 / 3, 7: 8 / 7}
"""What the variance between halvings is multiplied by for the noise of their mean, by how many have two sides. With g
the noise of a product of two parts and all eight parts there, the mean has that of all 28 products, g/28, and the seven
halvings, each of 16 products and sharing them, differ by g/32. Of four parts six halvings have two sides, with g/6 and
g/10; of three with g/3 and g/5."""
COLUMN_OF = {
    **dict.fromkeys(("A", "J"), "mean_abs"),
    **dict.fromkeys(("A_corrected", "J_corrected"), "mean_abs_sum"),
    **dict.fromkeys(SQUARED, "mean_square"),
}
"""Of `image_row`, what a measure is made of."""
ROW_COLUMNS = ("mean_abs", "mean_abs_sum", "mean_abs_difference", "mean_square")


def image_row(interactions: Interactions) -> dict[str, float]:
    """One image at one order, averaged over its measured pairs, equally weighted; NaN where nothing can be said.

    Returns:
        pairs: how many pairs were measured. mean_abs: of |Î|, as published. mean_abs_sum and mean_abs_difference: of
        |Î₁ ± Î₂|/2 over the pairs that have both halves in some halving. mean_square: of Î₁·Î₂ over the same.
        square_spread: the part of mean_square's sampling variance that is of products of two noisy halves, from how
        much the halvings differ; 0 where exact, NaN where two draws a pair do not tell. pair_variance: all of that
        sampling variance where some of the pairs were measured, from how these differ; NaN where all were, or one.
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
    square_P = moments["mean_square"].nanmean(0)
    # Each pair against its own mean: which pairs lack a half is another in every halving, and no noise.
    spread = spread_of((moments["mean_square"] - square_P).nanmean(1))
    noise = max(spread + single_noise(square_P, (first_SP - second_SP) / 2), 0.0)
    return {
        "pairs": int(measured_P.sum()),
        "mean_abs": float(interactions.mean[measured_P].abs().mean()),
        **over_pairs,
        "square_spread": spread,
        "pair_variance": float("nan") if measured_P.all() else pair_variance_of(square_P, noise),
    }


def spread_of(squares_S: Tensor) -> float:
    """Noise variance of the mean of one image's squares over halvings, from how they differ; 0 for one, NaN where they
    do not tell."""
    known_S = squares_S[squares_S.isfinite()]
    if len(known_S) == 1:
        return 0.0
    return SPREAD[len(known_S)] * float(known_S.var()) if len(known_S) in SPREAD else float("nan")


def single_noise(square_P: Tensor, difference_SP: Tensor) -> float:
    """What single noisy halves beside the signal add to the noise variance of the mean of independent pairs' squares,
    4·I²·σ² of each, which all halvings share and none shows.

    difference_SP: half the difference of a pair's two halves, whose square is σ² of its Î. Square and error are of the
    same draws: of k parts their product is too small by 2/(k − 1)·σ⁴, and the mean of σ⁴ is (k + 1)/(k − 1) times it.
    """
    error_P, eight_P = difference_SP.square().nanmean(0), difference_SP.isfinite().sum(0) == len(difference_SP)
    too_small_P = torch.where(eight_P, 2 / (8 + 1), 2 / (4 + 1)) * error_P**2
    terms_K = (square_P * error_P + too_small_P)[square_P.isfinite()]
    return 4 * float(terms_K.mean()) / len(terms_K) if len(terms_K) else 0.0


def pair_variance_of(square_P: Tensor, noise: float = 0.0) -> float:
    """Variance of the mean of one image's squares over pairs drawn at random, NaN for those that were not: noise and
    choice of pairs together. NaN where there was no choice, or one pair does not tell.

    noise: the part of it that is noise, which no share of the pairs takes away, as the choice of pairs is taken away by
    measuring them all; NaN where it is not known, and then the variance is at most what is returned.
    """
    known_K, all_pairs = square_P[square_P.isfinite()], len(square_P)
    if not 1 < len(known_K) < all_pairs:
        return float("nan")
    drawn, share = float(known_K.var()) / len(known_K), len(known_K) / all_pairs
    return drawn if np.isnan(noise) else drawn * (1 - share) + noise * share


def corrected_abs(mean_abs_sum: np.ndarray, mean_abs_difference: np.ndarray) -> np.ndarray:
    """A_corrected of single images: the signed root of (mean |half sum|)² − (mean |half difference|)²."""
    square = np.asarray(mean_abs_sum) ** 2 - np.asarray(mean_abs_difference) ** 2
    return np.sign(square) * np.sqrt(np.abs(square))


def strength_table(
    images: pd.DataFrame,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    floors: Mapping[int, float] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """One row per order: every measure with its interval over images (`X`, `X_low`, `X_high`; NaN below 8 images).

    Args:
        images: rows of `image_row` with the columns image, order and ratio; every image at every order.
        floors: numerical floor of Δv per order, in units of v.

    Raises:
        ValueError: no rows, or images that lack orders.
    """
    statistic = measure_statistic(images)
    count, orders = images.image.nunique(), np.sort(images.order.unique())
    telling = {name: telling_images(images, name) for name in ("mean_abs", "mean_abs_sum", "mean_square")}
    estimate, half = studentised_interval(statistic, count, resamples, seed, confidence)
    _, *of_squares = square_interval(square_statistic(images), count, resamples, seed, confidence)
    square_ends = {"mean_square": [end[0] for end in of_squares]}
    square_ends |= {name: [root_of(end[row]) for end in of_squares] for row, name in enumerate(("rms", "J_rms"))}
    columns: dict[str, object] = {
        "order": orders,
        "ratio": images.groupby("order").ratio.first().loc[orders].to_numpy(),
    }
    columns["images"] = count
    columns["pairs"] = images.groupby("order").pairs.mean().loc[orders].to_numpy()
    columns["floor"] = [(floors or {}).get(int(order), np.nan) for order in orders]
    for row, name in enumerate(MEASURES):
        low, high = square_ends[name] if name in SQUARED else (estimate[row] - half[row], estimate[row] + half[row])
        low = low if name in SIGNED else np.clip(low, 0, None)
        high = np.minimum(high, len(orders)) if name in RELATIVE else high
        few = telling[COLUMN_OF[name]] < MIN_IMAGES
        ends = {f"{name}_low": np.where(few, np.nan, low), f"{name}_high": np.where(few, np.nan, high)}
        columns |= {name: estimate[row], **ends}
    table = pd.DataFrame(columns)
    # An order that is exactly 0 has no signal, and no noise that would exceed it.
    negative = (table.mean_square < 0) | ((table.mean_square == 0) & (table.A > 0))
    table.loc[negative, ["rms", "J_rms"]] = np.nan
    table["rms_note"] = np.where(negative, "mean square is not positive: the noise exceeds the signal", "")
    table.loc[table.mean_square.isna(), "rms_note"] = "no pair has two independent halves: spend more passes"
    if (table.A == 0).all():
        table["rms_note"] = "no interaction at any order: J is relative to nothing"
    told = np.minimum(telling["mean_abs"], telling["mean_square"])
    table["interval_note"] = np.where(told < MIN_IMAGES, NO_INTERVAL, "")
    # A is mostly noise where the rms is missing: there, whether it could be further than that from the floor.
    table["near_floor"] = table.rms.fillna(table.rms_high).fillna(table.A) < FLOOR_FACTOR * table.floor
    return table


def _moments(images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each column of `image_row` as a table images × orders, both ascending."""
    images = some(images)
    moments = {name: images.pivot(index="image", columns="order", values=name) for name in ROW_COLUMNS}
    counts, orders = images.groupby("image").order.nunique(), images.order.nunique()
    if counts.min() < orders:
        raise ValueError(f"image {counts.idxmin()} was measured at {counts.min()} of {orders} orders")
    return moments


def some(images: pd.DataFrame) -> pd.DataFrame:
    """The rows of the images; ValueError where there is none yet."""
    if len(images) == 0:
        raise ValueError("no image was measured: there is no strength to report")
    return images


def telling_images(images: pd.DataFrame, column: str) -> np.ndarray:
    """How many images tell something of each order, ascending: one whose pairs have no two halves has no square."""
    return images[column].notna().groupby(images.order).sum().sort_index().to_numpy()


def measure_statistic(images: pd.DataFrame) -> Statistic:
    """Each of MEASURES at every order, K×M×R, as `masses.mass_statistic` gives M."""
    return _measures(_moments(images))


def square_statistic(images: pd.DataFrame) -> Statistic:
    """The mean square and J_rms², at every order, 2×M×R, as `measure_statistic` gives J_rms: smooth where
    noise rules, and there negative as often as not."""
    square_MI = _moments(images)["mean_square"].to_numpy().T

    def squares(index_RI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = _mean_of_images(square_MI[:, index_RI])
        rms_MR, influence_MRI = _root(*square)
        relative = _relative_square(*square, known_mean(rms_MR, 0), known_mean(influence_MRI, 0))
        value, influence = (np.stack(both) for both in zip(square, relative, strict=True))
        return value, influence

    return squares


def _measures(moments: Mapping[str, pd.DataFrame]) -> Statistic:
    """Every measure at every order, K×M×R, as a function of the images drawn. NaN of single images is left out."""
    arrays = {name: table.to_numpy().T for name, table in moments.items()}
    arrays["corrected"] = corrected_abs(arrays["mean_abs_sum"], arrays["mean_abs_difference"])

    def measures(index_RI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raw, corrected, square = (
            _mean_of_images(arrays[name][:, index_RI]) for name in ("mean_abs", "corrected", "mean_square")
        )
        rms = _root(*square)
        found = [raw, _relative(*raw), corrected, _relative(*corrected), square, rms, _relative(*rms)]
        return np.stack([value for value, _ in found]), np.stack([influence for _, influence in found])

    return measures


def _mean_of_images(values_MRI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean_MR = known_mean(values_MRI, 2)
    present_MRI = np.isfinite(values_MRI)
    weight_MR1 = values_MRI.shape[2] / np.maximum(present_MRI.sum(2, keepdims=True), 1)
    return mean_MR, np.where(present_MRI, (values_MRI - mean_MR[..., None]) * weight_MR1, 0)


def _root(square_MR: np.ndarray, influence_MRI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The root of the grand mean, which counts as 0 where there is no signal.

    Near 0 the root is too steep to be linearised: there the slope is that at one standard error.
    """
    base_MR = np.fmax(square_MR, standard_error(influence_MRI) if influence_MRI.shape[2] > 1 else 0)
    with np.errstate(divide="ignore"):
        slope_MR = np.where(base_MR > 0, 0.5 / np.sqrt(base_MR), 0)
    return root_of(square_MR), slope_MR[..., None] * influence_MRI


def _relative(value_MR: np.ndarray, influence_MRI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J: the strength divided by its mean over the orders."""
    with np.errstate(invalid="ignore", divide="ignore"):  # all orders may be 0
        overall_R = known_mean(value_MR, 0)
        relative_MR = value_MR / overall_R
        mean_influence_RI = known_mean(influence_MRI, 0)
        return relative_MR, (influence_MRI - relative_MR[..., None] * mean_influence_RI) / overall_R[:, None]


def _relative_square(
    square_MR: np.ndarray, influence_MRI: np.ndarray, overall_R: np.ndarray, overall_RI: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """J_rms²: the mean square divided by the square of the rms' mean over the orders, which varies by `overall_RI`."""
    with np.errstate(invalid="ignore", divide="ignore"):  # all orders may be 0
        relative_MR = square_MR / overall_R**2
        own_MRI = influence_MRI / overall_R[:, None] ** 2
        return relative_MR, own_MRI - 2 * relative_MR[..., None] * overall_RI / overall_R[:, None]


def known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean without NaN; NaN where nothing is left."""
    present = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(present, values, 0).sum(axis) / present.sum(axis)
