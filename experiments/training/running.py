"""The running of a training: opened, foretold, trained, drawn, and how it ended."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from a2mim.checkpoints import LoadReport
from a2mim.data import Source
from a2mim.dist import World, join
from a2mim.errors import one_line, out_of_memory
from a2mim.images import Images
from a2mim.manifest import keep_rows, refuse_other_images
from a2mim.methods import Method
from a2mim.notes import notes
from a2mim.optim import learning_rate, rate_words, scaled_lr
from a2mim.plain import to_plain
from a2mim.runs import NOTHING, added_epochs, known_run, open_run, read_run, stored_settings, update_run
from a2mim.settings import FREE, Loop
from a2mim.train import Hooks, describe, train
from experiments.machine import commit
from experiments.options import is_begun, refuse_idle
from experiments.training.asked import identity, resolved
from experiments.training.forecasting import foretell_training
from figures.reconstruction import draw_reconstruction
from figures.training import draw_loss
from interactions.runs.lock import held
from interactions.runs.storage import remove_leftovers

SIGNALS = {"SIGINT": 130, "SIGTERM": 143}
SHORTEST = 1e-9
"""Minutes of a run whose trial took all that it was given: a step, and it stops."""


def carry_out(settings: Any, command: str, work: Callable[[Any, World], tuple[Path, dict[str, Any]]]) -> None:
    """Fill in the settings, do the work of a training command in every process, and say how it ended."""
    settings = resolved(settings, command)
    if not is_begun(settings):
        refuse_idle_training(settings)
    with join(settings.device) as world, at_work(settings, world):
        for said in notes(settings.optim, settings.loop.batch, settings.network.weights) if world.main else ():
            print(f"note: {said}", file=sys.stderr, flush=True)
        try:
            folder, result = work(settings, world)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise ValueError(f"memory ran out: {one_line(error)}; {smaller(settings, world)}") from error
        conclude(folder, command, result, world)


def refuse_idle_training(settings: Any) -> None:
    """Raise ValueError for what was asked of the optimizer or the loop and would not be done."""
    optim, loop = settings.optim, settings.loop
    if optim.schedule == "multistep" and not optim.milestones:
        raise ValueError("--schedule multistep without --milestones is a constant rate: give them, or constant")
    if not loop.ema:
        refuse_idle(loop, "--ema", "ema_warmup", "ema_warmup_epochs")


def smaller(settings: Any, world: World) -> str:
    """What to begin anew with where memory does not hold a batch."""
    loop, slots = settings.loop, world.size * settings.loop.accumulate
    parts = f"--accumulate {2 * loop.accumulate} (the same batch in parts), " if loop.batch % (2 * slots) == 0 else ""
    half = max(slots, loop.batch // 2 // slots * slots)
    return (
        f"{loop.batch // slots} images are in one pass: begin anew in another folder with {parts}--grad-checkpointing, "
        f"or a smaller image, network or batch ({rate_words(settings.optim, half)})"
    )


def train_run(
    settings: Any,
    command: str,
    world: World,
    method: Method,
    source: Source,
    gallery: Any,
    architecture: dict[str, Any],
    report: LoadReport | None,
    first: Mapping[str, Any] = NOTHING,
    **hooks: Any,
) -> tuple[Path, dict[str, Any]]:
    """Say what the run will take, and train in settings.out, as one process of `world`.

    gallery: what is evaluated, if anything is.
    architecture, report: of `make_network`.
    first: as of `begin`.
    hooks: of `Hooks`, what is this command's own.

    Returns the folder, and what `train` returns.
    """
    loaded = report and dataclasses.asdict(report)
    about = {"architecture": architecture, "loaded": loaded, "images": source.images.samples}
    if source.views:  # not of pictures with annotations, whose settings say all
        about["views"] = to_plain(source.views)
    parts = {"train": source.images} | ({"validation": gallery.images} if gallery else {})
    begun = time.monotonic()
    channels_last = foretell_training(method, source, gallery, settings, command, world)
    start = begin(settings, command, world, about, parts, {**first, "channels_last": channels_last})
    hooked = Hooks(start, finished=draw_training, held_out=parts.get("validation"), **hooks)
    folder, loop = Path(settings.out), dataclasses.replace(settings.loop, channels_last=channels_last)
    if loop.minutes:  # a trial counts
        left = loop.minutes - (time.monotonic() - begun) / 60
        loop = dataclasses.replace(loop, minutes=max(left, SHORTEST))
    return folder, train(method, source, folder, settings.optim, loop, world, architecture, hooked)


def at_work(settings: Any, world: World) -> AbstractContextManager[None]:
    """Hold the run's folder, for all processes of `world`. Raises ValueError where another process holds it."""
    return held(Path(settings.out)) if world.main else nullcontext()


def begin(
    settings: Any,
    command: str,
    world: World,
    about: dict[str, Any],
    parts: Mapping[str, Images],
    first: Mapping[str, Any] = NOTHING,
) -> Callable[[], None]:
    """What opens the run's folder, puts into run.json what the settings do not say, and tells the user what begins.

    parts: the images of the run, by which it is noticed that they have changed when it goes on.
    first: what run.json says from the beginning on, and is not said again.
    """

    def open_and_tell() -> None:
        if world.main:
            folder = Path(settings.out)
            rows = {part: images.rows() for part, images in parts.items()}
            refuse_other_images(folder, rows)
            refuse_other_input(folder, about["loaded"])
            if about["loaded"]:
                refuse_other_network(folder, about["architecture"])
            if said := longer_words(folder, settings, about["images"] // settings.loop.batch):
                print(said, flush=True)
            open_run(folder, command, identity(settings), FREE, {"commit": commit()}, first)
            remove_leftovers(folder)
            data = keep_rows(folder, rows)
            recipe = settings.recipe or read_run(folder).get("recipe", "")  # whoever says --resume names none
            update_run(folder, recipe=recipe, data=data, classes=parts["train"].classes, **about)
            print(describe(settings.loop, settings.optim, world, about["images"]), flush=True)
            if said := spectra_words(settings.loop, world.size, first.get("method_settings", NOTHING)):
                print(said, flush=True)
        world.wait()

    return open_and_tell


def spectra_words(loop: Loop, processes: int, method: Mapping[str, Any]) -> str:
    """Over how many images A²MIM's released Fourier loss averages spectra; nothing of any other loss.

    method: settings of the method.
    """
    if method.get("fourier") != "released" or not method.get("fourier_weight"):
        return ""
    return (
        f"fourier=released averages spectra over {loop.batch // (processes * loop.accumulate)} images, those of a "
        "micro-batch, and weighs less the more they are (released ViT-B and ViT-L: 128; ViT-S and ResNet-50: 256): "
        "--accumulate changes that"
    )


def refuse_other_input(folder: Path, loaded: Mapping[str, Any] | None) -> None:
    """Raise ValueError where the weights that a run began with tell another normalisation now than they did then."""
    run = known_run(folder) or {}
    if not loaded or not run.get("loaded"):
        return
    before, now = ([note for note in each.get("adapted", ()) if is_of_input(note)] for each in (run["loaded"], loaded))
    if before != now:
        raise ValueError(
            f"the weights in '{loaded['path']}' are read otherwise than when the run in {folder} began (then: "
            f"{'; '.join(before) or 'as the model has it'}; now: {'; '.join(now) or 'as the model has it'}): begin a "
            "new run with another --out"
        )


def refuse_other_network(folder: Path, architecture: Mapping[str, Any]) -> None:
    """Raise ValueError where the weights that a run began with make another network now, of other heads or pooling."""
    run = known_run(folder) or {}
    before, now = run.get("architecture"), json.loads(json.dumps(architecture))
    if not before or before == now:
        return
    keys = [key for key in {**before, **now} if before.get(key, "unsaid") != now.get(key, "unsaid")]
    told = "; ".join(f"{key} {before.get(key, 'unsaid')} then, {now.get(key, 'unsaid')} now" for key in keys)
    raise ValueError(
        f"the weights that the run in {folder} began with make another network than they did then ({told}): begin a "
        "new run with another --out"
    )


def is_of_input(note: str) -> bool:
    """Whether what was adapted for weights is what no state keeps: the images' normalisation, or epsilons of norms."""
    return "epsilon" in note or "normalised" in note


def longer_words(folder: Path, settings: Any, steps_per_epoch: int) -> str:
    """What a finished run that is asked for more epochs goes on to do; nothing of any other."""
    run = known_run(folder)
    if run is None or not run["finished"] or added_epochs(run, settings) <= 0:
        return ""
    before, now = stored_settings(type(settings), folder, run).optim, settings.optim
    done, peak = before.epochs * steps_per_epoch, scaled_lr(now, settings.loop.batch)
    last, following = (
        learning_rate(optim, peak, step, steps_per_epoch) for optim, step in ((before, done - 1), (now, done))
    )
    return (
        f"{folder} is extended from {before.epochs} to {now.epochs} epochs, each step as in a run of {now.epochs}: the "
        f"learning rate goes from {last:.3g} to {following:.3g}; the weights after {before.epochs} epochs are kept"
    )


def draw_pictures(path: Path) -> None:
    """The reconstructions that the trainer put into `path`, as a figure beside it."""
    with np.load(path) as file:
        shown = {name: file[name].transpose(0, 2, 3, 1) for name in ("original", "masked", "predicted", "composite")}
    step = int(path.stem.removeprefix("step-"))
    draw_reconstruction(
        **shown, path=path.with_suffix(".png"), title=f"{path.resolve().parent.parent.name}, step {step:,}"
    )


def draw_training(folder: Path) -> None:
    """loss.png of a finished run."""
    draw_loss(folder / "log.jsonl", folder / "loss.png", title=folder.resolve().name)


def conclude(folder: Path, command: str, result: dict[str, Any], world: World) -> None:
    """Say how the run ended; after a signal, leave with its exit code."""
    if world.main and result["finished"]:
        print(f"{result['epochs']} epochs, {result['seconds']:.0f} s: {in_words(result['last'])}")
        print(f"wrote backbone.safetensors, loss.png, log.jsonl and run.json into {folder}")
    elif world.main:
        print(f"stopped at step {result['step']} of {result['steps']}: go on with a2mim {command} --resume {folder}")
    if not result["finished"] and result["stopped_by"] in SIGNALS:
        raise SystemExit(SIGNALS[result["stopped_by"]])


def in_words(numbers: Mapping[str, float]) -> str:
    """The last epoch's numbers in one line, those with an interval with it."""
    ends = {name: [numbers.get(f"{name}_{end}") for end in ("low", "high")] for name in numbers}
    inside = {f"{name}_{end}" for name in numbers for end in ("low", "high")} | {"val_images"}
    intervals = {name: f" [{low:.4g}, {high:.4g}]" for name, (low, high) in ends.items() if None not in (low, high)}
    return ", ".join(f"{name} {x:.4g}{intervals.get(name, '')}" for name, x in numbers.items() if name not in inside)
