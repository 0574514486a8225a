"""What a run tells and keeps while it goes on: its log and progress bar, states and pictures, at the end weights."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from a2mim.averages import Metrics
from a2mim.course import course_file
from a2mim.data import Source, examples
from a2mim.errors import one_line
from a2mim.export import export_backbone
from a2mim.images import Images
from a2mim.loading import Unreadable
from a2mim.optim import scaled_lr
from a2mim.plain import finite
from a2mim.runs import Log, newest_state, read_run, save_state, update_run, write_arrays
from a2mim.seeds import seed_of
from a2mim.trainer import NonFiniteLoss, Trainer

EXAMPLES = 8


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


class Progress:
    """The files and the progress bar of a run: its main process writes them, the others only take part in the sums."""

    def __init__(
        self, trainer: Trainer, source: Source, folder: Path, hooks: Hooks, architecture: Mapping[str, Any]
    ) -> None:
        self.trainer, self.source, self.folder, self.hooks = trainer, source, folder, hooks
        self.world, self.loop, self.architecture = trainer.world, trainer.loop, architecture
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
        if trainer.step == 0:
            self.keep_weights()

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        if self.log:
            epoch = self.trainer.step / self.trainer.plan.steps_per_epoch
            self.log.write(kind, self.trainer.step, epoch=round(epoch, 4), **values)

    def after_step(self) -> None:
        trainer = self.trainer
        self.bar.update()
        self.keep_weights()
        if trainer.step % self.loop.log_every and trainer.step not in (1, trainer.steps):
            return
        means = trainer.recent.means(self.world)
        trainer.recent.reset()
        now = time.perf_counter()
        speed = (trainer.step - self.since_step) * self.loop.batch / (now - self.since)
        self.since, self.since_step = now, trainer.step
        self.bar.set_postfix({"loss": f"{means['loss']:.4f}", "img/s": f"{speed:.0f}"}, refresh=False)
        self.write("train", {**means, "lr": trainer.learning_rate, "images_per_second": round(speed, 1)})

    def keep_weights(self) -> None:
        """Where it is time to. Before any state of this step is saved: what goes on from that finds them there."""
        if self.world.main and self.trainer.step in self.trainer.kept_steps:
            self._export(self.trainer.evaluated.backbone, course_file(self.folder, self.trainer.step))

    def close_epoch(self) -> None:
        """Evaluate and draw where it is time to, remember the best, save."""
        trainer, epoch = self.trainer, self.trainer.epoch
        done = trainer.step == trainer.steps
        metrics = trainer.epoch_average.means(self.world)
        if self.hooks.evaluate and (done or epoch % self.loop.evaluate_every == 0):
            # DDP hands out batch statistics when the next step begins, and never those of an average of weights.
            self.world.from_main(trainer.evaluated.buffers())
            metrics |= self.hooks.evaluate(trainer.evaluated)
            trainer.method.train()
        if self.loop.pictures_every and (done or epoch % self.loop.pictures_every == 0):
            self.draw()
        # Only now: a state that is saved because images cannot be read any more is one of an open epoch.
        trainer.closed_epochs = epoch
        trainer.epoch_average.reset()
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
        write_arrays(path, shown)
        if self.hooks.pictures:
            self.hooks.pictures(path)

    def rescue(self, error: BaseException) -> str:
        """Save the last good state if it is still there, and say in one sentence what happened and what to do."""
        trainer, step = self.trainer, self.trainer.step
        together = isinstance(error, NonFiniteLoss) or self.world.size == 1
        if together and step > 0 and trainer.finite():
            state, spent, found = trainer.state(), self.spent(), self.found()
            if self.world.main:
                save_state(self.folder, state, self.loop.keep)
                update_run(self.folder, **spent, **found)
            saved = f"the state before it (step {step}) is saved in {self.folder}"
        else:
            kept = newest_state(self.folder)
            saved = f"the last good state is that of step {kept['step']}" if kept else "no state had been saved yet"
        if isinstance(error, NonFiniteLoss):
            return f"{error}; {saved}; use a smaller --lr, --clip-grad, or another --precision"
        if isinstance(error, Unreadable):
            return f"{error} (step {step}); {saved}; go on with --resume when they can be read"
        return (
            f"a process that decodes images died at step {step} ({one_line(error)}); {saved}; "
            "go on with --resume, and with fewer --workers if memory ran out"
        )

    def finish(self, stopped_by: str) -> dict[str, Any]:
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
                self._export(trainer.evaluated.backbone, self.folder / "backbone.safetensors")
                if trainer.ema:
                    self._export(trainer.method.backbone, self.folder / "backbone_without_ema.safetensors")
            update_run(self.folder, **result)
            if finished and self.hooks.finished:
                self.hooks.finished(self.folder)
        self.world.wait()
        return result

    def _export(self, backbone: nn.Module, path: Path) -> None:
        classes = self.source.images.classes if self.architecture.get("num_classes") else {}
        export_backbone(backbone, path, self.architecture, classes)


def distinct(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows about images, each image once, in order."""
    by_image = {(row["part"], row["image"]): row for row in rows}
    return [by_image[key] for key in sorted(by_image)]


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended: on a shared machine the cost of a run."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
