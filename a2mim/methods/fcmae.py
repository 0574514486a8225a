"""FCMAE: ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders (Woo et al., CVPR 2023, arXiv
2301.00808), as far as released files of it are drawn: `METHODS` does not offer it for training.

    z = sparse encoder(visible pixels)      the last map alone, at a stride of 32    (section 3.1; a2mim.sparse)
    x̂ = decoder(projected z, a mask token wherever it is empty)    one ConvNeXt V2 block, and a 1×1 convolution

Each block's global response norm sums over the visible positions of one image, as in the public JAX code, which trained
the released weights; the public PyTorch code sums over those of the whole batch, which is the same for one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn, zeros

from a2mim.backbones import freeze_unused, read_structure
from a2mim.bounds import Count, Part, Pixels
from a2mim.masking import check_mask
from a2mim.methods.patches import MaskedPatches
from a2mim.sparse import Visible, read_sparse, sparse

__all__ = ["FCMAE", "FCMAESettings"]


@dataclass(frozen=True)
class FCMAESettings:
    """Settings of FCMAE, the paper's by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    mask_ratio: Part = 0.6
    """Part of the cells that is masked: ceil(ratio · cells) of them."""
    mask_cell: Pixels | None = None
    """Side of a mask cell in pixels, a multiple of the backbone's stride; the stride itself if left out."""
    normalised_target: bool = True
    """Predict each patch normalised by its own mean and deviation; else the pixels."""
    decoder_width: Count = 512
    """Channels of the decoder."""
    decoder_depth: Count = 1
    """Blocks of the decoder."""


class FCMAE(MaskedPatches):
    """See the module. Raises ValueError where backbone and settings do not fit, naming what is missing."""

    Settings: ClassVar[type[Any]] = FCMAESettings
    recomputable = False

    def __init__(self, backbone: nn.Module, settings: FCMAESettings):
        super().__init__()
        self.backbone, self.settings = backbone, settings
        self.structure = read_structure(backbone, settings.image_size)
        size, stride, features = self.structure.image_size, self.structure.stride, self.structure.features
        self.cell = settings.mask_cell or stride
        if features.kind != "NCHW" or self.cell % stride:
            raise ValueError(
                f"FCMAE masks whole positions of a CNN's last map: mask cells of {self.cell} px do not fit "
                f"{type(backbone).__name__}, whose map is {features.kind} with a stride of {stride} px."
            )
        check_mask(size, self.cell, settings.mask_ratio)
        freeze_unused(backbone, self.structure)
        self.plan = read_sparse(backbone, size, self.structure.channels, features.grid)
        width = settings.decoder_width
        self.embed = nn.Conv2d(features.channels, width, 1)
        self.mask_token_C = nn.Parameter(zeros(width).normal_(std=0.02))
        blocks = (ConvNeXtBlock(width, use_grn=True, ls_init_value=None) for _ in range(settings.decoder_depth))
        self.decoder_blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(width, stride * stride * self.structure.channels, 1)

    def encode(self, image: Tensor, mask_BL: Tensor) -> Tensor:
        """The last map (B, C, h, w), exactly zero at masked positions."""
        visible = Visible(mask_BL.unflatten(1, self.structure.features.grid), image.device)
        with sparse(self.backbone, self.plan, visible):
            return self.backbone.forward_features(visible.hide(image))  # type: ignore[operator]

    def decode(self, z: Tensor, mask_BL: Tensor) -> Tensor:
        masked_B1HW = mask_BL.unflatten(1, self.structure.features.grid)[:, None].to(z)
        x = self.embed(z) * (1 - masked_B1HW) + self.mask_token_C.view(-1, 1, 1) * masked_B1HW
        return self.head(self.decoder_blocks(x)).flatten(2).transpose(1, 2)
