"""Segmentation as a method of the one training loop: cross entropy of every pixel that has a class."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.backbones import evaluating, raise_unfit
from a2mim.methods.base import Method
from a2mim.segment.decoders import make_decoder, taken
from a2mim.segment.pairs import IGNORE


class Segment(Method):
    """A timm backbone and a decoder of its maps.

    frozen: the backbone is left as it is, in evaluation mode.
    crop: height and width of the training views, on which it is tried.

    Raises ValueError for a backbone that has no such maps, or does not run on images of that size.
    """

    def __init__(
        self, backbone: nn.Module, classes: int, decoder: str, frozen: bool, crop: tuple[int, int], seed: int = 0
    ) -> None:
        super().__init__()
        self.backbone, self.frozen = backbone, frozen
        self.maps = taken(backbone, decoder)
        self.decoder = make_decoder(decoder, self.maps, classes, seed)
        if frozen:
            backbone.requires_grad_(False)
        self.train()
        self.refuse_unfit(crop)

    def refuse_unfit(self, size: tuple[int, int]) -> None:
        """Raise ValueError where the backbone does not run on images of this height and width, or gives other maps than
        it says."""
        device = next(self.backbone.parameters()).device
        with evaluating(self):
            try:
                found = self.features(torch.zeros(1, 3, *size, device=device))
            except Exception as error:
                raise_unfit(self.backbone, size, error)
        if (channels := tuple(x.shape[1] for x in found)) != self.maps.channels:
            raise ValueError(
                f"{type(self.backbone).__name__} gives maps of {channels} channels, not {self.maps.channels}"
            )

    def train(self, mode: bool = True) -> Segment:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """The maps that the decoder sees: those of timm's forward_intermediates, of the image with zeros below and to
        the right of it up to a multiple of the stride."""
        height, width = image_BCHW.shape[2:]
        below, right = -height % self.maps.multiple, -width % self.maps.multiple
        padded = F.pad(image_BCHW, (0, right, 0, below)) if below or right else image_BCHW
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            backbone: Any = self.backbone
            return backbone.forward_intermediates(
                padded, indices=list(self.maps.indices), norm=True, intermediates_only=True
            )

    def logits(self, image_BCHW: Tensor) -> Tensor:
        """Scores (B, K, H, W) of the classes of every pixel."""
        height, width = image_BCHW.shape[2:]
        small = self.decoder(self.features(image_BCHW)).float()
        padded = (height + -height % self.maps.multiple, width + -width % self.maps.multiple)
        return F.interpolate(small, padded, mode="bilinear", align_corners=False)[..., :height, :width]

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """{"loss": mean cross entropy of the pixels that have a class, 0 where none has; "accuracy": of these}."""
        logits, target = self.logits(batch["image"]), batch["target"]
        valid = target != IGNORE
        count = valid.sum().clamp(min=1)
        loss = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / count
        right = ((logits.detach().argmax(1) == target) & valid).sum()
        return {"loss": loss, "accuracy": right / count}
