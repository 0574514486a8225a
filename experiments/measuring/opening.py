"""What is opened before it is measured: the model, of a profile with its classifier, and images as it takes them."""

import os
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from interactions.published import PUBLISHED, changed_from_published, protocol_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from experiments.commands.profile import Settings
    from experiments.datasets import ImageData
    from interactions.baselines import Normalisation
    from interactions.profile import Profile

M = TypeVar("M")


def with_own_functions(measure: "M") -> "M":
    """Settings whose value and baseline, where they are written module:function, are known by name and source.

    Raises:
        ValueError: a module that cannot be imported, or what is no function in it.
    """
    from experiments.models import find_factory
    from interactions.own import KNOWN, named

    given: Any = measure
    words = {kind: getattr(given, kind) for kind in KNOWN if hasattr(given, kind)}
    own = {kind: named(kind, find_factory(word, kind)) for kind, word in words.items() if ":" in word}
    return replace(given, **own)


@dataclass(frozen=True)
class Opened:
    """A model on its device, the images as it takes them, and how they are made."""

    model: "nn.Module"
    data: "ImageData"
    config: "Mapping[str, Any]"
    accompany: Any = None

    @property
    def normalisation(self) -> "Normalisation":
        from interactions.baselines import Normalisation

        return Normalisation(tuple(self.config["mean"]), tuple(self.config["std"]))

    def arguments(self) -> dict[str, Any]:
        """Those of `profile_model` that are the model's."""
        from experiments.measuring.inputs import description

        own = {"normalisation": self.normalisation, "accompany": self.accompany}
        return {"transform": description(self.config), **own}

    def adapted(self) -> dict[str, Any]:
        """What of the weights was resized to fit, for a record; nothing where nothing was."""
        return {"adapted": self.config["adapted"]} if "adapted" in self.config else {}

    def of_run(self, settings: Any) -> dict[str, Any]:
        """Arguments of every measurement that takes a folder: where it lies, and what is measured is called."""
        from experiments.machine import commit
        from experiments.measuring.inputs import description, title

        return {
            "out": settings.out,
            "names": self.data.names,
            "model_name": title(settings),
            "data_name": settings.data,
            "transform": description(self.config),
            "about": {"commit": commit(), **self.adapted()},
            "dry_run": settings.dry_run,
        }


def images_of(settings: Any, config: "Mapping[str, Any]", **how: Any) -> "ImageData":
    """The images that settings name, as the model takes them. Raises as `open_images` and `refuse_among` do."""
    from experiments.datasets import evaluation_transform, open_images

    place = {"root": settings.data_root, "split": settings.split, "channels": config["input_size"][0]}
    data = open_images(settings.data, evaluation_transform(config), **place, **how)
    data.images.refuse_among(settings.out)
    return data


def open_all(settings: "Settings") -> Opened:
    """The model with its classifier, and its images.

    Raises:
        ValueError: a classifier or labels that are needed and not there; and as what opens models and images does.
    """
    from experiments.datasets import known_classes
    from experiments.machine import is_first, pick_device
    from experiments.measuring.inputs import description, open_model

    model, config = open_model(settings)
    device = pick_device(own_device(settings.device))
    accompany, known = None, None
    if settings.probe:
        accompany, known = probe(settings, model, config, device)
    else:
        check_classifier(settings, model)
        known = known_classes(model, settings.weights)
    needed = settings.measure.needs_labels
    classes = getattr(model, "num_classes", settings.num_classes)  # of an own model what was typed
    labels = {"class_map": settings.class_map, "model_classes": classes, "known": known, "labels_needed": needed}
    data = images_of(settings, config, **labels)
    if needed and not data.labelled:
        raise ValueError(
            f"the images in '{settings.data}' have no labels, since they lie in no class folders: put those of each "
            "class into its own folder, or explain the model's own class (--target predicted, without --only-correct)"
        )
    if is_first():
        warn_about_cells(settings.measure.grid, config["input_size"][1:])
        if settings.measure.target == "label":
            warn_about_labels(model, data, "--class-map FILE, --target predicted")
        if settings.measure.design == PUBLISHED:
            asked = (settings.measure, settings.measure.images, config["mean"], config["std"], description(config))
            print(protocol_in_words(changed_from_published(*asked)), flush=True)
    return Opened(model.to(device), data, config, accompany)


def measured_settings(settings: "Settings", data: "ImageData") -> dict[str, Any]:
    """The fields of ProfileSettings and who reads, for images that can be read in any order or only as they come."""
    measure, workers = asdict(settings.measure), 0 if data.streamed else settings.num_workers
    return measure | {"shuffle": measure["shuffle"] and not data.streamed, "num_workers": workers}


def profiled(settings: "Settings") -> "Profile":
    """The profile of one model: measured, gone on with, or read where it is finished. Raises as `open_all` and
    `profile_model` do."""
    from interactions.profile import profile_model

    opened = open_all(settings)
    return profile_model(
        opened.model,
        opened.data,
        normalisation=opened.normalisation,
        accompany=opened.accompany,
        **opened.of_run(settings),
        **measured_settings(settings, opened.data),
    )


def probe(
    settings: "Settings", model: "nn.Module", config: "dict[str, Any]", device: "torch.device"
) -> "tuple[Any, dict[str, int]]":
    """Give the model its linear classifier, and say how good it is; returns what writes it into the run's folder, and
    its classes."""
    from a2mim.evaluate.linear import Probe
    from experiments.measuring.probe import add_probe

    about, write = add_probe(model, settings.probe, config, settings.out, device, Probe(epochs=settings.probe_epochs))
    held_out = max(about["held_out_top1"].values())
    print(
        f"probe: {len(about['classes'])} classes from {about['images']} images, {held_out:.1f} % right on held-out ones"
    )
    return write, about["classes"]


def check_classifier(settings: "Settings", model: "nn.Module") -> None:
    """Raise ValueError where the value, or the choice of images, needs a classifier and the model has none."""
    if getattr(model, "num_classes", None) != 0:
        return
    if settings.measure.value != "cosine":
        raise ValueError(
            f"'{settings.weights}' has no classifier, which --value {settings.measure.value} needs: "
            "use --value cosine, or --probe with labelled images"
        )
    if settings.measure.only_correct:
        raise ValueError(
            f"'{settings.weights}' has no classifier, which --only-correct needs: leave it out, or --probe with "
            "labelled images"
        )


def warn_about_cells(grid: "int | str", size: "Sequence[int]") -> None:
    """Say so where cells differ in size: their interactions do, too."""
    if isinstance(grid, int) and any(side % grid for side in size):
        sides = sorted({pixels for side in size for pixels in (side // grid, -(-side // grid))})
        told = " and ".join(map(str, sides))
        print(
            f"note: {grid} cells do not divide {'×'.join(map(str, size))} px: their sides are {told}", file=sys.stderr
        )


def warn_about_labels(model: "nn.Module", data: "ImageData", ways: str) -> None:
    """Say so where labels and classes can hardly mean the same; `ways` out of it."""
    classes = getattr(model, "num_classes", None)
    if classes and data.classes and data.classes < classes:
        print(
            f"note: the labels count {data.classes} classes, the model {classes}; is label k the model's class k? "
            f"({ways})",
            file=sys.stderr,
        )


def own_device(name: str) -> str:
    """The device of this process: torchrun gives every process on a machine a number of its own."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is None or name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    return f"cuda:{local}"
