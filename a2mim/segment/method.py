"""Segmentation as a method of the one training loop: cross entropy of every pixel that has a class."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.maps import OnMaps
from a2mim.segment.decoders import make_decoder, taken
from a2mim.segment.pairs import IGNORE


class Segment(OnMaps):
    """A timm backbone and a decoder of its maps.

    frozen: the backbone is left as it is, in evaluation mode.
    crop: height and width of the training views, on which it is tried.

    Raises ValueError for a backbone that has no such maps, or does not run on images of that size.
    """

    def __init__(
        self, backbone: nn.Module, classes: int, decoder: str, frozen: bool, crop: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__(backbone, taken(backbone, decoder), frozen)
        self.decoder = make_decoder(decoder, self.maps, classes, seed)
        self.train()
        self.refuse_unfit(crop)

    def logits(self, image_BCHW: Tensor) -> Tensor:
        """Scores (B, K, H, W) of the classes of every pixel."""
        height, width = image_BCHW.shape[2:]
        small = self.decoder(self.features(image_BCHW)).float()
        size = (height + -height % self.maps.multiple, width + -width % self.maps.multiple)
        return F.interpolate(small, size, mode="bilinear", align_corners=False)[..., :height, :width]

    def look(self, image_BCHW: Tensor) -> Tensor:
        return self.logits(image_BCHW)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """{"loss": mean cross entropy of the pixels that have a class, 0 where none has; "accuracy": of these}."""
        logits, target = self.logits(batch["image"]), batch["target"]
        valid = target != IGNORE
        count = valid.sum().clamp(min=1)
        loss = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / count
        right = ((logits.detach().argmax(1) == target) & valid).sum()
        return {"loss": loss, "accuracy": right / count}
