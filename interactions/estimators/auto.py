"""Auto: for each order the design that a small pilot predicts to measure the strength best.

The pilot spends a share of the budget on a few second differences; they are discarded, so the choice does not bias
what is measured. They tell the variance of v, that of a second difference, and roughly the mean square of the
interactions; from those follows the error of the mean square that each design would make with the budget. A pooled
design that shows a pair's rarest pattern less than about `MIN_DRAWS` times is not considered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite

import torch
from torch import Tensor

from interactions.estimators import pairwise, pooled, shared
from interactions.estimators.sample import MIN_DRAWS, PARTS, Game, check_order
from interactions.estimators.weights import Weights

PILOT_SHARE = 0.1
PILOT_RANGE = (96, 600)
LEAST_BUDGET = 96
"""A pilot takes at most a third of the budget."""
LEAST_PAIRS = 3
"""One pair's square has a tail that no pilot sees: with a pair an image, a single photograph can rule the interval of
an order."""
DRAWS = (2, 4, 8, 16, 32)
FEW, FEW_NEAR_ALL = 8, 4
"""Fewer draws a pair only where all pairs get them: for the sake of more pairs they did worse than their variance
promises, since a product of two or four differences has long tails, and a pilot can be wrong about the signal."""
# The next seven are what EfficientNet-Lite0 on four photographs showed (experiments/results/estimators), rounded, but
# for the tails near all, which are assumed: `a2mim bench regret` tells what assumptions cost.
CLUSTERING = 1.25
"""Pairs of a group are alike: 5 tell as much as 4 drawn at random."""
SHARED_NOISE = 3.0
"""They share contexts, too: the noise variance of their mean square is that of a third as many."""
TAILS, TAILS_NEAR_ALL, NEAR_ALL = 5.0, 15.0, 0.75
"""Variance of I² over pairs in units of its squared mean: 2 for normally distributed I, more in real networks. Where
more than three quarters of the cells are shown a few pairs can hold most of the squares: more is assumed there."""
UNEVENNESS = 1.6
"""Mean square over squared mean, over pairs, of the variance of a second difference."""
RARE = 2.0
"""What pairs and contexts of rare, large differences add to the squared error of designs that see few of them."""
UNEXPLAINED = 0.7
"""Share of the variance of v that the pool's surrogate leaves; a pilot is too small to fit one."""
POOL_CORRELATION = 1.5
"""Pooled estimates of pairs share coalitions: what the noise variance of their mean square gains by that."""
FIRST_BUDGETS = (100, 150, 200, 300, 450, 650, 800, 1000, 1500)
BETWEEN = 0.5
"""Variance of the mean square between images, in units of its squared mean: EfficientNet-Lite0's is 0.3 to 1."""
SIGNAL_RANGE = (0.05, 0.5)
"""What the mean square can be in units of the variance of a difference. A pilot is too small to tell it well, and one
that finds nothing must not make auto measure a handful of pairs."""


@dataclass(frozen=True)
class Plan:
    """A design and its options (JSON-able), what each design was predicted to err, and the passes the pilot took.

    `predicted` holds the standard error of the mean square that each considered design would make.
    """

    design: str
    options: dict[str, int | bool | float] = field(default_factory=dict)
    predicted: dict[str, float] = field(default_factory=dict)
    passes: int = 0


@dataclass(frozen=True)
class Pilot:
    """What the pilot found, in units of v²: variances of v, of a second difference and of a square's pooled terms."""

    value_variance: float
    difference_variance: float
    square_variance: float
    mean_square: float
    passes: int


def choose(games: Sequence[Game], order: int, pairs: Tensor, budget: int, generator: torch.Generator) -> Plan:
    """The plan with the least predicted error for `budget` passes an image, from a pilot on the given games.

    Orders 0 and n − 2 need no pilot: as many pairs as the budget holds, each exact. `passes` of the plan counts the
    pilot on all games, which is not part of the budget.

    Raises:
        ValueError: a budget too small for a pilot and a run.
    """
    n_players = games[0].n_players
    check_order(order, n_players)
    if order in (0, n_players - 2):
        return Plan("exact", {"subset": True})
    if budget < LEAST_BUDGET:
        raise ValueError(f"a budget of {budget} passes is too small for a pilot: give at least {LEAST_BUDGET}")
    pilot = run_pilot(games, order, pairs, budget, generator)
    return replace(plan_from(pilot, order, pairs, n_players, budget), passes=pilot.passes)


def plan_from(pilot: Pilot, order: int, pairs: Tensor, n_players: int, budget: int) -> Plan:
    """The plan with the least predicted error for `budget` passes an image, from what a pilot found."""
    asked = (pilot, order, pairs, n_players, budget)
    predictions = difference_errors(*asked) | pooled_error(*asked)
    design, draws = min(predictions, key=lambda choice: predictions[choice])
    named = {f"{name} {number}" if number else name: error**0.5 for (name, number), error in predictions.items()}
    return Plan(design, {"draws": draws} if draws else {}, named)


def first_budget(pilot: Pilot, order: int, pairs: Tensor, n_players: int) -> int:
    """Of `FIRST_BUDGETS` the passes of an image that tell, each of them, most about the mean over images.

    Pools pay from some number of passes on, which an allocation that begins with fewer would not find out.
    """
    between = BETWEEN * pilot.mean_square**2

    def needed(budget: int) -> float:
        return budget * (between + min(plan_from(pilot, order, pairs, n_players, budget).predicted.values()) ** 2)

    return min(FIRST_BUDGETS, key=needed)


def least_pool(pilot: Pilot, order: int, pairs: Tensor, n_players: int) -> float:
    """The least of `FIRST_BUDGETS` with which pools are the choice; infinite where they never are."""
    designs = ((budget, plan_from(pilot, order, pairs, n_players, budget).design) for budget in FIRST_BUDGETS)
    return next((budget for budget, design in designs if design == "pooled"), inf)


def pilot_passes(budget: int) -> int:
    """What a pilot takes of a budget, at the most."""
    least, most = PILOT_RANGE
    return min(max(int(budget * PILOT_SHARE), least), most, budget // 3)


def run_pilot(games: Sequence[Game], order: int, pairs: Tensor, budget: int, generator: torch.Generator) -> Pilot:
    """Two second differences of each of a few pairs, on every game."""
    n_players = games[0].n_players
    passes, weights = pilot_passes(budget), Weights.of(order, n_players)
    found, spent = [], 0
    for game in games:
        sample = pairwise.draw(order, pairs, n_players, passes, generator, draws=2)
        values_B = game(sample.coalitions_BN).double()
        corners_4D = sample.corners_4D.flip(0)  # S, S∪{i}, S∪{j}, S∪{i,j}, as the pool has them
        v_4D = values_B[corners_4D.to(values_B.device)]
        shown_RN = sample.coalitions_BN[corners_4D].flatten(0, 1).to(values_B)
        first_P, second_P = pairs.to(values_B.device).T
        both_PR = shown_RN.T[first_P] * shown_RN.T[second_P]
        terms_PD = weights.square_terms(shown_RN, (v_4D - v_4D.mean()).flatten(), both_PR, first_P, second_P)
        square = sample.estimate(values_B).halvings.prod(1).nanmean()
        variances = (v_4D[0].var(), sample.differences(values_B).var(), terms_PD.var(1).mean())
        found.append(torch.stack([*variances, square]))
        spent += len(values_B)
    value, difference, terms, square = torch.stack(found).mean(0).tolist()
    if not isfinite(value):  # asked at the end, where the device is waited for anyway
        raise ValueError("the game gave NaN or infinity for a coalition of the pilot: give finite values")
    least_signal, most_signal = (share * difference for share in SIGNAL_RANGE)
    return Pilot(value, difference, terms, min(max(square, least_signal), most_signal), spent)


def difference_errors(
    pilot: Pilot, order: int, pairs: Tensor, n_players: int, budget: int
) -> dict[tuple[str, int], float]:
    """Predicted squared error of the mean square for differences, by design and draws a pair."""
    groups = shared.group_pairs(pairs)
    _, both = shared.coverage(order, n_players)
    group_cost = float(groups.expected_passes(order, n_players).mean())
    group_size = len(pairs) / len(groups.pairs_GE)
    variance, square = pilot.difference_variance, pilot.mean_square
    near_all = order > NEAR_ALL * (n_players - 2)
    tails, few = (TAILS_NEAR_ALL, FEW_NEAR_ALL) if near_all else (TAILS, FEW)
    errors: dict[tuple[str, int], float] = {}
    for draws in DRAWS:
        pairs_shared = int(budget / (group_cost * shared.contexts_for(draws, order, n_players))) * group_size
        for design, measured, cost, shared_noise, clustering in (
            ("shared", pairs_shared, group_cost / (group_size * both), SHARED_NOISE, CLUSTERING),
            ("pairwise", budget // (4 * draws), 4.0, 1.0, 1.0),
        ):
            if measured >= len(pairs) or (measured >= LEAST_PAIRS and draws >= few):
                measured = min(measured, len(pairs))
                drawn = max(budget / (cost * measured), 2.0)
                noise = 2 * UNEVENNESS * variance**2 / (drawn * (drawn - 1)) + 4 * square * variance / drawn
                sampling = tails * square**2 * (1 - measured / len(pairs))
                errors[design, draws] = RARE * (shared_noise * noise + clustering * sampling) / measured
    return errors


def pooled_error(pilot: Pilot, order: int, pairs: Tensor, n_players: int, budget: int) -> dict[tuple[str, int], float]:
    """Predicted squared error of the pooled mean square; nothing where its draws would be too few."""
    squares, singles = pooled.allocation(budget)
    if pooled.rarest_draws(order, n_players, squares, singles) < MIN_DRAWS:
        return {}
    phi_square, _ = Weights.of(order, n_players).moments(order, n_players)
    variance = UNEXPLAINED * (phi_square * pilot.value_variance / singles + pilot.square_variance / squares)
    noise = 2 * PARTS / (PARTS - 1) * variance**2 + 4 * pilot.mean_square * variance
    return {("pooled", 0): POOL_CORRELATION * noise / len(pairs)}
