"""SimMIM: a simple framework for masked image modeling (Xie et al., CVPR 2022, arXiv 2111.09886), as a case of A²MIM.

The mask token replaces what the patch embedding makes of masked cells, before positions are added; L1 over masked
pixels; no Fourier loss; the same 32×32 cells, 60 % masked, and the same linear decoder.

On a CNN there is no patch embedding. The published variant (A²MIM's baseline) replaces features behind the stem and
fills no pixels, so an overlapping stem still sees masked pixels and the features around a cell carry them: **it leaks**
(on a ConvNeXt it would not, whose stem cuts the image into patches; but the published one adds its token there instead
of replacing features, and leaks all of the image). So does any mask cell that is no multiple of the patch.
`SimMIM.leaks` says so, construction warns of it, and any other fill closes the leak.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from torch import nn

from a2mim.bounds import Part, Pixels
from a2mim.masking import Fill, Strategy
from a2mim.methods.a2mim import A2MIM, A2MIMSettings

__all__ = ["SimMIM", "SimMIMSettings"]


@dataclass(frozen=True)
class SimMIMSettings:
    """Settings of SimMIM, the paper's by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    mask_cell: Pixels = 32
    """Side of a mask cell in pixels."""
    mask_ratio: Part = 0.6
    """Part of the cells that is masked: ceil(ratio · cells) of them."""
    mask_strategy: Strategy = "random"
    """random: single cells; blockwise: rectangles, as in BEiT; whole_blocks: as in MaskFeat, a little fewer cells."""
    fill: Fill = "none"
    """What masked pixels show; none, as published, leaks them through an overlapping stem."""
    mask_token: Literal["replace", "add"] = "replace"
    """replace: x(1−M) + T·M; add: x + T·M, as published for ConvNeXts."""
    mask_at: int | str = 0
    """Where the mask token replaces features, or is added to them: 0 is behind the patch embedding of a transformer or
    the stem of a CNN."""


class SimMIM(A2MIM):
    """See the module; raises what A2MIM raises, and warns where masked pixels leak."""

    Settings: ClassVar[type[Any]] = SimMIMSettings

    def __init__(self, backbone: nn.Module, settings: SimMIMSettings):
        shared = {field.name: getattr(settings, field.name) for field in fields(SimMIMSettings)}
        super().__init__(backbone, A2MIMSettings(**shared, fourier_weight=0.0))
        if self.leaks:
            warnings.warn(
                f"{type(self).__name__} on {type(backbone).__name__} fills no pixels before the "
                f"{self.mask_token.place}, so masked pixels leak into the encoder (on a CNN that is as published): the "
                "fill image_mean closes the leak.",
                stacklevel=2,
            )
