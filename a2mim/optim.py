"""Parameter groups, optimizer and schedule: timm's, with the learning rate scaled to the global batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from a2mim.settings import Optim


def scaled_lr(optim: Optim, batch: int) -> float:
    """Peak learning rate for a global batch: lr · batch / lr_batch (linear; Goyal et al. 2017), lr · √(…), or lr."""
    ratio = batch / optim.lr_batch
    return optim.lr * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[optim.lr_scaling]


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Learning-rate factor of each parameter of a timm model: decay^(layers above it), 1 at the head.

    Layers are timm's (`group_matcher`): the stem is one, each block is one, the head is the top one (Clark et al. 2020;
    for a BEiT the very factors of Bao et al. 2022). Raises ValueError for a model that does not name its layers.
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise ValueError(f"{type(model).__name__} does not name its layers (group_matcher): use --layer-decay 1")
    layers = group_parameters(model, matcher(coarse=False), reverse=True)
    top = max(layers.values())
    return {name: decay ** (top - layer) for name, layer in layers.items()}


def parameter_groups(method: nn.Module, optim: Optim) -> list[dict[str, Any]]:
    """The trainable parameters of a method, grouped by weight decay and learning-rate factor (`lr_scale`).

    No weight decay: vectors and biases, and what method.no_weight_decay() or the backbone's names. The factor is
    method.lr_scales() times layer-wise decay, which applies to the backbone.
    """
    backbone: Any = method.backbone
    exempt: set[str] = set(method.no_weight_decay())  # type: ignore[operator]
    if hasattr(backbone, "no_weight_decay"):
        exempt |= {f"backbone.{name}" for name in backbone.no_weight_decay()}
    scales: Mapping[str, float] = method.lr_scales()  # type: ignore[operator]
    layers = layer_scales(backbone, optim.layer_decay) if optim.layer_decay != 1 else {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim <= 1 or name.endswith(".bias") or name in exempt
        scale = scales.get(name, 1.0) * layers.get(name.removeprefix("backbone."), 1.0)
        groups.setdefault((0.0 if plain else optim.weight_decay, scale), []).append(parameter)
    return [{"params": each, "weight_decay": decay, "lr_scale": scale} for (decay, scale), each in groups.items()]


def make_optimizer(method: nn.Module, optim: Optim, batch: int) -> torch.optim.Optimizer:
    """timm's optimizer of that name. Raises ValueError for a name that timm does not have."""
    extra: dict[str, Any] = {"betas": optim.betas, "eps": optim.eps}
    return create_optimizer_v2(
        parameter_groups(method, optim),
        opt=optim.optimizer,
        lr=scaled_lr(optim, batch),
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
        **{name: value for name, value in extra.items() if value is not None},
    )


def make_schedule(optimizer: torch.optim.Optimizer, optim: Optim, steps_per_epoch: int) -> Scheduler:
    """timm's schedule by optimizer step: call `step_update(step)` before each step; it keeps no state of its own.

    Raises ValueError where the warm-up is longer than the training.
    """
    if optim.epochs < 1 or optim.warmup_epochs > optim.epochs:
        raise ValueError(f"{optim.warmup_epochs:g} epochs of warm-up do not fit into --epochs {optim.epochs}")
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=optim.schedule,
        num_epochs=optim.epochs,
        warmup_epochs=optim.warmup_epochs,  # type: ignore[arg-type]
        warmup_lr=optim.warmup_lr,
        min_lr=optim.min_lr,
        decay_milestones=list(optim.milestones),  # type: ignore[arg-type]
        decay_rate=optim.decay_rate,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    assert schedule is not None
    return schedule


def set_weight_decay(optimizer: torch.optim.Optimizer, optim: Optim, progress: float) -> None:
    """Move the weight decay of every decayed group along its cosine; progress in [0, 1]."""
    if optim.weight_decay_end is None:
        return
    now = (
        optim.weight_decay_end + (optim.weight_decay - optim.weight_decay_end) * (1 + math.cos(math.pi * progress)) / 2
    )
    for group in optimizer.param_groups:
        if group["weight_decay"] > 0:
            group["weight_decay"] = now
