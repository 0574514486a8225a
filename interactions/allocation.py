"""How many images, and how many passes for each of their orders, bring a curve to a wanted width at the least cost.

The curve is J_rms(m) = rms(m) / mean over the listed orders, with rms(m)² the mean over images of unbiased estimates
X_mk of each image's mean square: the one measure whose expectation does not depend on the passes. What is counted is
the error of its square J²(m), since a root cannot be linearised where there is next to no signal. It follows from each
image's influence on it, in which what makes an image strong at every order cancels:

    Var J²(m) = ( between(m) + Σ_m' G(m,m')² (w1(m')/b(m') + w2(m')/b(m')²) ) / images
    cost      = images · ( overhead + Σ_m b(m) )

b(m) are the passes of an order, G the derivative of J²(m) by the mean square at m' (of rms(m)² itself, the identity),
w1 the noise of single halves beside the signal, w2 that of the products of two noisy halves. w2 is seen within every
image, by how its halvings differ. Where a part of the pairs is measured, w1 is all noise, that of the choice of pairs
too, and is seen by how the pairs differ: an order of long tails then gets more passes, and not all orders more
images. In the logarithms of images and passes both lines are convex (a geometric program), so a local solver finds
the best allocation.

Images that were measured before can be looked at again (`interactions.looks`): what passes P with the noise s and a
look of b passes tell together has the noise (P²·s + w1·b + w2) / (P + b)², for which the same solver serves, though
not every line is convex then.

Pools of all pairs pay from some passes of an order on. Where they have been measured the order can still do with a few
pairs, when the images that another order asks for are many: a `Turn` tells where the two meet, and what pairs would do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isfinite
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, NonlinearConstraint, minimize

from interactions.intervals import MIN_IMAGES, root_of, standard_error
from interactions.looks import KEY, merged, weights_of
from interactions.masses import MASS_MEASURES, difference_of, mass_statistic, middle_orders
from interactions.strength import square_statistic

FIRST_BUDGET, LEAST_BUDGET, MOST_BUDGET = 300, 100, 20_000
LEAST_VARIANCE = 1e-300
"""So that its logarithm is a number."""
OVERHEAD = 4.0
"""What an image costs besides, in passes: it is read, decoded and classified."""
SINGLE_NOISE = 0.3
"""Share of the remaining variance that is noise of single halves, where all pairs are measured. It cannot be told from
the variance between images without measuring some of them twice, and matters little until then: either is averaged over
images."""

MOST_AGAIN = 4.0
"""Times the passes so far that a look may take: it is planned by what these tell of the noise."""
LESS = 0.9
"""Of the variance so far that a look leaves at most, where an order is too wide: else it is not worth it."""
REST_NOISE = 1.0
"""Of the variance between images, where these are too few for a precision: with noise as large as that an interval is
at most 1.4 times as long as without any, and what shortens it further costs many passes."""


@dataclass(frozen=True)
class Way:
    """How an order is measured: its w1 and w2, and the passes below which it would be measured in another way."""

    single: float
    product: float
    least: float = LEAST_BUDGET


@dataclass(frozen=True)
class Turn:
    """From so many passes on an order is measured by pools of all pairs, infinite where it never is; `single` is the w1
    that a pilot predicts of the pairs which fewer measure."""

    passes: float
    single: float


NO_TURNS: Mapping[int, Turn] = MappingProxyType({})


@dataclass(frozen=True)
class Noise:
    """What passes do to the curve of one run, by order: an image's influence on rms² and on J_rms², the derivatives of
    J²(m) by the mean square at m', J_rms itself where it is linearised (for a mean of several), the ways in which it
    can be measured, that of most images first, the passes of an image so far, and the noise at these."""

    own_MI: np.ndarray
    influence_MI: np.ndarray
    gradient_MM: np.ndarray
    relative_M: np.ndarray
    ways: tuple[tuple[Way, ...], ...]
    passes_M: np.ndarray
    seen_M: np.ndarray

    @classmethod
    def of(cls, images: pd.DataFrame, turns: Mapping[int, Turn] = NO_TURNS) -> "Noise":
        """images: a row for each look."""
        value, influence = square_statistic(merged(images))(np.arange(images.image.nunique())[None])
        own_MI, relative_MI = influence[:, :, 0]
        gradient_MM, relative_M = gradient_of(value[0, :, 0], standard_error(own_MI))
        parts = [noise_of(rows, turns.get(cast(int, order))) for order, rows in images.groupby("order")]
        ways, seen = zip(*parts, strict=True)
        return cls(own_MI, relative_MI, gradient_MM, relative_M, ways, passes_of(images), np.array(seen))


def passes_of(images: pd.DataFrame) -> np.ndarray:
    """Passes of each order in an image, all its looks together, on average over the images."""
    return images.groupby(KEY).passes.sum().groupby("order").mean().to_numpy()


def gradient_of(square_M: np.ndarray, error_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of J_rms²(m) by the mean square at m', M×M, and J_rms where it is linearised: roots of squares below
    their standard error are as steep as at it."""
    steep_M = np.sqrt(np.maximum(square_M, error_M))
    overall = root_of(square_M).mean() or steep_M.mean() or 1.0
    base_M = np.where(steep_M > 0, steep_M, np.inf)  # a square that is 0 in all images has no slope
    own_MM, shared_MM = np.eye(len(square_M)), square_M[:, None] / (overall * len(square_M) * base_M)
    return (own_MM - shared_MM) / overall**2, base_M / overall


def noise_of(rows: pd.DataFrame, turn: Turn | None = None) -> tuple[tuple[Way, ...], float]:
    """The ways of measuring an order, that of most images first, and the noise of an image at its passes so far.

    Where a part of the pairs is measured, more passes are more pairs, and all noise is w1. Where all are, the products
    of halves are w2, and w1 is a guess, or what sets looks at one image further apart, or nothing where they are exact,
    which takes so many passes. What no image tells counts as a difference between images. Where both ways were
    measured, noise is what sets images of few pairs further apart than pools do.

    Args:
        rows: of the order, a row for each look at an image.
        turn: where it has two ways; without one, that of most images.
    """
    subset = rows.pair_variance.notna() if "pair_variance" in rows else pd.Series(False, rows.index)
    few, whole, share = rows[subset], rows[~subset], subset.mean()
    sampling, variance = few.pair_variance.mean() if len(few) else 0.0, rows.mean_square.var()
    spread = float(np.nan_to_num(whole.square_spread.mean()))
    if min(len(few), len(whole)) >= MIN_IMAGES:
        # Three pairs of an image hardly show how long the tail of their squares is: pools of all tell it.
        sampling = max(sampling, few.mean_square.var() - max(whole.mean_square.var() - spread, 0.0))
    exact = len(whole) > 0 and bool((whole.square_spread == 0).all())
    least = float(whole.passes.max()) if exact and whole.mean_square.any() else LEAST_BUDGET
    guess = SINGLE_NOISE * max(variance - share * sampling - (1 - share) * spread, 0.0) * whole.passes.mean()
    single = 0.0 if exact or not len(whole) else float(between_looks(whole, guess))
    product = float(np.nan_to_num((whole.square_spread * whole.passes**2).mean())) if len(whole) else 0.0
    of_pairs = 0.0
    if len(few):
        seen_of_pairs = (few.pair_variance * few.passes).mean()
        of_pairs = float(seen_of_pairs + (sampling - few.pair_variance.mean()) * few.passes.mean())
    noise_R = np.where(subset, noise_at(of_pairs, 0.0, rows.passes), noise_at(single, product, rows.passes))
    seen = float((weights_of(rows) ** 2 * noise_R).sum() / rows.image.nunique())
    pools, pairs = None, None
    if (len(whole) >= MIN_IMAGES or share <= 0.5) and (turn is None or isfinite(turn.passes)):
        pools = Way(single, product, turn.passes if turn else least)
    if len(few) >= MIN_IMAGES or share > 0.5:
        pairs = Way(of_pairs, 0.0)
    elif turn:
        pairs = Way(turn.single, 0.0)
    ways = [way for way in ((pairs, pools) if share > 0.5 else (pools, pairs)) if way]
    return tuple(ways if turn else ways[:1]), seen


def between_looks(rows: pd.DataFrame, guess: float) -> float:
    """w1 of an order of which all pairs are measured, from how the looks at one image differ beyond the spread of their
    halvings; the guess, where too few images were looked at twice."""
    several = rows[rows.duplicated("image", keep=False)]
    within = several.groupby("image").mean_square.var().dropna()
    if len(within) < MIN_IMAGES:
        return guess
    spread = float(np.nan_to_num(several.square_spread.mean()))
    return max(float(within.mean()) - spread, 0.0) / float((1 / several.passes).mean())


@dataclass(frozen=True)
class Parts:
    """What the variance of the curve is made of; by order, ascending. (Of rms itself read rms² for J². Of a difference
    of two runs' M, which is not squared, the curve is one point, and the orders are those of both.)

    Attributes:
        count: images so far. variance_M: of an image's influence on J², at the passes so far.
        slope_MM: G², squared derivatives of J²(m) by the mean square at m'.
        between_M: the part of variance_M that no pass takes away.
        single_M, product_M: w1 and w2.
        least_M: passes below which an order would be measured in another way.
        others: by an order's place, the other way of measuring it, where there is one.
        passes_M, seen_M: of an image so far, and their noise.
        again: whether the passes to be chosen are those of another look at the same images.
    """

    count: int
    variance_M: np.ndarray
    slope_MM: np.ndarray
    between_M: np.ndarray
    single_M: np.ndarray
    product_M: np.ndarray
    least_M: np.ndarray | float = LEAST_BUDGET
    others: Mapping[int, Way] = field(default_factory=dict)
    passes_M: np.ndarray | float = 0.0
    seen_M: np.ndarray | float = 0.0
    again: bool = False

    @classmethod
    def of(cls, images: pd.DataFrame, *, of_relative: bool = True, turns: Mapping[int, Turn] = NO_TURNS) -> "Parts":
        """Of J_rms, or of rms itself. turns: by order, of those that can be measured in two ways."""
        noise = Noise.of(images, turns)
        if of_relative:
            return cls._made(noise.influence_MI, noise.gradient_MM, [noise])
        return cls._made(noise.own_MI, np.eye(len(noise.own_MI)), [noise])

    @classmethod
    def of_difference(
        cls,
        a: pd.DataFrame,
        b: pd.DataFrame,
        turns: Sequence[Mapping[int, Turn]] = (NO_TURNS, NO_TURNS),
    ) -> "Parts":
        statistic = difference_of(*(mass_statistic(merged(images)) for images in (a, b)))
        count = a.image.nunique()
        _, influence = statistic(np.arange(count)[None])
        noises = [Noise.of(images, of) for images, of in zip((a, b), turns, strict=True)]
        gradients = [
            (noise.gradient_MM / (2 * noise.relative_M[:, None]))[middle_orders(images)].mean(0)
            for noise, images in zip(noises, (a, b), strict=True)
        ]
        row = MASS_MEASURES.index("J_rms")
        return cls._made(influence[row : row + 1, 0], np.concatenate(gradients)[None], noises)

    @classmethod
    def _made(cls, influence_MI: np.ndarray, gradient_MM: np.ndarray, noises: Sequence[Noise]) -> "Parts":
        ways = [each for noise in noises for each in noise.ways]
        seen_M, passes_M = (np.concatenate([getattr(noise, of) for noise in noises]) for of in ("seen_M", "passes_M"))
        single_M, product_M, least_M = np.array([(one.single, one.product, one.least) for one, *_ in ways]).T
        others = {place: other for place, (_, *rest) in enumerate(ways) for other in rest}
        variance_M, slope_MM = influence_MI.var(1, ddof=1), gradient_MM**2
        between_M = np.maximum(variance_M - slope_MM @ seen_M, 0.1 * variance_M)
        ways_of_all = (single_M, product_M, least_M, others)
        return cls(influence_MI.shape[1], variance_M, slope_MM, between_M, *ways_of_all, passes_M, seen_M)

    def otherwise(self, place: int) -> "Parts":
        """The same with the order at that place measured in its other way."""
        other, ways_3M = self.others[place], np.stack(np.broadcast_arrays(self.single_M, self.product_M, self.least_M))
        before, ways_3M = Way(*ways_3M[:, place].tolist()), ways_3M.astype(float)
        ways_3M[:, place] = other.single, other.product, other.least
        single_M, product_M, least_M = ways_3M
        others = {**self.others, place: before}
        return replace(self, single_M=single_M, product_M=product_M, least_M=least_M, others=others)

    def at_most(self) -> "Parts":
        """The same with every order in the way of least noise at as many passes as there may be."""
        parts, noise_M = self, noise_at(self.single_M, self.product_M, MOST_BUDGET)
        for place, other in self.others.items():
            if noise_at(other.single, other.product, MOST_BUDGET) < noise_M[place]:
                parts = parts.otherwise(place)
        return parts

    def of_budgets(self, budgets_M: np.ndarray) -> np.ndarray:
        """Variance of an image's influence on J²(m) at those passes, and those so far where it is looked at again."""
        if not self.again:
            return self.between_M + self.slope_MM @ noise_at(self.single_M, self.product_M, budgets_M)
        parts_M = self.passes_M**2 * self.seen_M + np.where(
            budgets_M > 0, self.single_M * budgets_M + self.product_M, 0.0
        )
        return self.between_M + self.slope_MM @ (parts_M / (self.passes_M + budgets_M) ** 2)


def noise_at(single: Any, product: Any, passes: Any) -> Any:
    """Of an order's mean square in an image: w1 / b + w2 / b²."""
    return single / passes + product / passes**2


def in_best_ways(parts: Parts, error_M: np.ndarray | float, most: float = np.inf) -> tuple[Parts, np.ndarray]:
    """The parts with every order in the way with which the whole costs least, and the passes of each: one after the
    other is turned, those of most passes first, as long as that saves something. `most` images, as for `allocate`."""
    budgets_M, images = allocate(parts, error_M, most)
    cost, turned = images * (OVERHEAD + budgets_M.sum()), True
    while turned:
        turned = False
        for place in sorted(parts.others, key=lambda place: -budgets_M[place]):
            other = parts.otherwise(place)
            of_other_M, images = allocate(other, error_M, most)
            if (there := images * (OVERHEAD + of_other_M.sum())) < 0.99 * cost:
                parts, budgets_M, cost, turned = other, of_other_M, there, True
    return parts, budgets_M


def for_the_rest(parts: Parts, error_M: np.ndarray | float, available: int) -> np.ndarray:
    """The passes of each order, as `in_best_ways` has them, of the images that are left of those available.

    Each may still have the variance with which all together reach the error, if passes can do that. If not, the noise
    is brought down to a part of what images differ by: beyond that passes cost much and tell next to nothing.
    """
    rest = available - parts.count
    bearable_M = (error_M**2 * available**2 - parts.count * parts.variance_M) / rest
    parts = parts.at_most()
    least_M = parts.of_budgets(np.full(len(parts.single_M), MOST_BUDGET))
    return in_best_ways(parts, np.sqrt(np.maximum(bearable_M, (1 + REST_NOISE) * least_M)), most=1)[1]


def for_another_look(parts: Parts, error_M: np.ndarray | float, excess_M: np.ndarray) -> np.ndarray:
    """The passes of each order, as `in_best_ways` has them, in another look at all images; 0 where they would bring
    nothing, or too little.

    Noise is brought down to what the errors bear, or, as by `for_the_rest`, to a part of what images differ by where no
    passes can reach them.

    Args:
        excess_M: how many times as wide as wanted the interval of J(m) is, which on skewed images its error does not
            tell.
    """
    allowed_M = MOST_BUDGET - parts.passes_M
    most_M = np.minimum(np.maximum(MOST_AGAIN * parts.passes_M, LEAST_BUDGET), allowed_M)
    most_M = np.where(most_M < LEAST_BUDGET, 0, most_M).astype(int)
    if not (np.isfinite(error_M).all() and np.isfinite(parts.variance_M).all()):
        # Noise rules every order, and the curve, which is relative to its mean, has no value yet.
        return np.where(np.asarray(parts.seen_M) > 0, most_M, 0)
    excess_M, parts = np.where(np.isnan(excess_M), np.inf, excess_M), replace(parts, again=True)
    best = parts.at_most()
    so_far_M, wide_M = parts.variance_M, excess_M > 1
    borne_M = np.where(wide_M, np.minimum(error_M**2 * parts.count, so_far_M / np.maximum(excess_M, 1) ** 2), np.inf)
    lowest_M = best.of_budgets(np.maximum(allowed_M, 0))
    if (wide_M & (lowest_M > LESS * borne_M)).any():
        lowest_M = (1 + REST_NOISE) * lowest_M
    goal_M = np.maximum(np.where(wide_M, np.minimum(borne_M, LESS * so_far_M), so_far_M), lowest_M)
    nothing_M = np.zeros(len(parts.single_M), int)
    if (so_far_M <= goal_M).all():
        return nothing_M
    # An order that is 0 in every image asks for nothing: any error will do.
    best, budgets_M = in_best_ways(best, np.sqrt(np.where(goal_M > 0, goal_M, 1.0)), most=1)
    budgets_M = without_the_needless(best, np.minimum(budgets_M, most_M), goal_M)
    pays = (wide_M & (best.of_budgets(budgets_M) <= (1 + LESS) / 2 * so_far_M)).any()
    return budgets_M if pays else nothing_M


def without_the_needless(parts: Parts, budgets_M: np.ndarray, goal_M: np.ndarray) -> np.ndarray:
    """The passes of a look, 0 at orders without which the goal, or as much of it as they reach, is reached as well: a
    few passes beside many tell nothing, and of a pool they bring more noise than they take."""
    goal_M = np.maximum(goal_M, parts.of_budgets(budgets_M))
    for place in np.argsort(budgets_M):
        without_M = np.where(np.arange(len(budgets_M)) == place, 0, budgets_M)
        if (parts.of_budgets(without_M) <= goal_M).all():
            budgets_M = without_M
    return budgets_M


def allocate(parts: Parts, error_M: np.ndarray | float, most: float = np.inf) -> tuple[np.ndarray, float]:
    """Passes of each order, and the number of images, that reach a standard error of every J²(m) (one for all, or
    one for each) at the least cost: `most` images, or infinitely many where passes cannot do it with these."""
    orders = len(parts.single_M)

    def cost(log: np.ndarray) -> float:
        return float(log[0] + np.log(OVERHEAD + np.exp(log[1:]).sum()))

    def slack(log: np.ndarray) -> np.ndarray:
        # An order that is 0 in every image does not vary: it asks for nothing.
        return log[0] + 2 * np.log(error_M) - np.log(np.maximum(parts.of_budgets(np.exp(log[1:])), LEAST_VARIANCE))

    lowest_M = np.broadcast_to(np.asarray(parts.least_M, float), orders)
    start_M = np.log(np.maximum(lowest_M, FIRST_BUDGET))
    needed = np.log(max((parts.of_budgets(np.exp(start_M)) / error_M**2).max(), 1))
    bounds = Bounds(np.append(0.0, np.log(lowest_M)), np.append(np.log(most), np.full(orders, np.log(MOST_BUDGET))))
    found = minimize(
        cost,
        np.concatenate([[min(needed, np.log(most))], start_M]),
        method="SLSQP",
        bounds=bounds,
        constraints=NonlinearConstraint(slack, 0, np.inf),
        options={"maxiter": 300},
    )
    budgets_M = np.clip(np.round(np.exp(found.x[1:])), lowest_M, MOST_BUDGET).astype(int)
    return budgets_M, float(np.exp(found.x[0])) if (slack(found.x) > -0.1).all() else np.inf


def images_needed(parts: Parts, budgets_M: np.ndarray, error_M: np.ndarray | float) -> int:
    """Images in all, those measured so far among them, until every J²(m) has that standard error."""
    # (count · variance so far + added · variance to come) / (count + added)² = error²
    to_come_M = parts.of_budgets(budgets_M)
    half_M = to_come_M / (2 * error_M**2)
    excess_M = parts.count * (parts.variance_M - to_come_M) / error_M**2
    return ceil(float(np.max(half_M + root_of(half_M**2 + excess_M))))
