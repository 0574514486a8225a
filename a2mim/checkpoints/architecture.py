"""Which timm model a checkpoint fits, read off the shapes of its tensors.

A guess is a timm name and arguments of timm.create_model. Whether it fits is not guessed: the model is built without
memory (on torch's meta device), and its keys and shapes are compared with the file's.
"""

from dataclasses import replace
from typing import Any

import timm
import torch
from torch import nn

import a2mim.networks  # noqa: F401  the models that timm does not have are known by name from here on
from a2mim.checkpoints import hub
from a2mim.checkpoints.errors import CheckpointError, sound
from a2mim.checkpoints.families import FAMILIES
from a2mim.checkpoints.families.common import Architecture, class_count
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.rotary import is_rotary
from a2mim.checkpoints.stated import FORM, NotPlainError, is_plain, plain_network
from a2mim.errors import one_line
from a2mim.shapes import shapes_alone

__all__ = ["Architecture", "build", "classes", "guess", "left_open"]

RELATED = ({"vit", "deit", "deit3"}, {"beit", "beitv2"})
"""How timm's names of the models of one family begin: a checkpoint of one may be loaded into another."""


def guess(checkpoint: Checkpoint) -> Architecture | None:
    """The timm model that a checkpoint is of; None where its names and shapes are those of no known family.

    A file that states its architecture (written by this project, or timm's config.json beside it) is believed, then the
    shapes, then the names that the file's settings and its own name contain. Shapes alone do not tell
    everything: see `identify`.

    Raises CheckpointError for a file that states anything but a model of timm's with plain arguments, and for shapes
    that no network has.
    """
    if stated := checkpoint.architecture:
        name, arguments = plain_network(
            stated,
            f"checkpoint '{checkpoint.path}'"
            + " (or config.json beside it)" * ("architecture" not in checkpoint.metadata),
        )
        if "num_classes" not in arguments:
            arguments = {**arguments, **classes(checkpoint, name)}
        return Architecture(name.split("_")[0], name, arguments, tuple(key for key in arguments if key in FORM))
    if checkpoint.unread:
        raise CheckpointError(f"checkpoint '{checkpoint.path}' is {checkpoint.unread}")
    with sound(checkpoint.path):
        if checkpoint.models:
            return among(checkpoint)
        for recognised, describe in FAMILIES:
            if recognised(checkpoint.tensors):
                found = describe(checkpoint)
                assumed = {**found.assumed, **checkpoint.untold}
                return replace(
                    found, sized=True, arguments={**found.arguments, **checkpoint.arguments}, assumed=assumed
                )
    for name in (*checkpoint.hints, checkpoint.path.stem.split("-")[0], checkpoint.path.name.split(".")[0]):
        if is_plain(name):
            return Architecture(name.split("_")[0], name, classes(checkpoint, name))
    return None


def left_open(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """What a file says of a timm model that was named and whose name leaves it open: how it pools, its number of heads,
    its kind of biases, its activation, the epsilon of its batch norms, never a size. Nothing for a file of another
    family.

    Raises CheckpointError as `guess` does, but for a network that no file may name: there the name alone counts.
    """
    try:
        found = guess(checkpoint)
    except NotPlainError:
        taken = hub.taken(checkpoint.path) if checkpoint.source == "timm" else {}
        return {key: value for key, value in taken.items() if key in FORM}
    family = name.split("_")[0]
    if found is None or not (family == found.family or any({family, found.family} <= each for each in RELATED)):
        return {}
    if is_rotary(name) != is_rotary(found.name):  # shapes tell of another network
        return {}
    # What shapes do not tell and the source or the settings do.
    told = {*checkpoint.arguments, *checkpoint.models.get(found.name, {})} & FORM
    return {key: value for key, value in found.arguments.items() if key in {*found.form, *told}}


def among(checkpoint: Checkpoint) -> Architecture | None:
    """The one of a source's models whose keys and shapes are the file's; without any the first, which then does not
    fit, and is told key by key."""
    made = [
        Architecture(name.split("_")[0], name, {**arguments, **classes(checkpoint, name)})
        for name, arguments in checkpoint.models.items()
    ]
    for one in made:
        wanted = build(one).state_dict()
        if wanted.keys() == checkpoint.tensors.keys() and all(
            x.shape == wanted[key].shape for key, x in checkpoint.tensors.items()
        ):
            return one
    return made[0]


def classes(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """num_classes where the file's classifier has another number than the model of that name."""
    config: Any = timm.get_pretrained_cfg(name)
    classifier = config.classifier if config and isinstance(config.classifier, str) else "head"
    number = class_count(checkpoint.tensors, f"{classifier}.weight")
    return {} if config and number == config.num_classes else {"num_classes": number}


def build(architecture: Architecture, device: str = "meta") -> nn.Module:
    """The model of a guess; on the meta device without memory for its weights.

    Raises ValueError where timm cannot build it.
    """
    try:
        with shapes_alone() if device == "meta" else torch.device(device):
            return timm.create_model(architecture.name, **architecture.arguments)
    except Exception as error:  # sizes that do not go together make a network's own code fail in any way at all
        raise ValueError(
            f"timm cannot build {architecture.name} with {architecture.arguments}: {one_line(error)}"
        ) from error
