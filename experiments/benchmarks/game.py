"""`a2mim bench game`: what the game costs on top of the model that it plays."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from a2mim.bounds import Count, Grid, Threads
from interactions.settings import SpeedName

if TYPE_CHECKING:
    import torch

    from interactions.game import PatchGame


@dataclass(frozen=True)
class Settings:
    """Time the patch game against the bare model's forward pass.

    The bare model runs on ready-made batches of the same size, memory layout and precision, in turns with the game.
    The ratio is the game's passes per second over the bare model's: the median over the repeats, with the 95 %
    bootstrap interval of that median. Weights are random and the images noise; neither changes the time. Writes
    cpu.csv and cpu.json, or those of the accelerator.

    For example:
        a2mim bench game
        a2mim bench game resnet50 vit_base_patch16_224 --device cuda --amp bfloat16
    """

    models: tyro.conf.Positional[tuple[str, ...]] = ("resnet50", "vit_small_patch16_224", "convnext_tiny")
    """timm names, or factories module:function."""
    out: Path = Path("runs/bench/game")
    """Folder of the results (of those that are committed: experiments/results/game)."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    batch_size: Count | None = None
    """Coalitions in one forward pass; without it, what the game finds best."""
    batches: Count = 2
    """Batches in one timing."""
    repeats: Count = 15
    """Timings of each, twice."""
    images: Count = 4
    """Images whose coalitions share a batch, as in a profile."""
    grid: Grid = 14
    """Cells along one side of the image."""
    amp: str | None = None
    """bfloat16 or float16; without it float32, TF32 off."""
    speed: SpeedName = "auto"
    """How both run: plain, channels-last, folded, compiled, or auto for what is fastest without compilation."""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""

    def check(self) -> None:
        """Raises ValueError for settings with which nothing can be timed."""
        if not self.models:
            raise ValueError("no model to time: name at least one, such as resnet50")


def run(settings: Settings) -> None:
    """Time every model, print the table and write it."""
    import pandas as pd

    from experiments.benchmarks.record import begin, write_results
    from experiments.machine import pick_device

    device = pick_device(settings.device)
    record = begin(settings, device)
    times = {name: time_model(name, settings, device) for name in settings.models}
    table = pd.DataFrame([row(name, times[name]) for name in times])
    print(table.to_string(index=False, float_format="{:.3f}".format))
    write_results(settings.out, device.type, table.round(4), record | {"seconds": times})


def time_model(name: str, settings: Settings, device: "torch.device") -> dict[str, Any]:
    """The batch size of one model, and the seconds of the bare forward pass (first) and of the game (second)."""
    import torch

    from experiments.benchmarks.timing import time_in_turns
    from experiments.models import create_model
    from interactions.game import PatchGame
    from interactions.grid import PatchGrid
    from interactions.speed import choose

    model, config = create_model(name, "random")
    generator = torch.Generator().manual_seed(0)
    game = PatchGame(
        model.to(device),
        torch.randn(settings.images, *config["input_size"], generator=generator),
        torch.zeros(settings.images, dtype=torch.long),
        PatchGrid(settings.grid),
        amp=settings.amp,
    )
    choose(game, settings.speed, settings.batch_size)
    size = game.batch_size
    assert size is not None
    passes = size * settings.batches
    coalitions_BN = torch.rand(passes, game.n_players, generator=generator) < 0.5
    image_B = torch.arange(passes) % settings.images
    x_BCHW = torch.randn(size, *config["input_size"], generator=generator).to(device, memory_format=game.speed.layout)

    def forward() -> None:
        for _ in range(settings.batches):
            bare_forward(game, x_BCHW)

    times = time_in_turns(forward, lambda: game(coalitions_BN, image_B), settings.repeats, device, name)
    if game.backed_off:
        raise ValueError(f"{name} runs out of memory at {size} coalitions a batch: give a smaller --batch-size")
    return {"speed": str(game.speed), "batch_size": size, "passes": passes, **times}


def bare_forward(game: "PatchGame", x_BCHW: "torch.Tensor") -> "torch.Tensor":
    """The game's own network on a ready-made batch, in the game's precision."""
    import torch

    from interactions.full_precision import full_precision
    from interactions.game import AMP_DTYPES

    amp = torch.autocast(game.device.type, AMP_DTYPES.get(game.amp or ""), game.amp is not None)
    with torch.inference_mode(), full_precision(), amp:
        return game.network(x_BCHW)


def row(name: str, times: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    import numpy as np

    from experiments.benchmarks.timing import speed_ratio

    ratio, low, high = speed_ratio(times)
    return {
        "model": name,
        "speed": times["speed"],
        "batch_size": times["batch_size"],
        "repeats": len(times["first"]),
        "bare_per_second": times["passes"] / float(np.median(times["first"])),
        "game_per_second": times["passes"] / float(np.median(times["second"])),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
    }
