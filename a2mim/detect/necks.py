"""From a backbone's maps to the five levels of as many channels that torchvision's detectors see, called "0" to "3" and
"pool": by torchvision's FPN (Lin et al. 2017), or by ViTDet's simple feature pyramid (Li et al. 2022)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from a2mim.maps import Taken

COARSEST = "pool"
Levels = OrderedDict[str, Tensor]


class OfStages(nn.Module):
    """torchvision's FPN on four maps of different strides."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(list(channels), width, LastLevelMaxPool())

    def forward(self, maps: Sequence[Tensor]) -> Levels:
        return self.fpn(OrderedDict((str(n), x) for n, x in enumerate(maps)))


class OfLastMap(nn.Module):
    """ViTDet's simple feature pyramid: the last map at four, two, one and half of its resolution, each level by itself
    (modeling/backbone/vit.py of Detectron2: layer norms over channels, no biases of convolutions before them)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        resize: list[tuple[nn.Module, int]] = [
            (nn.Sequential(larger(channels, half), LayerNorm2d(half), nn.GELU(), larger(half, quarter)), quarter),
            (larger(channels, half), half),
            (nn.Identity(), channels),
            (nn.MaxPool2d(2, 2), channels),
        ]
        self.levels = nn.ModuleList([nn.Sequential(change, *smooth(given, width)) for change, given in resize])

    def forward(self, maps: Sequence[Tensor]) -> Levels:
        (x,) = maps
        made = OrderedDict((str(n), level(x)) for n, level in enumerate(self.levels))
        return OrderedDict([*made.items(), (COARSEST, F.max_pool2d(made["3"], 1, 2))])


def larger(channels: int, width: int) -> nn.Module:
    """Twice the resolution."""
    return nn.ConvTranspose2d(channels, width, 2, 2)


def smooth(channels: int, width: int) -> list[nn.Module]:
    """To `width` channels, and a convolution over neighbours."""
    return [
        nn.Conv2d(channels, width, 1, bias=False),
        LayerNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        LayerNorm2d(width),
    ]


def make_neck(maps: Taken, width: int) -> nn.Module:
    """What fits the maps; width: channels of each level."""
    return OfLastMap(maps.channels[-1], width) if maps.plain else OfStages(maps.channels, width)


def strides_of(maps: Taken) -> list[float]:
    """Pixels from place to place on the levels "0" to "3"."""
    return (
        [maps.strides[-1] * factor for factor in (0.25, 0.5, 1, 2)] if maps.plain else [float(n) for n in maps.strides]
    )
