"""What the commands that evaluate frozen features share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest
from torch import Tensor

from a2mim.backbones import refuse_unfit
from a2mim.data import make_gallery, open_images
from a2mim.dist import World
from a2mim.evaluate.accuracy import pooled_features
from a2mim.evaluate.knn import check_neighbours
from a2mim.plain import to_plain
from a2mim.runs import write_json
from a2mim.versions import versions
from experiments.outputs import claim
from experiments.training import labelled, make_network, open_held_out


@dataclass(frozen=True)
class Features:
    """Of the images that could be decoded: features (N, D), labels (N,), and those that could not."""

    x_ND: Tensor
    target_N: Tensor
    skipped: list[dict[str, Any]]

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Features and labels."""
        return self.x_ND, self.target_N


def both_features(settings: Any, world: World, neighbours: int = 1) -> tuple[Features, Features]:
    """Features of the training and of the validation images.

    neighbours: training images that are needed at least.

    Raises ValueError as its parts do.
    """
    if not settings.out:
        raise ValueError("no file was named for the result: use --out with a name that ends in .json")
    claim([Path(settings.out)])
    data, size = settings.data, settings.image_size
    images = open_images(data)
    labelled(images)
    check_neighbours(neighbours, images.samples)
    held_out = open_held_out(data, images)
    model, _, _ = make_network(settings.network, 0, size, settings.model_seed)
    if not callable(getattr(model, "forward_head", None)):
        raise ValueError(
            f"{type(model).__name__} has no forward_head, timm's verb for pooled features: use a timm model"
        )
    refuse_unfit(model, settings.evaluation.eval_size or size)
    model = model.to(world.device)
    found = []
    for part, each in (("train", images), ("validation", held_out)):
        gallery = make_gallery(each, model, size, world.device, settings.evaluation, workers=data.workers)
        x_ND, target_N, _ = pooled_features(model, gallery, world)
        skipped = [row for rows in world.collect(each.reports.skipped(part)) for row in rows]
        found.append(Features(x_ND, target_N, skipped))
    return found[0], found[1]


def write_result(settings: Any, command: str, result: dict[str, Any], train: Features, test: Features) -> None:
    """The result with everything that it depends on, as JSON, and a line on the terminal; top-1 has Wilson's 95 %
    interval over images, which none and all right have, too."""
    counts = {"train_images": len(train.x_ND), "test_images": len(test.x_ND), "features": train.x_ND.shape[1]}
    record = {**counts, "skipped": [*train.skipped, *test.skipped]}
    path, images = Path(settings.out), len(test.x_ND)
    ends = [100 * end for end in binomtest(round(result["top1"] / 100 * images), images).proportion_ci(method="wilson")]
    interval = {"top1_low": ends[0], "top1_high": ends[1]}
    write_json(
        path,
        {"command": command, **result, **interval, **record, "settings": to_plain(settings), "versions": versions()},
    )
    between = f"[{ends[0]:.2f}, {ends[1]:.2f}]"
    print(f"top-1 {result['top1']:.2f} % {between}, top-5 {result['top5']:.2f} % on {images} images; wrote {path}")
