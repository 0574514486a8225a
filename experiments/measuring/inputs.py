"""How images reach the model that is measured: its size, crop and normalisation. Every measuring command shares it.

Imports nothing heavy at the top: `--help` reads this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from a2mim.bounds import Deviation, Mean, Pixels, Range
from figures.runs import data_name, images_of
from figures.words import crop_in_words, spaced

if TYPE_CHECKING:
    from torch import nn

Kept = Annotated[float, Range(0, 1, above=True)]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Input:
    """What is done with an image before the model sees it. Left out: what the model's own data configuration says."""

    image_size: Pixels | None = None
    """Side of the model's input in pixels (left out: what the model asks for)."""
    crop_pct: Kept | None = None
    """Share of the resized image's side that the centre crop keeps (left out: what the model asks for)."""
    interpolation: Interpolation | None = None
    """How an image is resized (left out: what the model asks for)."""
    mean: tuple[Mean, ...] | None = None
    """What is subtracted from each channel of pixels in 0 to 1 (left out: what the model asks for; ImageNet's where a
    factory's model says nothing)."""
    std: tuple[Deviation, ...] | None = None
    """What each channel is then divided by (left out: as for the mean)."""


class Measured(Protocol):
    """What the settings of every measuring command hold."""

    @property
    def model(self) -> str: ...
    @property
    def weights(self) -> str: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def model_args(self) -> tuple[str, ...]: ...
    @property
    def partial(self) -> bool: ...
    @property
    def model_seed(self) -> int: ...
    @property
    def input(self) -> Input: ...


def open_model(settings: Measured) -> "tuple[nn.Module, dict[str, Any]]":
    """The model with its weights, and the data configuration that its images are to have; says which on the terminal.

    Raises:
        ValueError: mean or std of another number of channels than the model's; classes among the model's arguments, or
            other ones than the published weights have; and as `create_model` does.
    """
    from a2mim.plain import pairs
    from experiments.datasets import size_arguments
    from experiments.machine import is_first
    from experiments.models import create_model, named, other_view, tell_adapted, tell_assumed

    arguments = pairs(settings.model_args)
    if "num_classes" in arguments:
        raise ValueError("--model-args num_classes has an option of its own: give --num-classes N")
    model, config = create_model(
        settings.model,
        settings.weights,
        settings.num_classes,
        settings.model_seed,
        settings.partial,
        **{
            **size_arguments(named(settings.model, settings.weights), settings.input.image_size),
            **arguments,
        },
    )
    refuse_new_classifier(settings, model)
    silent = not (getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None))
    config = adjusted(config, settings.input)
    if view := other_view(settings.weights, config):
        config["assumed"] = {**config.get("assumed", {}), **view}
    if is_first():
        assumed = silent and settings.input.mean is None and settings.input.std is None
        told = f"; '{settings.model}' says nothing of its own: are they right? (--mean, --std)" if assumed else ""
        print(f"input: {in_words(description(config))}{told}", flush=True)
    tell_assumed(config.get("assumed", {}), VIEW_OPTIONS)
    tell_adapted(config.get("adapted", ()))
    return model, config


VIEW_OPTIONS = {"pixels": "--mean, --std", "view": "--image-size, --crop-pct, --interpolation"}
"""What may be assumed of images → the options that say it."""


def refuse_new_classifier(settings: Measured, model: "nn.Module") -> None:
    """Raise ValueError where a classifier of another size would take the place of the published one, at random."""
    published = (getattr(model, "pretrained_cfg", None) or {}).get("num_classes")
    if settings.weights == "pretrained" and settings.num_classes and published not in (None, settings.num_classes):
        raise ValueError(
            f"the published weights of '{settings.model}' are of {published} classes, and a classifier of "
            f"{settings.num_classes} would be a random one: leave out --num-classes (folders called by ImageNet's "
            "synsets, or --class-map, say which classes the images are of), or fine-tune the model first"
        )


def adjusted(config: Mapping[str, Any], given: Input) -> dict[str, Any]:
    """A model's data configuration with what was given in its place.

    Raises:
        ValueError: mean or std of another number of channels than the model's.
    """
    config, channels = dict(config), config["input_size"][0]
    if given.image_size is not None:
        config["input_size"] = (channels, given.image_size, given.image_size)
    if given.crop_pct is not None:
        config["crop_pct"] = given.crop_pct
    if given.interpolation is not None:
        config["interpolation"] = given.interpolation
    for name, numbers in (("mean", given.mean), ("std", given.std)):
        if numbers is not None:
            if len(numbers) not in (1, channels):
                raise ValueError(f"--{name} has {len(numbers)} numbers, images have {channels} channels: give 1 or all")
            config[name] = tuple(numbers) * (channels // len(numbers))
    if given.mean is not None and given.std is not None and "assumed" in config:
        config["assumed"] = {what: words for what, words in config["assumed"].items() if what != "pixels"}
    return config


def description(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is done with an image, ready for JSON."""
    height, width = config["input_size"][1:]
    names = ("interpolation", "crop_pct", "crop_mode", "mean", "std")
    resized = floor(min(height, width) / config["crop_pct"])
    plain = {name: list(config[name]) if name in ("mean", "std") else config[name] for name in names}
    assumed = {"assumed": config["assumed"]} if config.get("assumed") else {}
    return {"size": [height, width], "resize": resized, **plain, **assumed}


def assumptions(told: Mapping[str, Any]) -> str:
    """What of a model and of its images nothing told, as sentences for a caption."""
    return " ".join(f"{words[:1].upper()}{words[1:]}." for words in told.get("assumed", {}).values())


def images_in_words(record: Mapping[str, Any]) -> str:
    """How many images of which data a run measured, and how large they are, for a caption."""
    height, width = record["image_shape"][1:]
    return f"Images: {images_of(record)} of {data_name(record)}, {height}×{width} px"


def title(settings: Measured) -> str:
    """The measured model in words."""
    return f"{settings.model} ({', '.join((settings.weights, *settings.model_args))})"


def in_words(told: Mapping[str, Any]) -> str:
    """`description` as one line."""
    height, width = told["size"]
    return (
        f"Resize {told['resize']} {told['interpolation']}, {crop_in_words(told['crop_mode'])} {height}×{width}, "
        f"mean {spaced(told['mean'])}, std {spaced(told['std'])}"
    )
