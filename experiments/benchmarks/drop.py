"""`a2mim bench drop`: what removing tokens gains over painting: time for equal passes and for equal precision."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from a2mim.bounds import Budget, Count, Grid, Natural, Share, Threads

if TYPE_CHECKING:
    from interactions.game import PatchGame


@dataclass(frozen=True)
class Settings:
    """Time the baseline drop against the baseline mean on a vision transformer, order by order, in one run.

    For equal passes: both games evaluate the same coalitions, in turns; `speed` is how many times faster drop is
    (median over the repeats, 95 % bootstrap interval). For equal precision: both measure the mean square of the
    interactions in the same images with the same coalitions; what an image's estimate varies by, squared and in units
    of the mean square, says how many images a relative standard error takes, so that `gain` is speed × that of mean
    over that of drop (interval: images resampled, at the median speed). They are two games: their interactions differ,
    and so do their relative errors. Images are noise where no --data are given. Writes MODEL.csv and MODEL.json.

    For example:
        a2mim bench drop vit_small_patch16_224
        a2mim bench drop vit_tiny_patch16_224 --weights vit.pth --data val.tar --images 32 --budget 1000
    """

    model: tyro.conf.Positional[str] = "vit_tiny_patch16_224"
    """A timm name, or a factory module:function."""
    weights: str = "random"
    """random, pretrained, or a checkpoint file."""
    data: str | None = None
    """A folder or a .tar of images."""
    out: Path = Path("runs/bench/drop")
    """Folder of the results (of those that are committed: experiments/results/drop)."""
    ratios: tuple[Share, ...] = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
    """Orders, as shares of n − 2."""
    grid: Grid = 14
    """Cells along one side of the image."""
    radius: Count = 2
    """Pairs of cells at most so many rows and columns apart."""
    batch_size: Count = 8
    """Coalitions in one pass, of whole images."""
    batches: Count = 2
    """Batches in one timing."""
    repeats: Count = 5
    """Timings of each, twice."""
    images: Natural = 8
    """Of the precision; 0 times alone."""
    budget: Budget = 350
    """Passes of an image and order."""
    seed: Natural = 0
    """Of weights, coalitions and images."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""


def run(settings: Settings) -> None:
    """Time and measure, print the table and write it."""
    import pandas as pd
    from tqdm import tqdm

    from experiments.benchmarks.playing import play
    from experiments.benchmarks.record import begin, file_name, write_results
    from experiments.machine import pick_device
    from interactions.grid import PatchGrid, orders_of

    grid = PatchGrid(settings.grid)
    orders = dict(sorted(orders_of(settings.ratios, grid.n_players).items()))
    if 0 in orders or grid.max_order in orders:
        raise ValueError("the first and the last order are exact: give --ratios that lie between")
    refuse_small_budget(settings, grid, orders)
    device = pick_device(settings.device)
    record = begin(settings, device) | {"load_before": os.getloadavg()}
    asked = (settings.model, settings.weights, settings.data, max(settings.images, 1), grid, device)
    size, seed = settings.batch_size, settings.seed
    games = {baseline: play(*asked, baseline=baseline, seed=seed, batch_size=size) for baseline in ("mean", "drop")}
    rows, times = [], {}
    for order, ratio in tqdm(orders.items(), "orders"):
        times[order] = time_order(settings, games, order)
        rows.append({"order": order, "ratio": ratio, **row(settings, games, grid, order, times[order])})
    table, name = pd.DataFrame(rows), file_name(settings.model)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    write_results(settings.out, name, table, record | {"load_after": os.getloadavg(), "seconds": times})


def refuse_small_budget(settings: Settings, grid: Any, orders: Iterable[int]) -> None:
    """Raises ValueError for fewer passes than an order takes, before any is timed."""
    from interactions.estimators import check_budget

    for order in orders if settings.images else ():
        check_budget(settings.budget, "shared", order, grid.neighbours(settings.radius), grid.n_players)


def time_order(settings: Settings, games: "dict[str, PatchGame]", order: int) -> dict[str, Any]:
    """Seconds of mean (first) and of drop (second), on coalitions of the order's middle size."""
    import torch

    from experiments.benchmarks.timing import time_in_turns
    from interactions.estimators.sample import random_coalitions

    game = games["mean"]
    generator = torch.Generator().manual_seed(settings.seed)
    coalitions_BN = random_coalitions(settings.batches * settings.batch_size, game.n_players, order + 1, generator)
    mean, drop = games["mean"], games["drop"]
    return time_in_turns(lambda: mean(coalitions_BN), lambda: drop(coalitions_BN), settings.repeats, mean.device)


def row(
    settings: Settings, games: "dict[str, PatchGame]", grid: Any, order: int, times: dict[str, Any]
) -> dict[str, float]:
    """The ratios of one order."""
    import numpy as np

    from experiments.benchmarks.timing import speed_ratio

    speed, low, high = speed_ratio(times)
    found = {"speed": speed, "speed_low": low, "speed_high": high}
    if not settings.images:
        return found
    squares = {name: mean_squares(settings, game, grid, order) for name, game in games.items()}
    gain, drawn = speed * needs(squares["mean"]) / needs(squares["drop"]), resampled(settings, squares)
    rms = {f"rms_{name}": float(np.sqrt(max(of.mean(), 0))) for name, of in squares.items()}
    low, high = (float(each) for each in speed * np.nanquantile(drawn, [0.025, 0.975]))
    return found | {"gain": gain, "gain_low": low, "gain_high": high, **rms, "images": settings.images}


def mean_squares(settings: Settings, game: "PatchGame", grid: Any, order: int) -> Any:
    """Unbiased estimates of the mean square of each image, from the same coalitions in both games."""
    import numpy as np

    from experiments.benchmarks.playing import mean_square
    from interactions.estimators import Plan

    asked = (Plan("shared"), order, grid.neighbours(settings.radius), settings.budget)
    return np.array([mean_square(game, k, *asked, 1000 * settings.seed + k) for k in range(settings.images)])


def needs(squares: Any) -> float:
    """Images that a relative standard error of 1 of their mean takes."""
    return float(squares.var(ddof=1) / squares.mean() ** 2)


def resampled(settings: Settings, squares: dict[str, Any]) -> Any:
    """The ratio of `needs`, mean over drop, over images drawn again, the same for both."""
    import numpy as np

    index_RI = np.random.default_rng(settings.seed).integers(settings.images, size=(2000, settings.images))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, drop = (of[index_RI].var(1, ddof=1) / of[index_RI].mean(1) ** 2 for of in squares.values())
        return mean / drop
