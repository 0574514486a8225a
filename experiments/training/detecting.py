"""What `a2mim detect` adds to a training run: the tables and pictures of each evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from a2mim.detect.evaluate import DetectGallery, compare, decoded, detect_all, shown
from a2mim.detect.method import Detect
from a2mim.detect.scores import Matches, intervals, precisions, summary
from a2mim.dist import World
from a2mim.export import write_state
from a2mim.images import Images
from a2mim.runs import write_arrays, write_atomically, write_text
from figures.detection import draw_detection


def evaluator(
    gallery: DetectGallery, folder: Path, predictions: int, world: World
) -> Callable[[nn.Module], dict[str, float]]:
    """method -> box_ap and so on in percent with their intervals (of a Mask R-CNN mask_ap and so on, too), and
    val_images.

    The main process writes detector.safetensors, per_class.csv, matches.npz, detections.json and predictions.png into
    the folder.
    """
    images = gallery.images

    def evaluate(method: nn.Module) -> dict[str, float]:
        assert isinstance(method, Detect)
        rows = [row for each in world.collect(detect_all(method, gallery, world)) for row in each]
        found: dict[str, float] = {"val_images": len(decoded(images, rows))}
        if world.main:
            matches = compare(images, rows, ("box", "mask") if method.masks else ("box",))
            for kind, each in matches.items():
                found |= {**summary(each, kind), **intervals(each, kind)}
            write_results(folder, images, matches, rows)
            beside = {name: x for name, x in method.state_dict().items() if not name.startswith("backbone.")}
            write_state(folder / "detector.safetensors", beside)
            if predictions:
                pictures = list(shown(method, gallery, predictions, world))
                draw_detection(pictures, list(images.classes), folder / "predictions.png", title=folder.name)
        return world.collect(found)[0]

    return evaluate


def write_results(folder: Path, images: Images, matches: Mapping[str, Matches], rows: list[dict[str, Any]]) -> None:
    """per_class.csv, matches.npz, from which scores, intervals and differences come, and detections.json."""
    table = per_class(list(images.classes), matches)
    write_atomically(folder / "per_class.csv", lambda beside: table.to_csv(beside, index=False, float_format="%.2f"))
    arrays = {f"{kind}_{name}": x for kind, each in matches.items() for name, x in each.arrays().items()}
    write_arrays(folder / "matches.npz", arrays)
    write_text(folder / "detections.json", json.dumps(as_coco(images, rows)))


def as_coco(images: Images, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The detections in COCO's format for results, with the numbers of pictures and categories of its file."""
    category_of = {label: category for category, label in images.raw.class_of.items()}
    identity_of = {row["image_id"]: images.raw.pictured(row["image_id"]).identity for row in rows}
    return [
        {**row, "image_id": identity_of[row["image_id"]], "category_id": category_of[row["category_id"]]}
        for row in rows
        if "score" in row
    ]


def per_class(names: list[str], matches: Mapping[str, Matches]) -> pd.DataFrame:
    """Instances (without crowds) of each class and its average precisions in percent, empty without an instance."""
    table = pd.DataFrame({"class": names, "instances": next(iter(matches.values())).there[0].sum(1)})
    for kind, each in matches.items():
        found_TK = 100 * precisions(each)[0]
        table[f"{kind}_ap"], table[f"{kind}_ap50"] = found_TK.mean(0), found_TK[0]
    return table
