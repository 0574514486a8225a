"""Training views of pictures and annotations by torchvision's v2 transforms, and batches of them for the one loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from a2mim.data import Source
from a2mim.plan import Plan
from a2mim.samples import Batch, Samples
from a2mim.segment.pairs import IGNORE
from a2mim.segment.settings import Crops

Pair = tuple[Tensor, Tensor]
View = Callable[[Image.Image, np.ndarray], Pair]

GREY = 127


def as_tensors(picture: Image.Image, mask_HW: np.ndarray) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """uint8 (3, H, W) and int64 (H, W), which torchvision's transforms tell apart."""
    return tv_tensors.Image(v2.functional.pil_to_tensor(picture)), tv_tensors.Mask(torch.from_numpy(mask_HW))


def training_view(crops: Crops) -> View:
    """Random scale, crop, flip and colours: -> uint8 (3, h, w) and classes int64 (h, w)."""
    low, high = (max(1, round(crops.side * each)) for each in crops.scale)
    jitter = crops.color_jitter
    steps: list[Any] = [
        v2.RandomResize(low, high + 1, antialias=True),
        v2.RandomCrop(crops.crop, pad_if_needed=True, fill={tv_tensors.Image: GREY, tv_tensors.Mask: IGNORE}),
        v2.RandomHorizontalFlip(crops.flip),
    ]
    if jitter or crops.hue:
        steps.append(v2.ColorJitter(jitter, jitter, jitter, crops.hue))
    change = v2.Compose(steps)

    def view(picture: Image.Image, mask_HW: np.ndarray) -> Pair:
        image, mask = change(*as_tensors(picture, mask_HW))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)

    return view


def evaluation_view(side: int) -> View:
    """The picture with its shorter side resized, uint8 (3, h, w), and its classes as they are, (H, W)."""

    def view(picture: Image.Image, mask_HW: np.ndarray) -> Pair:
        image, mask = as_tensors(picture, mask_HW)
        small = v2.functional.resize(image, [side], antialias=True)
        return small.as_subclass(Tensor), mask.as_subclass(Tensor)

    return view


class SceneSamples(Samples):
    """Of pictures with annotations: {"image", "target"} as the view makes them."""

    views: Any

    def shown(self, image: Image.Image, target: Any) -> Batch:
        (view,) = self.views
        made, classes = view(image, target)
        return {"image": made, "target": classes}


@dataclass(frozen=True)
class SceneSource(Source):
    """Training pictures with annotations: a batch holds target: long (B, h, w), IGNORE for pixels without class."""

    crops: Crops = field(default_factory=Crops)

    @property
    def repeats(self) -> int:
        return 1

    def check(self, plan: Plan) -> None:
        """Nothing is left to refuse."""

    def samples(self, plan: Plan) -> Dataset:
        view: Any = training_view(self.crops)
        return SceneSamples(self.images.raw, [view], plan.seed, stand_ins=True)

    def noise(self, count: int, device: torch.device) -> Batch:
        """A batch of noise of the same shapes."""
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(count, 3, *self.crops.crop, generator=generator).to(device)
        target = torch.randint(self.classes, (count, *self.crops.crop), generator=generator).to(device)
        return {"image": image, "target": target, "index": torch.arange(count, device=device)}
