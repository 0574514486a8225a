"""What the training commands share: from settings to a network, images and a run in its folder."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from a2mim.bounds import check
from a2mim.checkpoints import LoadReport, load_into, read
from a2mim.checkpoints.load import classifier_prefixes
from a2mim.data import open_images
from a2mim.dist import World, join
from a2mim.gallery import Gallery, make_gallery
from a2mim.images import Files, Images
from a2mim.layouts import refuse_unfit
from a2mim.manifest import keep_rows, refuse_other_images
from a2mim.methods import METHODS, Method
from a2mim.optim import learning_rate, rate_warning, rate_words, scaled_lr
from a2mim.plain import before, pairs
from a2mim.runs import NOTHING, added_epochs, open_run, read_run, stored_settings, update_run
from a2mim.settings import FREE, Data, Evaluation, Network
from a2mim.train import describe
from a2mim.trees import listed
from experiments.asked import identity, resolved
from experiments.cli import out_of_memory
from experiments.cli import sentence as one_line
from experiments.datasets import size_arguments
from experiments.machine import commit
from experiments.models import create_model, did_you_mean, find_factory, fitted, unsaid, weights_file
from figures.reconstruction import draw_reconstruction
from figures.training import draw_loss
from interactions.runs.lock import held
from interactions.runs.storage import remove_leftovers

S = TypeVar("S")
SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


def at_work(settings: Any, world: World) -> AbstractContextManager[None]:
    """Hold the run's folder, for all processes of `world`. Raises ValueError where another process holds it."""
    return held(Path(settings.out)) if world.main else nullcontext()


def begin(
    settings: Any,
    command: str,
    world: World,
    about: dict[str, Any],
    parts: Mapping[str, Images],
    first: Mapping[str, Any] = NOTHING,
) -> Callable[[], None]:
    """What opens the run's folder, puts into run.json what the settings do not say, and tells the user what begins.

    parts: the images of the run, by which it is noticed that they have changed when it goes on.
    first: what run.json says from the beginning on, and is not said again.
    """

    def open_and_tell() -> None:
        if world.main:
            folder = Path(settings.out)
            rows = {part: images.rows() for part, images in parts.items()}
            refuse_other_images(folder, rows)
            if said := longer_words(folder, settings, about["images"] // settings.loop.batch):
                print(said, flush=True)
            open_run(folder, command, identity(settings), FREE, {"commit": commit()}, first)
            remove_leftovers(folder)
            data = keep_rows(folder, rows)
            update_run(folder, recipe=settings.recipe, data=data, classes=parts["train"].classes, **about)
            print(describe(settings.loop, settings.optim, world, about["images"]), flush=True)
        world.wait()

    return open_and_tell


def longer_words(folder: Path, settings: Any, steps_per_epoch: int) -> str:
    """What a finished run that is asked for more epochs goes on to do; nothing of any other."""
    run = read_run(folder) if (folder / "run.json").exists() else None
    if run is None or not run["finished"] or added_epochs(run, settings) <= 0:
        return ""
    before, now = stored_settings(type(settings), folder, run).optim, settings.optim
    done, peak = before.epochs * steps_per_epoch, scaled_lr(now, settings.loop.batch)
    last, following = (
        learning_rate(optim, peak, step, steps_per_epoch) for optim, step in ((before, done - 1), (now, done))
    )
    return (
        f"{folder} is extended from {before.epochs} to {now.epochs} epochs, each step as in a run of {now.epochs}: the "
        f"learning rate goes from {last:.3g} to {following:.3g}; the weights after {before.epochs} epochs are kept"
    )


# ------------------------------------------------------------------------------------------- network and method


def make_network(
    network: Network, classes: int, image_size: int | tuple[int, int], seed: int
) -> tuple[nn.Module, dict[str, Any], LoadReport | None]:
    """A timm model with its weights and a fresh classifier of `classes` outputs (0: none), for square images of that
    side, or of that height and width.

    Returns the model, what timm.create_model was given ({"architecture": name, **arguments}), and what was loaded from
    a file (None: none was). Raises ValueError for unknown names and weights that do not fit, FileNotFoundError.
    """
    file = weights_file(network.weights)
    name, stored, assumed = fitted(network.model, read(file)) if file else (network.model, {}, {})
    if not name:
        raise ValueError("no network was named: use --model with the name of a timm model, such as resnet50")
    arguments = {
        **{key: value for key, value in stored.items() if key != "num_classes"},
        **size_arguments(name, image_size),
        **pairs(network.model_args),
    }
    source = network.weights if file is None else "random"
    model, _ = create_model(name, source, 0 if file else classes, seed, **arguments)
    report = load_backbone(model, file, network.partial) if file else None
    if report is not None:
        report = dataclasses.replace(report, assumed={**report.assumed, **unsaid(assumed, pairs(network.model_args))})
    if file and classes:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.reset_classifier(classes)  # type: ignore[operator]
    return model, {"architecture": name, "num_classes": classes, **arguments}, report


def load_backbone(model: nn.Module, file: Path, partial: bool) -> LoadReport:
    """Load all of a checkpoint but its classifier, strictly unless `partial`."""
    checkpoint = read(file)
    classifier = classifier_prefixes(model)
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(classifier)}
    return load_into(model, dataclasses.replace(checkpoint, tensors=kept), partial)


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
    return held_out


def validation(
    data: Data, images: Images, model: nn.Module, size: int, world: World, evaluation: Evaluation
) -> Gallery:
    """The validation images beside the training `images`, ready for the model."""
    held_out = open_held_out(data, images)
    if evaluation.eval_size:
        refuse_unfit(model, evaluation.eval_size)
    return make_gallery(held_out, model, size, world.device, evaluation, workers=data.workers, in_memory=data.in_memory)


# ------------------------------------------------------------------------------------------- what a run draws and says


def draw_pictures(path: Path) -> None:
    """The reconstructions that the trainer put into `path`, as a figure beside it."""
    with np.load(path) as file:
        shown = {name: file[name].transpose(0, 2, 3, 1) for name in ("original", "masked", "predicted", "composite")}
    step = int(path.stem.removeprefix("step-"))
    draw_reconstruction(**shown, path=path.with_suffix(".png"), title=f"{path.parent.parent.name}, step {step:,}")


def draw_training(folder: Path) -> None:
    """loss.png of a finished run."""
    draw_loss(folder / "log.jsonl", folder / "loss.png", title=folder.name)


def carry_out(settings: Any, command: str, work: Callable[[Any, World], tuple[Path, dict[str, Any]]]) -> None:
    """Fill in the settings, do the work of a training command in every process, and say how it ended."""
    settings = resolved(settings, command)
    with join(settings.device) as world, at_work(settings, world):
        if world.main and (said := rate_warning(settings.optim, settings.loop.batch)):
            print(f"note: {said}", file=sys.stderr, flush=True)
        try:
            folder, result = work(settings, world)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise ValueError(f"memory ran out: {one_line(error)}; {smaller(settings, world)}") from error
        conclude(folder, command, result, world)


def smaller(settings: Any, world: World) -> str:
    """What to begin anew with where memory does not hold a batch."""
    loop, slots = settings.loop, world.size * settings.loop.accumulate
    parts = f"--accumulate {2 * loop.accumulate} (the same batch in parts), " if loop.batch % (2 * slots) == 0 else ""
    half = max(slots, loop.batch // 2 // slots * slots)
    return (
        f"{loop.batch // slots} images are in one pass: begin anew in another folder with {parts}--grad-checkpointing, "
        f"or a smaller image, network or batch ({rate_words(settings.optim, half)})"
    )


def conclude(folder: Path, command: str, result: dict[str, Any], world: World) -> None:
    """Say how the run ended; after a signal, leave with its exit code."""
    if world.main and result["finished"]:
        numbers = {**result["last"]}
        told = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "val_images")
        print(f"{result['epochs']} epochs, {result['seconds']:.0f} s: {told}")
        print(f"wrote backbone.safetensors, loss.png, log.jsonl and run.json into {folder}")
    elif world.main:
        print(f"stopped at step {result['step']} of {result['steps']}: go on with a2mim {command} --resume {folder}")
    if not result["finished"] and result["stopped_by"] in SIGNALS:
        raise SystemExit(SIGNALS[result["stopped_by"]])
