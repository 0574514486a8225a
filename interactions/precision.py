"""A curve to a wanted precision, in rounds of images.

The curve is J_rms(m) = rms(m) / mean over the listed orders, or rms(m) itself: measures whose expectation does not
depend on the passes. A run takes images in rounds. Between two rounds the allocation (`interactions.allocation`) is
made anew from all that was measured; budgets then differ between rounds, which leaves every mean unbiased. Where there
are no more images, and noise is left in what they told, a round is another look at all of them (`interactions.looks`).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Literal

import numpy as np
import pandas as pd

from interactions.allocation import (
    NO_TURNS,
    Parts,
    Turn,
    for_another_look,
    for_the_rest,
    images_needed,
    in_best_ways,
    passes_of,
)
from interactions.forecast import duration
from interactions.intervals import MIN_IMAGES, RESAMPLES, root_of, square_interval, standard_error
from interactions.looks import merged
from interactions.masses import MASS_MEASURES, mass_interval
from interactions.strength import square_statistic, telling_images

FIRST_IMAGES = 16
"""Of the first round, whose budgets are by the pilots of one or two images."""
LEAST_IMAGES = 32
"""Before the widths are looked at: with fewer, a run that stops when they look small stops too early too often."""

Measure = Literal["J_rms", "rms"]
SQUARE_ROWS = ("rms", "J_rms")
"""Whose squares the rows of `square_statistic` are."""


@dataclass(frozen=True)
class Round:
    """The images of a round by their places in the run's list, first to last − 1, the passes of each order that is
    measured, how many images there will be in all, by what is known before it, and whether they are looked at again."""

    first: int
    last: int
    budgets: Mapping[int, int]
    wanted: int = 0
    again: bool = False

    @property
    def passes_left(self) -> int:
        """Of this round, and of those that will follow if they are like it."""
        return (max(self.wanted, self.last) - self.first) * sum(self.budgets.values())


@dataclass(frozen=True)
class Curve:
    """J_rms or rms of each order and half the length of its 95 % interval, by ascending order.

    units: in which each half width counts. relative: whether an order of J_rms above 1 counts by the share of it that
    its half width is.
    stretch: of the square, half the length of its interval in units of its standard error: 1.96, or more where images
    are few and skewed.
    """

    orders: tuple[int, ...]
    values: np.ndarray
    half_widths: np.ndarray
    units: np.ndarray | float = 1.0
    measure: Measure = "J_rms"
    relative: bool = False
    stretch: float = 1.96

    @property
    def widths(self) -> np.ndarray:
        """What is held against the precision: 0 for an order that is 0 in every image, whatever its unit."""
        with np.errstate(invalid="ignore"):
            return np.where(self.half_widths == 0, 0.0, self.half_widths / self.units)

    @property
    def widest(self) -> float:
        return float(np.max(self.widths))


def curve_of(
    images: pd.DataFrame,
    *,
    measure: Measure = "J_rms",
    relative: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Curve:
    """The curve so far, of rows with one for each look at an image. Half widths are NaN below eight images, infinite
    where an order says nothing.

    rms counts by the share of itself that its half width is (where noise rules, of the root of its square's standard
    error); J_rms as it is, or, if relative, above 1 by its share.
    """
    images = merged(images)
    statistic, count = square_statistic(images), images.image.nunique()
    row = SQUARE_ROWS.index(measure)
    ends = square_interval(statistic, count, resamples, seed, 0.95)
    square_M, low_M, high_M = (each[row] for each in ends)
    value_M, *of_ends = map(root_of, (square_M, low_M, high_M))
    half_M = (of_ends[1] - of_ends[0]) / 2
    unsaid_M = ~np.isfinite(square_M) | (telling_images(images, "mean_square") < MIN_IMAGES)
    half_M = np.where(unsaid_M & ~np.isnan(half_M), np.inf, half_M)
    influence_MI = statistic(np.arange(count)[None])[1][row, :, 0]
    error_M = standard_error(influence_MI) if count > 1 else np.full_like(value_M, np.nan)
    units_M = np.fmax(value_M, 1) if relative else np.ones_like(value_M)
    if measure == "rms":
        units_M = np.fmax(value_M, np.sqrt(error_M))
    orders = tuple(int(order) for order in np.sort(images.order.unique()))
    longer = stretch((high_M - low_M) / 2, error_M)
    return Curve(orders, value_M, half_M, units_M, measure, relative, longer)


def stretch(half_M: np.ndarray, error_M: np.ndarray | float) -> float:
    """Half width in units of the standard error, in the middle of all orders that say something."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_M = half_M / error_M
    finite_M = ratio_M[np.isfinite(ratio_M)]
    return float(np.clip(np.median(finite_M), 1.96, 4.0)) if len(finite_M) else 1.96


def next_round(
    images: pd.DataFrame,
    curve: Curve,
    half_width: float,
    available: int,
    unit_images: int,
    turns: Mapping[int, Turn] = NO_TURNS,
) -> Round | None:
    """The round that follows what was measured; None where the widths are reached, or the images used up and all that
    passes can tell of them told.

    Args:
        images: all rows so far, with image, order, passes, mean_square, square_spread, pair_variance and look.
        curve: of the same rows.
        half_width: wanted at every listed order, in the curve's units.
        available: how many images there are.
        unit_images: a round is a whole number of units, except at the end of the data.
        turns: by order, of those that are measured in two ways (`allocation.Turn`).
    """
    count = images.image.nunique()
    if is_over(count, available, curve.widest, half_width):
        return None
    error_M = of_squares(curve.values, half_width * curve.units) / curve.stretch
    parts = Parts.of(images, of_relative=curve.measure == "J_rms", turns=turns)
    error_M = np.where((error_M == 0) & (parts.variance_M == 0), 1.0, error_M)  # 0 in every image: any will do
    if count >= available:
        budgets_M = for_another_look(parts, error_M, curve.widths / half_width)
        return another_look(count, curve.orders, budgets_M) if budgets_M.any() else None
    last, budgets, wanted = further(parts, error_M, available, unit_images, passes_of(images))
    return Round(count, last, dict(zip(curve.orders, budgets.tolist(), strict=True)), wanted)


def another_look(count: int, orders: Sequence[int], budgets_M: np.ndarray) -> Round:
    """A round of the orders that have passes; of no image where none has."""
    budgets = {order: budget for order, budget in zip(orders, budgets_M.tolist(), strict=True) if budget}
    return Round(0, count if budgets else 0, budgets, count, again=True)


def is_over(count: int, available: int, widest: float, half_width: float) -> bool:
    """Whether nothing follows: the widths are reached, or there are too few images for an interval, and no more."""
    return available <= count < MIN_IMAGES or is_reached(count, available, widest, half_width)


def is_reached(count: int, available: int, widest: float, half_width: float) -> bool:
    """Whether the widths are reached, by as many images as have to be looked at."""
    return count >= min(LEAST_IMAGES, available) and widest <= half_width


def of_squares(value_M: np.ndarray, half_width_M: np.ndarray | float) -> np.ndarray:
    """Half width of J² with which the interval of J, the roots of its ends, has the wanted one.

    √(J² + h) − √(J² − h) = 2·wanted; below J² = 2·wanted² the interval begins at 0, and √(J² + h) = 2·wanted.
    """
    square_M, wanted_M = value_M**2, half_width_M**2
    inner_M = 2 * root_of(wanted_M * (square_M - wanted_M))
    return np.where(square_M >= 2 * wanted_M, inner_M, 4 * wanted_M - square_M)


def further(
    parts: Parts,
    error_M: np.ndarray | float,
    available: int,
    unit_images: int,
    so_far_M: np.ndarray,
) -> tuple[int, np.ndarray, int]:
    """How many images there should be after the next round, the passes of each order in it, and the images in all.

    Where more are wanted than there are, those that are left get more passes (`allocation.for_the_rest`).

    so_far_M: passes of each order so far. They are kept where the images tell nothing: where noise rules every order,
    the curve, which is relative to its mean, has no value yet.
    """
    count = parts.count
    if np.isfinite(error_M).all() and np.isfinite(parts.variance_M).all():
        best, budgets = in_best_ways(parts, error_M)
        wanted = max(images_needed(best, budgets, error_M), LEAST_IMAGES)
        if wanted > available:
            budgets = for_the_rest(parts, error_M, available)
    else:
        budgets, wanted = np.maximum(so_far_M, parts.least_M).round().astype(int), max(2 * count, LEAST_IMAGES)
    # At most twice as many as there are, so that a poor guess is mended soon; never fewer than one unit.
    added = min(max(wanted - count, unit_images), count, available - count)
    return min(available, unit_images * ceil((count + added) / unit_images)), budgets, min(wanted, available)


def difference_curve(a: pd.DataFrame, b: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> Curve:
    """M of J_rms of a minus that of b, which hold the same images, as a curve of one point."""
    found = mass_interval(merged(a), merged(b), resamples=resamples, seed=seed)
    value, low, high = (each[MASS_MEASURES.index("J_rms")] for each in found)
    half = (high - low) / 2 if np.isfinite(value) else np.inf
    return Curve((0,), np.array([value]), np.array([half]))


def next_pair(
    a: pd.DataFrame,
    b: pd.DataFrame,
    curve: Curve,
    half_width: float,
    available: int,
    unit_images: int,
    turns: Sequence[Mapping[int, Turn]] = (NO_TURNS, NO_TURNS),
) -> tuple[Round, Round] | None:
    """The next round of each run, as `next_round`, by the difference of M. A pass counts alike in both.

    Args:
        a, b: all rows so far of the images that both hold.
        curve: `difference_curve` of the same rows.
        turns: of each run, as for `next_round`.
    """
    count = a.image.nunique()
    if is_over(count, available, curve.widest, half_width):
        return None
    parts = Parts.of_difference(a, b, turns)
    error = half_width / stretch(curve.half_widths, np.sqrt(parts.variance_M / parts.count))
    orders = [np.sort(images.order.unique()).tolist() for images in (a, b)]
    if count >= available:
        budgets = for_another_look(parts, error, curve.widths / half_width)
        of_both = np.split(budgets, [len(orders[0])])
        one, other = (another_look(count, *of) for of in zip(orders, of_both, strict=True))
        return (one, other) if budgets.any() else None
    so_far_M = np.concatenate([passes_of(images) for images in (a, b)])
    last, budgets, wanted = further(parts, error, available, unit_images, so_far_M)
    of_a, of_b = (
        Round(count, last, dict(zip(each, of.tolist(), strict=True)), wanted)
        for each, of in zip(orders, np.split(budgets, [len(orders[0])]), strict=True)
    )
    return of_a, of_b


def reached(curve: Curve, images: pd.DataFrame) -> dict[str, object]:
    """How narrow the curve of these images is, for a record: null where an order says nothing. `widest` is in the
    curve's units, and so is `images_alone`."""
    half_widths = {order: float(width) for order, width in zip(curve.orders, curve.half_widths, strict=True)}
    widest = curve.widest if np.isfinite(curve.widest) else None
    finite = {k: w for k, w in half_widths.items() if isfinite(w)}
    found = {"measure": curve.measure, "relative": curve.relative, "widest": widest, "half_widths": finite}
    return {**found, "images_alone": images_alone(images, curve)}


def images_alone(images: pd.DataFrame, curve: Curve) -> float | None:
    """How wide the curve of these images would about be at its widest, in its units, if no pass had any noise; None
    where they do not tell."""
    if images.image.nunique() < MIN_IMAGES or not np.isfinite(curve.widest):
        return None
    parts = Parts.of(images, of_relative=curve.measure == "J_rms")
    half_M, square_M = curve.stretch * np.sqrt(parts.between_M / parts.count), curve.values**2
    with np.errstate(invalid="ignore"):
        widest = float(np.max((root_of(square_M + half_M) - root_of(square_M - half_M)) / 2 / curve.units))
    return widest if isfinite(widest) else None


def tell(curve: Curve, half_width: float, count: int, following: Round | None, rate: float) -> None:
    """Say on the terminal how far a run is, and what is left of it at `rate` passes a second."""
    if not np.isfinite(curve.widest):
        known = "no interval yet"
    else:
        widest = int(np.argmax(curve.widths))
        of_itself = curve.measure == "rms" or np.broadcast_to(curve.units, curve.values.shape)[widest] > 1
        share = f" of {curve.measure}" if of_itself else ""
        known = f"{curve.measure} to ±{curve.widest:.3g}{share} at m = {curve.orders[widest]}, the widest"
        known += f"; asked for ±{half_width:g}"
    what = ""
    if following:
        passes = following.passes_left
        more = f"{following.last - count} more of about {max(following.wanted, following.last)} in all"
        what = f"; measuring {f'{following.last - following.first} again' if following.again else more}, "
        what += f"about {passes:,} passes and {duration(passes / rate)} left"
    print(f"{count} images: {known}{what}", file=sys.stderr, flush=True)


def tell_difference(
    curve: Curve, half_width: float, count: int, following: Sequence[Round] | None, rate: float = 1.0
) -> None:
    """Say on the terminal how far a pair of runs is, and what its next round takes: passes of both, at `rate` passes a
    second."""
    known = "no interval yet" if not np.isfinite(curve.widest) else f"difference of M known to ±{curve.widest:.3g}"
    what = ""
    if following:
        passes = sum((of_run.last - of_run.first) * sum(of_run.budgets.values()) for of_run in following)
        more = "them again" if following[0].again else f"{following[0].last - count} more"
        what = f"; measuring {more}, about {passes:,} passes and {duration(passes / rate)}"
    print(f"{count} images each: {known}; asked for ±{half_width:g}{what}", file=sys.stderr, flush=True)
