"""One training loop for every method, and for fine-tuning.

What happens at a step is a function of the weights and of (seed, step, slot) alone, where the slots are the processes
and the accumulated micro-batches: the images, their augmentation, their mixing, the method's masks and the model's
dropout. So a saved state holds no random number generators and no place in a data loader, and on the CPU a run that was
killed ends with the same bits as one that was not (same machine, same number of processes).
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from a2mim.bounds import check
from a2mim.data import Batch, Source, Unreadable, WorkerDied, examples
from a2mim.dist import World
from a2mim.export import export_backbone
from a2mim.images import Images
from a2mim.optim import (
    check_schedule,
    learning_rate,
    make_optimizer,
    scaled_lr,
    set_learning_rate,
    set_weight_decay,
)
from a2mim.plain import finite
from a2mim.plan import Plan
from a2mim.runs import Log, newest_state, read_run, save_state, settle_states, state_path, update_run, write_atomically
from a2mim.seeds import seed_everything, seed_of
from a2mim.settings import Loop, Optim

if TYPE_CHECKING:
    from a2mim.methods import Method

AUTOCAST = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
EXAMPLES = 8

Metrics = dict[str, float]


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite."""


class Average:
    """Means of scalars over steps, summed where they are computed: reading them is what waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        if not self.names:
            self.names = list(values)
            self.sums = torch.zeros(len(values), dtype=torch.float64, device=self.device)
        self.sums += torch.stack([values[name].detach().double().reshape(()) for name in self.names])
        self.count += 1

    def means(self, world: World) -> Metrics:
        """Over the steps since the last reset, and over processes; empty where there were none."""
        totals = world.total(self.sums) / max(1, self.count) / world.size
        return dict(zip(self.names, totals.tolist(), strict=True))

    def state(self, world: World) -> dict[str, Any]:
        return {"names": self.names, "sums": world.total(self.sums), "count": self.count}

    def load(self, state: dict[str, Any], world: World) -> None:
        """The saved sums are those of all processes: the first one carries them on."""
        self.names, self.count = list(state["names"]), state["count"]
        self.sums = state["sums"].to(self.device) * float(world.main)

    def reset(self) -> None:
        self.sums = torch.zeros_like(self.sums)
        self.count = 0


class MovingAverage(ModelEmaV3):
    """timm's, whose decay may also rise along a line in the first `rising` steps, from 0.9 of its own: at step i (0 is
    the first) decay · (1 − 0.1 · (1 − i/rising)), from the initial weights on (OpenMixup's EMAHook)."""

    def __init__(self, model: nn.Module, decay: float, use_warmup: bool, rising: float) -> None:
        super().__init__(model, decay=decay, use_warmup=use_warmup)
        self.rising = rising

    def get_decay(self, step: int | None = None) -> float:
        """step: how many updates of the weights are done."""
        if not self.rising or step is None:
            return super().get_decay(step)
        return self.decay * (1 - 0.1 * max(0.0, 1 - (step - 1) / self.rising))


class Trainer:
    """What a run consists of between two steps, and how it takes one.

    Raises ValueError for settings that cannot be (see check, Plan, make_optimizer).
    """

    def __init__(self, method: Method, source: Source, optim: Optim, loop: Loop, world: World) -> None:
        check(optim)
        check(loop)
        check_schedule(optim)
        self.optim, self.loop, self.world, self.device = optim, loop, world, world.device
        self.plan = Plan(
            source.images.samples, loop.batch, loop.seed, world.size * loop.accumulate, repeats=source.repeats
        )
        self.slots = [micro * world.size + world.rank for micro in range(loop.accumulate)]
        self.steps = optim.epochs * self.plan.steps_per_epoch
        self.method = self._placed(method)
        self.optimizer = make_optimizer(self.method, optim, loop.batch)
        self.peak = scaled_lr(optim, loop.batch)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=loop.precision == "fp16")
        rising = loop.ema_warmup_epochs * self.plan.steps_per_epoch
        self.ema = MovingAverage(self.method, loop.ema, loop.ema_warmup, rising) if loop.ema else None
        if loop.compile:
            self.method.compile()
        self.model: Any = self.method
        if world.size > 1:
            # Searching for unused parameters also keeps DDP from reordering its buckets after the first step, which
            # would make the first step of a resumed run add in another order than an uninterrupted one.
            self.model = DistributedDataParallel(self.method, find_unused_parameters=True)
        self.generator = torch.Generator()
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.buffers = list(self.method.buffers())
        self.buffers_before = [buffer.clone() for buffer in self.buffers]
        self.losses = torch.zeros(loop.accumulate, pin_memory=self.device.type == "cuda")
        self.recent, self.epoch_average = Average(self.device), Average(self.device)
        self.step = 0
        self.closed_epochs = 0
        self.best: dict[str, Any] = {}
        self.last: Metrics = {}
        """Of the last epoch that was closed."""

    def _placed(self, method: Method) -> Method:
        if self.loop.sync_bn:
            if self.device.type != "cuda":
                raise ValueError("synchronised batch statistics need CUDA: drop --sync-bn")
            method = convert_sync_batchnorm(method)
        if self.loop.grad_checkpointing:
            recompute(method)
        form = torch.channels_last if self.loop.channels_last else torch.preserve_format
        return method.to(self.device, memory_format=form).train()  # type: ignore[call-overload]

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.plan.steps_per_epoch

    @property
    def learning_rate(self) -> float:
        """Of the last step, before layer-wise and per-parameter factors."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group["lr_scale"]

    @property
    def evaluated(self) -> Method:
        """The method with the weights that are evaluated and exported: the moving average where there is one."""
        return self.ema.module if self.ema else self.method  # type: ignore[return-value]

    def advance(self, batches: Iterator[Batch], stop: bool = False) -> bool:
        """Take one optimizer step; returns whether any process wants to stop.

        Raises NonFiniteLoss on every process if the loss is not finite on one; the step is then undone.
        """
        rate = learning_rate(self.optim, self.peak, self.step, self.plan.steps_per_epoch)
        set_learning_rate(self.optimizer, rate)
        set_weight_decay(self.optimizer, self.optim, self.step / self.steps)
        if self.buffers:
            torch._foreach_copy_(self.buffers_before, self.buffers)
        try:
            values = [self._accumulate(next(batches), micro) for micro in range(self.loop.accumulate)]
        except WorkerDied:
            self._undo()
            raise
        bad, stop_all = self.world.largest(not self._losses_finite(), stop)
        if bad:
            self._undo()
            raise NonFiniteLoss(f"the loss became NaN or infinite at step {self.step} (epoch {self.epoch})")
        for each in values:
            self.recent.add(each)
            self.epoch_average.add(each)
        self._update()
        return bool(stop_all)

    def _accumulate(self, batch: Batch, micro: int) -> dict[str, Tensor]:
        slot = self.slots[micro]
        seed_everything(self.loop.seed, "step", self.step, slot)
        self.generator.manual_seed(seed_of(self.loop.seed, "method", self.step, slot))
        last = micro == self.loop.accumulate - 1
        with nullcontext() if last or self.world.size == 1 else self.model.no_sync():
            dtype = AUTOCAST[self.loop.precision]
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                values = self.model(batch, self.generator)
            self.losses[micro].copy_(values["loss"].detach(), non_blocking=True)
            if self.device.type == "cuda":
                self.forward_done = torch.cuda.Event()
                self.forward_done.record()
            self.scaler.scale(values["loss"] / self.loop.accumulate).backward()
        return {name: value.detach() for name, value in values.items()}

    def _losses_finite(self) -> bool:
        # On a GPU this waits for the last forward pass only, while the backward pass, already queued, goes on.
        if self.device.type == "cuda":
            self.forward_done.synchronize()
        return bool(self.losses.isfinite().all())

    def _update(self) -> None:
        if self.optim.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.optim.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.ema:
            self.ema.update(self.method, step=self.step)
        self.method.after_step((self.step - 1) / self.steps, self.step / self.steps)

    def _undo(self) -> None:
        """Forget a step that was begun: its gradients, and what its forward passes did to buffers."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.buffers_before)
        self.optimizer.zero_grad(set_to_none=True)

    def finite(self) -> bool:
        """Whether every floating-point tensor of the method is finite."""
        tensors = [t for t in self.method.state_dict().values() if isinstance(t, Tensor) and t.is_floating_point()]
        return bool(torch.stack([t.isfinite().all() for t in tensors]).all())

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on; tensors and plain data only. Every process must call it."""
        return {
            "step": self.step,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "recent": self.recent.state(self.world),
            "epoch_average": self.epoch_average.state(self.world),
            "closed_epochs": self.closed_epochs,
            "best": self.best,
            "last": self.last,
            "processes": self.world.size,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        self.recent.load(state["recent"], self.world)
        self.epoch_average.load(state["epoch_average"], self.world)
        self.step, self.closed_epochs, self.best = state["step"], state["closed_epochs"], dict(state["best"])
        self.last = dict(state.get("last", {}))  # older states do not know it


@dataclass(frozen=True)
class Hooks:
    """What a caller may add to a run.

    begin: called on every process once all settings have proved sound, before the folder is read or written.
    evaluate: method with the weights to evaluate -> metrics, called on every process; the one called `decides`, where
    it returns that, decides which state is the best (without it, the epoch's mean loss).
    pictures: called with the .npz file of each set of reconstructions (original, masked, predicted, composite: float32
    (B, 3, H, W) in [0, 1]), on the main process.
    finished: called with the run's folder at the end, on the main process.
    held_out: the validation images, of which run.json says which could not be decoded.
    """

    begin: Callable[[], None] | None = None
    evaluate: Callable[[nn.Module], Metrics] | None = None
    pictures: Callable[[Path], None] | None = None
    finished: Callable[[Path], None] | None = None
    held_out: Images | None = None
    decides: str = "top1"


NO_HOOKS = Hooks()


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
        if world.main:
            settle_states(folder, state, loop.keep)
        load_state(trainer, state, folder)
    run = _Run(trainer, source, folder, hooks)
    remaining = range(trainer.step, trainer.steps)
    batches = source.batches(trainer.plan, remaining, trainer.slots, world.device, loop.channels_last)
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
        return run.finish(architecture, reason() if stopped else "")


class _Run:
    """The files and the progress bar of a run: its main process writes them, the others only take part in the sums."""

    def __init__(self, trainer: Trainer, source: Source, folder: Path, hooks: Hooks) -> None:
        self.trainer, self.source, self.folder, self.hooks = trainer, source, folder, hooks
        self.world, self.loop = trainer.world, trainer.loop
        closed = trainer.closed_epochs == trainer.epoch
        self.log = Log(folder, trainer.step, closed) if self.world.main else None
        self.began = self.since = time.perf_counter()
        self.cpu_before = cpu_seconds()
        self.earlier = read_run(folder) if self.world.main else {}
        self.since_step = trainer.step
        self.bar = tqdm(
            total=trainer.steps,
            initial=trainer.step,
            unit="step",
            disable=not self.world.main,
            mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True,
        )

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        if self.log:
            epoch = self.trainer.step / self.trainer.plan.steps_per_epoch
            self.log.write(kind, self.trainer.step, epoch=round(epoch, 4), **values)

    def after_step(self) -> None:
        trainer = self.trainer
        self.bar.update()
        if trainer.step % self.loop.log_every and trainer.step not in (1, trainer.steps):
            return
        means = trainer.recent.means(self.world)
        trainer.recent.reset()
        now = time.perf_counter()
        speed = (trainer.step - self.since_step) * self.loop.batch / (now - self.since)
        self.since, self.since_step = now, trainer.step
        self.bar.set_postfix({"loss": f"{means['loss']:.4f}", "img/s": f"{speed:.0f}"}, refresh=False)
        self.write("train", {**means, "lr": trainer.learning_rate, "images_per_second": round(speed, 1)})

    def close_epoch(self) -> None:
        """Evaluate and draw where it is time to, remember the best, save."""
        trainer = self.trainer
        trainer.closed_epochs = epoch = trainer.epoch
        done = trainer.step == trainer.steps
        metrics = trainer.epoch_average.means(self.world)
        trainer.epoch_average.reset()
        if self.hooks.evaluate and (done or epoch % self.loop.evaluate_every == 0):
            metrics |= self.hooks.evaluate(trainer.evaluated)
            trainer.method.train()
        if self.loop.pictures_every and (done or epoch % self.loop.pictures_every == 0):
            self.draw()
        trainer.last = metrics
        self.write("epoch", metrics)
        better = self.is_best(metrics)
        if better:
            trainer.best = {"step": trainer.step, **metrics}
        if better or done or not self.loop.save_every:
            self.save(best=better)
        self.since, self.since_step = time.perf_counter(), trainer.step

    def is_best(self, metrics: Metrics) -> bool:
        if self.hooks.evaluate:
            return metrics.get(self.hooks.decides, -math.inf) > self.trainer.best.get(self.hooks.decides, -math.inf)
        return metrics["loss"] < self.trainer.best.get("loss", math.inf)

    def save(self, best: bool = False) -> None:
        state = self.trainer.state()
        if not self.trainer.finite():
            raise NonFiniteLoss(f"the weights became NaN or infinite before step {self.trainer.step}")
        spent, found = self.spent(), self.found()
        if self.world.main:
            save_state(self.folder, state, self.loop.keep, best)
            update_run(self.folder, **spent, **found)  # so that a run that is killed counts what led to its last state

    def spent(self) -> dict[str, float | None]:
        """Seconds and processor seconds of all processes and all starts. Every process must call it."""
        cpu = float(self.world.total(torch.tensor(cpu_seconds() - self.cpu_before, dtype=torch.float64)))
        before = self.earlier
        # Not known of a run that began before they were counted.
        cpu_before = before.get("cpu_seconds", None if "seconds" in before else 0.0)
        return {
            "seconds": round(before.get("seconds", 0.0) + time.perf_counter() - self.began, 1),
            "cpu_seconds": None if cpu_before is None else round(cpu_before + cpu, 1),
        }

    def found(self) -> dict[str, list[Any]]:
        """The damaged images that any process met in any start, and those of one colour. Every process must call it."""
        parts = {"train": self.source.images, "validation": self.hooks.held_out}
        reports = {part: images.reports for part, images in parts.items() if images}
        mine = {
            "skipped": [row for part, each in reports.items() for row in each.skipped(part)],
            "constant": [row for part, each in reports.items() for row in each.constants(part)],
        }
        told = [*self.world.collect(mine), {name: self.earlier.get(name, []) for name in mine}]
        return {name: distinct(row for each in told for row in each[name]) for name in mine}

    def draw(self) -> None:
        """pictures/step-N.npz: the same few images, with the same masks, as the weights now see them."""
        trainer = self.trainer
        if not self.world.main or (batch := examples(self.source, EXAMPLES, trainer.device)) is None:
            return
        generator = torch.Generator().manual_seed(seed_of(self.loop.seed, "pictures"))
        method = trainer.evaluated.eval()
        with torch.no_grad():
            pictures = method.pictures(batch, generator)
        trainer.method.train()
        if pictures is None:
            return
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (self.source.mean, self.source.std))
        shown = {name: (x.cpu().float() * std + mean).clamp(0, 1).numpy() for name, x in pictures.items()}
        path = self.folder / "pictures" / f"step-{trainer.step:08d}.npz"
        write_atomically(path, lambda beside: _save_arrays(beside, shown))
        if self.hooks.pictures:
            self.hooks.pictures(path)

    def rescue(self, error: BaseException) -> str:
        """Save the last good state if it is still there, and say in one sentence what happened and what to do."""
        trainer, step = self.trainer, self.trainer.step
        together = isinstance(error, NonFiniteLoss) or self.world.size == 1
        if together and step > 0 and trainer.finite():
            state = trainer.state()
            if self.world.main:
                save_state(self.folder, state, self.loop.keep)
            saved = f"the state before it (step {step}) is saved in {self.folder}"
        else:
            kept = newest_state(self.folder)
            saved = f"the last good state is that of step {kept['step']}" if kept else "no state had been saved yet"
        if isinstance(error, NonFiniteLoss):
            return f"{error}; {saved}; use a smaller --lr, --clip-grad, or another --precision"
        if isinstance(error, Unreadable):
            return f"{error} (step {step}); {saved}; go on with --resume when they can be read"
        return (
            f"a process that decodes images died at step {step} ({' '.join(str(error).split())}); {saved}; "
            "go on with --resume, and with fewer --workers if memory ran out"
        )

    def finish(self, architecture: Mapping[str, Any], stopped_by: str) -> dict[str, Any]:
        trainer = self.trainer
        finished = trainer.step == trainer.steps and trainer.closed_epochs == trainer.epoch
        spent, found = self.spent(), self.found()
        result: dict[str, Any] = {
            "finished": finished,
            "stopped_by": stopped_by,
            "step": trainer.step,
            "steps": trainer.steps,
            "epochs": trainer.epoch,
            "processes": self.world.size,
            "learning_rate": scaled_lr(trainer.optim, self.loop.batch),
            "last": finite(trainer.last),
            "best": finite(trainer.best),
        }
        if self.log:
            self.log.close()
            result |= spent | found
            result["last"] = finite(trainer.last) or self.earlier.get("last", {})
            if finished:
                self._export(architecture)
            update_run(self.folder, **result)
            if finished and self.hooks.finished:
                self.hooks.finished(self.folder)
        self.world.wait()
        return result

    def _export(self, architecture: Mapping[str, Any]) -> None:
        classes = self.source.images.classes if architecture.get("num_classes") else {}
        export_backbone(self.trainer.evaluated.backbone, self.folder / "backbone.safetensors", architecture, classes)
        if self.trainer.ema:
            raw = self.folder / "backbone_without_ema.safetensors"
            export_backbone(self.trainer.method.backbone, raw, architecture, classes)


def distinct(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows about images, each image once, in order."""
    by_image = {(row["part"], row["image"]): row for row in rows}
    return [by_image[key] for key in sorted(by_image)]


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended: on a shared machine the cost of a run."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_state(trainer: Trainer, state: dict[str, Any], folder: Path) -> None:
    """Go on from a saved state. Raises ValueError for one of another network, method or optimizer."""
    try:
        trainer.load(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"{state_path(folder)} does not fit this run ({' '.join(str(error).split())[:200]}): remove it to go on "
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


def recompute(method: Method) -> None:
    """Have the backbone compute its blocks again in the backward pass. Raises ValueError where that cannot be."""
    name = type(method.backbone).__name__
    if not method.recomputable:
        raise ValueError(
            f"{type(method).__name__} acts inside of {name}, whose blocks would be computed again without it: "
            "drop --grad-checkpointing"
        )
    try:
        method.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise ValueError(f"{name} cannot compute its blocks again: drop --grad-checkpointing") from error


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
