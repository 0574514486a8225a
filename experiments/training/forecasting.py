"""What a training run will take, and in which memory layout it is faster, told by a few of its steps on noise before it
begins."""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from a2mim.data import Source
from a2mim.dist import World
from a2mim.errors import one_line
from a2mim.loading import channels_last_images, mixer
from a2mim.methods import Method
from a2mim.runs import added_epochs, run_there, saved_step
from a2mim.samples import Batch
from a2mim.settings import FREE, Loop
from a2mim.train import configure
from a2mim.trainer import NonFiniteLoss, Trainer, planned
from experiments.training.asked import identity
from interactions.forecast import announce, line
from interactions.speed import seconds_of

TRIAL_STEPS = 2
PAYS = 1.05
"""By how much channels-last must be faster to be taken: less is chance."""
LONG = 200
"""Steps from which a run is tried without being asked: a trial of a layout, the first step and two more, is then a
small part."""


def foretell_training(method: Method, source: Source, gallery: Any, settings: Any, command: str, world: World) -> bool:
    """Say how many steps a run takes, how long that is at the pace of some steps of the very method, backbone and
    batch, and what it writes, if it is long or if nothing else is asked for. What loading images costs is not in it.

    gallery: what is evaluated, if anything is.

    Returns whether it trains in channels-last layout: what is asked for or, of a run that is there, what it took; and
    where that is to be found, what is faster.

    Raises:
        ValueError: settings that the run itself would refuse, its folder among them.
        DryRun: where only this was asked for.
    """
    folder, loop, dry_run = Path(settings.out), settings.loop, settings.dry_run
    run = run_there(folder, command, identity(settings), FREE)
    configure(world.device, loop)
    saved = saved_step(folder)
    short = settings.optim.epochs * (source.images.samples // loop.batch) - saved < LONG
    layout = layout_of(run, loop, short)
    if not dry_run and (short or (loop.minutes and layout is not None)):
        return bool(layout)
    of_run = (method, source, gallery is not None, settings, world)
    try:
        trial = measured(*of_run, channels_last=bool(layout))
    except NonFiniteLoss:  # of noise; the run will see to its own images
        if dry_run:
            raise
        return bool(layout)
    if layout is None:
        other = in_channels_last_layout(*of_run)
        layout = other is not None and trial.step > PAYS * other.step
        trial = other if other and layout else trial
    chosen = replace(loop, channels_last=layout)
    words, seconds = forecast(trial, source, gallery, replace(settings, loop=chosen), run, saved, world)
    announce(words, seconds, world.main, dry_run)
    return layout


def forecast(
    trial: Trial, source: Source, gallery: Any, settings: Any, run: Mapping[str, Any] | None, saved: int, world: World
) -> tuple[str, float]:
    """What a run takes by a trial of it, in one line and in seconds; saved: steps that are done."""
    loop, plan = settings.loop, planned(source, settings.optim, settings.loop, world)
    done = run is not None and run["finished"] and added_epochs(run, settings) <= 0
    left = 0 if done else settings.optim.epochs * plan.steps_per_epoch - saved
    evaluated = 0
    if gallery:
        epochs = -(-left // plan.steps_per_epoch)
        evaluated = -(-epochs // loop.evaluate_every) * gallery.images.samples
    count = f"{left:,} steps of {loop.batch:,} images{' left' if run else ''}"
    count += f", {evaluated:,} passes of evaluation" if evaluated else ""
    seconds = left * trial.step + evaluated * trial.image / world.size
    how = ["channels-last"] * loop.laid_out + ["compiled"] * loop.compile
    pace = f"{loop.batch / trial.step:,.3g} images a second"
    return line(count, seconds, world.device.type, pace, how, trial.size, Path(settings.out)), seconds


def layout_of(run: Mapping[str, Any] | None, loop: Loop, short: bool) -> bool | None:
    """Whether a run trains in channels-last layout: as it has so far, or as is asked for; None where that is to be
    found, which it is not for a short run, nor for a compiler, which lays out by itself."""
    asked = loop.channels_last if run is None else run.get("channels_last", loop.channels_last)
    if asked != "auto":
        return asked
    return False if run is not None or short or loop.compile else None


class Trial(NamedTuple):
    """Seconds of a step, and of an image where some are evaluated; bytes of the states that are kept and of the
    weights."""

    step: float
    image: float
    size: float


def in_channels_last_layout(
    method: Method, source: Source, evaluates: bool, settings: Any, world: World
) -> Trial | None:
    """A trial in that layout; None where that cannot be, as of a network that views its maps as plain ones lie."""
    try:
        return measured(method, source, evaluates, settings, world, channels_last=True)
    except (RuntimeError, NonFiniteLoss) as error:
        if world.main:
            said = f"note: no training in channels-last layout here ({one_line(error)[:200]}): going on without"
            print(said, file=sys.stderr, flush=True)
        return None


def measured(
    method: Method, source: Source, evaluates: bool, settings: Any, world: World, *, channels_last: bool
) -> Trial:
    """Some steps of a copy on noise in that layout, as the main process's clock tells them."""
    loop = replace(settings.loop, channels_last=channels_last)
    trainer = Trainer(copy.deepcopy(method), source, settings.optim, loop, world)
    source.check(trainer.plan)
    batch = noise_for(trainer, source)
    view = batch["image"][0] if isinstance(batch["image"], list) else batch["image"]
    batches = itertools.repeat(batch)
    trainer.advance(batches)  # the first one makes what the others find
    step = min(seconds_of(lambda: trainer.advance(batches), trainer.device) for _ in range(TRIAL_STEPS))
    state, image = trainer.state(), 0.0
    exported = ((2 if trainer.ema else 1) + len(trainer.kept_steps)) * bytes_of(trainer.method.backbone.state_dict())
    size = (loop.keep + 1) * bytes_of(state) + exported
    if evaluates:
        trainer.method.eval()
        with torch.inference_mode():
            image = seconds_of(lambda: trainer.method.look(view), trainer.device) / len(view)
    return world.collect(Trial(step, image, size))[0]


def noise_for(trainer: Trainer, source: Source) -> Batch:
    """A batch of noise as the source would make it of images."""
    if make := getattr(source, "noise", None):
        batch = make(trainer.plan.slot_batch, trainer.device)
    else:
        sides = [view.image_size for view in source.views]
        batch = noise(sides, trainer.plan.slot_batch, max(source.classes, 1), trainer.device)
    if mix := mixer(source.mixing, source.classes, trainer.plan.slot_batch):
        batch["image"], batch["target"] = mix(batch["image"], batch["target"])
    return channels_last_images(batch) if trainer.laid_out else batch


def noise(sides: Sequence[int], count: int, classes: int, device: torch.device, seed: int = 0) -> Batch:
    """A batch of `count` images of noise, in one view of each of these sides."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randn(count, 3, side, side, generator=generator).to(device) for side in sides]
    target = torch.randint(classes, (count,), generator=generator)
    index = torch.arange(count)
    image = images if len(images) > 1 else images[0]
    return {"image": image, "target": target.to(device), "index": index.to(device)}


def bytes_of(content: Any) -> int:
    """Of all tensors in nested plain data."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size()
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(bytes_of, parts))
