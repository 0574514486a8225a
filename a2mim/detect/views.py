"""Training views of pictures with boxes and masks by torchvision's v2 transforms, and batches of them for the one loop.

Pictures of a batch differ in size: each lies in the upper left corner of a batch as large as the largest needs, and
their instances lie one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from a2mim.data import Source
from a2mim.detect.pictures import Things
from a2mim.detect.settings import Frames
from a2mim.loading import together
from a2mim.plan import Plan
from a2mim.samples import Batch, Samples

SMALLEST = 1.0
"""Sides of a box in pixels below which a training view does without it."""

View = Callable[[Image.Image, Things], Batch]


def as_tensors(picture: Image.Image, things: Things) -> dict[str, Any]:
    """Picture, boxes, masks and labels as torchvision's transforms tell them apart."""
    size: Any = (picture.height, picture.width)
    made = {
        "image": tv_tensors.Image(v2.functional.pil_to_tensor(picture)),
        "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(things.boxes), format="XYXY", canvas_size=size),  # type: ignore[call-overload]
        "labels": torch.from_numpy(things.labels),
    }
    return made if things.masks is None else {**made, "masks": tv_tensors.Mask(torch.from_numpy(things.masks))}


def training_view(frames: Frames) -> View:
    """Random size, perhaps a crop, and flip: -> image uint8 (3, h, w), boxes (N, 4), labels (N,), masks (N, h, w)."""
    crop = frames.crop if frames.crop[0] else None
    # Resizing rounds the far edge of a box that ends with its picture to beyond it, and such boxes are taken away.
    whole = [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(SMALLEST)]
    rest = v2.Compose([v2.RandomHorizontalFlip(frames.flip), *whole])

    def view(picture: Image.Image, things: Things) -> Batch:
        made = as_tensors(picture, things)
        if crop:
            made = jittered(made, crop, frames.scale)
        else:
            side = frames.short_side[int(torch.randint(len(frames.short_side), ()))]
            made = resized(made, fitting(made["image"], side, frames.long_side))
        return {name: x.as_subclass(Tensor) for name, x in rest(made).items()}

    return view


def fitting(image: Tensor, side: int, longest: int) -> float:
    """By what a picture is multiplied for its shorter side to be `side`, and its longer one at most `longest`."""
    height, width = image.shape[-2:]
    return min(side / min(height, width), longest / max(height, width))


def resized(made: Any, factor: float) -> Any:
    """All of a picture's tensors, its sides multiplied."""
    height, width = made["image"].shape[-2:]
    return v2.Resize([max(1, round(height * factor)), max(1, round(width * factor))], antialias=True)(made)


def jittered(made: dict[str, Any], crop: tuple[int, int], scale: tuple[float, float]) -> dict[str, Any]:
    """Large-scale jitter (Ghiasi et al. 2021): the picture, fitted into the crop and scaled at random, cut to it."""
    height, width = made["image"].shape[-2:]
    made = resized(made, float(torch.empty(1).uniform_(*scale)) * min(crop[0] / height, crop[1] / width))
    height, width = made["image"].shape[-2:]
    return of_masks(v2.RandomCrop((min(height, crop[0]), min(width, crop[1])))(made))


def of_masks(made: dict[str, Any]) -> dict[str, Any]:
    """With the boxes of what is left of each instance in a crop, without those of which nothing is (as Detectron2's
    recipes with large-scale jitter have it); where there are no masks, boxes are cut alone."""
    if "masks" not in made:
        return made
    kept = made["masks"].as_subclass(Tensor).bool().flatten(1).any(1)
    boxes = masks_to_boxes(made["masks"][kept].as_subclass(Tensor))
    boxes[:, 2:] += 1  # the last pixel's far side
    rest = {name: tv_tensors.wrap(made[name][kept], like=made[name]) for name in ("masks", "labels")}
    like = made["boxes"]
    return {**made, **rest, "boxes": tv_tensors.wrap(boxes.to(like.dtype), like=like)}


def evaluation_view(side: int, longest: int) -> View:
    """The picture alone, its shorter side resized but for its longer one's limit: image uint8 (3, h, w)."""

    def view(picture: Image.Image, things: Things) -> Batch:
        image = v2.functional.pil_to_tensor(picture)
        return {"image": resized({"image": tv_tensors.Image(image)}, fitting(image, side, longest))["image"].data}

    return view


class DetectSamples(Samples):
    """Of pictures with instances: what the view makes of them."""

    views: Any

    def shown(self, image: Image.Image, target: Any) -> Batch:
        (view,) = self.views
        return view(image, target)


def padded(samples: Sequence[Batch]) -> Batch:
    """One batch: image uint8 (B, 3, H, W), size (B, 2) of each picture in it, count (B,) of its instances, and of all
    of these boxes (N, 4), labels (N,) and, where there are any, masks (N, H, W); index (B,)."""
    sizes = [tuple(each["image"].shape[-2:]) for each in samples]
    height, width = (max(size[n] for size in sizes) for n in (0, 1))

    def full(x: Tensor) -> Tensor:
        return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))

    batch = {
        "image": torch.stack([full(each["image"]) for each in samples]),
        "size": torch.tensor(sizes),
        "count": torch.tensor([len(each["labels"]) for each in samples]),
        "boxes": torch.cat([each["boxes"] for each in samples]),
        "labels": torch.cat([each["labels"] for each in samples]),
        "index": torch.tensor([each["index"] for each in samples]),
    }
    return batch | ({"masks": torch.cat([full(each["masks"]) for each in samples])} if "masks" in samples[0] else {})


@dataclass(frozen=True)
class DetectSource(Source):
    """Training pictures with instances: batches are what `padded` makes."""

    frames: Frames = field(default_factory=Frames)

    @property
    def repeats(self) -> int:
        return 1

    @property
    def collate(self) -> Callable[[Sequence[Batch]], Batch]:
        return partial(together, collate=padded)

    def check(self, plan: Plan) -> None:
        """Nothing is left to refuse."""

    def samples(self, plan: Plan) -> Dataset:
        view: Any = training_view(self.frames)
        return DetectSamples(self.images.raw, [view], plan.seed, stand_ins=True)

    def noise(self, count: int, device: torch.device) -> Batch:
        """A batch of noise of the largest size, an instance in each picture."""
        generator = torch.Generator().manual_seed(0)
        height, width = self.frames.largest
        box = torch.tensor([width / 4, height / 4, 3 * width / 4, 3 * height / 4])
        batch = {
            "image": torch.randn(count, 3, height, width, generator=generator),
            "size": torch.tensor([[height, width]] * count),
            "count": torch.ones(count, dtype=torch.long),
            "boxes": box.expand(count, 4).clone(),
            "labels": torch.randint(self.classes, (count,), generator=generator),
            "masks": torch.ones(count, height, width, dtype=torch.uint8),
            "index": torch.arange(count),
        }
        return {name: x.to(device) for name, x in batch.items()}
