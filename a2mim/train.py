"""One training loop for every method, and for fine-tuning.

trainer.py takes the steps, progress.py keeps and tells what comes of them. On the CPU a run that was killed ends with
the same bits as one that was not (same machine, same number of processes).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from a2mim.data import Source
from a2mim.dist import World
from a2mim.errors import one_line, out_of_memory
from a2mim.loading import WorkerDied
from a2mim.optim import scaled_lr
from a2mim.plan import Plan
from a2mim.progress import NO_HOOKS, Hooks, Progress
from a2mim.runs import newest_state, settle_states, state_path
from a2mim.settings import Loop, Optim
from a2mim.trainer import NonFiniteLoss, Trainer

if TYPE_CHECKING:
    from a2mim.methods import Method


def train(
    method: Method,
    source: Source,
    folder: Path,
    optim: Optim,
    loop: Loop,
    world: World,
    architecture: Mapping[str, Any],
    hooks: Hooks = NO_HOOKS,
) -> dict[str, Any]:
    """Train `method` in `folder`, which `runs.open_run` has opened (hooks.begin may), from where it stands.

    loop: channels_last is "auto" for the commands, which choose; here it is as False.
    architecture: what timm.create_model needs for the backbone ({"architecture": name, **arguments}), kept with the
    exported weights.

    Returns what run.json gains: finished, step, steps, epochs, seconds, cpu_seconds (of all processes, those that load
    images among them), learning_rate, the last epoch's means and metrics, the best ones, and stopped_by: the signal's
    name, 'minutes', or ''.

    Raises ValueError with one sentence for bad settings, for a loss that is not finite (the state before that step is
    saved), and for a data loader process that died (the same).
    """
    steps = training(method, source, folder, optim, loop, world, architecture, hooks)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def training(
    method: Method,
    source: Source,
    folder: Path,
    optim: Optim,
    loop: Loop,
    world: World,
    architecture: Mapping[str, Any],
    hooks: Hooks = NO_HOOKS,
) -> Generator[int, None, dict[str, Any]]:
    """`train`, pausing after each step with its number: so that a benchmark can time the very loop that trains."""
    configure(world.device, loop)
    trainer = Trainer(method, source, optim, loop, world)
    source.check(trainer.plan)
    if hooks.begin:
        hooks.begin()
    state = newest_state(folder)
    if state is not None:
        refuse_other_number(folder, state, world, loop)
        refuse_other_workers(folder, state, source, loop)
        if world.main:
            settle_states(folder, state, loop.keep)
        load_state(trainer, state, folder)
    run = Progress(trainer, source, folder, hooks, architecture)
    remaining = range(trainer.step, trainer.steps)
    batches = source.batches(trainer.plan, remaining, trainer.slots, world.device, trainer.laid_out)
    stopped = False
    with interruptible(loop.minutes) as reason:
        try:
            while not stopped:
                if trainer.epoch > trainer.closed_epochs:
                    run.close_epoch()
                    continue
                if trainer.step == trainer.steps:
                    break
                stopped = trainer.advance(batches, bool(reason()))
                run.after_step()
                if stopped or (loop.save_every and trainer.step % loop.save_every == 0):
                    run.save()
                yield trainer.step
        except (NonFiniteLoss, WorkerDied) as error:
            sentence = run.rescue(error)
            if isinstance(error, NonFiniteLoss) or not reason():
                raise ValueError(sentence) from error
            stopped = True  # a signal to the whole group of processes ends those that decode images first
        finally:
            batches.close()
            run.bar.close()
        return run.finish(reason() if stopped else "")


def load_state(trainer: Trainer, state: dict[str, Any], folder: Path) -> None:
    """Go on from a saved state. Raises ValueError for one of another network, method or optimizer."""
    try:
        trainer.load(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"{state_path(folder)} does not fit this run ({one_line(error)[:200]}): remove it to go on "
            "from an older state"
        ) from error


def refuse_other_number(folder: Path, state: Mapping[str, Any], world: World, loop: Loop) -> None:
    """Raise ValueError where another number of processes goes on than saved the state, unless that is wanted."""
    saved = state.get("processes", world.size)
    if saved != world.size and not loop.anyway:
        raise ValueError(
            f"{folder} was saved by {saved} processes and {world.size} would go on: they share the images in another "
            f"way, so that the result differs in its last bits at least; start {saved}, or go on --anyway"
        )


def refuse_other_workers(folder: Path, state: Mapping[str, Any], source: Source, loop: Loop) -> None:
    """Raise ValueError where other image processes share a stream than did when the state was saved, unless that is
    wanted."""
    saved = state.get("workers", source.workers)
    if source.images.streamed and saved != source.workers and not loop.anyway:
        raise ValueError(
            f"{folder} read its stream by {saved} image processes and {source.workers} would go on: they share it in "
            f"another way, so that images are seen twice or never; give --workers {saved}, or go on --anyway"
        )


def configure(device: torch.device, loop: Loop) -> None:
    """Global switches of torch: fast kernels on CUDA, or deterministic ones."""
    torch.use_deterministic_algorithms(loop.deterministic, warn_only=True)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = not loop.deterministic


@contextmanager
def interruptible(minutes: float = 0.0) -> Iterator[Callable[[], str]]:
    """Yields a function that says why to stop: 'SIGTERM', 'SIGINT', 'minutes' when they are over, or ''.

    The first signal asks, the second one acts as it would have without this.
    """
    reason = [""]
    deadline = time.monotonic() + 60 * minutes if minutes else math.inf

    def ask(number: int, _: Any) -> None:
        reason[0] = signal.Signals(number).name
        signal.signal(number, before[number])

    before: dict[int, Any] = {}
    with suppress(ValueError):  # only the main thread may install handlers; elsewhere signals act as usual
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, ask)
    try:
        yield lambda: reason[0] or ("minutes" if time.monotonic() > deadline else "")
    finally:
        for installed, handler in before.items():
            signal.signal(installed, handler)


def describe(loop: Loop, optim: Optim, world: World, samples: int) -> str:
    """One line about a run that begins: what the batch is made of and what the learning rate becomes."""
    plan = Plan(samples, loop.batch, loop.seed, world.size * loop.accumulate)
    shares = f"{world.size} processes × {loop.accumulate} micro-batches × {plan.slot_batch}"
    return (
        f"{samples} images, batch {loop.batch} = {shares}, {optim.epochs} epochs of {plan.steps_per_epoch} steps; "
        f"peak learning rate {scaled_lr(optim, loop.batch):.3g} = {optim.lr:g} scaled {optim.lr_scaling} "
        f"from batch {optim.lr_batch}"
    )
