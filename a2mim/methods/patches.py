"""What methods share that predict each patch of an image of which their encoder sees a part: MAE and its kin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from a2mim.backbones import Structure
from a2mim.layouts import evaluating
from a2mim.losses import patch_loss
from a2mim.masking import mask_grid, random_mask
from a2mim.methods.base import Method
from a2mim.targets import normalised, patchify, unpatchify

__all__ = ["MaskedPatches"]


class MaskedPatches(Method):
    """`encode`, then `decode`, and the mean squared error of the masked patches.

    structure: its stride is the side of a patch. cell: side of a mask cell in pixels, a multiple of it.
    """

    settings: Any
    structure: Structure
    cell: int

    def encode(self, image: Tensor, mask_BL: Tensor) -> Tensor:
        """What the encoder makes of the visible patches."""
        raise NotImplementedError

    def decode(self, z: Tensor, mask_BL: Tensor) -> Tensor:
        """The predicted patches (B, L, patch²·channels), visible ones included, as `patchify` orders them."""
        raise NotImplementedError

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        mask_BL = self.draw_mask(image, generator)
        prediction_BLD = self.decode(self.encode(image, mask_BL), mask_BL)
        return {"loss": patch_loss(prediction_BLD, self.target(image), mask_BL.to(image.device))}

    def draw_mask(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(B, L) masks of patches in raster order, 1 = masked, the same number in each image; on the CPU, where
        counting them waits for no device."""
        grid = mask_grid((image.shape[2], image.shape[3]), self.cell)
        mask = random_mask(len(image), grid, self.settings.mask_ratio, generator)
        finer = self.cell // self.structure.stride
        return mask.repeat_interleave(finer, 1).repeat_interleave(finer, 2).flatten(1)

    def target(self, image: Tensor) -> Tensor:
        """(B, L, patch²·channels)."""
        patches = patchify(image, self.structure.stride)
        return normalised(patches)[0] if self.settings.normalised_target else patches

    def pictures(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """A normalised prediction is shown with the contrast that its patch really has."""
        image, patch = batch["image"], self.structure.stride
        mask_BL = self.draw_mask(image, generator)
        with evaluating(self):
            patches = self.decode(self.encode(image, mask_BL), mask_BL).float()
        if self.settings.normalised_target:
            _, mean, std = normalised(patchify(image, patch))
            patches = patches * std + mean
        size = (image.shape[2], image.shape[3])
        predicted = unpatchify(patches, patch, size).to(image.dtype)
        pixels = unpatchify(mask_BL[..., None].expand(-1, -1, patch * patch), patch, size).to(image)
        composite = image * (1 - pixels) + predicted * pixels
        return {"original": image, "masked": image * (1 - pixels), "predicted": predicted, "composite": composite}

    def no_weight_decay(self) -> set[str]:
        return super().no_weight_decay() | {"mask_token_C"}
