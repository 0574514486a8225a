"""MAE: Masked Autoencoders Are Scalable Vision Learners (He et al., CVPR 2022, arXiv 2111.06377), for transformers.

    z    = encoder(visible patches)                 masked patches are left out, not replaced: a quarter of the tokens
    x̂    = decoder(z, mask tokens, positions)       a narrow transformer that is thrown away afterwards
    loss = mean over masked patches of mean (x̂ − x̃)², x̃ = (x − mean) / std of each patch by itself

Released hyper-parameters: 75 % of the patches masked; decoder 512 wide, 8 deep, 16 heads; fixed sine-cosine positions
in both; AdamW (β 0.9, 0.95), learning rate 1.5e-4 · batch / 256, batch 4096, weight decay 0.05, 800 or 1600 epochs with
40 of warm-up; crops of 20 % and more, and flips.

Encoder: any timm transformer that adds its positions to the patch tokens, then runs `patch_drop` (where timm leaves out
tokens itself), `blocks` and `norm`. The last norm belongs to the encoder: use global_pool=token or fc_norm=False. The
decoder, the mask token and its projection are initialised as released (xavier, 0.02); the backbone is as it was given
(timm's weight_init=jax comes closest to the released one), but for its positions. In the released code the class token
and the mask token decay: --decay-also cls_token mask_token, as the recipes for ImageNet have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from a2mim.backbones import freeze_unused, read_structure
from a2mim.bounds import Count, Part, Pixels
from a2mim.layouts import evaluating, intercept
from a2mim.masking import check_mask
from a2mim.methods.patches import MaskedPatches
from a2mim.targets import unpatchify

__all__ = ["MAE", "MAESettings", "sincos_positions", "visible_patches"]


@dataclass(frozen=True)
class MAESettings:
    """Settings of MAE, the paper's by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    mask_ratio: Part = 0.75
    """Part of the cells that is masked: ceil(ratio · cells) of them."""
    mask_cell: Pixels | None = None
    """Side of a mask cell in pixels, a multiple of the patch; the patch itself if left out."""
    normalised_target: bool = True
    """Predict each patch normalised by its own mean and deviation; else the pixels."""
    positions: Literal["sincos", "own"] = "sincos"
    """sincos: overwrite the encoder's positions by fixed sines and cosines, as published; own: leave them as they are,
    and learnable (when going on from weights)."""
    decoder_width: Count = 512
    """Channels of the decoder."""
    decoder_depth: Count = 8
    """Blocks of the decoder."""
    decoder_heads: Count = 16
    """Attention heads of the decoder."""
    decoder_hidden: Count | None = None
    """Channels inside of the decoder's MLPs (left out: four times its width)."""

    def check(self) -> None:
        """Raises ValueError for heads that do not share the decoder's channels."""
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"{self.decoder_heads} heads do not divide {self.decoder_width} channels: set decoder_heads or "
                "decoder_width of mae"
            )


class MAE(MaskedPatches):
    """See the module. Raises ValueError where backbone and settings do not fit, naming what is missing."""

    Settings: ClassVar[type[Any]] = MAESettings
    positions_ND: Tensor  # of the decoder's tokens, class token and the like first

    def __init__(self, backbone: nn.Module, settings: MAESettings):
        super().__init__()
        name = type(backbone).__name__
        if not all(isinstance(getattr(backbone, part, None), nn.Module) for part in ("patch_embed", "patch_drop")):
            raise ValueError(
                f"MAE shows the encoder a part of its tokens, and {name} has no patch_embed and patch_drop for that: "
                "use a plain vision transformer, or a2mim, simmim or spark."
            )
        self.backbone, self.settings = backbone, settings
        self.structure = read_structure(backbone, settings.image_size)
        size, patch = self.structure.image_size, self.structure.stride
        self.cell = settings.mask_cell or patch
        if self.structure.features.kind != "NLC" or self.cell % patch:
            raise ValueError(
                f"MAE masks whole patch tokens: mask cells of {self.cell} px do not fit {name} ({patch} px)."
            )
        check_mask(size, self.cell, settings.mask_ratio)
        freeze_unused(backbone, self.structure)
        grid = self.structure.features.grid
        if settings.positions == "sincos":
            _fix_positions(backbone, grid)
        self._make_decoder(grid, patch)
        self._check_encoder()

    def encode(self, image: Tensor, mask_BL: Tensor) -> Tensor:
        """The encoder's tokens (B, prefix + visible, C): class token and the like, then the visible patches in raster
        order. Masked patches are dropped before the first block."""
        prefix = self.structure.features.prefix
        visible_BV = visible_patches(mask_BL).to(image.device)

        def drop(x_BLC: Tensor) -> Tensor:
            patches = x_BLC[:, prefix:].gather(1, visible_BV[..., None].expand(-1, -1, x_BLC.shape[2]))
            return torch.cat([x_BLC[:, :prefix], patches], 1)

        with intercept(self.backbone, "patch_drop", "output", drop):
            return self.backbone.forward_features(image)  # type: ignore[operator]

    def decode(self, z_BNC: Tensor, mask_BL: Tensor) -> Tensor:
        """The predicted patches (B, L, patch²·channels), visible ones included, from the encoder's tokens."""
        prefix = self.structure.features.prefix
        x = self.embed(z_BNC)
        tokens = self.mask_token_C.to(x.dtype).expand(*mask_BL.shape, -1)
        index = visible_patches(mask_BL).to(x.device)[..., None].expand(-1, -1, x.shape[2])
        patches = tokens.scatter(1, index, x[:, prefix:])
        x = torch.cat([x[:, :prefix], patches], 1) + self.positions_ND
        x = self.decoder_norm(self.decoder_blocks(x))
        return self.head(x[:, prefix:])

    def _make_decoder(self, grid: tuple[int, int], patch: int) -> None:
        """From the encoder's tokens to patches of so many pixels a side."""
        settings, width = self.settings, self.settings.decoder_width
        self.embed = nn.Linear(self.structure.features.channels, width)
        self.mask_token_C = nn.Parameter(torch.empty(width).normal_(std=0.02))
        prefix = torch.zeros(self.structure.features.prefix, width)
        self.register_buffer("positions_ND", torch.cat([prefix, sincos_positions(grid, width)]), persistent=False)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        hidden = settings.decoder_hidden or 4 * width
        ratio = hidden / width + 1e-9  # timm cuts the product off
        block = partial(Block, width, settings.decoder_heads, ratio, qkv_bias=True, norm_layer=norm)
        self.decoder_blocks = nn.Sequential(*(block() for _ in range(settings.decoder_depth)))
        self.decoder_norm = norm(width)
        self.head = nn.Linear(width, patch * patch * self.structure.channels)
        for module in (self.embed, self.decoder_blocks, self.head):
            module.apply(_xavier)

    @torch.no_grad()
    def _check_encoder(self) -> None:
        """Raise ValueError where masked patches reach the encoder's output, or where it needs all patches."""
        name, size = type(self.backbone).__name__, self.structure.image_size
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(2, self.structure.channels, size, size, generator=generator).to(self.head.weight)
        mask_BL = self.draw_mask(image, generator)
        every_pixel = mask_BL[..., None].expand(-1, -1, self.structure.stride**2)
        pixels = unpatchify(every_pixel, self.structure.stride, (size, size)).to(image)
        with evaluating(self.backbone):
            try:
                seen, same = self.encode(image, mask_BL), self.encode(image * (1 - pixels), mask_BL)
            except (RuntimeError, AssertionError, ValueError, IndexError) as error:
                raise ValueError(f"The blocks of {name} need all patches, and MAE leaves most of them out.") from error
        visible = int((mask_BL[0] == 0).sum())
        if seen.shape[1] != self.structure.features.prefix + visible:
            raise ValueError(
                f"{name} does not run its patch_drop between positions and blocks, where MAE drops patches."
            )
        if not torch.allclose(seen, same, rtol=1e-4, atol=1e-6 * seen.abs().max().item()):
            raise ValueError(f"The patch_embed of {name} mixes patches, so masked ones would reach the encoder of MAE.")


def sincos_positions(grid: tuple[int, int], width: int, first: Literal["column", "row"] = "column") -> Tensor:
    """Fixed positions (rows · columns, width): sines, then cosines, of the column in the first half of the channels and
    of the row in the second (MAE's order; MoCo v3's begins with the row), at width/4 frequencies falling from 1 towards
    1/10000. Raises ValueError for a width that 4 does not divide."""
    if width % 4:
        raise ValueError(f"Sine-cosine positions need a width that 4 divides, not {width}.")
    frequency_F = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row_L, column_L = (x.flatten() for x in torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"))
    places = (column_L, row_L) if first == "column" else (row_L, column_L)
    angles = [x[:, None] * frequency_F for x in places]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], 1).float()


def _fix_positions(backbone: nn.Module, grid: tuple[int, int]) -> None:
    """Overwrite the learnable positions of the patches; those of class tokens and the like become 0."""
    positions = getattr(backbone, "pos_embed", None)
    if not isinstance(positions, nn.Parameter) or positions.ndim != 3 or positions.shape[1] < grid[0] * grid[1]:
        raise ValueError(f"{type(backbone).__name__} has no pos_embed of one vector a patch: set positions to own.")
    fixed = sincos_positions(grid, positions.shape[2])
    with torch.no_grad():
        positions.zero_()[0, -len(fixed) :] = fixed.to(positions)
    positions.requires_grad_(False)


def visible_patches(mask_BL: Tensor) -> Tensor:
    """(B, V) indices of the visible patches, in raster order."""
    return mask_BL.argsort(dim=1, stable=True)[:, : int((mask_BL[0] == 0).sum())]


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
