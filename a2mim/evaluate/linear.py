"""Linear probing: a linear classifier on frozen, cached features, at several learning rates at once.

The features are standardised with the training set's mean and deviation (the batch norm without affine that MAE puts
there), and the classifiers are trained with SGD, momentum 0.9 and a cosine to 0, without augmentation. A tenth of the
training images, a tenth of each class as far as that goes, is held out to choose the learning rate; the classifier at
that rate, trained on all training images, is what is reported. Where one rate is given nothing is held out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.evaluate.accuracy import class_count, hits

CHUNK = 1024
"""Images that a classifier sees at once when it is scored."""
SILENT = 1e-6
"""Deviation below which a channel is left at its own scale (as scikit-learn's StandardScaler does)."""


@dataclass(frozen=True)
class Probe:
    """How the classifiers are trained."""

    epochs: int = 100
    batch: int = 1024
    lrs: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """For a batch of 256; scaled linearly to `batch`, or to the images where there are fewer."""
    weight_decay: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Kind:
    """A kind of classifier on frozen features, and what trains it.

    make: width of the features, classes -> the classifier, the same one each time, on the CPU.
    optimizer: parameter groups, weight_decay= -> the optimizer.
    """

    make: Callable[[int, int], nn.Module]
    optimizer: Callable[..., torch.optim.Optimizer]


def linear_head(width: int, classes: int) -> nn.Linear:
    """A linear classifier that begins at zero."""
    head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


LINEAR = Kind(linear_head, partial(torch.optim.SGD, momentum=0.9))


def linear_probe(
    train_ND: Tensor,
    train_target_N: Tensor,
    test_MD: Tensor,
    test_target_M: Tensor,
    probe: Probe,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Features and labels of both sets -> {"top1", "top5" (test, percent), "lr", "held_out" (lr -> top-1)}.

    Raises ValueError where there is too little to choose the learning rate by, for one training image alone, and for a
    label below 0.
    """
    mean_D, deviation_D = moments(train_ND)
    train_ND, test_MD = (((x - mean_D) / deviation_D).to(device) for x in (train_ND, test_MD))
    return probed(train_ND, train_target_N, test_MD, test_target_M, probe, LINEAR, device)


def moments(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (D,) over all but the last dimension. Raises ValueError where there is one row alone."""
    x_ND = x_ND.flatten(0, -2)
    if len(x_ND) < 2:
        raise ValueError("the features of one training image have no deviation to be divided by: use two or more")
    deviation_D = x_ND.std(0)
    # A channel that is silent in these images may speak in others, and must not drown the rest there.
    return x_ND.mean(0), torch.where(deviation_D < SILENT, 1.0, deviation_D)


def probed(
    train_ND: Tensor,
    train_target_N: Tensor,
    test_MD: Tensor,
    test_target_M: Tensor,
    probe: Probe,
    kind: Kind,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """What `linear_probe` returns, of a classifier of any kind. Raises ValueError as that does."""
    classes = class_count(train_target_N, test_target_M)
    device = device or torch.device("cpu")
    train_target_N, test_target_M = train_target_N.to(device), test_target_M.to(device)
    head, lr, held_out = fit_best(train_ND, train_target_N, classes, probe, kind)
    top1, top5 = score(head, test_MD, test_target_M)
    return {"top1": top1, "top5": top5, "lr": lr, "held_out": held_out}


def fit_best(
    x_ND: Tensor, target_N: Tensor, classes: int, probe: Probe, kind: Kind = LINEAR
) -> tuple[Any, float, dict[str, float]]:
    """Choose the learning rate on a tenth of the images, held out, and train with it on all.

    Returns the classifier, its learning rate, and the held-out top-1 of each rate in percent ({}: one rate was given).
    Raises ValueError where there is too little to hold a tenth out.
    """
    lr, chosen = probe.lrs[0], dict[float, float]()
    if len(probe.lrs) > 1:
        held_N = held_out_tenth(target_N, probe.seed)
        held, kept = held_N.nonzero()[:, 0], (~held_N).nonzero()[:, 0]
        if len(x_ND) < 20 or not torch.isin(target_N[held], target_N[kept]).any():
            raise ValueError(
                f"{len(x_ND)} training images are too few for a linear probe that holds out a tenth of them to choose "
                "the learning rate: it needs at least 20, and two of a class; or give one rate"
            )
        heads = fit(picked(x_ND, kept), target_N[kept], classes, probe, probe.lrs, kind)
        apart_ND, apart_N = picked(x_ND, held), target_N[held]
        chosen = {lr: score(head, apart_ND, apart_N)[0] for lr, head in zip(probe.lrs, heads, strict=True)}
        lr = max(chosen, key=lambda each: chosen[each])
    (head,) = fit(x_ND, target_N, classes, probe, (lr,), kind)
    return head, lr, {f"{each:g}": top for each, top in chosen.items()}


def held_out_tenth(target_N: Tensor, seed: int) -> Tensor:
    """Which tenth of the images is held out (N,): every tenth one of those in random order within classes in random
    order, so that a class has its share."""
    generator = torch.Generator().manual_seed(seed)
    order_N = torch.randperm(len(target_N), generator=generator).to(target_N.device)
    rank_K = torch.randperm(int(target_N.max()) + 1, generator=generator).to(target_N.device)
    order_N = order_N[rank_K[target_N[order_N]].argsort(stable=True)]
    held_N = torch.zeros(len(target_N), dtype=torch.bool, device=target_N.device)
    held_N[order_N[::10]] = True
    return held_N


def picked(x_ND: Tensor, rows: Tensor) -> Tensor:
    """Rows of features that may lie elsewhere than their numbers: tokens are kept on the CPU."""
    return x_ND[rows.to(x_ND.device)]


def fit(
    x_ND: Tensor, target_N: Tensor, classes: int, probe: Probe, lrs: tuple[float, ...], kind: Kind = LINEAR
) -> list[Any]:
    """One classifier per learning rate, all on the same batches, on the targets' device."""
    device = target_N.device
    heads = [kind.make(x_ND.shape[-1], classes).to(device) for _ in lrs]
    batch = min(probe.batch, len(x_ND))
    peak = [lr * batch / 256 for lr in lrs]
    groups = [{"params": list(head.parameters()), "lr": lr} for head, lr in zip(heads, peak, strict=True)]
    optimizer = kind.optimizer(groups, weight_decay=probe.weight_decay)
    generator = torch.Generator().manual_seed(probe.seed)
    per_epoch = len(x_ND) // batch
    for step in range(probe.epochs * per_epoch):
        if step % per_epoch == 0:
            order_N = torch.randperm(len(x_ND), generator=generator).to(device)
        chosen_B = order_N[step % per_epoch * batch :][:batch]
        for group, lr in zip(optimizer.param_groups, peak, strict=True):
            group["lr"] = lr * (1 + math.cos(math.pi * step / (probe.epochs * per_epoch))) / 2
        x_BD, target_B = picked(x_ND, chosen_B).to(device), target_N[chosen_B]
        # The heads share no parameter: the gradient of the sum is each one's own.
        loss = torch.stack([F.cross_entropy(head(x_BD), target_B) for head in heads]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return heads


@torch.no_grad()
def score(head: nn.Module, x_MD: Tensor, target_M: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 in percent; a classifier that diverged scores 0."""
    logits_MK = torch.cat([head(part.to(target_M.device)) for part in x_MD.split(CHUNK)])
    if not logits_MK.isfinite().all():
        return 0.0, 0.0
    right, right5 = hits(logits_MK, target_M)
    return 100 * right.item() / len(x_MD), 100 * right5.item() / len(x_MD)
