"""Supervised training from scratch, the baseline: DeiT-style (Touvron et al., ICML 2021) or by the RSB recipes
(Wightman et al., 2021, arXiv 2110.00476). Mixup and CutMix belong to the trainer: labels are classes, or soft labels.

DeiT: ce, label_smoothing 0.1. RSB A2 and A3: bce, label_smoothing 0, bce_threshold 0.2; OpenMixup's RSB: bce_sum,
label_smoothing 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn

from a2mim.bounds import Range, Share
from a2mim.methods.base import Method

__all__ = ["Supervised", "SupervisedSettings"]


@dataclass(frozen=True)
class SupervisedSettings:
    """Settings of supervised training."""

    loss: Literal["ce", "bce", "bce_sum"] = "ce"
    """ce: cross entropy; bce: one binary cross entropy per class, the mean over classes (RSB); bce_sum: their sum over
    classes, soft labels as they are, without a threshold (OpenMixup)."""
    label_smoothing: Annotated[float, Range(0, 1, below=True)] = 0.1
    """For labels that are classes; soft labels are taken as they are (mixup smooths by itself)."""
    bce_threshold: Share | None = None
    """For bce: if given, soft labels above it count as 1 and the others as 0 (RSB: 0.2)."""

    def check(self) -> None:
        """Raises ValueError for a threshold that nothing is compared with."""
        if self.loss != "bce" and self.bce_threshold is not None:
            raise ValueError("bce_threshold of supervised has no effect without loss=bce: leave it out, or give both")


def summed_bce(logits_BK: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross entropy with classes (B,), smoothed as for cross entropy: y(1 − s) + s/K, or with soft labels (B, K)
    as they are: summed over the K classes, divided by the batch."""
    soft_BK, classes = target, logits_BK.shape[1]
    if target.ndim == 1:
        soft_BK = F.one_hot(target, classes) * (1 - smoothing) + smoothing / classes
    total = F.binary_cross_entropy_with_logits(logits_BK, soft_BK.to(logits_BK.dtype), reduction="sum")
    return total / len(logits_BK)


class Supervised(Method):
    """Cross entropy of the backbone's own classifier. Raises ValueError where it has none."""

    Settings: ClassVar[type[Any]] = SupervisedSettings

    def __init__(self, backbone: nn.Module, settings: SupervisedSettings):
        super().__init__()
        if getattr(backbone, "num_classes", None) == 0:
            raise ValueError(f"{type(backbone).__name__} has no classifier: make it with num_classes above 0.")
        self.backbone, self.settings = backbone, settings
        self.bce = BinaryCrossEntropy(settings.label_smoothing, settings.bce_threshold)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        logits, target = self.backbone(batch["image"]).float(), batch["target"]
        hard, smoothing = target.ndim == 1, self.settings.label_smoothing
        if self.settings.loss == "bce":
            loss = self.bce(logits, target)
        elif self.settings.loss == "bce_sum":
            loss = summed_bce(logits, target, smoothing)
        else:
            loss = F.cross_entropy(logits, target, label_smoothing=smoothing if hard else 0.0)
        classes = target if hard else target.argmax(1)
        accuracy = (logits.detach().argmax(1) == classes).float().mean()
        return {"loss": loss, "accuracy": accuracy}
