"""One work unit of a profile: the coalitions of its images, evaluated together, and the tables that come of them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interactions.batches import Batches
from interactions.estimators import Interactions, Plan, Sample, draw
from interactions.estimators.pairwise import draw_released
from interactions.estimators.pooled import PooledSample
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.levels import in_precision
from interactions.published import PUBLISHED, contexts_of
from interactions.runs.unfinished import Unfinished
from interactions.segments import Segments
from interactions.selection import Chosen
from interactions.settings import ProfileSettings
from interactions.strength import image_row

PILOT, COALITIONS, LEVELS = 0, 1, 2
"""Purposes of random streams: what one draws must not depend on how much another has drawn."""

IMAGE_TYPES = {"image": "int32", "order": "int32", "look": "int32", "passes": "int64", "pairs": "int32"}


@dataclass(frozen=True)
class Task:
    """What is measured in an image: the pairs P×2, the orders with their ratios, and each order's plan and passes; the
    look is 0 for an image that was not measured before (`interactions.looks`)."""

    grid: PatchGrid | Segments
    pairs: Tensor
    ratios: Mapping[int, float]
    plans: Mapping[int, Plan]
    budgets: Mapping[int, int]
    settings: ProfileSettings
    look: int = 0


def measure(
    task: Task, game: PatchGame, chosen: Sequence[Chosen], kept: Unfinished | None = None
) -> dict[int, list[Interactions]]:
    """The interactions of each of the game's images, by order, ascending.

    kept: keeps the values of the rows that are done, for whoever goes on where this one was interrupted.
    """
    other = in_precision(game, task.settings.amp)
    full, reduced = Batches(game, kept), Batches(other, kept, first=1)
    drawn: list[list[Sample]] = []
    levels: list[Tensor] = []
    pool = ThreadPoolExecutor(1)  # coalitions of the next orders are drawn while the device is busy with this one's
    try:
        for samples in pool.map(lambda order: [draw_sample(task, order, one) for one in chosen], task.plans):
            counts = torch.tensor([len(sample.coalitions_BN) for sample in samples])
            rows_BN = torch.cat([sample.coalitions_BN for sample in samples])
            image_B = torch.arange(len(samples)).repeat_interleave(counts)
            reduced_B = torch.cat([reduced_rows(sample) for sample in samples])
            full.add(rows_BN[~reduced_B], image_B[~reduced_B])
            reduced.add(rows_BN[reduced_B], image_B[reduced_B])
            drawn.append(samples)
            levels.append(reduced_B)
    finally:
        pool.shutdown(cancel_futures=True)
    values_B = torch.empty(sum(map(len, levels)), dtype=torch.float64, device=game.device)
    reduced_B = torch.cat(levels).to(game.device)
    values_B[~reduced_B], values_B[reduced_B] = full.values(), reduced.values()
    game.passes += other.passes
    if other.backed_off and not game.backed_off:
        game.batch_size, game.backed_off = other.batch_size, True
    parts = iter(values_B.split([len(sample.coalitions_BN) for samples in drawn for sample in samples]))
    return {
        order: [_estimated(sample, next(parts)) for sample in samples]
        for order, samples in zip(task.plans, drawn, strict=True)
    }


def draw_sample(task: Task, order: int, one: Chosen) -> Sample:
    """The coalitions of one image and order: the same for any batch size, unit or number of processes.

    Raises:
        ValueError: a budget too small for the design.
    """
    settings, plan, budget = task.settings, task.plans[order], task.budgets[order]
    if plan.design == PUBLISHED:
        assert isinstance(task.grid, PatchGrid)  # others are refused (`check_published`)
        pairs, contexts = settings.published_pairs, contexts_of(budget, settings.published_pairs)
        exact = bool(plan.options.get("exact"))
        if order in (0, task.grid.max_order):  # the only one there is; older runs have it once for each half
            contexts = 1 if exact else 2
        sample = draw_released(order, pairs, contexts, task.grid, settings.radius, one.position, settings.seed)
        return replace(sample, exact=exact)
    generator = random_stream(COALITIONS, settings.seed, order, one.image, task.look)
    return draw(plan, order, task.pairs, task.grid.n_players, budget, generator)


def random_stream(purpose: int, seed: int, order: int, image: int = 0, look: int = 0) -> torch.Generator:
    """A CPU generator that no other purpose, seed, order, image or look shares, but for a chance of 2⁻³² each."""
    again = [look] if look else []  # the first look at an image has the numbers that it always had
    state = np.random.SeedSequence([purpose, order, image, seed, *again]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def image_table(task: Task, chosen: Sequence[Chosen], measured: Mapping[int, Sequence[Interactions]]) -> pd.DataFrame:
    """One row per (image, order) of a look, an image's orders together."""
    rows = [
        {
            "image": one.image,
            "order": order,
            "ratio": task.ratios[order],
            "look": task.look,
            "design": PUBLISHED if task.plans[order].design == PUBLISHED else measured[order][k].design,
            "passes": measured[order][k].passes,
            **image_row(measured[order][k]),
        }
        for k, one in enumerate(chosen)
        for order in measured
    ]
    return pd.DataFrame(rows).astype(IMAGE_TYPES)


def pair_table(task: Task, chosen: Sequence[Chosen], measured: Mapping[int, Sequence[Interactions]]) -> pd.DataFrame:
    """One row per (image, order, measured pair): count is the effective number of draws, infinite where exact."""
    parts = [_pair_rows(one.image, task.look, measured[order][k]) for k, one in enumerate(chosen) for order in measured]
    return pd.concat(parts, ignore_index=True)


def reduced_rows(sample: Sample) -> Tensor:
    """Which rows of a sample are evaluated in reduced precision: singles of pools in two levels, and nothing else."""
    reduced_B = sample.reduced_B if isinstance(sample, PooledSample) else None
    return torch.zeros(len(sample.coalitions_BN), dtype=torch.bool) if reduced_B is None else reduced_B


def _estimated(sample: Sample, values_B: Tensor) -> Interactions:
    # Sums over differences are scattered, which an accelerator does in a random order: the CPU repeats them to the bit.
    return sample.estimate(values_B if isinstance(sample, PooledSample) else values_B.cpu())


def _pair_rows(image: int, look: int, interactions: Interactions) -> pd.DataFrame:
    measured_P = interactions.mean.isfinite().cpu()
    pairs_P2 = interactions.pairs.cpu()[measured_P].numpy()
    pairs_P2 = pairs_P2.astype(np.int16 if pairs_P2.max(initial=0) <= np.iinfo(np.int16).max else np.int32)
    numbers = {
        "count": interactions.draws,
        "mean": interactions.mean,
        "standard_error": interactions.standard_error,
        "half_1": interactions.halves[0],
        "half_2": interactions.halves[1],
    }
    columns = {name: values.cpu()[measured_P].numpy().astype(np.float32) for name, values in numbers.items()}
    cells = {"i": pairs_P2[:, 0], "j": pairs_P2[:, 1]}
    place = {"image": np.int32(image), "order": np.int32(interactions.order), "look": np.int32(look), **cells}
    return pd.DataFrame({**place, **columns}, index=range(len(pairs_P2)))
