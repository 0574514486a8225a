"""A linear classifier for a network that has none, kept beside the run that needed it.

Where there is no run yet, the classifier is trained on frozen features (see a2mim.evaluate.linear) and written into the
folder when the run begins; an interrupted run that goes on, or another process of it, reads that file. Features are
standardised for training, and the standardisation becomes a part of the classifier:
W (x - mean) / deviation + b = W' x + b'.

Its images are shown as those that are measured: on pixels of another crop or normalisation it would be a classifier of
other features.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from a2mim.bounds import complaint
from a2mim.checkpoints.archive import check_file
from a2mim.data import open_images
from a2mim.dist import World
from a2mim.evaluate.accuracy import check_targets, pooled_features
from a2mim.evaluate.linear import Probe, fit_best, moments, score
from a2mim.export import save
from a2mim.gallery import Gallery, normalisation
from a2mim.plain import printable
from a2mim.runs import write_atomically
from a2mim.settings import Data
from experiments.datasets import evaluation_transform
from experiments.measuring.inputs import description
from experiments.training.assembly import labelled
from interactions.fingerprint import model_digest, structure_digest

FILE = "probe.safetensors"


class About(TypedDict):
    """What a classifier's file says of it."""

    data: str
    images: int
    classes: dict[str, int]
    held_out_top1: dict[str, float]
    settings: NotRequired[dict[str, Any]]


Kept = tuple[dict[str, Any], dict[str, Tensor]]


def add_probe(
    model: nn.Module, data: str, config: Mapping[str, Any], folder: Path, device: torch.device, probe: Probe
) -> tuple[Any, Callable[[Path], None]]:
    """Give a timm model without a classifier one, fitted to labelled images, in place.

    A classifier that is kept in the folder is taken if it was fitted to the same features in the same way; one of
    something else is fitted again where there is no run yet, since it is of a command that did not begin one.

    Args:
        data: labelled training images: a folder, a .tar, or timm's name of a data set.
        config: how an image is shown to the model in the measurement (`open_model`), and so here.
        folder: of the run.

    Returns:
        What is known of the classifier: data, classes, images, learning rate, held-out and training accuracy. And what
        writes it into the run's folder, when the run begins.

    Raises:
        ValueError: the model has a classifier, or cannot get one; too few images, or the run there has another one.
    """
    if getattr(model, "num_classes", None) != 0 or not hasattr(model, "forward_head"):
        raise ValueError("--probe is for timm models without a classifier, this one has its own: leave it out")
    network = {"weights": model_digest(model), "structure": structure_digest(model)}
    settings = json.loads(json.dumps({**network, "data": data, **pixels_of(config), **asdict(probe)}))
    kept = read_probe(folder / FILE)
    if kept and (differ := told(settings_of(kept[0], settings, model), settings)):
        if (folder / "run.json").exists():
            raise ValueError(f"{folder / FILE} was fitted to {differ}: name another folder with --out")
        print(f"note: {folder / FILE} was fitted to {differ}, and is fitted again", file=sys.stderr)
        kept = None
    if kept is None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(f"the probe is fitted by one process: start without torchrun until {folder / FILE} is there")
    about, content = kept or fit_probe(model, data, config, device, probe)
    about = {**about, "settings": settings}
    attach(model, content["weight"], content["bias"])
    metadata = {"probe": json.dumps(about)}

    def write(to: Path) -> None:
        if kept is None or to != folder:
            write_atomically(to / FILE, lambda beside: save(content, beside, metadata))

    return about, write


def read_probe(file: Path) -> Kept | None:
    """What a classifier was fitted to, and its weights; None where there is none.

    Raises:
        ValueError: a file that is not what `add_probe` writes.
    """
    if not file.exists():
        return None
    try:
        check_file(file)
        with safe_open(file, framework="pt") as content:
            about = json.loads(content.metadata()["probe"])
            tensors = {name: content.get_tensor(name) for name in ("weight", "bias")}
        if wrong := complaint(about, About):
            raise ValueError(wrong)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({printable(str(error))}): remove it, and it is fitted again") from error
    if tensors["weight"].ndim != 2 or tensors["bias"].shape != tensors["weight"].shape[:1]:
        raise ValueError(f"{file} holds no linear classifier: remove it, and it is fitted again")
    return about, tensors


def pixels_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is done with an image, as far as its pixels depend on it."""
    shown = description(config)
    names = ("interpolation", "crop_pct", "crop_mode", "mean", "std")
    return {"image_size": shown["size"], **{name: shown[name] for name in names}}


def settings_of(about: dict[str, Any], settings: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """What a classifier was fitted with. One from before pixels were written down saw the usual crop, normalised as the
    model says, whatever was measured, and knows no structure; one from before settings were knows its data alone."""
    there = {"structure": settings["structure"], **about.get("settings", {**settings, "data": about["data"]})}
    if "settings" in about and "crop_pct" in there:
        return there
    (mean, std), size = normalisation(model), there["image_size"]
    before = {"interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center", "mean": [*mean], "std": [*std]}
    return {**there, "image_size": size if isinstance(size, list) else [size, size], **before}


def told(there: dict[str, Any], settings: dict[str, Any]) -> str:
    """What differs between the settings of a classifier and others."""
    differ = [name for name in settings if there.get(name) != settings[name]]
    return "; ".join(f"{name} {there.get(name, 'unknown')}, not {settings[name]}" for name in differ)


def fit_probe(model: Any, data: str, config: Mapping[str, Any], device: torch.device, probe: Probe) -> Kept:
    """The classifier, and what is known of it."""
    images = open_images(Data(data=data), flag="")
    classes = labelled(images)
    world = World(device=device)
    gallery = Gallery(images, config["input_size"][-1], (), (), shown=evaluation_transform(config))
    x_ND, target_N, _ = pooled_features(model.to(device), gallery, world)
    if len(x_ND) < 20:
        raise ValueError(f"{len(x_ND)} images are too few for a linear probe: it needs at least 20")
    check_targets(target_N, classes)
    mean_D, deviation_D = moments(x_ND)
    x_ND, target_N = ((x_ND - mean_D) / deviation_D).to(device), target_N.to(device)
    head, lr, held_out = fit_best(x_ND, target_N, classes, probe)
    about = {
        "data": data,
        "images": len(x_ND),
        "skipped": images.reports.skipped(),
        "classes": images.classes,
        "lr": lr,
        "held_out_top1": held_out,
        "train_top1": score(head, x_ND, target_N)[0],
    }
    weight_KD = head.weight.detach().cpu() / deviation_D
    return about, {"weight": weight_KD, "bias": head.bias.detach().cpu() - weight_KD @ mean_D}


def attach(model: Any, weight_KD: Tensor, bias_K: Tensor) -> None:
    """Make the linear layer the model's classifier. Raises ValueError where it takes none of that kind."""
    model.reset_classifier(len(bias_K))
    classifier = model.get_classifier()
    if not isinstance(classifier, nn.Linear) or classifier.weight.shape != weight_KD.shape:
        raise ValueError(
            f"{type(model).__name__} takes no linear classifier on {weight_KD.shape[1]} features: use --value cosine"
        )
    with torch.no_grad():
        classifier.weight.copy_(weight_KD)
        classifier.bias.copy_(bias_K)
