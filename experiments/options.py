"""Options that several commands share, declared once: a command's settings inherit them, and --help shows each class as
a group. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from a2mim.bounds import Natural, Pixels, Range, option
from experiments.help import FILE


def refuse_idle(settings: Any, beside: str, *names: str) -> None:
    """Raise ValueError where one of these settings is not the usual one, though only `beside` makes use of them."""
    for name in names:
        if getattr(settings, name) != getattr(type(settings), name):
            raise ValueError(f"{option(name)} has no effect without {beside}: leave it out, or give both")


def is_begun(settings: Any) -> bool:
    """Whether the training is there, and goes on with whatever was taken when it was begun."""
    return (Path(settings.out) / "run.json").exists()


def refuse_both(settings: Any, given: str, other: str) -> None:
    """Raise ValueError where a setting that is `given` leaves no effect to an `other` that is not the usual one."""
    if getattr(settings, other) != getattr(type(settings), other):
        raise ValueError(f"{option(given)} and {option(other)} say the same thing: leave one of them out")


@dataclass(frozen=True)
class Network:
    """The model's weights, and what its name does not say."""

    weights: str = "pretrained"
    """pretrained, random, the folder of a finished training run, or a checkpoint file (`a2mim inspect FILE` says what
    it is; `FILE#student` takes that one of its copies of the network)."""
    num_classes: Natural | None = None
    """Classes of the model, where they are not its usual ones."""
    model_args: tuple[str, ...] = ()
    """Arguments of the model that neither its name nor the file tells, such as num_heads=12."""
    partial: bool = False
    """Load what fits of a checkpoint that does not fit whole."""
    model_seed: Natural = 0
    """Of random weights."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Which images are measured."""

    data: str
    """A folder or a .tar of images, labelled by their folders or not; or timm's name of a data set, such as
    torch/cifar10 or hfds/uoft-cs/cifar10."""
    data_root: str | None = None
    """Where a data set that timm names is kept."""
    split: str = "validation"
    """The part to read, where a folder or tar is divided into parts such as train and val; `.` is all of it."""


@dataclass(frozen=True)
class Machine:
    """Where it runs."""

    device: str = "auto"
    """cpu, cuda ...; auto takes the accelerator when there is one."""
    num_workers: Annotated[int, Range(0, 1024)] = 4
    """Threads that read the next images while those before them are measured (0: none). Data sets that arrive in one
    order are read by none."""
    dry_run: bool = False
    """Only say what the run will take: passes, time on this device at a measured rate, disk. Nothing is written."""


@dataclass(frozen=True)
class Start:
    """Where a training run begins, or goes on."""

    out: str = ""
    """Folder of the run."""
    recipe: str = ""
    """Settings to start from; what is typed beside them wins. A recipe in experiments/recipes/, such as
    imagenet:a2mim_resnet50; a function of your own, path/to/file.py:function, whose file is run; or a .yaml file that
    has options by their names."""
    resume: str = ""
    """Go on with the run in this folder, with its settings."""
    trust_factory: bool = False
    """With --resume, or a recipe in a .yaml: run the code that it names (a factory module:function), after saying what
    it is. Without it that has to be named again."""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""
    dry_run: bool = False
    """Only say what the run will take: steps, time on this device at the pace of some steps on noise (loading images is
    not in it), disk. Nothing is written."""
    filled: tyro.conf.Suppress[tyro.conf.Fixed[Any]] = None
    """The settings that --recipe or --resume stand for, where what is not typed is theirs already, as on the command
    line: then what is typed counts where it is the usual value, too."""


@dataclass(frozen=True)
class Features:
    """How the features come about, and where the result goes."""

    out: Annotated[str, FILE] = ""
    """The file to write (.json)."""
    image_size: Pixels | None = None
    """Side of the images in pixels; without it, that of the images which the weights were trained on, or 224 where
    nothing tells."""
    model_seed: Natural = 0
    """Of random weights."""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""
