"""What `a2mim segment` adds to a training run: its backbone, and the tables and pictures of each evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from a2mim.checkpoints import LoadReport
from a2mim.dist import World
from a2mim.export import write_state
from a2mim.runs import write_arrays, write_atomically
from a2mim.segment.evaluate import SceneGallery, count_all, shown
from a2mim.segment.method import Segment
from a2mim.segment.scores import intervals, per_class, summary
from a2mim.settings import Network
from experiments.models import is_factory
from experiments.training.assembly import make_network
from figures.segmentation import draw_segmentation

DYNAMIC = "dynamic_img_size"
"""timm's argument for positions and windows that follow each image."""


def make_backbone(
    network: Network, crop: int | tuple[int, int], seed: int
) -> tuple[nn.Module, dict[str, Any], LoadReport | None]:
    """A timm model without classifier for images of any size, where it can be: a transformer's table of positions is
    resized to the crop when it is loaded (0: it stays as it is), and to other images as timm does when they come.
    Raises as make_network does."""
    if is_factory(network.model):
        return make_network(network, 0, crop, seed)
    try:
        any_size = replace(network, model_args=(f"{DYNAMIC}=True", *network.model_args))
        return make_network(any_size, 0, crop, seed)
    except ValueError as error:  # networks without a table of positions do not know the argument, nor need it
        if DYNAMIC not in str(error):
            raise
        return make_network(network, 0, crop, seed)


def evaluator(
    gallery: SceneGallery,
    classes: Mapping[str, int],
    folder: Path,
    predictions: int,
    world: World,
) -> Callable[[nn.Module], dict[str, float]]:
    """method -> miou, mean_accuracy and pixel_accuracy in percent with their intervals, and val_images.

    The main process writes decoder.safetensors, per_class.csv, counts.npz and predictions.png into the folder.
    """
    names = sorted(classes, key=classes.__getitem__)

    def evaluate(method: nn.Module) -> dict[str, float]:
        assert isinstance(method, Segment)
        counts_N3K, _ = count_all(method, gallery, len(names), world)
        if world.main:
            write_classes(folder / "per_class.csv", names, counts_N3K.sum(0))
            # What the scores and their intervals come from, and differences of runs.
            write_arrays(folder / "counts.npz", {"counts": counts_N3K})
            write_state(folder / "decoder.safetensors", method.decoder.state_dict())
            if predictions:
                rows = list(shown(method, gallery, predictions, world))
                draw_segmentation(rows, names, folder / "predictions.png", title=folder.name)
        found = {name: float(value) for name, value in summary(counts_N3K.sum(0)).items()}
        return {**found, **intervals(counts_N3K), "val_images": len(counts_N3K)}

    return evaluate


def write_classes(path: Path, names: list[str], counts_3K: Any) -> None:
    """IoU and accuracy (percent; empty where the class occurs nowhere) and the share of pixels of each class."""
    iou, accuracy = per_class(counts_3K)
    pixels = counts_3K[1]
    share = 100 * pixels / max(1, pixels.sum())
    table = pd.DataFrame(
        {"class": names, "iou": 100 * iou, "accuracy": 100 * accuracy, "share": share, "pixels": pixels}
    )
    write_atomically(path, lambda beside: table.to_csv(beside, index=False, float_format="%.2f"))
