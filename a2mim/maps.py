"""Maps of a timm backbone's features, at any size of image: what segmentation and detection train on.

The maps are those of timm's `forward_intermediates`. Decoders of several scales want them at strides 4, 8, 16 and 32; a
plain transformer has one stride, and what it gives is resized by its decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.layouts import evaluating, own_image_size, raise_unfit
from a2mim.methods.base import Method
from a2mim.own import OwnBackbone

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Taken:
    """Which of timm's intermediate maps a decoder sees.

    indices: of `forward_intermediates`; channels and strides of each.
    multiple: pixels that the sides of an image must be a multiple of.
    plain: whether all maps of the backbone are of one stride and have to be resized.
    """

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int
    plain: bool = False


def all_maps(backbone: Any) -> Taken:
    """Every map that timm knows of, or that an OwnBackbone finds. Raises ValueError for a backbone without
    forward_intermediates."""
    info = getattr(backbone, "feature_info", None) or []
    entries: Sequence[dict[str, Any]] = info.info if hasattr(info, "info") else info
    if isinstance(backbone, OwnBackbone):
        size, layouts = own_image_size(backbone), backbone.map_layouts()
        entries = [{"num_chs": each.channels, "reduction": size // each.grid[0]} for each in layouts.values()]
    if not entries or not callable(getattr(backbone, "forward_intermediates", None)):
        raise ValueError(
            f"{type(backbone).__name__} has no forward_intermediates, timm's verb for maps of features: use a timm "
            "model, or put your encoder into a2mim.OwnBackbone"
        )
    channels = tuple(each["num_chs"] for each in entries)
    strides = tuple(each["reduction"] for each in entries)
    plain = len(set(strides)) == 1
    return Taken(tuple(range(len(entries))), channels, strides, max(strides), plain)


def only(maps: Taken, indices: Sequence[int], multiple: int) -> Taken:
    """These of the maps."""
    channels, strides = (tuple(each[n] for n in indices) for each in (maps.channels, maps.strides))
    return Taken(tuple(indices), channels, strides, multiple, maps.plain)


def last_map(backbone: Any, multiple: int = 1) -> Taken:
    """The last map, of images whose sides are a multiple of so many of its pixels. Raises as `all_maps` does."""
    maps = all_maps(backbone)
    return only(maps, [len(maps.indices) - 1], multiple * maps.multiple)


def stage_maps(backbone: Any, whose: str, way_out: str) -> Taken:
    """The last map of each of the strides 4, 8, 16 and 32.

    whose: what needs them, way_out: what else can be done; for messages.

    Raises ValueError for a backbone that does not have them.
    """
    maps = all_maps(backbone)
    if missing := [stride for stride in STRIDES if stride not in maps.strides]:
        raise ValueError(
            f"{type(backbone).__name__} has maps of stride {', '.join(map(str, maps.strides))}, none of {missing[0]}, "
            f"which {whose} needs: {way_out}"
        )
    indices = [max(n for n in maps.indices if maps.strides[n] == stride) for stride in STRIDES]
    return only(maps, indices, max(STRIDES))


class OnMaps(Method):
    """A timm backbone and something that is trained on its maps.

    frozen: the backbone is left as it is, in evaluation mode.
    """

    def __init__(self, backbone: nn.Module, maps: Taken, frozen: bool) -> None:
        super().__init__()
        self.backbone, self.maps, self.frozen = backbone, maps, frozen
        self.norm = True
        """Whether timm is to normalise the last map, where it can (Hiera refuses, SAM gives other channels)."""
        if frozen:
            backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def refuse_unfit(self, size: tuple[int, int]) -> None:
        """Raise ValueError where the backbone does not run on images of this height and width, or gives other maps than
        it says."""
        device = next(self.backbone.parameters()).device
        with evaluating(self):
            try:
                found = self._tried(torch.zeros(1, 3, *size, device=device))
            except Exception as error:
                raise_unfit(self.backbone, size, error)
        if (channels := channels_of(found)) != self.maps.channels:
            raise ValueError(
                f"{type(self.backbone).__name__} gives maps of {channels} channels, not {self.maps.channels}"
            )

    def _tried(self, image_BCHW: Tensor) -> list[Tensor]:
        """The maps, from now on without timm's norm where that refuses, or changes their channels."""
        try:
            found = self.features(image_BCHW)
        except AssertionError as error:
            if not self.norm or "norm" not in str(error):
                raise
            found = []
        if self.norm and channels_of(found) != self.maps.channels:
            self.norm = False
            return self.features(image_BCHW)
        return found

    def padded(self, image_BCHW: Tensor) -> Tensor:
        """The image with zeros below and to the right of it up to a multiple of the stride."""
        height, width = image_BCHW.shape[2:]
        below, right = -height % self.maps.multiple, -width % self.maps.multiple
        return F.pad(image_BCHW, (0, right, 0, below)) if below or right else image_BCHW

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        """The maps: those of timm's forward_intermediates, of the padded image."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            backbone: Any = self.backbone
            return backbone.forward_intermediates(
                self.padded(image_BCHW), indices=list(self.maps.indices), norm=self.norm, intermediates_only=True
            )


def channels_of(maps: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(x.shape[1] for x in maps)
