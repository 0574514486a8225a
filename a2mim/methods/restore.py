"""A whole pre-training method, backbone and decoder, with the weights of a checkpoint: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from a2mim.backbones import read_structure
from a2mim.checkpoints import Checkpoint, CheckpointError, LoadReport, load_into, read
from a2mim.checkpoints.architecture import build
from a2mim.checkpoints.errors import listed
from a2mim.checkpoints.identify import identify
from a2mim.checkpoints.load import adapt, compare, model_name, set_epsilons
from a2mim.checkpoints.pretraining import PreTraining, pretraining
from a2mim.checkpoints.resize import PositionRule, resize_positions
from a2mim.layouts import Layout
from a2mim.methods import METHODS, Method
from a2mim.methods.fcmae import FCMAE
from a2mim.methods.hiera_mae import HieraMAE

__all__ = ["RESTORED", "load_method", "own_tensors", "restore"]

RESTORED: dict[str, type[Any]] = {**METHODS, "fcmae": FCMAE, "hiera_mae": HieraMAE}
"""Methods that files are read as: those that train here, and two that are drawn alone."""

BACKBONE = "backbone."


def load_method(
    checkpoint: str | Path | PreTraining, image_size: int | None = None, **given: Any
) -> tuple[Any, LoadReport]:
    """The masked-image method of a released checkpoint with its decoder, in evaluation mode.

    The backbone is the timm model that the file fits. Settings are those that the file tells, then the published ones.

    Args:
        checkpoint: a file of MAE, SimMIM, A²MIM, SparK or FCMAE, or what `pretraining` found in it.
        image_size: side of the images in pixels; that of the training images if left out. Positions are resized.
        given: settings of the method, which win; what a file does not tell must be among them.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: no checkpoint, or none with a decoder; a key of the file or of the method that finds no place.
        ValueError: settings that the method does not have, cannot have, or that the file leaves open.
    """
    found = checkpoint if isinstance(checkpoint, PreTraining) else pretraining(read(checkpoint))
    path = found.encoder.path
    kind: Any = RESTORED[found.method].Settings
    known = [each.name for each in fields(kind) if each.name != "image_size"]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{found.method} has no setting {', '.join(unknown)}: it has {', '.join(known)}")
    if untold := [name for name in found.untold if name not in given]:
        raise ValueError(f"checkpoint '{path}' does not tell {', '.join(untold)} of {found.method}: it must be given")
    backbone = _backbone(found, image_size)
    size = image_size or found.image_size
    settings = {**found.settings, **_place(found, backbone, size), **given}
    try:
        with torch.random.fork_rng(devices=[]):
            method = RESTORED[found.method](backbone, kind(image_size=size, **settings))
    except (RuntimeError, AssertionError, ArithmeticError, LookupError, TypeError) as error:
        raise CheckpointError(f"no {found.method} with {settings} can be made for '{path}': {error}") from error
    return method.eval(), restore(method, found.encoder, found.tensors)


def restore(method: Any, encoder: Checkpoint, tensors: Mapping[str, Tensor]) -> LoadReport:
    """Load a backbone and the rest of its method in place; nothing is changed unless every key finds its place.

    Weights of the backbone that its map of features does not depend on (a last norm behind the pooling) may be missing.

    Args:
        method: a masked-image method of any image size.
        encoder: the backbone's tensors, in timm's names.
        tensors: all others under the method's names, with the buffers that its state dict leaves out.

    Raises:
        CheckpointError: a key of either side that finds no place, or one of another shape; the message lists them.
    """
    backbone, structure = method.backbone, method.structure
    outer = compare(encoder, adapt(encoder, backbone)[0], backbone.state_dict())
    fits = not (outer.unexpected or outer.mis_shaped or set(outer.missing) - set(structure.unused))
    wanted = own_tensors(method)
    found, notes = _resized(tensors, wanted, structure.features, encoder.positions)
    inner = compare(encoder, found, wanted)
    if fits and not inner.complete:
        name = f"{type(method).__name__} on {model_name(backbone)}"
        raise CheckpointError(f"'{encoder.path}' does not fit {name} beside the encoder: {inner.differences}")
    report = load_into(backbone, encoder, partial=fits)
    with torch.no_grad():
        for name, x in wanted.items():
            x.copy_(found[name])
    for name, child in method.named_children():
        if child is not backbone:
            notes += tuple(f"{note} in {name}" for note in set_epsilons(child, encoder.norm_eps))
    if outer.missing:
        notes += (f"{listed(outer.missing)} behind the map of features stayed as initialised",)
    loaded = report.loaded + len(wanted)
    return replace(report, loaded=loaded, missing=(), adapted=report.adapted + notes)


def own_tensors(method: Method) -> dict[str, Tensor]:
    """Parameters and buffers of a method beside its backbone, those that its state dict leaves out too, by name."""
    named = (*method.named_parameters(), *method.named_buffers())
    return {name: x for name, x in named if not name.startswith(BACKBONE)}


def _resized(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: Layout, rule: PositionRule
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors, the decoder's positions resized to the method's patches, and what was done."""
    found, name = dict(tensors), "positions_ND"
    same = name not in wanted or name not in found or found[name].shape == wanted[name].shape
    if same or found[name].ndim != 2:
        return found, ()
    try:
        found[name] = resize_positions(found[name][None], layout.grid, layout.prefix, rule)[0]
    except ValueError:  # no square, which shows as mis-shaped
        return found, ()
    return found, (f"{name} was resized from {len(tensors[name])} to {len(found[name])} positions",)


def _backbone(found: PreTraining, image_size: int | None) -> nn.Module:
    """The timm model that an encoder fits, its weights still random."""
    fitting = identify(found.encoder)
    if fitting is None:
        raise CheckpointError(f"no timm model is known for the encoder in '{found.encoder.path}'")
    arguments = {**fitting.arguments, **found.arguments}
    config = timm.get_pretrained_cfg(fitting.name, allow_unregistered=True)
    if image_size and config is not None and config.fixed_input_size:
        arguments["img_size"] = image_size
    with torch.random.fork_rng(devices=[]):
        return build(replace(fitting, arguments=arguments), "cpu")


def _place(found: PreTraining, backbone: nn.Module, image_size: int | None) -> dict[str, Any]:
    """Where the mask token goes: the usual place, unless its length tells that it is another.

    Raises CheckpointError where no place has as many channels.
    """
    token = found.tensors.get("mask_token.token_C")
    if token is None:
        return {}
    structure = read_structure(backbone, image_size)
    fitting = [n for n, place in enumerate(structure.places) if place.layout.channels == token.numel()]
    if not fitting:
        raise CheckpointError(
            f"the mask token of '{found.encoder.path}' has {token.numel()} channels, and {model_name(backbone)} has "
            f"places of {', '.join(str(place.layout.channels) for place in structure.places)}"
        )
    usual = found.settings.get("mask_at", structure.default if found.method == "a2mim" else 0)
    return {"mask_at": usual if usual in fitting else fitting[0]}
