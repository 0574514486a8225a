"""What a training run will take, told by a few of its steps on noise before it begins."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from a2mim.data import Source
from a2mim.dist import World
from a2mim.loading import mixer
from a2mim.methods import Method
from a2mim.runs import added_epochs, run_there, saved_step
from a2mim.samples import Batch
from a2mim.settings import FREE
from a2mim.train import configure
from a2mim.trainer import NonFiniteLoss, Trainer
from experiments.training.asked import identity
from interactions.forecast import announce, line
from interactions.speed import seconds_of

TRIAL_STEPS = 2
PAYS = 1.05
"""By how much another layout must be faster to be named: less is chance."""
LONG = 200
"""Steps from which a run is tried without being asked: a trial, the first step and two more, is then a small part."""


def foretell_training(method: Method, source: Source, gallery: Any, settings: Any, command: str, world: World) -> None:
    """Say how many steps a run takes, how long that is at the pace of some steps of the very method, backbone and
    batch, and what it writes, if it is long or if nothing else is asked for. What loading images costs is not in it.

    gallery: what is evaluated, if anything is.

    Raises:
        ValueError: settings that the run itself would refuse, its folder among them.
        DryRun: where only this was asked for.
    """
    folder, loop, dry_run = Path(settings.out), settings.loop, settings.dry_run
    run = run_there(folder, command, identity(settings), FREE)
    configure(world.device, loop)
    steps = settings.optim.epochs * (source.images.samples // loop.batch)
    if not dry_run and (loop.minutes or steps - saved_step(folder) < LONG):
        return
    trainer = Trainer(method if dry_run else copy.deepcopy(method), source, settings.optim, loop, world)
    source.check(trainer.plan)
    done = run is not None and run["finished"] and added_epochs(run, settings) <= 0
    left = 0 if done else trainer.steps - saved_step(folder)
    try:
        step, image, size = measured(trainer, source, gallery is not None)
    except NonFiniteLoss:  # of noise; the run will see to its own images
        if dry_run:
            raise
        return
    evaluated = 0
    if gallery:
        epochs = -(-left // trainer.plan.steps_per_epoch)
        evaluated = -(-epochs // loop.evaluate_every) * gallery.images.samples
    count = f"{left:,} steps of {loop.batch:,} images{' left' if run else ''}"
    count += f", {evaluated:,} passes of evaluation" if evaluated else ""
    seconds = left * step + evaluated * image / world.size
    how = ["channels-last"] * loop.channels_last + ["compiled"] * loop.compile
    pace = f"{loop.batch / step:,.3g} images a second"
    if dry_run and not (run or loop.channels_last or loop.compile):
        pace += in_channels_last(method, source, settings, world, step)
    announce(line(count, seconds, world.device.type, pace, how, size, folder), seconds, world.main, dry_run)


def in_channels_last(method: Method, source: Source, settings: Any, world: World, step: float) -> str:
    """How many images a second it would be with --channels-last, where that pays; a recipe's layout is its own matter.
    step: seconds of one as it stands."""
    loop = replace(settings.loop, channels_last=True)
    quick = measured(Trainer(method, source, settings.optim, loop, world), source, False)[0]
    return f" ({loop.batch / quick:,.3g} with --channels-last)" if step > PAYS * quick else ""


def measured(trainer: Trainer, source: Source, evaluates: bool) -> tuple[float, float, float]:
    """Seconds of a step, and of an image where some are evaluated; bytes of the states that are kept and of the
    weights."""
    if make := getattr(source, "noise", None):
        batch = make(trainer.plan.slot_batch, trainer.device)
    else:
        sides = [view.image_size for view in source.views]
        batch = noise(sides, trainer.plan.slot_batch, max(source.classes, 1), trainer.device)
    view = batch["image"][0] if isinstance(batch["image"], list) else batch["image"]
    if mix := mixer(source.mixing, source.classes, trainer.plan.slot_batch):
        batch["image"], batch["target"] = mix(batch["image"], batch["target"])
    if trainer.loop.channels_last:
        views = batch["image"] if isinstance(batch["image"], list) else [batch["image"]]
        views = [each.contiguous(memory_format=torch.channels_last) for each in views]
        batch["image"] = views if isinstance(batch["image"], list) else views[0]
    batches = itertools.repeat(batch)
    trainer.advance(batches)  # the first one makes what the others find
    step = min(seconds_of(lambda: trainer.advance(batches), trainer.device) for _ in range(TRIAL_STEPS))
    state, method = trainer.state(), trainer.method
    exported = ((2 if trainer.ema else 1) + len(trainer.kept_steps)) * bytes_of(method.backbone.state_dict())
    size = (trainer.loop.keep + 1) * bytes_of(state) + exported
    if not evaluates:
        return step, 0.0, size
    method.eval()
    with torch.inference_mode():
        return step, seconds_of(lambda: method.look(view), trainer.device) / len(view), size


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
