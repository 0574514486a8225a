"""Linear probing: a linear classifier on frozen, cached features, at several learning rates at once.

The features are standardised with the training set's mean and deviation (the batch norm without affine that MAE puts
there), and the classifiers are trained with SGD, momentum 0.9 and a cosine to 0, without augmentation. Every tenth
training image is held out to choose the learning rate; the classifier at that rate, trained on all training images, is
what is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.evaluate.accuracy import check_targets, hits


@dataclass(frozen=True)
class Probe:
    """How the classifiers are trained."""

    epochs: int = 100
    batch: int = 1024
    lrs: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """For a batch of 256; scaled linearly to `batch`."""
    weight_decay: float = 0.0
    seed: int = 0


def linear_probe(
    train_ND: Tensor,
    train_target_N: Tensor,
    test_MD: Tensor,
    test_target_M: Tensor,
    probe: Probe,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Features and labels of both sets -> {"top1", "top5" (test, percent), "lr", "held_out" (lr -> top-1)}.

    Raises ValueError where there is too little to hold a tenth out.
    """
    if len(train_ND) < 20:
        raise ValueError(f"{len(train_ND)} training images are too few for a linear probe: it needs at least 20")
    device = device or torch.device("cpu")
    classes = int(train_target_N.max()) + 1
    check_targets(train_target_N, classes)
    check_targets(test_target_M, classes)
    mean_D, deviation_D = train_ND.mean(0), train_ND.std(0).clamp(min=1e-6)
    train_ND, test_MD = (((x - mean_D) / deviation_D).to(device) for x in (train_ND, test_MD))
    train_target_N, test_target_M = train_target_N.to(device), test_target_M.to(device)
    head, lr, held_out = fit_best(train_ND, train_target_N, classes, probe)
    top1, top5 = score(head, test_MD, test_target_M)
    return {"top1": top1, "top5": top5, "lr": lr, "held_out": held_out}


def fit_best(x_ND: Tensor, target_N: Tensor, classes: int, probe: Probe) -> tuple[nn.Linear, float, dict[str, float]]:
    """Choose the learning rate on every tenth image, held out, and train with it on all.

    Returns the classifier, its learning rate, and the held-out top-1 of each rate in percent.
    """
    device = x_ND.device
    order_N = torch.randperm(len(x_ND), generator=torch.Generator().manual_seed(probe.seed)).to(device)
    held, kept = order_N[::10], order_N[torch.arange(len(order_N), device=device) % 10 != 0]
    heads = fit(x_ND[kept], target_N[kept], classes, probe, probe.lrs)
    chosen = {lr: score(head, x_ND[held], target_N[held])[0] for lr, head in zip(probe.lrs, heads, strict=True)}
    lr = max(chosen, key=lambda each: chosen[each])
    (head,) = fit(x_ND, target_N, classes, probe, (lr,))
    return head, lr, {f"{each:g}": top for each, top in chosen.items()}


def fit(x_ND: Tensor, target_N: Tensor, classes: int, probe: Probe, lrs: tuple[float, ...]) -> list[nn.Linear]:
    """One classifier per learning rate, all on the same batches, starting from zero."""
    heads = [nn.Linear(x_ND.shape[1], classes, device=x_ND.device) for _ in lrs]
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    peak = [lr * probe.batch / 256 for lr in lrs]
    groups = [{"params": head.parameters(), "lr": lr} for head, lr in zip(heads, peak, strict=True)]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=probe.weight_decay)
    generator = torch.Generator().manual_seed(probe.seed)
    batch = min(probe.batch, len(x_ND))
    per_epoch = len(x_ND) // batch
    for step in range(probe.epochs * per_epoch):
        if step % per_epoch == 0:
            order_N = torch.randperm(len(x_ND), generator=generator).to(x_ND.device)
        chosen_B = order_N[step % per_epoch * batch :][:batch]
        for group, lr in zip(optimizer.param_groups, peak, strict=True):
            group["lr"] = lr * (1 + math.cos(math.pi * step / (probe.epochs * per_epoch))) / 2
        # The heads share no parameter: the gradient of the sum is each one's own.
        loss = torch.stack([F.cross_entropy(head(x_ND[chosen_B]), target_N[chosen_B]) for head in heads]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return heads


@torch.no_grad()
def score(head: nn.Linear, x_MD: Tensor, target_M: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 in percent; a classifier that diverged scores 0."""
    logits_MK = head(x_MD)
    if not logits_MK.isfinite().all():
        return 0.0, 0.0
    right, right5 = hits(logits_MK, target_M)
    return 100 * right.item() / len(x_MD), 100 * right5.item() / len(x_MD)
