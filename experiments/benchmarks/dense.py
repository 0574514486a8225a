"""`a2mim bench dense`: what segmentation and detection cost on top of a bare step of the same model and losses."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from a2mim.bounds import Count, Natural, Threads

if TYPE_CHECKING:
    import torch

    from a2mim.data import Source
    from a2mim.methods import Method


@dataclass(frozen=True)
class Settings:
    """Time a step of `a2mim segment` and `a2mim detect` against a bare step.

    The bare step is forward, the same losses, backward and optimizer step of the same model, on one ready batch. The
    loop does what the commands do: it also decodes, scales, crops and flips pictures with their annotations in
    --workers processes, normalises, seeds, schedules, looks for NaN, and logs. Both take turns; the overhead is the
    loop's time over the bare step's: the median over the repeats, with the 95 % bootstrap interval of that median.
    Clipping, which is a recipe's wish, is left out of both. Weights are random, which does not change the time. Writes
    dense-cpu.csv and dense-cpu.json, or those of the accelerator.

    For example:
        a2mim bench dense --camvid camvid-320.tar --coco coco-256.tar
        a2mim bench dense --camvid camvid-320.tar --model resnet50 --workers 8 --device cuda --precision bf16
    """

    camvid: str = ""
    """CamVid, for `camvid:linear_finetuned`: a folder or a .tar of images and annotations."""
    coco: str = ""
    """A part of COCO, for `coco:small` (its network trained, too): a folder or a .tar of images and instances."""
    model: str = "tf_efficientnet_lite0"
    """timm's name of the network."""
    out: Path = Path("runs/bench/dense")
    """Folder of the results (of those that are committed: experiments/results/train)."""
    workers: Natural = 0
    """Processes that decode pictures; 0: it is part of the loop's time."""
    batch_size: Count = 4
    """Pictures per step."""
    steps: Count = 1
    """Steps in one timing."""
    repeats: Count = 8
    """Timings of each, twice."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of both."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""
    seed: Natural = 0
    """Of weights and views."""

    def check(self) -> None:
        """Raises ValueError where there are no pictures."""
        if not self.camvid and not self.coco:
            raise ValueError("no pictures were named: give --camvid, --coco or both")


@dataclass(frozen=True)
class Task:
    """What a command trains: its recipe with the benchmark's settings, its pictures, and two equal methods."""

    recipe: Any
    source: "Source"
    looped: "Method"
    bare: "Method"


def run(settings: Settings) -> None:
    """Time both commands, print the table and write it."""
    import pandas as pd

    from experiments.benchmarks.record import begin, write_results
    from experiments.machine import pick_device

    device = pick_device(settings.device)
    record = begin(settings, device)
    makers = {"segment": (settings.camvid, segmenting), "detect": (settings.coco, detecting)}
    tasks = {name: make(settings) for name, (place, make) in makers.items() if place}
    times = {name: time_task(name, task, settings, device) for name, task in tasks.items()}
    table = pd.DataFrame([row(name, times[name], settings) for name in times])
    print(table.to_string(index=False, float_format="{:.3f}".format))
    write_results(settings.out, f"dense-{device.type}", table.round(4), record | {"seconds": times})


def segmenting(settings: Settings) -> Task:
    """The linear decoder and the network, trained together. Raises as opening the pictures does."""
    from a2mim.gallery import normalisation
    from a2mim.segment.method import Segment
    from a2mim.segment.pairs import open_scenes
    from a2mim.segment.views import SceneSource
    from experiments.training.segmenting import make_backbone

    recipe = asked("camvid:linear_finetuned", settings)
    images = open_scenes(replace(recipe.data, data=settings.camvid))

    def method() -> Segment:
        backbone, _, _ = make_backbone(recipe.network, recipe.crops.crop, settings.seed)
        return Segment(backbone, len(images.classes), "linear", False, recipe.crops.crop, settings.seed)

    one, two = method(), method()
    mean, std = normalisation(one.backbone)
    classes = len(images.classes)
    source = SceneSource(images, (), mean, std, classes=classes, workers=settings.workers, crops=recipe.crops)
    return Task(recipe, source, one, two)


def detecting(settings: Settings) -> Task:
    """Faster R-CNN and the network, trained together. Raises as opening the pictures does."""
    from a2mim.detect.method import Detect
    from a2mim.detect.pictures import open_coco
    from a2mim.detect.views import DetectSource
    from a2mim.gallery import normalisation
    from experiments.training.segmenting import make_backbone

    recipe = asked("coco:small", settings)
    images = open_coco(replace(recipe.data, data=settings.coco), masks=False)
    frames, asked_for, classes = recipe.frames, recipe.detecting, len(images.classes)

    def method() -> Detect:
        backbone, _, _ = make_backbone(recipe.network, 0, settings.seed)
        heads = {"anchors": asked_for.anchors, "regions": asked_for.regions, "width": asked_for.width}
        whole = (asked_for.detector, False, asked_for.frozen_norms, frames.largest)
        return Detect(backbone, classes, *whole, **heads, seed=settings.seed)

    one, two = method(), method()
    mean, std = normalisation(one.backbone)
    source = DetectSource(images, (), mean, std, classes=classes, workers=settings.workers, frames=frames)
    return Task(recipe, source, one, two)


def asked(name: str, settings: Settings) -> Any:
    """The recipe with the settings of the benchmark."""
    from experiments.training.asked import find_recipe

    recipe = find_recipe(name)()
    loop = replace(
        recipe.loop, batch=settings.batch_size, precision=settings.precision, seed=settings.seed, save_every=0
    )
    network = replace(recipe.network, model=settings.model, weights="random")
    optim = replace(recipe.optim, clip_grad=0.0, lr_batch=settings.batch_size)
    return replace(recipe, network=network, loop=loop, optim=optim)


def time_task(name: str, task: Task, settings: Settings, device: "torch.device") -> dict[str, Any]:
    """Seconds of the loop (first) and of the bare step (second)."""
    from experiments.benchmarks.step import bare
    from experiments.benchmarks.timing import time_in_turns

    with running_loop(task, settings, device) as loop:
        step = bare(task.bare, task.recipe, first_batch(task, device), device)
        return time_in_turns(lambda: next(loop), step, settings.repeats, device, name, settings.steps)


@contextmanager
def running_loop(task: Task, settings: Settings, device: "torch.device") -> "Iterator[Iterator[int]]":
    """The commands' training loop, which takes one step each time that it is asked for the next."""
    from a2mim.dist import World
    from a2mim.runs import open_run
    from a2mim.train import training

    count = settings.steps * (2 * settings.repeats + 1) + 1
    per_epoch = max(1, task.source.images.samples // settings.batch_size)
    optim = replace(task.recipe.optim, epochs=-(-count // per_epoch) + 1)  # longer than the benchmark
    with TemporaryDirectory() as folder:
        open_run(Path(folder), "bench dense", task.recipe)
        loop = training(task.looped, task.source, Path(folder), optim, task.recipe.loop, World(device=device), {})
        with closing(loop):
            yield loop


def first_batch(task: Task, device: "torch.device") -> dict[str, Any]:
    """That of the loop."""
    from a2mim.plan import Plan

    loop = task.recipe.loop
    plan = Plan(task.source.images.samples, loop.batch, loop.seed)
    return next(task.source.batches(plan, range(1), [0], device, loop.laid_out))


def row(name: str, times: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One line of the table."""
    import numpy as np

    from experiments.benchmarks.timing import speed_ratio

    overhead, low, high = speed_ratio(times)
    images = settings.batch_size * settings.steps
    return {
        "command": name,
        "model": settings.model,
        "batch_size": settings.batch_size,
        "workers": settings.workers,
        "repeats": len(times["first"]),
        "bare_per_second": images / float(np.median(times["second"])),
        "loop_per_second": images / float(np.median(times["first"])),
        "overhead": overhead,
        "overhead_low": low,
        "overhead_high": high,
    }
