"""Parameter groups and optimizer, timm's; and the learning rate: scaled to the global batch, along a schedule.

Schedules are written out here since timm has no warm-up that rises to a moving rate, which OpenMixup's is.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from timm.models._manipulate import group_with_matcher
from timm.optim import create_optimizer_v2, get_optimizer_info
from torch import nn

from a2mim.settings import Optim

if TYPE_CHECKING:
    from a2mim.methods import Method


ADAPTED_WHERE_DECAYED = ("lars", "lamb")
"""timm's optimizers that adapt their rate to the size of weights, of groups with a weight decay alone."""


def scaled_lr(optim: Optim, batch: int) -> float:
    """Peak learning rate for a global batch: lr · batch / lr_batch (linear; Goyal et al. 2017), lr · √(…), or lr."""
    ratio = batch / optim.lr_batch
    return optim.lr * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[optim.lr_scaling]


def rate_words(optim: Optim, batch: int) -> str:
    """What the peak learning rate is with a batch, as the end of a sentence."""
    how = f"{optim.lr:g} scaled {optim.lr_scaling} from batch {optim.lr_batch}"
    return f"with --batch {batch} the peak learning rate is {scaled_lr(optim, batch):.3g} ({how})"


HEAD = "~"
"""A name that no model's rules for its layers know, so that timm takes it for a part of the head."""


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Learning-rate factor of each parameter of a timm model: decay^(layers above it), 1 at the head.

    Layers are timm's (`group_matcher`): the stem is one, each block is one, the head is the top one (Clark et al. 2020;
    for a BEiT the very factors of Bao et al. 2022). Below a decoder or a detector, which take the place of a head, the
    factors are the same (Detectron2's get_vit_lr_decay_rate). Raises ValueError for a model that does not name its
    layers.
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise ValueError(f"{type(model).__name__} does not name its layers (group_matcher): use --layer-decay 1")
    named = [name for name, _ in model.named_parameters()]
    # Where a model has no head of its own its last block would be the top layer.
    outside = [] if of_classifier(model) else [HEAD]
    layers = group_with_matcher(((name, None) for name in named + outside), matcher(coarse=False), reverse=True)
    top = max(layers.values())
    return {name: decay ** (top - layers[name]) for name in named}


def parameter_groups(method: Method, optim: Optim) -> list[dict[str, Any]]:
    """The trainable parameters of a method, grouped by weight decay and learning-rate factor (`lr_scale`).

    No weight decay: vectors and biases, and what method.no_weight_decay() names, unless optim's decay_also names it.
    The factor is method.lr_scales() times layer-wise decay and backbone_rate, which apply to the trained backbone, the
    second not to its classifier. For Muon `tables` are grouped apart, with use_fallback: by AdamW.

    Raises ValueError for a part in decay_also that no trainable parameter's name has.
    """
    backbone: Any = getattr(method, method.trained)
    prefix = f"{method.trained}."
    exempt, scales = method.no_weight_decay(), method.lr_scales()
    layers = layer_scales(backbone, optim.layer_decay) if optim.layer_decay != 1 else {}
    classifying = {id(parameter) for parameter in of_classifier(backbone)}
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    trained = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    if nameless := [part for part in optim.decay_also if not any(part in name for name in trained)]:
        raise ValueError(f"no trained parameter has {nameless[0]} in its name, which --decay-also names")
    apart = tables(method) if optim.optimizer.lower().endswith("muon") else set()
    for name, parameter in trained.items():
        plain = parameter.ndim <= 1 or name.endswith(".bias") or name in exempt
        plain = plain and not any(part in name for part in optim.decay_also)
        scale = scales.get(name, 1.0)
        if name.startswith(prefix):
            scale *= layers.get(name.removeprefix(prefix), 1.0)
            scale *= optim.backbone_rate if id(parameter) not in classifying else 1.0
        decay = 0.0 if plain else optim.weight_decay
        groups.setdefault((decay, scale, name in apart), []).append(parameter)
    return [
        {"params": each, "weight_decay": decay, "lr_scale": scale, **({"use_fallback": True} if table else {})}
        for (decay, scale, table), each in groups.items()
    ]


def tables(method: Method) -> set[str]:
    """Names of the parameters that the method or its trained backbone exempts from weight decay, and that are no
    vectors: position biases and the like, which Muon, going by shapes, would take for the matrices of layers."""
    own: set[str] = getattr(getattr(method, method.trained), "no_weight_decay", set)()
    exempt = method.no_weight_decay() | {f"{method.trained}.{name}" for name in own}
    # A token (1, 1, D) and the positions (1, L, D) of tokens are no matrices to Muon either.
    return {name for name, each in method.named_parameters() if name in exempt and each.ndim > 1 and len(each) > 1}


def of_classifier(backbone: Any) -> list[nn.Parameter]:
    """The parameters of a timm model's classifier, or classifiers; of another network none."""
    found = backbone.get_classifier() if hasattr(backbone, "get_classifier") else ()
    heads = found if isinstance(found, (list, tuple)) else (found,)
    return [parameter for head in heads if isinstance(head, nn.Module) for parameter in head.parameters()]


def make_optimizer(method: Method, optim: Optim, batch: int) -> torch.optim.Optimizer:
    """timm's optimizer of that name. Raises ValueError as check_optimizer does, and for one that cannot be had here."""
    check_optimizer(optim)
    if not optim.weight_decay and any(name in optim.optimizer.lower() for name in ADAPTED_WHERE_DECAYED):
        warnings.warn(
            f"{optim.optimizer} adapts its rate to weights that decay alone (timm), and --weight-decay 0 leaves none: "
            "give it a small one, such as 1e-6, or another optimizer",
            stacklevel=2,
        )
    extra: dict[str, Any] = {"betas": optim.betas, "eps": optim.eps}
    if "lamb" in optim.optimizer.lower():  # which clips by itself, at 1 where it is told nothing
        extra["max_grad_norm"] = optim.clip_grad or None
    try:
        return create_optimizer_v2(
            parameter_groups(method, optim),
            opt=optim.optimizer,
            lr=scaled_lr(optim, batch),
            weight_decay=optim.weight_decay,
            momentum=optim.momentum,
            **{name: value for name, value in extra.items() if value is not None},
        )
    except (AssertionError, ImportError) as error:
        raise ValueError(
            f"--optimizer {optim.optimizer} cannot be had here ({error}): use another, such as adamw"
        ) from error


def check_optimizer(optim: Optim) -> None:
    """Raise ValueError for an optimizer that timm does not have, that needs second derivatives, or that takes another
    number of betas than are given."""
    info = get_optimizer_info(optim.optimizer.lower().split("_")[-1])  # lookahead_ stands before any of them
    if info.second_order:
        raise ValueError(
            f"--optimizer {optim.optimizer} needs second derivatives, and none are computed: use another, such as adamw"
        )
    if optim.betas and info.has_betas and info.num_betas != len(optim.betas):
        raise ValueError(
            f"--optimizer {optim.optimizer} has {info.num_betas} betas, and --betas gives {len(optim.betas)}: leave "
            "--betas out, so that it has its own"
        )


def check_schedule(optim: Optim) -> None:
    """Raise ValueError where the warm-up is longer than the training."""
    if optim.epochs < 1 or optim.warmup_epochs > optim.epochs:
        raise ValueError(
            f"{optim.warmup_epochs:g} epochs of warm-up do not fit into --epochs {optim.epochs}: give "
            "more of these, or fewer --warmup-epochs"
        )


def learning_rate(optim: Optim, peak: float, step: int, steps_per_epoch: int) -> float:
    """Learning rate of an optimizer step (0 is the first), before layer-wise and per-parameter factors.

    With peak p, floor m (min_lr), warm-up w and training T, all in steps, the schedule is one of
        cosine      r(t) = m + (p − m)/2 · (1 + cos π(t − s)/(T − s)),  s = w, or 0 with cosine_from "start"
        poly        r(t) = m + (p − m) · ((T − t)/(T − s))^power,  s as of the cosine
        multistep   r(t) = p · decay_rate^(milestones that t has reached)
        constant    r(t) = p
    and for t < w, with p0 = warmup_lr, the rate is p0 + t/w·(p − p0), or (p0 + t/w·(p − p0))·r(t)/p with warmup_to
    "schedule" (mmcv's rule; before w, a cosine that begins there has its mirror image). With "start" and "peak" it is
    timm's CosineLRScheduler; with "warmup" and "peak" timm's with warmup_prefix and T − w as its length.
    """
    warmup, total = optim.warmup_epochs * steps_per_epoch, optim.epochs * steps_per_epoch
    risen = optim.warmup_lr + step * ((peak - optim.warmup_lr) / warmup) if step < warmup else peak
    if step < warmup and optim.warmup_to == "peak":
        return risen
    begin = warmup if optim.cosine_from == "warmup" else 0
    if optim.schedule == "cosine":
        progress = math.pi * (step - begin) / (total - begin) if total > begin else 0.0
        rate = optim.min_lr + 0.5 * (peak - optim.min_lr) * (1 + math.cos(progress))
    elif optim.schedule == "poly":
        left = (total - step) / (total - begin) if total > begin else 1.0
        rate = optim.min_lr + (peak - optim.min_lr) * left**optim.power
    else:
        reached = sum(step >= milestone * steps_per_epoch for milestone in optim.milestones)
        rate = peak * optim.decay_rate**reached if optim.schedule == "multistep" else peak
    return rate if step >= warmup else rate * risen / (peak or 1.0)


def group_rate(optim: Optim, peak: float, step: int, steps_per_epoch: int, scale: float) -> float:
    """Learning rate of a parameter group with the factor `scale`: `scale` times `learning_rate`; where min_lr is not
    scaled, that of a schedule from scale·peak to min_lr itself (mmcv's LrUpdaterHook, by each group's initial_lr).

    A factor of 0 stops a group either way.
    """
    if scale and not optim.min_lr_scaled:
        optim = replace(optim, min_lr=optim.min_lr / scale)
    return scale * learning_rate(optim, peak, step, steps_per_epoch)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, optim: Optim, peak: float, step: int, steps_per_epoch: int
) -> None:
    """Give every parameter group its learning rate of an optimizer step."""
    for group in optimizer.param_groups:
        group["lr"] = group_rate(optim, peak, step, steps_per_epoch, group["lr_scale"])


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
