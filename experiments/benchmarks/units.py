"""`a2mim bench units`: what whole units of a profile cost on top of the best bare forward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import tyro

from a2mim.bounds import Count, Grid, Pixels, Share, Threads
from a2mim.errors import one_line
from interactions.settings import SpeedName

if TYPE_CHECKING:
    import torch

    from interactions.game import PatchGame
    from interactions.speed import Speed


@dataclass(frozen=True)
class Settings:
    """Time whole units of a profile against the fastest bare forward pass of the same network.

    A unit is all that `a2mim profile` does with a few images: coalitions are drawn, painted and evaluated, interactions
    estimated, tables made and written. It runs as a long profile would (--speed). The bare pass is the fastest of all
    ways (layouts, folded, compiled) and batch sizes, on ready-made batches. Both take turns, and the ratio is the
    unit's passes per second over the bare ones: the median over the repeats, with the 95 % bootstrap interval of that
    median. Weights are random and the images noise; neither changes the time. Reading images is not in it. Writes
    MODEL.json for each network, with machine and load, and units.csv of all that are there; a network that is there
    already is not timed again, and those that other settings timed are refused.

    For example:
        a2mim bench units
        a2mim bench units tf_efficientnet_lite0 --repeats 5
    """

    models: tyro.conf.Positional[tuple[str, ...]] = (
        "resnet50",
        "convnext_tiny",
        "vit_small_patch16_224",
        "tf_efficientnet_lite0",
    )
    """timm names."""
    out: Path = Path("runs/bench/units")
    """Folder of the results (of those that are committed: experiments/results/units)."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    image_size: Pixels = 112
    """Side of the images in pixels."""
    grid: Grid = 14
    """Cells along one side of the image."""
    images: Count = 4
    """Of a unit."""
    budget: Count = 200
    """Passes of each image and order."""
    ratios: tuple[Share, ...] = (0.3, 0.7)
    """Orders of a unit, as shares of n − 2."""
    repeats: Count = 3
    """Timings of each, twice."""
    batch_size: Count | None = None
    """Coalitions in one forward pass of a unit; without it, what the game finds best."""
    speed: SpeedName = "auto"
    """How the unit runs: plain, channels-last, folded, compiled, or auto for what a long profile would choose. (Only
    beside auto and compiled the bare pass is tried compiled, too.)"""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""


SHARE = 4
"""A bare timing takes one of so many of a unit's passes."""
LONG = 10**7
"""Passes of a run in which compilation pays."""


def run(settings: Settings) -> None:
    """Time every network that is not there yet, print the table and write it."""
    import pandas as pd

    from experiments.benchmarks.record import begin, file_name
    from experiments.machine import pick_device
    from interactions.runs.files import write_csv, write_json

    if not settings.models:
        raise ValueError("no model to time: name at least one, such as resnet50")
    device = pick_device(settings.device)
    there = timed(settings.out)
    refuse_unlike(settings, device, there)
    for name in settings.models:
        path = settings.out / f"{file_name(name)}.json"
        if path in there:
            print(f"{name} is there already: remove {path} to time it again")
            continue
        record = begin(settings, device)  # of each network by itself, as the load is
        times = time_network(name, settings, device)
        write_json(path, {**record, "model": name, "seconds": times, "result": row(name, times, record["machine"])})
    table = pd.DataFrame([record["result"] for record in timed(settings.out).values()])
    write_csv(settings.out / "units.csv", table.round(4))
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(f"wrote {settings.out / 'units.csv'} and one .json for each network")


def timed(folder: Path) -> dict[Path, dict[str, Any]]:
    """What this benchmark wrote of each network that is there; other .json files of the folder are not its own."""
    from figures.files import read_json

    found = {}
    for path in sorted(folder.glob("*.json")):
        with suppress(ValueError):
            found[path] = read_json(path)
    return {path: record for path, record in found.items() if "result" in record}


def refuse_unlike(settings: Settings, device: torch.device, there: dict[Path, dict[str, Any]]) -> None:
    """Raises ValueError where a network was timed with other settings, or its file is another command's."""
    from experiments.benchmarks.record import file_name
    from experiments.machine import provenance

    now = provenance(settings, device)["settings"]
    for path, record in there.items():
        before = record["settings"]
        differ = [name for name in now if name != "models" and before.get(name) != now[name]]
        if differ:
            changes = "; ".join(f"{name} {before.get(name)} there, {now[name]} now" for name in differ)
            raise ValueError(f"{path} was timed with other settings ({changes}): repeat them, or give another --out")
    for path in (settings.out / f"{file_name(name)}.json" for name in settings.models):
        if path.exists() and path not in there:
            raise ValueError(f"{path} is of another command, or damaged: give another folder with --out")


def time_network(name: str, settings: Settings, device: torch.device) -> dict[str, Any]:
    """How one network runs, and the seconds of bare passes (first) and of whole units (second)."""
    from experiments.benchmarks.timing import time_in_turns
    from interactions.speed import settle

    game = make_game(name, settings, device)
    settle(game, settings.speed, settings.batch_size, LONG)
    with TemporaryDirectory() as folder:
        unit, passes = make_unit(game, settings, Path(folder))
        unit()  # a compiled network and the estimators' tables are made in the first one
        speed, size, bare = best_bare(game, settings.speed in ("auto", "compiled"))
        batches = max(1, passes // (SHARE * size))

        def some() -> None:
            for _ in range(batches):
                bare()

        times = time_in_turns(some, unit, settings.repeats, device, name)
    return {
        "speed": str(game.speed),
        "batch_size": game.batch_size,
        "passes": passes,
        "bare_speed": str(speed),
        "bare_batch_size": size,
        "bare_passes": batches * size,
        **times,
    }


def make_game(name: str, settings: Settings, device: torch.device) -> PatchGame:
    """The network on random weights, and noise to look at."""
    import torch

    from experiments.datasets import size_arguments
    from experiments.models import create_model
    from interactions.game import PatchGame
    from interactions.grid import PatchGrid

    sizes: dict[str, Any] = size_arguments(name, settings.image_size)
    model, config = create_model(name, "random", **sizes)
    generator, side = torch.Generator().manual_seed(0), settings.image_size
    images_ICHW = torch.randn(settings.images, config["input_size"][0], side, side, generator=generator)
    return PatchGame(model.to(device), images_ICHW, [0] * settings.images, PatchGrid(settings.grid))


def make_unit(game: PatchGame, settings: Settings, folder: Path) -> tuple[Callable[[], None], int]:
    """A function that measures and writes one unit, and how many passes it takes.

    Raises:
        ValueError: a budget too small for an order.
    """
    from interactions.estimators import Plan
    from interactions.grid import PatchGrid, orders_of
    from interactions.runs import storage
    from interactions.runs.unfinished import Unfinished
    from interactions.selection import Chosen
    from interactions.settings import ProfileSettings
    from interactions.units import Task, draw_sample, image_table, measure, pair_table

    ratios, n = dict(sorted(orders_of(settings.ratios, game.n_players).items())), game.n_players
    ends = {0: Plan("exact", {"subset": True}), n - 2: Plan("exact", {"subset": True})}
    plans = {order: ends.get(order, Plan("pooled")) for order in ratios}
    measured = ProfileSettings(grid=settings.grid, budget=settings.budget, images=settings.images).resolved()
    grid, budgets = PatchGrid(settings.grid), dict.fromkeys(ratios, settings.budget)
    pairs_P2 = grid.neighbours(min(2, settings.grid - 1))
    task = Task(grid, pairs_P2, ratios, plans, budgets, measured)
    chosen = [Chosen(k, k, f"noise {k}", 0, 0, "") for k in range(settings.images)]

    def unit() -> None:
        kept = Unfinished(folder, 0)
        found = measure(task, game, chosen, kept)
        parts: dict[storage.Part, Any] = {
            "images": image_table(task, chosen, found),
            "pairs": pair_table(task, chosen, found),
        }
        storage.write_unit(folder, 0, parts, {"batch_size": game.batch_size})
        kept.clear()

    return unit, sum(len(draw_sample(task, order, one).coalitions_BN) for order in plans for one in chosen)


def best_bare(game: PatchGame, compiles: bool) -> tuple[Speed, int, Callable[[], object]]:
    """The fastest way and batch size of the bare network, and what passes one such batch.

    compiles: try compilation, too, which takes a minute; at the unit's batch size.
    """
    import copy
    from functools import partial

    import torch

    from experiments.benchmarks.game import bare_forward
    from interactions.speed import BATCHES, BATCHES_ELSEWHERE, EAGER, in_turns

    sizes = BATCHES.get(game.device.type, BATCHES_ELSEWHERE)
    candidates: list[tuple[Speed, int, Callable[[], object]]] = []
    times: list[float] = []

    def consider(speed: Speed, sizes: tuple[int, ...]) -> None:
        own = copy.copy(game)
        if own.speed != speed:
            own.run_as(speed)
        if own.folds != speed.folded:
            return
        for size in sizes:
            shape = (size, *game.images_ICHW.shape[1:])
            x_BCHW = torch.randn(shape, device=game.device).contiguous(memory_format=speed.layout)
            candidates.append((speed, size, partial(bare_forward, own, x_BCHW)))

    for speed in EAGER:
        consider(speed, sizes)
    times = in_turns([task for _, _, task in candidates], game.device)
    best = min(range(len(times)), key=lambda k: times[k] / candidates[k][1])
    eager, size, _ = candidates[best]
    candidates = [candidates[best]]
    if not compiles:
        return candidates[0]
    try:
        consider(replace(eager, folded=False, compiled=True), (game.batch_size or size,))
        times = in_turns([task for _, _, task in candidates], game.device)
    except Exception as error:  # what a compiler meets in a network may be anything at all
        print(f"note: torch.compile does not work here ({one_line(error)[:200]})")
        return candidates[0]
    return candidates[min(range(len(times)), key=lambda k: times[k] / candidates[k][1])]


def row(name: str, times: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    import numpy as np

    from experiments.benchmarks.timing import speed_ratio

    bare, whole = (np.array(times[key]) for key in ("first", "second"))
    ratio, low, high = speed_ratio({"first": bare / times["bare_passes"], "second": whole / times["passes"]})
    return {
        "model": name,
        "unit": f"{times['speed']}, {times['batch_size']}",
        "bare": f"{times['bare_speed']}, {times['bare_batch_size']}",
        "repeats": len(bare),
        "bare_per_second": times["bare_passes"] / float(np.median(bare)),
        "unit_per_second": times["passes"] / float(np.median(whole)),
        "ratio": ratio,
        "ratio_low": None if np.isnan(low) else low,
        "ratio_high": None if np.isnan(high) else high,
        "load": machine["load_average"],
    }
