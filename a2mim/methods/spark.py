"""SparK: Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling (Tian et al., ICLR 2023,
arXiv 2301.03580), for CNNs.

    S_i  = sparse encoder(visible pixels)               maps at strides 4, 8, 16, 32    (section 3.1; a2mim.sparse)
    S'_i = norm(S_i), a mask token wherever it is empty densified at each scale         (section 3.2)
    D_i  = upsample(D_{i+1} + φ_i(S'_i))                UNet decoder, twice the size at each block
    loss = mean over masked patches of mean (x̂ − x̃)², x̃ = (x − mean) / std of each patch by itself

Released hyper-parameters: 60 % of the 32×32 patches masked; decoder 768 wide at stride 32, half of it at each scale;
LAMB (β 0.9, 0.95; for ConvNeXt 0.999), learning rate 2e-4 · batch / 256, batch 4096, weight decay 0.04 to 0.2 along a
cosine, gradient clipped at 5, 1600 epochs with 40 of warm-up; crops of 67 % and more, bicubic, and flips; drop path
0.05, 0.08, 0.1, 0.15 for ResNet-50, 101, 152, 200, and 0.2, 0.3 for ConvNeXt-S, -B (of its models; `--dp 0` keeps it).

Encoder: any timm CNN with feature_info. The coarsest map is what `forward_features` returns, the finer ones are up to
three maps of feature_info, each of twice the side. Densified maps are normalised in the backbone's manner: batch
statistics (over visible positions) where it has any, layer normalisation otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from a2mim.backbones import freeze_unused, read_structure
from a2mim.bounds import Count, Part, Pixels
from a2mim.layouts import attached, evaluating, intercept, read_layouts
from a2mim.losses import patch_loss
from a2mim.masking import check_mask, mask_grid, random_mask
from a2mim.methods.base import Method
from a2mim.sparse import Visible, read_sparse, sparse
from a2mim.targets import normalised, patchify, unpatchify

__all__ = ["SparK", "SparKSettings"]

SCALES = 4


@dataclass(frozen=True)
class SparKSettings:
    """Settings of SparK, the paper's by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    mask_ratio: Part = 0.6
    """Part of the cells that is masked; the visible ones are rounded to a whole number: 20 of 49."""
    mask_cell: Pixels | None = None
    """Side of a mask cell, and of a patch of the target, in pixels: a multiple of the backbone's stride, and the stride
    itself if left out."""
    decoder_width: Count = 768
    """Channels of the decoder at the coarsest scale; half as many at each finer one."""
    densify_norm: bool = True
    """Normalise each map before its empty places are filled; the public code can do without."""


class SparK(Method):
    """See the module. Raises ValueError where backbone and settings do not fit, naming what is missing."""

    Settings: ClassVar[type[Any]] = SparKSettings
    recomputable = False

    def __init__(self, backbone: nn.Module, settings: SparKSettings):
        super().__init__()
        name = type(backbone).__name__
        self.backbone, self.settings = backbone, settings
        self.structure = read_structure(backbone, settings.image_size)
        size, stride = self.structure.image_size, self.structure.stride
        if self.structure.features.kind != "NCHW" or stride & (stride - 1):
            raise ValueError(
                f"SparK needs a CNN whose last map has a power of two as stride, and that of {name} is "
                f"{self.structure.features.kind} with a stride of {stride} px: use a2mim, simmim or mae."
            )
        self.cell = settings.mask_cell or stride
        if self.cell % stride:
            raise ValueError(f"A mask cell of {self.cell} px is no multiple of the stride of {name} ({stride} px).")
        grid = check_mask(size, self.cell, settings.mask_ratio, rounded="visible")
        freeze_unused(backbone, self.structure)
        self.plan = read_sparse(backbone, size, self.structure.channels, grid)
        finer = _finer_maps(backbone, size, stride)
        self.taps = tuple(module for module, _ in finer)
        widths = [self.structure.features.channels, *(channels for _, channels in finer)]
        # -> the coarsest map first, as the decoder takes them
        decoder = [settings.decoder_width >> i for i in range(stride.bit_length())]
        if decoder[-1] < 1:
            raise ValueError(
                f"A decoder of width {settings.decoder_width} cannot be halved {stride.bit_length() - 1} times."
            )
        norm: Any = nn.BatchNorm2d if self.plan.gathered else partial(LayerNorm2d, eps=1e-6)
        norm = norm if settings.densify_norm else nn.Identity
        self.densify = nn.ModuleList(
            Densify(width, decoder[i], norm(width), kernel=3 if i else 1) for i, width in enumerate(widths)
        )
        self.decoder = nn.ModuleList(up_block(*pair) for pair in pairwise(decoder))
        self.head = nn.Conv2d(decoder[-1], self.structure.channels, 1)
        for module in (self.decoder, self.head):
            module.apply(_initialise)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        mask = self.draw_mask(image, generator)
        prediction, target = patchify(self.reconstruct(image, mask), self.cell), patchify(image, self.cell)
        return {"loss": patch_loss(prediction, normalised(target)[0], mask.flatten(1).to(image.device))}

    def draw_mask(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(B, rows, columns) masks, 1 = masked, the same number in each image; on the CPU (see Visible)."""
        grid = mask_grid((image.shape[2], image.shape[3]), self.cell)
        return random_mask(len(image), grid, self.settings.mask_ratio, generator, rounded="visible")

    def encode(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """The sparse maps (B, C_i, h_i, w_i), the coarsest first, exactly zero at masked positions."""
        return self._encode(image, Visible(mask, image.device))

    def _encode(self, image: Tensor, visible: Visible) -> list[Tensor]:
        maps: dict[str, Tensor] = {}
        with sparse(self.backbone, self.plan, visible):
            taps = [intercept(self.backbone, tap, "output", partial(maps.__setitem__, tap)) for tap in self.taps]
            with attached(*taps):
                last = self.backbone.forward_features(visible.hide(image))  # type: ignore[operator]
        return [last, *(maps[tap] for tap in self.taps)]

    def reconstruct(self, image: Tensor, mask: Tensor) -> Tensor:
        """The prediction (B, C, H, W); of each masked patch in units of its own mean and deviation."""
        visible = Visible(mask, image.device)
        dense = [densify(x, visible) for densify, x in zip(self.densify, self._encode(image, visible), strict=True)]
        x = dense[0]
        for i, block in enumerate(self.decoder):
            x = block(x + dense[i] if 0 < i < len(dense) else x)
        return self.head(x)

    def pictures(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """A prediction is shown with the contrast that its patch really has."""
        image = batch["image"]
        mask = self.draw_mask(image, generator)
        with evaluating(self):
            patches = patchify(self.reconstruct(image, mask), self.cell).float()
        _, mean, std = normalised(patchify(image, self.cell))
        size = (image.shape[2], image.shape[3])
        predicted = unpatchify(patches * std + mean, self.cell, size).to(image.dtype)
        masked = Visible(mask, image.device).hide(image)
        pixels = Visible(mask, image.device).map(*size)
        composite = torch.where(pixels > 0, image, predicted)
        return {"original": image, "masked": masked, "predicted": predicted, "composite": composite}

    def no_weight_decay(self) -> set[str]:
        return super().no_weight_decay() | {f"densify.{i}.mask_token_C" for i in range(len(self.densify))}


class Densify(nn.Module):
    """A sparse map (B, in, h, w) -> a dense one (B, out, h, w): normalised, its empty positions filled by a mask token,
    and projected (not at all where the coarsest map already has the decoder's width, as released)."""

    def __init__(self, in_channels: int, out_channels: int, norm: nn.Module, kernel: int):
        super().__init__()
        self.norm = norm
        self.mask_token_C = nn.Parameter(nn.init.trunc_normal_(torch.empty(in_channels), std=0.02, a=-0.02, b=0.02))
        same = kernel == 1 and in_channels == out_channels
        self.project = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, visible: Visible) -> Tensor:
        normed = visible.scatter(self.norm(visible.gather(x)))
        token = self.mask_token_C.to(normed.dtype).view(-1, 1, 1)
        return self.project(torch.where(visible.map(*x.shape[2:]) > 0, normed, token))


def up_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """(B, in, h, w) -> (B, out, 2h, 2w): the decoder's block, as released."""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, in_channels, 4, stride=2, padding=1),
        nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU6(inplace=True),
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _finer_maps(backbone: nn.Module, size: int, stride: int) -> list[tuple[str, int]]:
    """(module, channels) of feature_info's maps at half, a quarter and an eighth of the stride, as far as they go."""
    info: Any = getattr(backbone, "feature_info", None) or []
    entries = info.info if hasattr(info, "info") else info
    modules = [entry["module"] for entry in entries if entry.get("module")]
    known = dict(backbone.named_modules())
    layouts = read_layouts(backbone, size, [module for module in modules if module in known])
    last_of = {
        size // layout.grid[0]: (module, layout.channels)
        for module, layout in layouts.items()
        if layout is not None and layout.kind == "NCHW"
    }
    found = []
    for finer in (stride >> i for i in range(1, SCALES)):
        if finer not in last_of:
            break
        found.append(last_of[finer])
    if not found:
        raise ValueError(
            f"{type(backbone).__name__} has no feature_info with a map at a stride of {stride // 2} px, and the "
            "decoder of SparK is fed by maps of several scales."
        )
    return found
