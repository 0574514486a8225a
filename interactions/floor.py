"""The numerical floor: how far rounding alone moves a second difference Δv.

Δv is a difference of near-equal numbers. A strength within ten times the floor is not to be trusted.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from interactions.estimators import pairwise
from interactions.game import PatchGame
from interactions.outputs import DoesNotRun, one_line
from interactions.speed import copied

PAIRS, CONTEXTS = 4, 2
"""Differences that the floor of one order is taken from, at most: 32 passes, and as many in float64."""
COST = 4 * CONTEXTS * (1 + 10)
"""Of a pair's differences, in passes: a CPU takes ten times as long for one in float64."""


def numerical_floors(
    game: PatchGame, model: nn.Module, orders: Iterable[int], pairs: Tensor, seed: int = 0, most: int = PAIRS
) -> dict[int, float]:
    """For each order the root mean square of Δv as the game computes it minus Δv in float64, in units of v.

    Measured on the game's first image, with random contexts of random ones of the pairs.

    Args:
        model: the game's own module; a float64 copy of it is made for the time being.
        pairs: P×2 cell numbers.
        most: pairs of each order, 8 passes each and as many in float64.

    Raises:
        FloatingPointError: a model that does not run in float64.
    """
    generator = torch.Generator().manual_seed(seed)
    budget = 4 * min(most, PAIRS) * CONTEXTS
    samples = [pairwise.draw(order, pairs, game.n_players, budget, generator, draws=CONTEXTS) for order in orders]
    coalitions_BN = torch.cat([sample.coalitions_BN for sample in samples])
    values_B = game.of(0)(coalitions_BN).cpu()
    error_B = values_B - _in_double(game, model, coalitions_BN)
    parts = error_B.split([len(sample.coalitions_BN) for sample in samples])
    # Differences are linear in v, so those of the errors are the errors of the differences.
    return {
        sample.order: float(sample.differences(part_B).square().mean().sqrt())
        for sample, part_B in zip(samples, parts, strict=True)
    }


def _in_double(game: PatchGame, model: nn.Module, coalitions_BN: Tensor) -> Tensor:
    """v in float64, on the CPU. Small batches: the copy of the weights and its activations take twice the memory."""
    try:
        own = copied(model)
    except ValueError as error:
        raise FloatingPointError(str(error)) from error
    # A CPU takes twice as long for float64 convolutions in channels-last.
    double = game.double(own.double().to(memory_format=torch.contiguous_format))
    double.batch_size = max(1, (game.batch_size or 8) // 8)
    try:
        values_B = double.of(0)(coalitions_BN).cpu()
    except (RuntimeError, DoesNotRun) as error:
        raise FloatingPointError(f"the model does not run in float64 ({one_line(error)})") from error
    game.passes += double.passes
    return values_B
