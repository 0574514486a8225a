"""Classification accuracy of a model on a gallery of images, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.dist import World
from a2mim.gallery import Gallery
from a2mim.loading import in_channels_last


def hits(scores_BK: Tensor, target_B: Tensor, top: tuple[int, ...] = (1, 5)) -> list[Tensor]:
    """How many targets are among the k best scores, for each k of `top`; a score of −∞ is none."""
    score_BT, best_BT = scores_BK.topk(min(max(top), scores_BK.shape[1]), dim=1)
    right_BT = (best_BT == target_B[:, None]) & (score_BT > -torch.inf)
    return [right_BT[:, :k].any(1).sum() for k in top]


@torch.no_grad()
def accuracy(model: nn.Module, gallery: Gallery, world: World) -> dict[str, float]:
    """{"top1", "top5" in percent, "val_loss" (mean cross entropy), "val_images"}; each image counts once.

    Runs in float32 and evaluation mode, and leaves the model in evaluation mode. Images that cannot be decoded are left
    out. Raises ValueError for a label that the model has no class for, and where no image is left.
    """
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=world.device)
    for batch in gallery.batches(world, in_channels_last(model)):
        logits_BK, target_B = model(batch["image"]).float(), batch["target"]
        check_targets(target_B, logits_BK.shape[1])
        loss = F.cross_entropy(logits_BK, target_B, reduction="sum")
        sums += torch.stack([*hits(logits_BK, target_B), loss, torch.tensor(len(target_B), device=world.device)])
    right, right5, loss, count = world.total(sums).tolist()
    if not count:
        raise ValueError(nothing_left(gallery))
    return {"top1": 100 * right / count, "top5": 100 * right5 / count, "val_loss": loss / count, "val_images": count}


def nothing_left(gallery: Gallery) -> str:
    return f"none of the {gallery.images.samples} images of {gallery.images.name} can be decoded: is it damaged?"


def check_targets(target_B: Tensor, classes: int) -> None:
    """Raise ValueError where a label is outside 0 … classes - 1."""
    wrong_B = target_B[(target_B < 0) | (target_B >= classes)]
    if len(wrong_B):
        raise ValueError(
            f"the label {int(wrong_B[0])} is outside the model's {classes} classes: "
            "are training and validation images labelled alike?"
        )


def class_count(*targets: Tensor) -> int:
    """The classes that labels of one numbering tell of. Raises ValueError for a label below 0."""
    labels = torch.cat(targets)
    classes = int(labels.max()) + 1
    check_targets(labels, classes)
    return classes


View = Callable[[Any, Tensor], Tensor]
"""A timm model and what its forward_features returns for images -> a tensor with a row for each of them."""


def pooled(model: Any, features: Tensor) -> Tensor:
    """What timm's `model` hands to its classifier (B, D)."""
    return model.forward_head(features, pre_logits=True)


def pooled_features(model: Any, gallery: Gallery, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """What timm's `model` hands to its classifier, for every image: as `frozen_features` returns it."""
    (features_ND,), target_N, index_N = frozen_features(model, gallery, world, (pooled,))
    return features_ND, target_N, index_N


@torch.no_grad()
def frozen_features(
    model: Any, gallery: Gallery, world: World, views: Sequence[View]
) -> tuple[list[Tensor], Tensor, Tensor]:
    """What `views` make of the features of every image, on the CPU.

    Returns the views (N, ...) float32, labels (N,), and the images' indices (N,), in the same order on every process,
    without images that cannot be decoded. Raises ValueError where none is left.
    """
    model.eval()
    rows: list[tuple[Tensor, ...]] = []
    for batch in gallery.batches(world, in_channels_last(model)):
        features = model.forward_features(batch["image"])
        found = [view(model, features).float().cpu() for view in views]
        rows.append((*found, batch["target"].cpu(), batch["index"].cpu()))
    # A process whose share is none has empty columns.
    columns = [torch.cat(column) for column in zip(*rows, strict=True)] or [torch.zeros(0)] * (len(views) + 2)
    *views_N, target_N, index_N = (world.gather(column) for column in columns)
    if not len(index_N):
        raise ValueError(nothing_left(gallery))
    order_N = index_N.argsort()
    return [x_N[order_N] for x_N in views_N], target_N[order_N], index_N[order_N]
