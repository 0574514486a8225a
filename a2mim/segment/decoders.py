"""What turns a backbone's maps into scores of classes: a linear decoder, and those of segmentation_models_pytorch.

FPN (Kirillov et al. 2019) and UPerNet (Xiao et al. 2018) want maps at strides 4, 8, 16 and 32; a plain transformer has
one stride, and four of its blocks are resized to half, one, two and four times that, by the transposed convolutions and
the pooling of BEiT and MAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from a2mim.maps import Taken, all_maps, last_map, only, stage_maps

PLAIN_MAPS = 4


def taken(backbone: Any, decoder: str) -> Taken:
    """The maps for a decoder of that name. Raises ValueError for a backbone that does not have them."""
    if decoder == "linear":
        return last_map(backbone)
    maps = all_maps(backbone)
    blocks = len(maps.indices)
    if maps.plain and blocks >= PLAIN_MAPS:
        return only(maps, [blocks * part // PLAIN_MAPS - 1 for part in (1, 2, 3, 4)], 2 * maps.multiple)
    return stage_maps(backbone, decoder, "use --decoder linear")


class Pyramid(nn.Module):
    """Four maps of one stride at four, two, one and half of its resolution, as BEiT and MAE make them for UPerNet."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, _, _ = channels
        four = (nn.ConvTranspose2d(first, first, 2, 2), nn.BatchNorm2d(first), nn.GELU())
        self.resize = nn.ModuleList(
            [
                nn.Sequential(*four, nn.ConvTranspose2d(first, first, 2, 2)),
                nn.ConvTranspose2d(second, second, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2),
            ]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [resize(x) for resize, x in zip(self.resize, maps, strict=True)]


class FromPackage(nn.Module):
    """A decoder of segmentation_models_pytorch, and a 1×1 convolution to scores."""

    def __init__(self, decoder: str, maps: Taken, classes: int) -> None:
        super().__init__()
        try:
            from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
            from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
        except ImportError as error:
            raise ValueError(
                f"--decoder {decoder} is that of segmentation_models_pytorch, which is not installed: "
                "pip install 'a2mim[segment]', or use --decoder linear"
            ) from error
        self.resize: nn.Module = Pyramid(maps.channels) if maps.plain else nn.Identity()
        self.ahead = 0 if decoder == "fpn" else 2  # UPerNet counts maps of strides 1 and 2, which it leaves out
        channels = [0] * self.ahead + list(maps.channels)
        if decoder == "fpn":
            self.decode, width = FPNDecoder(channels), 128
        else:
            self.decode, width = UPerNetDecoder(channels), 256
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        maps = list(self.resize(maps))
        return self.classify(self.decode([*maps[:1] * self.ahead, *maps]))


class Linear(nn.Module):
    """Batch norm and a 1×1 convolution on the last map."""

    def __init__(self, maps: Taken, classes: int) -> None:
        super().__init__()
        self.norm, self.classify = nn.BatchNorm2d(maps.channels[-1]), nn.Conv2d(maps.channels[-1], classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classify(self.norm(maps[-1]))


def make_decoder(decoder: str, maps: Taken, classes: int, seed: int) -> nn.Module:
    """The decoder of that name, its first weights drawn by the seed. Raises ValueError where its package is missing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Linear(maps, classes) if decoder == "linear" else FromPackage(decoder, maps, classes)
