"""What the training commands share: from settings to a network, a method and images (running.py then trains)."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from a2mim.bounds import check
from a2mim.checkpoints import Checkpoint, LoadReport, load_into, read
from a2mim.checkpoints.load import classifier_prefixes
from a2mim.checkpoints.read import split_copy
from a2mim.course import FOLDER as COURSE
from a2mim.data import Source, make_source, open_images
from a2mim.dist import World
from a2mim.gallery import Gallery, make_gallery, refuse_shared_stream
from a2mim.images import Files, Images
from a2mim.layouts import refuse_unfit
from a2mim.methods import METHODS, Method
from a2mim.plain import before, pairs
from a2mim.runs import read_run
from a2mim.settings import Augmentation, Data, Evaluation, Network
from a2mim.trees import listed
from experiments.datasets import size_arguments
from experiments.machine import is_first
from experiments.models import create_model, did_you_mean, find_factory, fitted, tell_assumed, unsaid, weights_file

# ------------------------------------------------------------------------------------------- network and method


def make_network(
    network: Network, classes: int, image_size: int | tuple[int, int], seed: int
) -> tuple[nn.Module, dict[str, Any], LoadReport | None]:
    """A timm model with its weights and a fresh classifier of `classes` outputs (0: none), for square images of that
    side, or of that height and width.

    Returns the model, what timm.create_model was given ({"architecture": name, **arguments}), and what was loaded from
    a file (None: none was); what of that is assumed is said on the terminal, too. Raises ValueError for unknown names,
    weights that do not fit, and a network that does not take colours, FileNotFoundError.
    """
    file = weights_file(network.weights)
    checkpoint = read(file, network.model) if file else None
    name, stored, assumed = fitted(network.model, checkpoint) if checkpoint else (network.model, {}, {})
    if not name:
        raise ValueError("no network was named: use --model with the name of a timm model, such as resnet50")
    arguments = {
        **{key: value for key, value in stored.items() if key != "num_classes"},
        **size_arguments(name, image_size),
        **pairs(network.model_args),
    }
    if (channels := arguments.get("in_chans", 3)) != 3:
        raise ValueError(f"training reads three channels and the network takes {channels!r}: leave in_chans out")
    source = network.weights if file is None else "random"
    model, _ = create_model(name, source, 0 if file else classes, seed, **arguments)
    report = load_backbone(model, checkpoint, network.partial) if checkpoint else None
    if is_first() and (own := own_size(network, stored)) and isinstance(image_size, int) and own != image_size:
        print(f"note: the weights are of images of {own} px, and these have {image_size} (--image-size)", flush=True)
    if report is not None:
        if is_first() and not report.complete:
            print(f"note: of {network.weights} {report.loaded} keys were loaded, {report.differences}", flush=True)
        report = dataclasses.replace(report, assumed=unsaid({**report.assumed, **assumed}, pairs(network.model_args)))
        tell_assumed(report.assumed)
    if file and classes:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.reset_classifier(classes)  # type: ignore[operator]
    return model, {"architecture": name, "num_classes": classes, **arguments}, report


def own_size(network: Network, stored: Mapping[str, Any] | None = None) -> int | None:
    """Side of the square images that weights were trained on: by the record of a run, by the size that a file says is
    built into its network, or as timm's published weights say; None where nothing tells.

    stored: what `fitted` says of the file, where that was asked; else it is read for that.
    """
    size = None
    if run := run_of(network.weights):
        size = read_run(run)["settings"].get("augment", {}).get("image_size")
    if size is None and (file := weights_file(network.weights)):
        stored = fitted(network.model, read(file, network.model))[1] if stored is None else stored
        size = stored.get("img_size")
    elif (
        size is None
        and network.weights == "pretrained"
        and (known := timm.get_pretrained_cfg(network.model, allow_unregistered=True))
    ):
        size = known.input_size[-1]
    return size if isinstance(size, int) else None


def run_of(weights: str) -> Path | None:
    """The folder of the run that weights are, or that exported their file; None for any others."""
    path = split_copy(weights)[0]
    own = path.name.startswith("backbone") and path.suffix == ".safetensors"
    folder = path.parent.parent if path.parent.name == COURSE else path.parent if own else path
    return folder if (folder / "run.json").is_file() else None


def load_backbone(model: nn.Module, checkpoint: Checkpoint, partial: bool) -> LoadReport:
    """Load all of a checkpoint but its classifier, strictly unless `partial`."""
    classifier = classifier_prefixes(model)
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(classifier)}
    return load_into(model, dataclasses.replace(checkpoint, tensors=kept), partial)


def with_overwritten(
    report: LoadReport, loaded: Mapping[str, torch.Tensor], model: nn.Module, method: str
) -> LoadReport:
    """The report with what of the weights that were loaded a method has overwritten since, as MAE does with positions;
    says so on the terminal, too."""
    now = model.state_dict()
    lost = [name for name, x in loaded.items() if name in now and not torch.equal(x, now[name])]
    if not lost:
        return report
    words = f"{method} has overwritten what was loaded of {', '.join(lost)} (its settings say whether: --set)"
    print(f"note: {words}", flush=True)
    return dataclasses.replace(report, adapted=(*report.adapted, words))


def make_method(
    name: str,
    backbone: nn.Module,
    given: dict[str, Any],
    image_size: int,
    seed: int,
    run: Mapping[str, Any] | None = None,
) -> Method:
    """The method of that name with the settings that `settings_of` finds. Raises as that does."""
    settings = settings_of(name, given, image_size, run)
    torch.manual_seed(seed)
    return method_class(name)(backbone, settings)


def method_class(name: str) -> Any:
    """The class of a method by its name, or of one's own, module:Class.

    Raises ValueError for an unknown name, a module that cannot be imported, and a class that is no method.
    """
    if ":" not in name:
        if name not in METHODS:
            raise ValueError(f"there is no method '{name}': choose {', '.join(METHODS)}, or your own module:Class")
        return METHODS[name]
    found: Any = find_factory(name, "method")
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"'{name}' is no method: write a class that inherits a2mim.Method")
    if not dataclasses.is_dataclass(getattr(found, "Settings", None)):
        raise ValueError(f"'{name}' has no Settings: give the class a frozen dataclass of that name")
    return found


def settings_of(name: str, given: dict[str, Any], image_size: int, run: Mapping[str, Any] | None = None) -> Any:
    """All settings of the method of that name: the `given` ones, and its defaults.

    run: run.json of the run that goes on; of settings that it does not know yet, what was done then.

    Raises ValueError for names and values that the method does not have.
    """
    kind = method_class(name)
    hints = typing.get_type_hints(kind.Settings)
    if "image_size" in hints:
        given = {"image_size": image_size, **given}
    if run is not None:
        given = {**before(kind.Settings, run.get("method_settings") or ()), **given}
    for key in given:
        if key not in hints:
            near = did_you_mean(key, list(hints)) or f": it has {', '.join(hints)}"
            raise ValueError(f"{name} has no setting '{key}'{near}")
    settings = kind.Settings(**given)
    check(settings, lambda key: f"{key} of {name}")
    return settings


# ------------------------------------------------------------------------------------------- images


def labelled(images: Images) -> int:
    """The number of classes. Raises ValueError for images without labels."""
    if len(images.classes) < 2:
        raise ValueError(f"{images.name} has no labels to learn from: put the images of each class into its own folder")
    check_labels(images)
    return max(images.classes.values()) + 1


def check_labels(images: Images) -> None:
    """Raise ValueError where files have no label."""
    if isinstance(images.raw, Files) and (without := [n for n, label in enumerate(images.raw.labels) if label < 0]):
        raise ValueError(
            f"{len(without):,} images of {images.name} lie beside the class folders and have no label "
            f"({images.reports.name(without[0])}): put them into class folders, or elsewhere"
        )


def open_held_out(data: Data, images: Images) -> Images:
    """The validation images beside the training `images`, with the labels of these.

    Raises ValueError where they have none, and as `open_images` does.
    """
    held_out = open_images(data, train=False, classes=images.classes)
    if not held_out.labelled:
        raise ValueError(
            f"the validation images in {held_out.name} lie in no class folders: put those of each class into a folder "
            f"called as that of the training images ({listed(images.classes)})"
        )
    check_labels(held_out)
    if isinstance(images.raw, Files) and isinstance(held_out.raw, Files) and images.raw.same(held_out.raw):
        raise ValueError(
            f"the validation images in {held_out.name} are the training images in {images.name}, by another name: give "
            "others with --val, or --val-split"
        )
    return held_out


def source_of(
    settings: Any, images: Images, views: tuple[Augmentation, ...], model: nn.Module, classes: int, world: World
) -> Source:
    """The training images, ready for the model."""
    how = {"workers": settings.data.workers, "in_memory": settings.data.in_memory}
    return make_source(images, views, model, world.device, mixing=settings.mixing, classes=classes, **how)


def validation(
    data: Data, images: Images, model: nn.Module, size: int, world: World, evaluation: Evaluation
) -> Gallery:
    """The validation images beside the training `images`, ready for the model. Raises ValueError for a stream that
    several processes would share."""
    held_out = open_held_out(data, images)
    refuse_shared_stream(held_out, world)
    if evaluation.eval_size:
        refuse_unfit(model, evaluation.eval_size)
    return make_gallery(held_out, model, size, world.device, evaluation, workers=data.workers, in_memory=data.in_memory)
