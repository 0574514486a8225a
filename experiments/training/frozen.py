"""What the commands that evaluate frozen features share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from a2mim.checkpoints.read import split_copy
from a2mim.data import open_images
from a2mim.dist import World
from a2mim.evaluate.accuracy import View, frozen_features, pooled
from a2mim.evaluate.attentive import as_tokens, check_heads
from a2mim.evaluate.fewshot import draw, labels_of
from a2mim.evaluate.knn import check_neighbours
from a2mim.gallery import make_gallery, refuse_shared_stream, shown_by
from a2mim.images import Images, chosen
from a2mim.layouts import Layout, read_layout, refuse_unfit
from a2mim.manifest import summary
from a2mim.plain import to_plain
from a2mim.runs import write_json
from a2mim.versions import versions
from experiments.outputs import claim
from experiments.training.assembly import labelled, make_network, open_held_out, own_size
from interactions.occluded import wilson


@dataclass(frozen=True)
class Features:
    """Of the images that could be decoded: what was asked for of each (N, ...), labels (N,), their numbers (N,), and
    those images that could not be."""

    views_N: list[Tensor]
    target_N: Tensor
    index_N: Tensor
    skipped: list[dict[str, Any]]

    @property
    def x_ND(self) -> Tensor:
        """What the network hands to its classifier."""
        return self.views_N[0]

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Features and labels."""
        return self.x_ND, self.target_N

    def only(self, numbers: np.ndarray) -> Features:
        """Those of the images with these numbers that could be decoded."""
        rows = torch.isin(self.index_N, torch.from_numpy(numbers)).nonzero()[:, 0]
        views_N = [x_N if len(rows) == len(x_N) else x_N[rows] for x_N in self.views_N]
        return replace(self, views_N=views_N, target_N=self.target_N[rows], index_N=self.index_N[rows])


@dataclass(frozen=True)
class Few:
    """How many of the labelled images a classifier may see: a share of each class, or so many of each (0: that share),
    drawn by each seed."""

    share: float
    per_class: int
    seeds: Sequence[int]

    @property
    def all(self) -> bool:
        return self.share == 1 and not self.per_class

    def draws(self, images: Images) -> tuple[Images, list[np.ndarray]]:
        """The images that any seed has drawn, and their numbers among these for each seed. Raises as `draw` does."""
        if self.all:
            return images, [np.arange(images.samples)] * len(self.seeds)
        labels_N = labels_of(images)
        by_label = {label: name for name, label in images.classes.items()}
        names = [by_label.get(label, str(label)) for label in range(int(labels_N.max()) + 1)]
        drawn = [draw(labels_N, names, self.share, self.per_class, seed) for seed in self.seeds]
        union = np.unique(np.concatenate(drawn))
        return chosen(images, union.tolist()), [np.searchsorted(union, each) for each in drawn]


EVERY = Few(1.0, 0, (0,))


def both_features(
    settings: Any, world: World, neighbours: int = 1, few: Few = EVERY, tokens: bool = False
) -> tuple[list[Features], Features, dict[str, Any]]:
    """Features of the training images, for each seed of `few`, and of the validation images; and for the record, which
    weights were loaded (None: no file's) and what is done with an image.

    neighbours: training images that are needed at least.
    tokens: also what comes before pooling, as the second view of each image (L, D).

    Raises ValueError as its parts do.
    """
    data, size = settings.data, settings.image_size
    images = open_images(data, once=True)
    labelled(images)
    check_neighbours(neighbours, images.samples)
    held_out = open_held_out(data, images)
    images, drawn = few.draws(images)
    model, _, report = make_network(settings.network, 0, size, settings.model_seed)
    if not callable(getattr(model, "forward_head", None)):
        raise ValueError(
            f"{type(model).__name__} has no forward_head, timm's verb for pooled features: use a timm model"
        )
    shown = settings.evaluation.eval_size or size
    refuse_unfit(model, shown)
    views: list[View] = [pooled]
    if tokens:
        layout = read_layout(model, shown)
        check_heads(layout.channels, settings.heads)
        refuse_too_many(layout, images.samples + held_out.samples)
        views.append(partial(as_tokens, layout))
    model = model.to(world.device)
    train = features_of(model, images, "train", settings, world, views)
    test = features_of(model, held_out, "validation", settings, world, views)
    made = {
        "loaded": report and asdict(report),
        "transform": shown_by(model, size, settings.evaluation),
        "data": summary({"train": images.rows(), "validation": held_out.rows()}),
    }
    # Of a stream the numbers are places, which reach beyond its images where workers read unequal shares.
    return [train if few.all else train.only(each) for each in drawn], test, made


def sized(settings: Any) -> Any:
    """The settings with the size of the images: the one given, or the weights' own. Raises as `claim_result` does,
    before anything is read, and as `own_size`."""
    claim_result(settings)
    return replace(settings, image_size=settings.image_size or own_size(settings.network) or 224)


def claim_result(settings: Any) -> None:
    """Raise ValueError where the result has no name of its own: none at all, that of what is read, another suffix."""
    if not settings.out:
        raise ValueError("no file was named for the result: use --out with a name that ends in .json")
    out, data = Path(settings.out), settings.data
    read = [Path(place) for place in (data.data, data.val) if place]
    claim([out], [split_copy(settings.network.weights)[0], *read])
    if out.suffix != ".json":
        raise ValueError(f"cannot write the result to {out.name!r}: end its name in .json")


def features_of(
    model: nn.Module, images: Images, part: str, settings: Any, world: World, views: Sequence[View]
) -> Features:
    """Of all images of a part of the data."""
    data, size = settings.data, settings.image_size
    how = {"workers": data.workers, "in_memory": data.in_memory}
    refuse_shared_stream(images, world)
    gallery = make_gallery(images, model, size, world.device, settings.evaluation, **how)
    found, target_N, index_N = frozen_features(model, gallery, world, views)
    skipped = [row for rows in world.collect(images.reports.skipped(part)) for row in rows]
    return Features(found, target_N, index_N, skipped)


def refuse_too_many(layout: Layout, images: int) -> None:
    """Raise ValueError where the tokens of so many images do not fit into the memory of this machine."""
    height, width = layout.grid
    needed = 4 * images * (height * width + layout.prefix) * layout.channels
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(
            f"the tokens of {images:,} images take {needed / 1e9:,.0f} GB of memory, and there are {there / 1e9:,.0f}: "
            "use fewer images (--limit, --labels, --per-class) or smaller ones (--image-size)"
        )


def write_result(settings: Any, command: str, result: dict[str, Any], train: Features, test: Features) -> None:
    """The result with everything that it depends on, as JSON, and a line on the terminal."""
    images = len(test.target_N)
    interval = wilson_interval(result["top1"], images)
    write_record(settings, command, {**result, **interval}, train, test)
    between = f"[{interval['top1_low']:.2f}, {interval['top1_high']:.2f}]"
    top5 = f"top-5 {result['top5']:.2f} %"
    print(f"top-1 {result['top1']:.2f} % {between}, {top5} on {images} images; wrote {settings.out}")


def write_record(settings: Any, command: str, result: dict[str, Any], train: Features, test: Features) -> None:
    """The result with everything that it depends on, as JSON."""
    counts = {
        "train_images": len(train.target_N),
        "test_images": len(test.target_N),
        "features": train.x_ND.shape[1],
        "skipped": [*train.skipped, *test.skipped],
    }
    content = {"command": command, **result, **counts, "settings": to_plain(settings), "versions": versions()}
    write_json(Path(settings.out), content)


def wilson_interval(percent: float, images: int) -> dict[str, float]:
    """Wilson's 95 % interval over images of a top-1 accuracy, which none and all right have, too."""
    low, high = wilson(np.array(percent / 100), np.array(images))
    return {"top1_low": 100 * float(low), "top1_high": 100 * float(high)}
