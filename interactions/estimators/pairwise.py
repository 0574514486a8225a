"""Pairwise design: K contexts a pair and four passes a context, as published; nothing is shared between pairs.

The released sampling (A2MIM's analysis_tools/representation_bottleneck, paper.md §1) is reproduced to the index by
`released_pairs` and `released_contexts`, which seed and draw as it does. Its rule: centres uniform over the grid,
neighbours within the radius clamped at the border (so border pairs come more often), repeated pairs rejected; pairs
are seeded by 1000·image + seed and contexts by 1000·image + m + 1 + seed.
"""

import random

import numpy as np
import torch
from torch import Tensor

from interactions.estimators.differences import DifferenceSample
from interactions.estimators.sample import PARTS, check_order, check_pairs, random_coalitions
from interactions.grid import PatchGrid


def draw(
    order: int, pairs_P2: Tensor, n_players: int, budget: int, generator: torch.Generator, *, draws: int = 8
) -> DifferenceSample:
    """`draws` contexts, or more, for each pair measured.

    All pairs if the budget holds them, else a uniform subset; the other pairs stay missing.

    Raises:
        ValueError: impossible order or pairs, or a budget that holds no pair.
    """
    check_order(order, n_players)
    check_pairs(pairs_P2, n_players)
    if budget < 4 * draws:
        raise ValueError(f"a budget of {budget} passes is too small for one pair: give at least {4 * draws}")
    measured = min(len(pairs_P2), budget // (4 * draws))
    contexts = budget // (4 * measured)
    pair_M = torch.randperm(len(pairs_P2), generator=generator)[:measured].sort().values
    # Free cells other than i and j are n − 2; contexts are drawn among them and then spread over the grid.
    free_MKn = random_coalitions(measured * contexts, n_players - 2, order, generator)
    contexts_MKN = spread(free_MKn.view(measured, contexts, -1), pairs_P2[pair_M])
    return from_contexts(order, pairs_P2, contexts_MKN, pair_M)


def released_pairs(grid: PatchGrid, pairs: int, radius: int, image: int, seed: int) -> Tensor:
    """The pairs that the released code draws for an image (its position in the list): P×2, in its order.

    Raises:
        ValueError: more pairs than the grid has within the radius.
    """
    if pairs > len(grid.neighbours(radius)):
        raise ValueError(f"{pairs} pairs do not fit a {grid.side}×{grid.side} grid with radius {radius}")
    chooser, numpy_random = random.Random(1000 * image + seed), np.random.RandomState(1000 * image + seed)
    steps = [(r, c) for r in range(-radius, radius + 1) for c in range(-radius, radius + 1) if (r, c) != (0, 0)]
    drawn: list[tuple[int, int]] = []
    while len(drawn) < pairs:
        row, column = numpy_random.randint(0, grid.side), numpy_random.randint(0, grid.side)
        step = chooser.choice(steps)
        other_row = min(max(row + step[0], 0), grid.side - 1)
        other_column = min(max(column + step[1], 0), grid.side - 1)
        first, second = row * grid.side + column, other_row * grid.side + other_column
        if first != second and (first, second) not in drawn and (second, first) not in drawn:
            drawn.append((first, second))
    return torch.tensor(drawn)


def released_contexts(pairs_P2: Tensor, order: int, contexts: int, n_players: int, image: int, seed: int) -> Tensor:
    """The contexts that the released code draws for those pairs at one order: bool P×K×n."""
    numpy_random = np.random.RandomState(1000 * image + order + 1 + seed)
    contexts_PKN = torch.zeros(len(pairs_P2), contexts, n_players, dtype=torch.bool)
    for row, pair in enumerate(pairs_P2.tolist()):  # one stream of random numbers, consumed pair by pair
        free = [cell for cell in range(n_players) if cell not in pair]
        for column in range(contexts):
            contexts_PKN[row, column, numpy_random.choice(free, order, replace=False)] = True
    return contexts_PKN


def draw_released(
    order: int, pairs: int, contexts: int, grid: PatchGrid, radius: int, image: int, seed: int
) -> DifferenceSample:
    """The released protocol's own sample for one image and order: its pairs, contexts, seeds and slot order."""
    check_order(order, grid.n_players)
    pairs_P2 = released_pairs(grid, pairs, radius, image, seed)
    contexts_PKN = released_contexts(pairs_P2, order, contexts, grid.n_players, image, seed)
    return from_contexts(order, pairs_P2, contexts_PKN, torch.arange(pairs))


def from_contexts(order: int, pairs_P2: Tensor, contexts_MKN: Tensor, pair_M: Tensor) -> DifferenceSample:
    """The sample of given contexts, K for each of the pairs numbered by `pair_M`.

    Coalitions stand in the published slot order: S∪{i,j}, S∪{i}, S∪{j}, S for each context in turn.
    """
    measured, contexts, n_players = contexts_MKN.shape
    chosen_M2 = pairs_P2[pair_M]
    first_M1N = torch.nn.functional.one_hot(chosen_M2[:, 0], n_players).bool()[:, None]
    second_M1N = torch.nn.functional.one_hot(chosen_M2[:, 1], n_players).bool()[:, None]
    slots = [contexts_MKN | first_M1N | second_M1N, contexts_MKN | first_M1N, contexts_MKN | second_M1N, contexts_MKN]
    return DifferenceSample(
        order=order,
        pairs_P2=pairs_P2,
        design="pairwise",
        coalitions_BN=torch.stack(slots, 2).reshape(-1, n_players),
        corners_4D=torch.arange(4 * measured * contexts).view(-1, 4).T,
        pair_D=pair_M.repeat_interleave(contexts),
        part_D=torch.arange(contexts).repeat(measured) % PARTS,
    )


def spread(free_MKn: Tensor, pairs_M2: Tensor) -> Tensor:
    """Contexts over the n − 2 free cells of each pair, as contexts over all n cells: bool M×K×n."""
    measured, contexts, free = free_MKn.shape
    cells_MN = torch.arange(free + 2).expand(measured, -1)
    is_free_MN = (cells_MN != pairs_M2[:, :1]) & (cells_MN != pairs_M2[:, 1:])
    contexts_MKN = torch.zeros(measured, contexts, free + 2, dtype=torch.bool)
    contexts_MKN[is_free_MN[:, None].expand_as(contexts_MKN)] = free_MKn.reshape(-1)
    return contexts_MKN
