"""Segmentation of whole pictures, at once or by windows, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from a2mim.dist import World
from a2mim.gallery import one_by_one
from a2mim.images import Images, evenly
from a2mim.loading import in_channels_last, normalised
from a2mim.plan import Key
from a2mim.samples import Batch
from a2mim.segment.method import Segment
from a2mim.segment.scores import counts_of
from a2mim.segment.views import SceneSamples, evaluation_view

WINDOWS = 16
"""Windows that the network sees at once."""
TRIED = 4
"""Pictures whose size is tried before training."""


@dataclass(frozen=True)
class SceneGallery:
    """Pictures with annotations to evaluate on, in their own order.

    side: their shorter side in pixels for the network; annotations stay as they are.
    window: height and width of the windows that slide over a picture, None for the picture at once; overlap: share of
        one that the next covers again.
    """

    images: Images
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3
    workers: int = 0

    def pictures(self, world: World, channels_last: bool = False) -> Iterator[Batch]:
        """This process's share (every size-th picture from rank on): image (1, 3, h, w), target (H, W), index."""
        view: Any = evaluation_view(self.side)
        samples = SceneSamples(self.images.raw, [view])
        for batch in one_by_one(samples, self.images, self.workers, world):
            image = normalised(batch["image"][None].to(world.device), self.mean, self.std)
            form = torch.channels_last if channels_last else torch.contiguous_format
            yield {**batch, "image": image.contiguous(memory_format=form), "target": batch["target"].to(world.device)}


@torch.no_grad()
def predicted(method: Segment, image_1CHW: Tensor, size: tuple[int, int], gallery: SceneGallery) -> Tensor:
    """Classes (H, W) of the pixels of an annotation of that size."""
    if gallery.window is None:
        scores = method.logits(image_1CHW)
    else:
        scores = by_windows(method, image_1CHW, gallery.window, gallery.overlap)
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)[0].argmax(0)


def refuse_unfit_whole(method: Segment, gallery: SceneGallery) -> None:
    """Raise ValueError where the network does not run on pictures at once, of the sizes of the first ones: some see
    images of one size alone."""
    if gallery.window is not None:
        return
    first = islice(replace(gallery, workers=0).pictures(World()), TRIED)
    for size in dict.fromkeys((batch["image"].shape[2], batch["image"].shape[3]) for batch in first):
        try:
            method.refuse_unfit(size)
        except ValueError as error:
            raise ValueError(f"{error}, or evaluate by windows of the crop's size with --evaluate slide") from error


def by_windows(method: Segment, image_1CHW: Tensor, window: tuple[int, int], overlap: float) -> Tensor:
    """Scores (1, K, H, W): the mean over the windows that see a pixel; a smaller picture is filled up with zeros."""
    height, width = image_1CHW.shape[2:]
    image_1CHW = F.pad(image_1CHW, (0, max(0, window[1] - width), 0, max(0, window[0] - height)))
    corners = [
        (top, left)
        for top in starts(image_1CHW.shape[2], window[0], overlap)
        for left in starts(image_1CHW.shape[3], window[1], overlap)
    ]
    cuts = [image_1CHW[..., top : top + window[0], left : left + window[1]] for top, left in corners]
    parts = [method.logits(torch.cat(cuts[n : n + WINDOWS])) for n in range(0, len(cuts), WINDOWS)]
    total = parts[0].new_zeros(1, parts[0].shape[1], *image_1CHW.shape[2:])
    times = parts[0].new_zeros(1, 1, *image_1CHW.shape[2:])
    for (top, left), scores in zip(corners, torch.cat(parts), strict=True):
        place = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        total[place] += scores
        times[place] += 1
    return (total / times)[..., :height, :width]


def starts(length: int, window: int, overlap: float) -> Sequence[int]:
    """Where windows begin that cover all of a length, the last one at its end."""
    stride = max(1, round(window * (1 - overlap)))
    return [min(n * stride, length - window) for n in range(max(0, -(-(length - window) // stride)) + 1)]


def count_all(method: Segment, gallery: SceneGallery, classes: int, world: World) -> tuple[np.ndarray, np.ndarray]:
    """The counts (N, 3, K) of every picture that can be decoded, and its number (N,), the same on every process.

    Leaves the method in evaluation mode. Raises ValueError where no picture is left.
    """
    method.eval()
    see = partial(predicted, method, gallery=gallery)
    rows, numbers = [], []
    for batch in gallery.pictures(world, in_channels_last(method)):
        target_HW = batch["target"]
        found = see(batch["image"], tuple(target_HW.shape))
        rows.append(counts_of(found, target_HW, classes).cpu())
        numbers.append(int(batch["index"]))
    counts = world.gather(torch.stack(rows) if rows else torch.zeros(0))
    index_N = world.gather(torch.tensor(numbers, dtype=torch.int64))
    if not len(index_N):
        raise ValueError(f"none of the {gallery.images.samples} pictures of {gallery.images.name} can be decoded")
    order_N = index_N.argsort()
    return counts[order_N].numpy(), index_N[order_N].numpy()


@torch.no_grad()
def shown(method: Segment, gallery: SceneGallery, count: int, world: World) -> Iterator[dict[str, np.ndarray]]:
    """image (H, W, 3) in [0, 1], target (H, W) and predicted (H, W) of `count` pictures, evenly spaced."""
    numbers = evenly(gallery.images.samples, count)
    view: Any = evaluation_view(gallery.side)
    samples = SceneSamples(gallery.images.raw, [view])
    for number in numbers:
        sample = samples[Key(0, number)]
        if "image" not in sample:
            continue
        image = normalised(sample["image"][None].to(world.device), gallery.mean, gallery.std)
        target_HW = sample["target"].numpy()
        found = predicted(method, image, target_HW.shape, gallery)
        pixels = F.interpolate(sample["image"][None].float(), target_HW.shape, mode="bilinear", align_corners=False)
        yield {
            "image": (pixels[0] / 255).permute(1, 2, 0).numpy(),
            "target": target_HW,
            "predicted": found.cpu().numpy(),
        }
