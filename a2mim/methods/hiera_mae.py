"""MAE on Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles (Ryali et al., ICML 2023, arXiv
2306.00989), as far as released files of it are drawn: `METHODS` does not offer it for training.

    z_i = encoder(visible mask units)                  units of 32×32 pixels, whole in all stages; masked ones left out
    z   = norm(sum of the z_i, each by a convolution at the resolution of the last)
    x̂   = decoder(z, mask tokens, positions)           MAE's, for patches of the last resolution (16 px as released)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from timm.models.hiera import Hiera
from torch import Tensor, nn

from a2mim.backbones import Structure
from a2mim.bounds import Part
from a2mim.layouts import Layout
from a2mim.masking import check_mask
from a2mim.methods.mae import MAE, MAESettings, visible_patches
from a2mim.methods.patches import MaskedPatches
from a2mim.targets import patchify

__all__ = ["HieraMAE", "HieraMAESettings"]


@dataclass(frozen=True)
class HieraMAESettings(MAESettings):
    """Settings of MAE on Hiera, the paper's by default; its positions are learned, whatever `positions` says."""

    mask_ratio: Part = 0.6
    """Part of the cells that is masked: ceil(ratio · cells) of them."""


class HieraMAE(MAE):
    """See the module. Raises ValueError where backbone and settings do not fit, naming what is missing."""

    Settings: ClassVar[type[Any]] = HieraMAESettings

    def __init__(self, backbone: nn.Module, settings: HieraMAESettings):
        MaskedPatches.__init__(self)
        if not isinstance(backbone, Hiera):
            raise ValueError(f"{type(backbone).__name__} has no mask units: this MAE needs timm's Hiera.")
        self.backbone, self.settings = backbone, settings
        self.unit = backbone.mask_unit_size[0] // 2**backbone.q_pool  # a side, in positions of the last map
        patch = backbone.patch_stride[0] * 2**backbone.q_pool
        self.structure = _structure(backbone, patch)
        size = self.structure.image_size
        self.cell = settings.mask_cell or patch * self.unit
        if (settings.image_size or size) != size or self.unit < 1 or self.cell % (patch * self.unit):
            raise ValueError(
                f"Hiera sees images of {size} px in mask units of {patch * self.unit} px: mask cells of {self.cell} px "
                f"and images of {settings.image_size or size} px do not fit."
            )
        check_mask(size, self.cell, settings.mask_ratio)
        width = self.structure.features.channels
        blocks: Any = backbone.blocks
        widths = [
            blocks[end].dim_out for end in backbone.stage_ends[: backbone.q_pool]
        ]  # the last map is taken as it is
        scales = [2 ** (backbone.q_pool - n) for n in range(len(widths))]
        self.fusion = nn.ModuleList(
            nn.Conv2d(inside, width, scale, scale) for inside, scale in zip(widths, scales, strict=True)
        )
        self._make_decoder(self.structure.features.grid, patch)

    def encode(self, image: Tensor, mask_BL: Tensor) -> Tensor:
        """The visible positions (B, V, C) of the last map, all stages joined, in raster order."""
        grid, backbone = self.structure.features.grid, self.backbone
        units_BM = patchify(mask_BL.unflatten(1, grid)[:, None], self.unit)[..., 0]
        _, stages = backbone.forward_features(  # type: ignore[operator]
            image, mask=units_BM.to(image.device) == 0, return_intermediates=True
        )
        fused = stages[-1]
        for head, x_BMHWC in zip(self.fusion, islice(stages, len(self.fusion)), strict=True):
            x = head(x_BMHWC.flatten(0, 1).movedim(-1, 1)).movedim(1, -1)
            fused = fused + x.unflatten(0, x_BMHWC.shape[:2])
        z_BVC = backbone.head.norm(fused).flatten(1, 3)  # type: ignore[union-attr, operator]
        raster_1MP = patchify(torch.arange(mask_BL.shape[1]).view(1, 1, *grid), self.unit)
        places_BV = raster_1MP[0][visible_patches(units_BM)].flatten(1)
        order_BV1 = places_BV.argsort(1).to(z_BVC.device)[..., None]
        return z_BVC.gather(1, order_BV1.expand_as(z_BVC))

    def decode(self, z_BNC: Tensor, mask_BL: Tensor) -> Tensor:
        patches = super().decode(z_BNC, mask_BL)  # each colour by itself, as the public code cuts its patches
        return patches.unflatten(2, (self.structure.channels, -1)).transpose(2, 3).flatten(2)


def _structure(backbone: Hiera, patch: int) -> Structure:
    """What `read_structure` cannot read off: behind fewer poolings the tokens are in no raster order, and the map that
    the decoder gets is one of all stages. No place for a mask token in it."""
    side = backbone.tokens_spatial_shape[0]
    size = side * backbone.patch_stride[0]
    features = Layout("NLC", backbone.num_features, (size // patch, size // patch))
    return Structure(size, backbone.in_chans, (), 0, features, patch, ())
