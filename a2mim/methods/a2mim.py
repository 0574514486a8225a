"""A²MIM: Architecture-Agnostic Masked Image Modeling – From ViT back to CNN (Li et al., ICML 2023, arXiv 2205.13943).

    x_m  = x⊙(1−M) + mean(x)⊙M                         masked pixels show the image's mean colour          (fill)
    z    ← z + T·M at an intermediate layer or stage   the mask token joins features instead of replacing pixels
    x̂    = decoder(encoder(x_m))                       1×1 convolution and pixel shuffle
    loss = L1(x̂, x) over masked pixels + λ·L_freq(x̂, x)

Cells of 32×32 pixels, 60 % of them masked, λ = 0.1. Released configurations, by the names of the settings here:

                    gamma_init  spatial   fourier         fourier_weight  fourier_visible  token, gamma_lr_scale
    ViT-S/B/L       –           l1        released        0.1             0                1, –
    ResNet-50       1e-6        focal_l1  released        0.5             1e-3             0.1, 1 (100 epochs: 0.1, 0.1)
    ResNet-101      1e-6        focal_l1  released_plain  0.1             1e-3             0.1, 1
    ResNet-152/200  1e-6        focal_l1  –               0               –                0.1, 1
    ConvNeXt        1e-6        focal_l1  –               0               –                0.1, 0.1

ConvNeXts normalise the last map before the decoder (timm: head_norm_first=True). γ takes weight decay on a ResNet (but
not in the 100 epochs of ResNet-50), and none on a ConvNeXt. Tokens are drawn from N(0, 0.02²) cut at ±2, on a ConvNeXt
too, where the released call initialises no parameter and leaves zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from a2mim.backbones import find_place, freeze_unused, read_structure
from a2mim.bounds import NotNegative, Part, Pixels, Share
from a2mim.decoders import PixelShuffleDecoder
from a2mim.layouts import evaluating, intercept, to_map
from a2mim.losses import Fourier, Penalty, fourier_loss, spatial_loss
from a2mim.masking import (
    Fill,
    MaskToken,
    Strategy,
    check_mask,
    fill_colour,
    fill_masked,
    mask_grid,
    pixel_mask,
    random_mask,
)
from a2mim.methods.base import Method
from a2mim.targets import hog

__all__ = ["A2MIM", "A2MIMSettings"]

HOG_ORIENTATIONS, HOG_CELL = 9, 8


@dataclass(frozen=True)
class A2MIMSettings:
    """Settings of A²MIM, the paper's by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    mask_cell: Pixels = 32
    """Side of a mask cell in pixels."""
    mask_ratio: Part = 0.6
    """Part of the cells that is masked: ceil(ratio · cells) of them."""
    mask_strategy: Strategy = "random"
    """random: single cells; blockwise: rectangles, as in BEiT; whole_blocks: as in MaskFeat, a little fewer cells."""
    fill: Fill = "image_mean"
    """What masked pixels show. none: themselves, which leaks them into everything before the mask token."""
    mask_at: int | str = "default"
    """Where the mask token goes: a number (a bad one lists them), a module's name, or default, the paper's place: the
    patch embedding of a transformer, the input of the last stage of a CNN."""
    mask_token: Literal["add", "replace"] = "add"
    """add: x + T·M; replace: x(1−M) + T·M."""
    gamma_init: float | None = None
    """If given, a learnable γ of this initial value scales masked features before T is added (released CNNs: 1e-6)."""
    target: Literal["rgb", "hog"] = "rgb"
    """rgb: the normalised pixels; hog: 9 orientations in cells of 8×8 px, of the normalised pixels and each cell of
    length 1 (released: scikit-image's of 8-bit pixels, with L2-Hys)."""
    spatial: Penalty = "l1"
    """Loss per masked pixel; released CNNs use focal_l1."""
    fourier: Fourier = "paper"
    """The Fourier loss: the paper's formula, or what the released configurations compute."""
    fourier_weight: NotNegative = 0.1
    """λ, the weight of the Fourier loss; 0 turns it off."""
    fourier_alpha: NotNegative = 1.0
    """Exponent of the Fourier loss's frequency weights."""
    fourier_visible: Share = 0.0
    """q, how much gradient visible pixels get from a released Fourier loss (released CNNs: 1e-3)."""
    token_lr_scale: NotNegative = 1.0
    """Factor on the learning rate of the mask token (released CNNs: 0.1)."""
    gamma_lr_scale: NotNegative = 1.0
    """Factor on the learning rate of γ (released ConvNeXts, and 100 epochs of ResNet-50: 0.1)."""


class A2MIM(Method):
    """See the module. Parameters of the backbone that do not reach the map of features are frozen (they would get no
    gradient). Raises ValueError where backbone and settings do not fit.

    leaks: whether masked pixels get past the mask token; only possible with fill "none".
    """

    Settings: ClassVar[type[Any]] = A2MIMSettings

    def __init__(self, backbone: nn.Module, settings: A2MIMSettings):
        super().__init__()
        if settings.target == "hog" and settings.fourier_weight:
            raise ValueError(
                "The Fourier loss compares images, not histograms: set fourier_weight to 0 for the target hog."
            )
        self.settings = settings
        self.structure = read_structure(backbone, settings.image_size)
        size = self.structure.image_size
        check_mask(size, settings.mask_cell, settings.mask_ratio, settings.mask_strategy)
        channels, per_position = self.structure.channels, self.structure.stride
        if settings.target == "hog":
            channels = HOG_ORIENTATIONS
            per_position, rest = divmod(per_position, HOG_CELL)
            if rest or settings.mask_cell % HOG_CELL:
                raise ValueError(
                    f"The target hog has cells of {HOG_CELL} px, which must divide the mask cell of "
                    f"{settings.mask_cell} px and the stride of {type(backbone).__name__} ({self.structure.stride} px)."
                )
        self.backbone = backbone
        freeze_unused(backbone, self.structure)
        place = find_place(backbone, self.structure, settings.mask_at)
        # Behind the patch embedding or stem no block is entered yet, whatever timm takes for one.
        self.recomputable = place == self.structure.places[0] and place.side == "output"
        self.mask_token = MaskToken(backbone, place, settings.mask_token, settings.gamma_init)
        self.decoder = PixelShuffleDecoder(self.structure.features.channels, per_position, channels)
        self.leaks = settings.fill == "none" and self._masked_pixels_pass_the_token()

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        image, settings = batch["image"], self.settings
        mask = self.draw_mask(image, generator)
        prediction = self.decoder(self.encode(image, mask))
        target = image if settings.target == "rgb" else hog(image, HOG_ORIENTATIONS, HOG_CELL)
        self._check_shape(image, prediction, target)
        at_target = pixel_mask(mask, target.shape[2:])
        spatial = spatial_loss(prediction, target, at_target, settings.spatial)
        if not settings.fourier_weight:
            return {"loss": spatial}
        fourier = fourier_loss(
            prediction,
            target,
            at_target,
            settings.fourier,
            alpha=settings.fourier_alpha,
            visible=settings.fourier_visible,
            spatial=settings.spatial,
        )
        loss = spatial + settings.fourier_weight * fourier
        return {"loss": loss, "spatial": spatial.detach(), "fourier": fourier.detach()}

    def draw_mask(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(B, rows, columns) masks for a batch of images, on their device."""
        settings = self.settings
        grid = mask_grid((image.shape[2], image.shape[3]), settings.mask_cell)
        return random_mask(len(image), grid, settings.mask_ratio, generator, settings.mask_strategy).to(image.device)

    def masked_image(self, image: Tensor, mask: Tensor) -> Tensor:
        """What the encoder is shown (B, C, H, W)."""
        pixels = pixel_mask(mask, image.shape[2:])
        return fill_masked(image, pixels, fill_colour(image, pixels, self.settings.fill))

    def encode(self, image: Tensor, mask: Tensor) -> Tensor:
        """The encoder's last map of features (B, C, h, w) of the masked image, with the mask token put in."""
        masked = self.masked_image(image, mask)
        self.mask_token.mask = mask
        try:
            features = self.backbone.forward_features(masked)  # type: ignore[operator]
        finally:
            self.mask_token.mask = None
        return to_map(features, self.structure.features, image.shape[2] / image.shape[3])

    def pictures(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor] | None:
        if self.settings.target != "rgb":
            return None
        image = batch["image"]
        mask = self.draw_mask(image, generator)
        pixels = pixel_mask(mask, image.shape[2:])
        with evaluating(self):
            predicted = self.decoder(self.encode(image, mask)).to(image.dtype)
        # where masked pixels are not filled, the image shows what is hidden from the loss, not what the encoder sees
        masked = image * (1 - pixels) if self.settings.fill == "none" else self.masked_image(image, mask)
        composite = image * (1 - pixels) + predicted * pixels
        return {"original": image, "masked": masked, "predicted": predicted, "composite": composite}

    def no_weight_decay(self) -> set[str]:
        return super().no_weight_decay() | {f"mask_token.{name}" for name, _ in self.mask_token.named_parameters()}

    def lr_scales(self) -> dict[str, float]:
        scales = {"mask_token.token_C": self.settings.token_lr_scale}
        if self.mask_token.gamma_C is not None:
            scales["mask_token.gamma_C"] = self.settings.gamma_lr_scale
        return {name: scale for name, scale in scales.items() if scale != 1}

    def _check_shape(self, image: Tensor, prediction: Tensor, target: Tensor) -> None:
        if prediction.shape != target.shape:
            stride = self.structure.stride
            raise ValueError(
                f"{type(self.backbone).__name__} predicts {tuple(prediction.shape[1:])} for a target of "
                f"{tuple(target.shape[1:])}: images of {image.shape[2]}×{image.shape[3]} px must be a multiple of its "
                f"stride of {stride} px."
            )

    def _masked_pixels_pass_the_token(self) -> bool:
        """Whether the map depends on masked pixels right behind the mask token."""
        size, weight, place = self.structure.image_size, self.mask_token.token_C, self.mask_token.place
        seen: list[Tensor] = []
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(2, self.structure.channels, size, size, generator=generator).to(weight)
        mask = self.draw_mask(image, generator)
        behind_token = intercept(self.backbone, place.module, place.side, seen.append)
        with behind_token, evaluating(self):
            self.encode(image, mask)
            self.encode(fill_masked(image, pixel_mask(mask, image.shape[2:]), torch.zeros_like(image)), mask)
        return not torch.allclose(seen[0], seen[1], rtol=1e-4, atol=1e-6 * seen[0].abs().max().item())
