"""A linear classifier for a network that has none, kept beside the run that needed it.

Where there is no run yet, the classifier is trained on frozen features (see a2mim.evaluate.linear) and written into the
run's folder; an interrupted run that goes on, or another process of it, reads that file. Features are standardised for
training, and the standardisation becomes a part of the classifier: W (x - mean) / deviation + b = W' x + b'.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from a2mim.data import make_gallery, open_images
from a2mim.dist import World
from a2mim.evaluate.accuracy import check_targets, pooled_features
from a2mim.evaluate.linear import Probe, fit_best, score
from a2mim.runs import write_atomically
from a2mim.settings import Data
from experiments.training import labelled

FILE = "probe.safetensors"


def add_probe(model: nn.Module, data: str, image_size: int, folder: Path, device: torch.device, probe: Probe) -> Any:
    """Give a timm model without a classifier one, fitted to labelled images, in place.

    Args:
        data: labelled training images: a folder, a .tar, or timm's name of a data set.
        image_size: side of the images in pixels.
        folder: of the run, where probe.safetensors is written, or read where it is there.

    Returns:
        What is known of the classifier: data, classes, images, learning rate, held-out and training accuracy.

    Raises:
        ValueError: the model has a classifier, or cannot get one; too few images, or other data than the file's.
    """
    if getattr(model, "num_classes", None) != 0 or not hasattr(model, "forward_head"):
        raise ValueError("--probe is for timm models without a classifier, this one has its own: leave it out")
    file = folder / FILE
    if not file.exists():
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(f"the probe is fitted by one process: start without torchrun until {file} is there")
        write_probe(model, data, image_size, file, device, probe)
    with safe_open(file, framework="pt") as content:
        about = json.loads(content.metadata()["probe"])
        weight_KD, bias_K = content.get_tensor("weight"), content.get_tensor("bias")
    if about["data"] != data:
        raise ValueError(f"{file} was fitted to {about['data']}, not to {data}: name another folder with --out")
    attach(model, weight_KD, bias_K)
    return about


def write_probe(model: Any, data: str, image_size: int, file: Path, device: torch.device, probe: Probe) -> None:
    """Fit the classifier and write it, with what it was fitted to."""
    images = open_images(Data(data=data))
    classes = labelled(images)
    world = World(device=device)
    gallery = make_gallery(images, model, image_size, device)
    x_ND, target_N, _ = pooled_features(model.to(device), gallery, world)
    if len(x_ND) < 20:
        raise ValueError(f"{len(x_ND)} images are too few for a linear probe: it needs at least 20")
    check_targets(target_N, classes)
    mean_D, deviation_D = x_ND.mean(0), x_ND.std(0).clamp(min=1e-6)
    x_ND, target_N = ((x_ND - mean_D) / deviation_D).to(device), target_N.to(device)
    head, lr, held_out = fit_best(x_ND, target_N, classes, probe)
    about = {
        "data": data,
        "images": len(x_ND),
        "classes": images.classes,
        "lr": lr,
        "held_out_top1": held_out,
        "train_top1": score(head, x_ND, target_N)[0],
    }
    weight_KD = head.weight.detach().cpu() / deviation_D
    content = {"weight": weight_KD, "bias": head.bias.detach().cpu() - weight_KD @ mean_D}
    write_atomically(file, lambda beside: save_file(content, beside, metadata={"probe": json.dumps(about)}))


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
