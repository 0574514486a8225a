"""How many images, and how many passes for each of their orders, bring a curve to a wanted width at the least cost.

The curve is J_rms(m) = rms(m) / mean over the listed orders, with rms(m)² the mean over images of unbiased estimates
X_mk of each image's mean square: the one measure whose expectation does not depend on the passes. Its error follows
from each image's influence on it, in which what makes an image strong at every order cancels:

    Var J(m) = ( between(m) + Σ_m' G(m,m')² (w1(m')/b(m') + w2(m')/b(m')²) ) / images
    cost     = images · ( overhead + Σ_m b(m) )

b(m) are the passes of an order, G the derivative of J(m) by the mean square at m', w1 the noise of single halves
beside the signal, w2 that of the products of two noisy halves. w2 is seen within every image, by how its halvings
differ. Where a part of the pairs is measured, w1 is all noise, that of the choice of pairs too, and is seen by how the
pairs differ: an order of long tails then gets more passes, and not all orders more images. In the logarithms
of images and passes both lines are convex (a geometric program), so a local solver finds the best allocation.

A run takes images in rounds. Between two rounds the allocation is made anew from all that was measured; budgets then
differ between rounds, which leaves every mean unbiased.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, NonlinearConstraint, minimize

from interactions.forecast import duration
from interactions.intervals import standard_error, studentised_interval
from interactions.strength import (
    MASS_MEASURES,
    MEASURES,
    difference_of,
    mass_statistic,
    measure_statistic,
    middle_orders,
)

FIRST_IMAGES = 16
"""Of the first round, whose budgets are a guess."""
LEAST_IMAGES = 32
"""Before the widths are looked at: with fewer, a run that stops when they look small stops too early too often."""
FIRST_BUDGET, LEAST_BUDGET, MOST_BUDGET = 300, 100, 20_000
OVERHEAD = 4.0
"""What an image costs besides, in passes: it is read, decoded and classified."""
SINGLE_NOISE = 0.3
"""Share of the remaining variance that is noise of single halves, where all pairs are measured. It cannot be told from
the variance between images without measuring some of them twice, and matters little: either is averaged over images."""


@dataclass(frozen=True)
class Round:
    """The images of a round by their places in the run's list, first to last − 1, the passes of each order, and how
    many images there will be in all, by what is known before it."""

    first: int
    last: int
    budgets: Mapping[int, int]
    wanted: int = 0

    @property
    def passes_left(self) -> int:
        """Of this round, and of those that will follow if they are like it."""
        return (max(self.wanted, self.last) - self.first) * sum(self.budgets.values())


@dataclass(frozen=True)
class Curve:
    """J_rms of each order and the half width of its 95 % interval, by ascending order.

    relative: whether an order above 1 counts by the share of J_rms that its half width is.
    """

    orders: tuple[int, ...]
    values: np.ndarray
    half_widths: np.ndarray
    relative: bool = False

    @property
    def units(self) -> np.ndarray:
        """In which each half width counts."""
        return np.fmax(self.values, 1) if self.relative else np.ones_like(self.half_widths)

    @property
    def widths(self) -> np.ndarray:
        """What is held against the precision."""
        return self.half_widths / self.units

    @property
    def widest(self) -> float:
        return float(np.max(self.widths))


def curve_of(images: pd.DataFrame, *, relative: bool = False, resamples: int = 1000, seed: int = 0) -> Curve:
    """The curve so far. Half widths are NaN below eight images, infinite where an order says nothing."""
    statistic, count = measure_statistic(images), images.image.nunique()
    row = MEASURES.index("J_rms")
    value, half = studentised_interval(lambda index: _row(statistic(index), row), count, resamples, seed, 0.95)
    half = np.where(np.isfinite(value) | np.isnan(half), half, np.inf)
    return Curve(tuple(int(order) for order in np.sort(images.order.unique())), value, half, relative)


def first_round(orders: Sequence[int], available: int, unit_images: int) -> Round:
    """Sixteen images with the same number of passes at every order."""
    last = min(available, max(FIRST_IMAGES, unit_images))
    return Round(0, last, {int(order): FIRST_BUDGET for order in orders})


def next_round(images: pd.DataFrame, curve: Curve, half_width: float, available: int, unit_images: int) -> Round | None:
    """The round that follows what was measured; None where the widths are reached or the images used up.

    Args:
        images: all rows so far, with image, order, passes, mean_square and square_spread.
        curve: of the same rows.
        half_width: wanted at every listed order, in the curve's units.
        available: how many images there are.
        unit_images: a round is a whole number of units, except at the end of the data.
    """
    count = images.image.nunique()
    if is_over(count, available, curve, half_width):
        return None
    last, budgets, wanted = further(Parts.of(images), curve, half_width, available, unit_images)
    return Round(count, last, dict(zip(curve.orders, budgets.tolist(), strict=True)), wanted)


def is_over(count: int, available: int, curve: Curve, half_width: float) -> bool:
    """Whether there are no more images to take, or no need of them."""
    return count >= available or (count >= LEAST_IMAGES and curve.widest <= half_width)


def further(
    parts: "Parts", curve: Curve, half_width: float, available: int, unit_images: int
) -> tuple[int, np.ndarray, int]:
    """How many images there should be after the next round, the passes of each order in it, and the images in all."""
    error_M, count = half_width * curve.units / parts.stretch(curve), parts.count
    budgets, _ = allocate(parts, error_M)
    wanted = max(images_needed(parts, budgets, error_M), LEAST_IMAGES)
    # At most twice as many as there are, so that a poor guess is mended soon; never fewer than one unit.
    added = min(max(wanted - count, unit_images), count, available - count)
    return min(available, unit_images * ceil((count + added) / unit_images)), budgets, min(wanted, available)


def difference_curve(a: pd.DataFrame, b: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> Curve:
    """M of J_rms of a minus that of b, which hold the same images, as a curve of one point."""
    statistic, row = difference_of(mass_statistic(a), mass_statistic(b)), MASS_MEASURES.index("J_rms")
    value, half = studentised_interval(
        lambda index: _row(statistic(index), slice(row, row + 1)), a.image.nunique(), resamples, seed, 0.95
    )
    return Curve((0,), value, np.where(np.isfinite(value) | np.isnan(half), half, np.inf))


def next_pair(
    a: pd.DataFrame, b: pd.DataFrame, curve: Curve, half_width: float, available: int, unit_images: int
) -> tuple[int, list[dict[int, int]]] | None:
    """How many images two runs should hold next, and the passes of each one's orders; None where the difference of M is
    as narrow as asked, or the images are used up. A pass counts alike in both.

    Args:
        a, b: all rows so far of the images that both hold.
        curve: `difference_curve` of the same rows.
    """
    if is_over(a.image.nunique(), available, curve, half_width):
        return None
    last, budgets, _ = further(Parts.of_difference(a, b), curve, half_width, available, unit_images)
    orders = [np.sort(images.order.unique()).tolist() for images in (a, b)]
    of_a, of_b = np.split(budgets, [len(orders[0])])
    return last, [dict(zip(each, of.tolist(), strict=True)) for each, of in zip(orders, (of_a, of_b), strict=True)]


@dataclass(frozen=True)
class Parts:
    """What the variance of the curve is made of; by order, ascending. (Of a difference of two runs' M, the curve is one
    point, and the orders are those of both.)

    Attributes:
        count: images so far. variance_M: of an image's influence on J, at the passes so far.
        slope_MM: G², squared derivatives of J(m) by the mean square at m'.
        between_M: the part of variance_M that no pass takes away.
        single_M, product_M: w1 and w2.
    """

    count: int
    variance_M: np.ndarray
    slope_MM: np.ndarray
    between_M: np.ndarray
    single_M: np.ndarray
    product_M: np.ndarray

    @classmethod
    def of(cls, images: pd.DataFrame) -> "Parts":
        statistic, count = measure_statistic(images), images.image.nunique()
        _, influence = statistic(np.arange(count)[None])
        noise = Noise.of(images)
        return cls._made(influence[MEASURES.index("J_rms"), :, 0], noise.gradient_MM, [noise])

    @classmethod
    def of_difference(cls, a: pd.DataFrame, b: pd.DataFrame) -> "Parts":
        statistic, count = difference_of(mass_statistic(a), mass_statistic(b)), a.image.nunique()
        _, influence = statistic(np.arange(count)[None])
        noises = [Noise.of(images) for images in (a, b)]
        gradients = [
            noise.gradient_MM[middle_orders(images)].mean(0) for noise, images in zip(noises, (a, b), strict=True)
        ]
        row = MASS_MEASURES.index("J_rms")
        return cls._made(influence[row : row + 1, 0], np.concatenate(gradients)[None], noises)

    @classmethod
    def _made(cls, influence_MI: np.ndarray, gradient_MM: np.ndarray, noises: "Sequence[Noise]") -> "Parts":
        single_M, product_M, seen_M = (
            np.concatenate(each) for each in zip(*((n.single_M, n.product_M, n.seen_M) for n in noises), strict=True)
        )
        variance_M, slope_MM = influence_MI.var(1, ddof=1), gradient_MM**2
        between_M = np.maximum(variance_M - slope_MM @ seen_M, 0.1 * variance_M)
        return cls(influence_MI.shape[1], variance_M, slope_MM, between_M, single_M, product_M)

    def of_budgets(self, budgets_M: np.ndarray) -> np.ndarray:
        """Variance of an image's influence on J(m) at those passes."""
        return self.between_M + self.slope_MM @ (self.single_M / budgets_M + self.product_M / budgets_M**2)

    def stretch(self, curve: Curve) -> float:
        """Half width in units of the standard error: 1.96, or more where images are few and skewed."""
        ratio_M = curve.half_widths / np.sqrt(np.maximum(self.variance_M, 1e-300) / self.count)
        finite_M = ratio_M[np.isfinite(ratio_M)]
        return float(np.clip(np.median(finite_M), 1.96, 4.0)) if len(finite_M) else 1.96


@dataclass(frozen=True)
class Noise:
    """What passes do to the curve of one run, by order: the derivatives of J(m) by the mean square at m', w1 and w2,
    and the noise at the passes so far."""

    gradient_MM: np.ndarray
    single_M: np.ndarray
    product_M: np.ndarray
    seen_M: np.ndarray

    @classmethod
    def of(cls, images: pd.DataFrame) -> "Noise":
        statistic, count = measure_statistic(images), images.image.nunique()
        value, influence = statistic(np.arange(count)[None])
        values = dict(zip(MEASURES, value[..., 0], strict=True))
        square_M, rms_M, relative_M = (values[name] for name in ("mean_square", "rms", "J_rms"))
        influence_MI = influence[MEASURES.index("mean_square"), :, 0]
        base_M = np.maximum(np.maximum(square_M, standard_error(influence_MI)), np.finfo(float).tiny)
        own_MM = np.eye(len(rms_M)) - relative_M[:, None] / len(rms_M)
        gradient_MM = own_MM / (2 * np.sqrt(base_M) * rms_M.mean())
        rest_M = influence_MI.var(1, ddof=1)
        parts = [noise_of(rows, rest) for (_, rows), rest in zip(images.groupby("order"), rest_M, strict=True)]
        single_M, product_M, seen_M = (np.array(each) for each in zip(*parts, strict=True))
        return cls(gradient_MM, single_M, product_M, seen_M)


def noise_of(rows: pd.DataFrame, variance: float) -> tuple[float, float, float]:
    """w1, w2 and the noise at the passes so far of one order, of the design that most of its images were measured with.

    Where a part of the pairs is measured, more passes are more pairs, and all noise is w1. Where all are, the products
    of halves are w2, and w1 is a guess.

    Args:
        rows: of the order, a row for each image.
        variance: of the mean square between images.
    """
    subset = rows.pair_variance.notna() if "pair_variance" in rows else pd.Series(False, rows.index)
    if subset.mean() > 0.5:
        known = rows[subset]
        return float((known.pair_variance * known.passes).mean()), 0.0, float(known.pair_variance.mean())
    whole = rows[~subset]
    # What no image tells counts as a difference between images.
    spread = np.nan_to_num(whole.square_spread.mean())
    product = np.nan_to_num((whole.square_spread * whole.passes**2).mean())
    passes, single = whole.passes.mean(), SINGLE_NOISE * max(variance - spread, 0.0)
    return float(single * passes), float(product), float(single + spread)


def allocate(parts: Parts, error_M: np.ndarray | float) -> tuple[np.ndarray, float]:
    """Passes of each order, and the number of images, that reach a standard error of every J(m) (one for all, or one
    for each) at the least cost."""
    orders = len(parts.single_M)

    def cost(log: np.ndarray) -> float:
        return float(log[0] + np.log(OVERHEAD + np.exp(log[1:]).sum()))

    def slack(log: np.ndarray) -> np.ndarray:
        return log[0] + 2 * np.log(error_M) - np.log(parts.of_budgets(np.exp(log[1:])))

    start_M = np.full(orders, np.log(FIRST_BUDGET))
    needed = max(np.log((parts.of_budgets(np.exp(start_M)) / error_M**2).max()), 0)
    least_M, most_M = np.full((2, orders), np.log([[LEAST_BUDGET], [MOST_BUDGET]]))
    bounds = Bounds(np.append(0.0, least_M), np.append(np.inf, most_M))
    found = minimize(
        cost,
        np.concatenate([[needed], start_M]),
        method="SLSQP",
        bounds=bounds,
        constraints=NonlinearConstraint(slack, 0, np.inf),
        options={"maxiter": 300},
    )
    budgets_M = np.clip(np.round(np.exp(found.x[1:])), LEAST_BUDGET, MOST_BUDGET).astype(int)
    return budgets_M, float(np.exp(found.x[0]))


def images_needed(parts: Parts, budgets_M: np.ndarray, error_M: np.ndarray | float) -> int:
    """Images in all, those measured so far among them, until every J(m) has that standard error."""
    # (count · variance so far + added · variance to come) / (count + added)² = error²
    to_come_M = parts.of_budgets(budgets_M)
    half_M = to_come_M / (2 * error_M**2)
    excess_M = parts.count * (parts.variance_M - to_come_M) / error_M**2
    return ceil(float(np.max(half_M + np.sqrt(np.maximum(half_M**2 + excess_M, 0)))))


def reached(curve: Curve) -> dict[str, object]:
    """How narrow the curve is, for a record: null where an order says nothing. `widest` is in the curve's units."""
    half_widths = {order: float(width) for order, width in zip(curve.orders, curve.half_widths, strict=True)}
    widest = curve.widest if np.isfinite(curve.widest) else None
    finite = {k: w for k, w in half_widths.items() if isfinite(w)}
    return {"measure": "J_rms", "relative": curve.relative, "widest": widest, "half_widths": finite}


def tell(curve: Curve, half_width: float, count: int, following: Round | None, rate: float) -> None:
    """Say on the terminal how far a run is, and what is left of it at `rate` passes a second."""
    if not np.isfinite(curve.widest):
        known = "no interval yet"
    else:
        widest = int(np.argmax(curve.widths))
        share = " of J_rms" if curve.units[widest] > 1 else ""
        known = (
            f"J_rms to ±{curve.widest:.3g}{share} at m = {curve.orders[widest]}, the widest; asked for ±{half_width:g}"
        )
    what = ""
    if following:
        passes = following.passes_left
        what = f"; measuring {following.last - following.first} more of about {max(following.wanted, following.last)} "
        what += f"in all, about {passes:,} passes and {duration(passes / rate)} left"
    print(f"{count} images: {known}{what}", file=sys.stderr, flush=True)


def tell_difference(curve: Curve, half_width: float, count: int, last: int | None) -> None:
    """Say on the terminal how far a pair of runs is."""
    known = "no interval yet" if not np.isfinite(curve.widest) else f"difference of M known to ±{curve.widest:.3g}"
    what = f"; measuring {last - count} more" if last else ""
    print(f"{count} images each: {known}; asked for ±{half_width:g}{what}", file=sys.stderr, flush=True)


def _row(found: tuple[np.ndarray, np.ndarray], row: int | slice) -> tuple[np.ndarray, np.ndarray]:
    return found[0][row], found[1][row]
