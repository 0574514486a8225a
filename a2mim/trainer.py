"""What a run consists of between two steps, and how it takes one.

What happens at a step is a function of the weights and of (seed, step, slot) alone, where the slots are the processes
and the accumulated micro-batches: the images, their augmentation, their mixing, the method's masks and the model's
dropout. So a saved state holds no random number generators and no place in a data loader.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from a2mim.averages import Average, Metrics, MovingAverage
from a2mim.bounds import check
from a2mim.course import kept_steps
from a2mim.data import Source
from a2mim.dist import World
from a2mim.loading import WorkerDied, in_channels_last
from a2mim.optim import (
    check_schedule,
    learning_rate,
    make_optimizer,
    rate_words,
    scaled_lr,
    set_learning_rate,
    set_weight_decay,
)
from a2mim.plan import Plan
from a2mim.samples import Batch
from a2mim.seeds import seed_everything, seed_of
from a2mim.settings import Loop, Optim

if TYPE_CHECKING:
    from a2mim.methods import Method

AUTOCAST = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite."""


class Trainer:
    """What a run consists of between two steps, and how it takes one.

    Raises ValueError for settings that cannot be (see check, Plan, refuse_single_images, make_optimizer).
    """

    def __init__(self, method: Method, source: Source, optim: Optim, loop: Loop, world: World) -> None:
        check(optim)
        check(loop)
        check_schedule(optim)
        self.optim, self.loop, self.world, self.device = optim, loop, world, world.device
        self.plan = planned(source, optim, loop, world)
        self.streamed, self.workers = source.images.streamed, source.workers
        refuse_single_images(method, self.plan, loop, world)
        self.slots = [micro * world.size + world.rank for micro in range(loop.accumulate)]
        self.steps = optim.epochs * self.plan.steps_per_epoch
        self.kept_steps = kept_steps(self.steps, loop.keep_states)
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
                raise ValueError("synchronised batch statistics need CUDA: use --no-sync-bn, or leave --sync-bn out")
            method = synchronised(method)
        if self.loop.grad_checkpointing:
            recompute(method)
        form = torch.channels_last if self.loop.laid_out else torch.preserve_format
        return method.to(self.device, memory_format=form).train()  # type: ignore[call-overload]

    @property
    def laid_out(self) -> bool:
        """Whether its images lie in channels-last format: as is asked for, or as the network came."""
        return self.loop.laid_out or in_channels_last(self.method)

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.plan.steps_per_epoch

    @property
    def learning_rate(self) -> float:
        """Of the last step, before layer-wise and per-parameter factors."""
        return learning_rate(self.optim, self.peak, max(0, self.step - 1), self.plan.steps_per_epoch)

    @property
    def evaluated(self) -> Method:
        """The method with the weights that are evaluated and exported: the moving average where there is one."""
        return self.ema.module if self.ema else self.method  # type: ignore[return-value]

    def advance(self, batches: Iterator[Batch], stop: bool = False) -> bool:
        """Take one optimizer step; returns whether any process wants to stop.

        Raises NonFiniteLoss on every process if the loss is not finite on one; the step is then undone.
        """
        set_learning_rate(self.optimizer, self.optim, self.peak, self.step, self.plan.steps_per_epoch)
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
        # Optimizers may draw, as timm's kron does: all processes the same, or their weights would drift apart.
        seed_everything(self.loop.seed, "update", self.step)
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
            **({"workers": self.workers} if self.streamed else {}),
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
        self.method.go_on_from(self.step / self.steps)


def planned(source: Source, optim: Optim, loop: Loop, world: World) -> Plan:
    """The order of the images. Raises ValueError as `Plan` does, with the learning rate of a batch that fits."""
    samples, slots = source.images.samples, world.size * loop.accumulate
    try:
        return Plan(samples, loop.batch, loop.seed, slots, repeats=source.repeats)
    except ValueError as error:
        largest = samples // slots * slots
        if not 0 < largest < loop.batch:
            raise
        raise ValueError(f"{error}; {rate_words(optim, largest)}") from error


def refuse_single_images(method: Method, plan: Plan, loop: Loop, world: World) -> None:
    """Raise ValueError where a method that compares images would see one at a time."""
    if method.compares and loop.together(world.size) < 2:
        raise ValueError(
            f"{type(method).__name__} compares images of a micro-batch, and --batch {plan.batch} leaves one in each "
            f"of {plan.slots}: use a larger batch, fewer processes or less --accumulate"
        )


def synchronised(method: Method) -> Method:
    """The method with batch statistics over all processes; what acts at its normalisations, as a mask token may, stays:
    timm makes new modules of them, without their hooks."""
    given = dict(method.named_modules(remove_duplicate=False))
    made = convert_sync_batchnorm(method)
    for name, module in made.named_modules(remove_duplicate=False):
        module._forward_hooks = given[name]._forward_hooks
        module._forward_pre_hooks = given[name]._forward_pre_hooks
    return made


def recompute(method: Method) -> None:
    """Have the trained backbone compute its blocks again in the backward pass. Raises ValueError where that cannot
    be."""
    backbone: Any = getattr(method, method.trained)
    name = type(backbone).__name__
    if not method.recomputable:
        raise ValueError(
            f"{type(method).__name__} acts inside of {name}, whose blocks would be computed again without it: "
            "drop --grad-checkpointing"
        )
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise ValueError(f"{name} cannot compute its blocks again: drop --grad-checkpointing") from error
