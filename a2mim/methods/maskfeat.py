"""MaskFeat: Masked Feature Prediction for Self-Supervised Visual Pre-Training (Wei et al., CVPR 2022, arXiv
2112.09133).

    x_m  = patch tokens, those of masked patches replaced by a learnable mask token
    ĥ    = linear(encoder(x_m))                     for each patch of 16×16 px 2×2 cells × 9 bins × 3 channels = 108
    loss = mean over masked patches of mean (ĥ − h)²,   h = HOG of the image, each histogram of length 1

Released hyper-parameters for images: 40 % of the patches masked, in blocks (BEiT); cells of 8×8 px; AdamW (β 0.9,
0.999), learning rate 2e-4 · batch / 256, batch 2048, weight decay 0.05, gradient clipped at 0.02, 300 or 1600 epochs
with 30 of warm-up; crops of 50 % and more, and flips. Positions and tokens decay there: --decay-also pos_embed
cls_token mask_token, as the recipes for ImageNet have it.

HOG is that of the released layer (a2mim.targets.sobel_hog), or the textbook's (hog: central differences, as
scikit-image). Masks are the released ones, too: whole blocks, of round(0.4 · cells) patches or fewer. The encoder side
is SimMIM's, with its limits: where a stem overlaps (on a CNN, for which MaskFeat was not published) masked pixels leak
through it, and construction warns of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from a2mim.bounds import Part, Pixels
from a2mim.decoders import PixelShuffleDecoder
from a2mim.losses import patch_loss
from a2mim.masking import Strategy, pixel_mask
from a2mim.methods.simmim import SimMIM, SimMIMSettings
from a2mim.settings import since
from a2mim.targets import hog, sobel_hog

__all__ = ["MaskFeat", "MaskFeatSettings"]

ORIENTATIONS = 9


@dataclass(frozen=True)
class MaskFeatSettings(SimMIMSettings):
    """Settings of MaskFeat, the paper's by default: SimMIM's, and the size of a HOG cell."""

    mask_cell: Pixels = 16
    """Side of a mask cell in pixels: the paper's patch."""
    mask_ratio: Part = 0.4
    """Part of the cells that is masked: round(ratio · cells) of them or fewer (random, blockwise: ceil)."""
    mask_strategy: Strategy = since("whole_blocks", before="blockwise")
    """whole_blocks: rectangles as long as they fit; blockwise: rectangles, the last one cut to the number; random:
    single cells."""
    hog_cell: Pixels = 8
    """Side of a HOG cell in pixels; it must divide the mask cell and the stride of the backbone."""
    hog: Literal["sobel", "central"] = since("sobel", before="central")
    """Gradients and bins of the histograms: those of the released code, or central differences, as scikit-image."""


class MaskFeat(SimMIM):
    """See the module. Raises ValueError where backbone and settings do not fit, and warns where masked pixels leak."""

    Settings: ClassVar[type[Any]] = MaskFeatSettings

    def __init__(self, backbone: nn.Module, settings: MaskFeatSettings):
        super().__init__(backbone, settings)
        self.hog_cell, stride = settings.hog_cell, self.structure.stride
        self.central = settings.hog == "central"
        if self.hog_cell < 1 or stride % self.hog_cell or settings.mask_cell % self.hog_cell:
            raise ValueError(
                f"HOG cells of {self.hog_cell} px must divide the mask cell of {settings.mask_cell} px and the stride "
                f"of {type(backbone).__name__} ({stride} px): set hog_cell or mask_cell."
            )
        channels = self.structure.channels * ORIENTATIONS
        self.decoder = PixelShuffleDecoder(self.structure.features.channels, stride // self.hog_cell, channels)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        mask = self.draw_mask(image, generator)
        prediction = self.decoder(self.encode(image, mask))
        if self.central:
            target = hog(image, ORIENTATIONS, self.hog_cell, channels="each")
        else:
            target = sobel_hog(image, ORIENTATIONS, self.hog_cell)
        self._check_shape(image, prediction, target)
        at_cells_BL = pixel_mask(mask, target.shape[2:]).flatten(1)
        predicted_BLD, target_BLD = (x.flatten(2).transpose(1, 2) for x in (prediction, target))  # D: bins of a cell
        return {"loss": patch_loss(predicted_BLD, target_BLD, at_cells_BL)}

    def pictures(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor] | None:
        return None
