"""Detection in whole pictures, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a2mim.detect.method import Detect
from a2mim.detect.pictures import coco_masks, run_lengths
from a2mim.detect.scores import Matches, matches_of
from a2mim.detect.views import DetectSamples, evaluation_view
from a2mim.dist import World
from a2mim.gallery import one_by_one
from a2mim.images import Images, evenly
from a2mim.loading import in_channels_last, normalised
from a2mim.plan import Key
from a2mim.samples import Batch

Row = dict[str, Any]
SHOWN = 0.5
"""Score from which a detection is drawn."""


@dataclass(frozen=True)
class DetectGallery:
    """Pictures with instances to evaluate on, in their own order.

    side, longest: their shorter side in pixels for the network, unless the longer one would be more than that.
    """

    images: Images
    side: int
    longest: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    workers: int = 0

    def samples(self) -> DetectSamples:
        view: Any = evaluation_view(self.side, self.longest)
        return DetectSamples(self.images.raw, [view])

    def ready(self, sample: Batch, device: torch.device, channels_last: bool = False) -> Tensor:
        """A sample's picture for the network (1, 3, h, w)."""
        form = torch.channels_last if channels_last else torch.contiguous_format
        return normalised(sample["image"][None].to(device), self.mean, self.std).contiguous(memory_format=form)


@torch.no_grad()
def detect_all(method: Detect, gallery: DetectGallery, world: World) -> list[Row]:
    """Every detection in this process's share of the pictures, as COCO writes results, but for the numbers: image_id is
    that of the picture in the gallery, category_id that of the class; and a row without score for each picture.

    Leaves the method in evaluation mode.
    """
    method.eval()
    rows: list[Row] = []
    laid_out = in_channels_last(method)
    for sample in one_by_one(gallery.samples(), gallery.images, gallery.workers, world):
        number = int(sample["index"])
        picture = gallery.images.raw.pictured(number)
        image = gallery.ready(sample, world.device, laid_out)
        rows += [{"image_id": number}, *rows_of(method.found(image, (picture.height, picture.width)), number)]
    return rows


def rows_of(found: dict[str, Tensor], number: int) -> Iterator[Row]:
    """The detections in a picture as COCO writes them."""
    boxes = found["boxes"].cpu().double()
    boxes[:, 2:] -= boxes[:, :2]
    scores, labels = found["scores"].tolist(), found["labels"].tolist()
    packed: list[Any] = [None] * len(scores)
    if "masks" in found and len(scores):
        masks_HWN = np.asfortranarray(found["masks"].permute(1, 2, 0).cpu().numpy().astype(np.uint8))
        packed = [{**each, "counts": each["counts"].decode()} for each in coco_masks().encode(masks_HWN)]
    for box, score, label, mask in zip(boxes.tolist(), scores, labels, packed, strict=True):
        row = {"image_id": number, "category_id": label, "bbox": box, "score": score}
        yield row if mask is None else {**row, "segmentation": mask}


def truth_of(images: Images, numbers: list[int]) -> tuple[list[Row], list[Row]]:
    """Pictures with these numbers and the instances in them, as pycocotools takes them."""
    pictures, instances = [], []
    for number in numbers:
        picture = images.raw.pictured(number)
        pictures.append({"id": number, "height": picture.height, "width": picture.width})
        for each in picture.instances:
            row = {"image_id": number, "category_id": images.raw.class_of[each.category], "bbox": list(each.box)}
            row |= {"area": each.area, "iscrowd": int(each.crowd)}
            instances.append(
                row | ({"segmentation": run_lengths(each.segmentation, picture)} if each.segmentation else {})
            )
    return pictures, instances


def decoded(images: Images, rows: list[Row]) -> list[int]:
    """The numbers of the pictures that detections were looked for in. Raises ValueError where there is none."""
    numbers = sorted(row["image_id"] for row in rows if "score" not in row)
    if not numbers:
        raise ValueError(f"none of the {images.samples} pictures of {images.name} can be decoded")
    return numbers


def compare(images: Images, rows: list[Row], kinds: tuple[str, ...]) -> dict[str, Matches]:
    """What became of the detections of all processes, for boxes and for masks."""
    numbers = decoded(images, rows)
    order = {number: place for place, number in enumerate(numbers)}
    detections = sorted((row for row in rows if "score" in row), key=lambda row: order[row["image_id"]])
    pictures, instances = truth_of(images, numbers)
    return {kind: matches_of(pictures, instances, detections, len(images.classes), kind) for kind in kinds}


@torch.no_grad()
def shown(method: Detect, gallery: DetectGallery, count: int, world: World) -> Iterator[dict[str, Any]]:
    """Of `count` pictures, evenly spaced: image (H, W, 3) in [0, 1], what is in it (boxes (N, 4), labels (N,), masks
    (N, H, W) or None), and what is found with a score of a half or more (found_boxes, found_labels, found_scores,
    found_masks)."""
    numbers = evenly(gallery.images.samples, count)
    samples = gallery.samples()
    for number in numbers:
        sample = samples[Key(0, number)]
        if "image" not in sample:
            continue
        picture, things = gallery.images.raw[number]
        found = method.found(gallery.ready(sample, world.device), (picture.height, picture.width))
        sure = found["scores"] >= SHOWN
        told = {f"found_{name}": x[sure].cpu().numpy() for name, x in found.items()}
        about = {"boxes": things.boxes, "labels": things.labels, "masks": things.masks, "found_masks": None}
        yield {"image": np.asarray(picture) / 255, **about, **told}
