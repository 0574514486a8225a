"""`a2mim bench train`: what the training loop costs on top of the bare step, and whether loading images keeps up."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import tyro

from a2mim.bounds import Count, Natural, Threads

if TYPE_CHECKING:
    import torch

    from a2mim.data import Source
    from a2mim.methods import Method
    from a2mim.plan import Plan
    from experiments.commands.pretrain import Settings as Pretrain


@dataclass(frozen=True)
class Settings:
    """Time a step of the training loop against a bare step, and the loading of images against both.

    The bare step is forward, loss, backward, optimizer step and momentum copy on one ready batch. The loop does the
    same as `a2mim pretrain` does it, images in memory: it also crops, flips and normalises them, seeds, schedules,
    looks for NaN, and logs. Both take turns; the overhead is the loop's time over the bare step's: the median over the
    repeats, with the 95 % bootstrap interval of that median. Clipping, which is a recipe's wish, is left out of both.
    Weights are random and the images noise; neither changes the time. A recipe that names no layout is timed without
    channels-last. With --data, reading, decoding and augmenting these images in --workers processes is timed alone:
    whichever is slower, that or the step, is the bottleneck. Writes cpu.csv and cpu.json, or those of the accelerator.

    For example:
        a2mim bench train
        a2mim bench train imagenet:a2mim_resnet50 --data imagenet/train --workers 8 --batch-size 256 --precision bf16
        a2mim bench train --quick
    """

    recipes: tyro.conf.Positional[tuple[str, ...]] = ()
    """Recipes of `a2mim pretrain`; without them A²MIM's ResNet-50 and ViT-S at 224 px, and the small ones at 32 px."""
    out: Path | None = None
    """Folder of the results (of those that are committed: experiments/results/train); without it runs/bench/train, and
    none with --quick."""
    data: str = ""
    """Images whose loading is timed: a folder, a .tar, or a data set that timm knows."""
    workers: Natural = 4
    """Processes that load them."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    batch_size: Count | None = None
    """Images per step; without it 16 on the CPU and 128 elsewhere."""
    steps: Count = 2
    """Steps in one timing."""
    repeats: Count = 15
    """Timings of each, twice."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of both."""
    compile: bool = False
    """torch.compile the method for both."""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""
    seed: Natural = 0
    """Of weights, masks and augmentation."""
    quick: bool = False
    """One small network, few repeats: does it run?"""


RECIPES = ("imagenet:a2mim_resnet50", "imagenet:a2mim_vit_small", "cifar10:a2mim_vit_cpu", "cifar10:a2mim_cnn_cpu")


def run(settings: Settings) -> None:
    """Time every recipe, print the table and write it."""
    import pandas as pd

    from experiments.benchmarks.record import begin, write_results
    from experiments.machine import pick_device

    device = pick_device(settings.device)
    settings = completed(settings, device.type)
    record = begin(settings, device)
    times = {name: time_recipe(name, settings, device) for name in settings.recipes}
    table = pd.DataFrame([row(name, times[name]) for name in times])
    print(table.to_string(index=False, float_format="{:.3f}".format))
    if settings.out:
        write_results(settings.out, device.type, table.round(4), record | {"seconds": times})


def completed(settings: Settings, device: str) -> Settings:
    """Settings with what was left open filled in."""
    from experiments.benchmarks.record import quickened

    if settings.quick:
        return quickened(settings, recipes=RECIPES[-1:], batch_size=8, steps=1, repeats=3)
    return replace(
        settings,
        recipes=settings.recipes or RECIPES,
        out=settings.out or Path("runs/bench/train"),
        batch_size=settings.batch_size or (16 if device == "cpu" else 128),
    )


def time_recipe(name: str, settings: Settings, device: "torch.device") -> dict[str, Any]:
    """Seconds of the loop (first) and of the bare step (second), of batches from memory, and of batches from files.

    Raises ValueError for a name that is no recipe of `a2mim pretrain`.
    """
    from a2mim.data import open_images
    from a2mim.plan import Plan
    from a2mim.settings import Data
    from experiments.benchmarks.step import bare
    from experiments.benchmarks.timing import time_in_turns
    from interactions.speed import seconds_of

    recipe = benchmark_recipe(name, settings)
    # Opened before anything is timed, so that a bad --data is told at once.
    files = open_images(Data(data=settings.data), seed=settings.seed) if settings.data else None
    count = settings.steps * (2 * settings.repeats + 1) + 1
    with running_loop(recipe, count, device) as (loop, source, plan, architecture):
        batch = next(batches_of(source, plan, recipe, device))
        step = bare(new_method(recipe)[0], recipe, batch, device)
        times = time_in_turns(lambda: next(loop), step, settings.repeats, device, name, settings.steps)
    ready = batches_of(source, plan, recipe, device)
    next(ready)
    times["memory"] = [seconds_of(lambda: next(ready), device) for _ in range(settings.repeats)]
    times["files"] = []
    if files is not None:
        decoding = replace(source, images=files, memory=None, workers=settings.workers)
        loading = batches_of(decoding, Plan(files.samples, recipe.loop.batch, settings.seed), recipe, device)
        with closing(loading):  # type: ignore[type-var]
            times["files"] = loading_times(loading, settings, device)
    return {"batch_size": recipe.loop.batch, "steps": settings.steps, "architecture": architecture, **times}


def benchmark_recipe(name: str, settings: Settings) -> "Pretrain":
    """The recipe with the settings of the benchmark."""
    from experiments.commands.pretrain import Settings as Pretrain
    from experiments.training.asked import find_recipe

    recipe = find_recipe(name)()
    if not isinstance(recipe, Pretrain):
        raise ValueError(f"the recipe {name} is not one of `a2mim pretrain`")
    loop = replace(
        recipe.loop,
        batch=settings.batch_size or recipe.loop.batch,
        precision=settings.precision,
        compile=settings.compile,
        seed=settings.seed,
        sync_bn=False,
        save_every=0,
    )
    return replace(recipe, loop=loop, optim=replace(recipe.optim, clip_grad=0.0))


def new_method(recipe: "Pretrain") -> tuple["Method", dict[str, Any]]:
    """The recipe's method on random weights, and what its backbone was made from."""
    from experiments.commands.pretrain import method_settings
    from experiments.training.assembly import make_method, make_network

    size, seed = recipe.augment.image_size, recipe.loop.seed
    backbone, architecture, _ = make_network(recipe.network, 0, size, seed)
    return make_method(recipe.method, backbone, method_settings(recipe), size, seed), architecture


@contextmanager
def running_loop(
    recipe: "Pretrain", count: int, device: "torch.device"
) -> "Iterator[tuple[Iterator[int], Source, Plan, dict[str, Any]]]":
    """The training loop over noise in memory, which takes one step each time that it is asked for the next; its
    images, their plan, and what timm made the backbone from. It can take `count` steps."""
    import torch

    from a2mim.data import Source
    from a2mim.dist import World
    from a2mim.gallery import normalisation
    from a2mim.images import Images
    from a2mim.memory import MemoryImages
    from a2mim.plan import Plan
    from a2mim.runs import open_run
    from a2mim.train import training

    method, architecture = new_method(recipe)
    # An epoch longer than the benchmark, since its end saves a state, which is no part of a step: one image as often as
    # that takes.
    samples, side = count * recipe.loop.batch, recipe.augment.image_size
    pixels = torch.randint(256, (1, 3, side, side), dtype=torch.uint8).expand(samples, -1, -1, -1)
    memory = MemoryImages(pixels, torch.zeros(1, dtype=torch.long).expand(samples)).to(device)
    images = Images(None, "noise", samples)
    views, (mean, std) = method.views(recipe.augment), normalisation(method.backbone)
    source = Source(images, views, mean, std, memory=memory)  # type: ignore[arg-type]
    plan = Plan(samples, recipe.loop.batch, recipe.loop.seed)
    with TemporaryDirectory() as folder:
        world = World(device=device)
        open_run(Path(folder), "bench train", recipe)
        loop = training(method, source, Path(folder), recipe.optim, recipe.loop, world, architecture)
        with closing(loop):
            yield loop, source, plan, architecture


def batches_of(source: "Source", plan: "Plan", recipe: "Pretrain", device: "torch.device") -> Iterator[dict[str, Any]]:
    """The batches of a single process, for as long as anyone asks."""
    return source.batches(plan, range(10**9), [0], device, recipe.loop.laid_out)


def loading_times(loading: Iterator[Any], settings: Settings, device: "torch.device") -> list[float]:
    """Seconds of one batch after another, once what the processes fetched ahead is used up."""
    from interactions.speed import seconds_of

    ahead = 2 * settings.workers + 1
    found = [seconds_of(lambda: next(loading), device) for _ in range(ahead + max(settings.repeats, 2 * ahead))]
    return found[ahead:]


def row(name: str, times: dict[str, Any]) -> dict[str, Any]:
    """One line of the table: images per second of the bare step, of the loop, and of loading alone."""
    import numpy as np

    from experiments.benchmarks.timing import speed_ratio

    overhead, low, high = speed_ratio(times)
    batch, images = times["batch_size"], times["batch_size"] * times["steps"]
    loop = images / float(np.median(times["first"]))
    # Batches come in bursts, one from each process, so that only their mean tells the pace.
    files = batch / float(np.mean(times["files"])) if times["files"] else float("nan")
    return {
        "recipe": name,
        "batch_size": batch,
        "repeats": len(times["first"]),
        "bare_per_second": images / float(np.median(times["second"])),
        "loop_per_second": loop,
        "overhead": overhead,
        "overhead_low": low,
        "overhead_high": high,
        "memory_per_second": batch / float(np.median(times["memory"])),
        "files_per_second": files,
        "bottleneck": "" if np.isnan(files) else "loading" if files < loop else "step",
    }
