"""Auto: for each order the design that a small pilot predicts to measure the strength best.

The pilot spends a share of the budget on a few second differences and a small pool; its samples are discarded, so the
choice does not bias what is measured. From it come the variance of one second difference, that of the pooled estimate
of a pair (per pass), and the mean square of the interactions; from those the error of the mean square that each design
would make with the budget. A pooled design whose effective number of draws stays below `MIN_DRAWS` is not considered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interactions.estimators import pairwise, pooled, shared, star
from interactions.estimators.sample import MIN_DRAWS, Game

PILOT_SHARE = 0.1
PILOT_RANGE = (160, 600)
DRAWS = (2, 4, 8, 16, 32)
CENTRES = (4, 8, 16, 32, 64)
OPTION = {"pairwise": "draws", "shared": "draws", "star": "centres"}
CLUSTERING = 3.0
"""Pairs of a group, or of a star, are alike and share noise: they tell as much as a third of them drawn at random."""
TAILS = 15.0
"""Variance of I² over pairs in units of its squared mean: 2 for normally distributed I, far more in real networks."""
SIGNAL_RANGE = (0.02, 0.5)
"""What the mean square can be in units of the variance of a difference. A pilot is too small to tell it well, and one
that finds nothing must not make auto measure a handful of pairs."""
POOL_CORRELATION = 3.0
"""Pooled estimates of pairs share coalitions: the noise of their mean square has three times the variance of as many
independent ones."""


@dataclass(frozen=True)
class Plan:
    """A design and its options (JSON-able), what each design was predicted to err, and the passes the pilot took.

    `predicted` holds the standard error of the mean square that each considered design would make.
    """

    design: str
    options: dict[str, int | bool] = field(default_factory=dict)
    predicted: dict[str, float] = field(default_factory=dict)
    passes: int = 0


@dataclass(frozen=True)
class Pilot:
    """What the pilot found: variances in units of v², `pool_variance` for one pass an image."""

    difference_variance: float
    marginal_variance: float
    pool_variance: float
    mean_square: float
    passes: int


def choose(games: Sequence[Game], order: int, pairs: Tensor, budget: int, generator: torch.Generator) -> Plan:
    """The plan with the least predicted error for `budget` passes an image, from a pilot on the given games.

    Orders 0 and n − 2 need none. `passes` of the plan counts the pilot on all games.

    Raises:
        ValueError: a budget too small for a pilot and a run.
    """
    n_players = games[0].n_players
    if order in (0, n_players - 2):
        return Plan("exact")
    if budget < 2 * PILOT_RANGE[0]:
        raise ValueError(f"a budget of {budget} passes is too small for a pilot: give at least {2 * PILOT_RANGE[0]}")
    pilot = run_pilot(games, order, pairs, budget, generator)
    left = budget - pilot.passes // len(games)
    asked = (pilot, order, pairs, n_players, left)
    predictions = difference_errors(*asked) | star_errors(*asked) | pooled_error(*asked)
    design, number = min(predictions, key=lambda choice: predictions[choice])
    named = {f"{name} {number}" if number else name: error**0.5 for (name, number), error in predictions.items()}
    return Plan(design, {OPTION[design]: number} if number else {}, named, pilot.passes)


def run_pilot(games: Sequence[Game], order: int, pairs: Tensor, budget: int, generator: torch.Generator) -> Pilot:
    """A few second differences and a small pool on every game."""
    n_players = games[0].n_players
    least, most = PILOT_RANGE
    passes = min(max(int(budget * PILOT_SHARE), least), most)
    variances, marginals, squares, pools, spent = [], [], [], [], 0
    for game in games:
        small = pairwise.draw(order, pairs, n_players, passes // 2, generator, draws=2)
        pool = pooled.draw(order, pairs, n_players, passes // 2, generator, surrogate=False)
        values_B = game(torch.cat([small.coalitions_BN, pool.coalitions_BN]))
        small_B = values_B[: len(small.coalitions_BN)]
        first_P, second_P = small.estimate(small_B).halves
        variances.append(small.differences(small_B).var())
        _, with_one_D, _, without_D = small_B[small.corners_4D.to(small_B.device)]
        marginals.append((with_one_D - without_D).var())
        squares.append((first_P * second_P).nanmean())
        pools.append(pool.variance(values_B[len(small.coalitions_BN) :]) * len(pool.coalitions_BN))
        spent += len(values_B)
    variance = float(torch.stack(variances).mean())
    least_signal, most_signal = (share * variance for share in SIGNAL_RANGE)
    mean_square = min(max(float(torch.stack(squares).mean()), least_signal), most_signal)
    marginal = float(torch.stack(marginals).mean())
    return Pilot(variance, marginal, sum(pools) / len(pools), mean_square, spent)


def difference_errors(
    pilot: Pilot, order: int, pairs: Tensor, n_players: int, budget: int
) -> dict[tuple[str, int], float]:
    """Predicted squared error of the mean square for differences, by design and draws a pair."""
    groups = shared.group_pairs(pairs)
    _, both = shared.coverage(order, n_players)
    group_cost = float(groups.expected_passes(order, n_players).mean())
    group_size = len(pairs) / len(groups.pairs_GE)
    errors: dict[tuple[str, int], float] = {}
    for draws in DRAWS:
        pairs_shared = int(budget / (group_cost * shared.contexts_for(draws, order, n_players))) * group_size
        pairs_pairwise = budget // (4 * draws)
        passes_per_difference = group_cost / (group_size * both)
        for design, measured, cost, clustering in (
            ("shared", pairs_shared, passes_per_difference, CLUSTERING),
            ("pairwise", pairs_pairwise, 4.0, 1.0),
        ):
            if measured >= 1:
                measured = min(measured, len(pairs))
                noise = pilot.difference_variance / (budget / (cost * measured) / 2)
                sampling = TAILS * pilot.mean_square**2 * (1 - measured / len(pairs))
                errors[design, draws] = (noise**2 + 2 * pilot.mean_square * noise + clustering * sampling) / measured
    return errors


def star_errors(pilot: Pilot, order: int, pairs: Tensor, n_players: int, budget: int) -> dict[tuple[str, int], float]:
    """Predicted squared error of the mean square for stars, by their number; none where draws would be too few."""
    errors: dict[tuple[str, int], float] = {}
    for centres in CENTRES:
        contexts, corrections = star.allocation(order, n_players, budget, centres)
        if centres > n_players or corrections < star.LEAST:
            continue
        free = star.free_share(order, n_players)
        if star.effective_draws(order, n_players, contexts * free, corrections * free) >= MIN_DRAWS:
            weight_2 = star.weights(order, n_players)
            chance_2 = weight_2.new_tensor(star.inclusion(order, n_players)).flip(0)
            spread = float(weight_2.square() @ chance_2)
            noise = pilot.marginal_variance * spread / (contexts * free / 2) / (1 - star.CORRECTION_SHARE)
            measured = len(pairs) * (1 - (1 - centres / n_players) ** 2)
            sampling = CLUSTERING * TAILS * pilot.mean_square**2 * (1 - measured / len(pairs))
            errors["star", centres] = (CLUSTERING * noise**2 + 2 * pilot.mean_square * noise + sampling) / measured
    return errors


def pooled_error(pilot: Pilot, order: int, pairs: Tensor, n_players: int, budget: int) -> dict[tuple[str, int], float]:
    """Predicted squared error of the pooled mean square; nothing where its draws would be too few."""
    squares, singles = pooled.allocation(budget)
    if pooled.effective_draws(order, n_players, squares, singles) < MIN_DRAWS:
        return {}
    noise = 2 * pilot.pool_variance / budget
    return {("pooled", 0): POOL_CORRELATION * (noise**2 + 2 * pilot.mean_square * noise) / len(pairs)}
