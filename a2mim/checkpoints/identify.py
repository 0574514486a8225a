"""Which timm model a checkpoint is of, when shapes leave it open: what else tells it, and what has to be asked.

Models of one set of names and shapes may compute different things: ResNets that blur (resnetblur50) or average
(resnetaa50) where they stride, ViTs that normalise behind their layers (vit_base_patch16_rpn_224), other activations,
other numbers of heads. The file's own name, its settings and the metadata of its hub are evidence. Without any, timm's
models that fit are compared by what they are made of, and where they differ the user chooses.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import timm
from torch import Tensor, nn

import a2mim.networks
from a2mim.checkpoints.architecture import Architecture, build, classes, guess
from a2mim.checkpoints.convert import substitute
from a2mim.checkpoints.errors import CheckpointError, sound
from a2mim.checkpoints.positions import table_of
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.rotary import SCALES, models, rivals, spans, whole_names
from a2mim.checkpoints.sources.clip import OPEN_CLIP_TRUNK

NATIVE = "timm"
"""The source of files under timm's own names, which those of many models are. Any other source has one kind of each."""

LIKE_ROTARY = ("deit iii", "vit with beit's layer scale", "beit")
"""Sources that write keys which timm's networks with rotary positions may have, too."""

USUAL_WIDTHS = (192, 384, 768, 1024, 1280, 1408, 1664)
"""Of ViTs whose number of heads is the same wherever they were published."""

SPARE = 2**25
"""Elements that a model may have beyond four times those of its file: indices, resized positions."""


class UntoldError(CheckpointError):
    """Several models fit, and nothing tells which one it is."""


def identify(checkpoint: Checkpoint) -> Architecture | None:
    """The timm model that a checkpoint is of; None where nothing tells.

    Raises:
        UntoldError: its shapes are those of several models that compute different things; the message names them.
        CheckpointError: as `guess` does; a network of many times the file's size.
    """
    found = guess(checkpoint)
    if found is None:
        return None
    told = checkpoint.heads or table_of(checkpoint.tensors.get("pos_embed"))
    if found.sized and checkpoint.source == NATIVE and not told:
        with sound(checkpoint.path):
            found = from_evidence(checkpoint, found) or unrivalled(checkpoint, found)
    elif found.sized and checkpoint.source == OPEN_CLIP_TRUNK.name and not told:
        with sound(checkpoint.path):
            found = from_evidence(checkpoint, found) or found
    elif found.sized and checkpoint.source in LIKE_ROTARY:
        with sound(checkpoint.path):
            refuse_rotary(checkpoint, found)
    check_size(checkpoint, found)
    return found


def check_size(checkpoint: Checkpoint, found: Architecture) -> None:
    """Refuse a model that would take far more memory than its file holds."""
    try:
        model = build(found)
    except ValueError:
        return  # whoever wants to make it says why it cannot be
    wanted = sum(x.numel() for x in (*model.parameters(), *model.buffers()))
    there = sum(x.numel() for x in checkpoint.tensors.values())
    if wanted > 4 * there + SPARE:
        raise CheckpointError(
            f"checkpoint '{checkpoint.path}' holds {there:,} numbers, and {found.name} with {found.arguments} has "
            f"{wanted:,}: the file is damaged, or name the timm model that it is of"
        )


# --- evidence


def from_evidence(checkpoint: Checkpoint, shaped: Architecture) -> Architecture | None:
    """The model that the file's settings, hub or name say, if its keys and shapes are the file's."""
    for text in (*checkpoint.hints, checkpoint.path.stem, checkpoint.path.name):
        for name in named_in(text):
            for arguments in alternatives(checkpoint, name, shaped):
                made = Architecture(name.split("_")[0], name, arguments)
                if fitting(checkpoint.tensors, made) is not None:
                    return made
    return None


def named_in(text: str) -> Iterator[str]:
    """timm's models that a text names by whole words, the longest name first; then those that a name in it begins."""
    yield from whole_names(text)
    for span in sorted((span for span in spans(text) if span.count("_") >= 2), key=len, reverse=True):
        if begun := sorted(name for name in models() if name.startswith(f"{span}_")):
            yield from begun[:MOST_BEGUN]
            return


MOST_BEGUN = 8


def alternatives(checkpoint: Checkpoint, name: str, shaped: Architecture) -> Iterator[dict[str, Any]]:
    """Arguments with which a model of that name may have been made: its own, another image size, other sizes."""
    usual = classes(checkpoint, name)
    yield usual
    if "img_size" in shaped.arguments:
        yield usual | {"img_size": shaped.arguments["img_size"]}
    if shaped.arguments:
        yield usual | {key: value for key, value in shaped.arguments.items() if key != "num_heads"}


def fitting(tensors: Mapping[str, Tensor], made: Architecture) -> nn.Module | None:
    """The model without its memory, where its keys and shapes are those of the tensors."""
    try:
        model = build(made)
    except ValueError:
        return None
    wanted = model.state_dict()
    same = wanted.keys() == tensors.keys() and all(x.shape == wanted[key].shape for key, x in tensors.items())
    return model if same else None


# --- rivals


def unrivalled(checkpoint: Checkpoint, shaped: Architecture) -> Architecture:
    """What the shapes say, unless other models of timm's have the same and compute something else."""
    path = checkpoint.path
    ours = fitting(checkpoint.tensors, shaped)
    if ours is None:  # what does not fit is refused where it is loaded, key by key
        return shaped
    if timm.model_entrypoint(shaped.name).__module__ == a2mim.networks.__name__:
        return shaped  # this project's own, each of one kind
    refuse_rotary(checkpoint, shaped)
    if shaped.family == "vit" and (width := checkpoint.tensors["patch_embed.proj.weight"].shape[0]) not in USUAL_WIDTHS:
        raise UntoldError(
            f"the shapes in '{path}' do not tell its number of attention heads, and none is usual at {width} channels: "
            "name the timm model that it is of, with --model-args num_heads=N and what else differs, or a factory"
        )
    made_of = parts(ours)
    others = [name for name in alike(checkpoint, shaped) if differs(checkpoint, name, shaped, made_of)]
    if others:
        raise UntoldError(
            f"the shapes in '{path}' are those of {shaped.name} and of {' and of '.join(others)}, which compute "
            "different things: name the one that it is of"
        )
    return shaped


def refuse_rotary(checkpoint: Checkpoint, shaped: Architecture) -> None:
    """Raise UntoldError where a network with rotary positions has the keys and shapes of a file found to be of one
    without, unless the file is called by the code that wrote it."""
    said = [text.lower() for text in (*checkpoint.hints, checkpoint.path.name)]
    if shaped.family == "eva" or any(("deit" in text or "beit" in text) and "rope" not in text for text in said):
        return
    tensors = checkpoint.tensors
    if checkpoint.source in LIKE_ROTARY:
        tensors = substitute(tensors, SCALES)
    if names := rivals(tensors):
        ours = "" if checkpoint.source == NATIVE else f" ({checkpoint.source})"
        raise UntoldError(
            f"the keys and shapes in '{checkpoint.path}' are those of {shaped.name}{ours} and of "
            f"{' and of '.join(names)}, which adds rotary positions: name the one that it is of, or call the file so"
        )


def alike(checkpoint: Checkpoint, shaped: Architecture) -> list[str]:
    """timm's models of the same module whose names say the same size, one of each kind."""
    module = timm.model_entrypoint(shaped.name).__module__.rpartition(".")[2]
    if shaped.family == "resnet":
        rule = r"(?<!\d)" + re.findall(r"\d+", shaped.name)[0] + r"(?!\d)"
    else:
        patch = checkpoint.tensors["patch_embed.proj.weight"].shape[-1] if shaped.family in PATCHED else ""
        rule = re.findall(r"_[a-z]+", shaped.name)[0] + (rf"_patch{patch}(?!\d)" if patch else r"(_|$)")
    kinds: dict[str, str] = {}
    for name in timm.list_models(module=module):
        if re.search(rule, name) and name != shaped.name:
            kinds.setdefault(re.sub(r"_\d+$", "", name), name)
    return list(kinds.values())


PATCHED = ("vit", "beit")
"""Families whose names say the patch size, and whose models take an image size."""


def differs(checkpoint: Checkpoint, name: str, shaped: Architecture, ours: Any) -> bool:
    """Whether a model of that name fits the file and is made of other parts."""
    side = shaped.arguments.get("img_size") or int((re.findall(r"_(\d+)$", shaped.name) or ["224"])[0])
    size = {"img_size": side} if shaped.family in PATCHED else {}
    if not fits_in_short(checkpoint.tensors, name, shaped.family, size):
        return False
    model = fitting(checkpoint.tensors, Architecture(shaped.family, name, classes(checkpoint, name) | size))
    return model is not None and parts(model) != ours


def fits_in_short(tensors: Mapping[str, Tensor], name: str, family: str, size: dict[str, Any]) -> bool:
    """Whether a model cut to one block a stage has keys and shapes of the file: a quick answer that rules most out."""
    short: dict[str, dict[str, Any]] = {"resnet": {"layers": (1, 1, 1, 1)}, "vit": {"depth": 1}, "beit": {"depth": 1}}
    cut = short.get(family, {"depths": (1, 1, 1, 1)})
    try:
        wanted = build(Architecture(family, name, {"num_classes": 0, **cut, **size})).state_dict()
    except ValueError:
        return True  # it cannot be cut, and is compared whole
    return all(key in tensors and tensors[key].shape == x.shape for key, x in wanted.items())


SIZES = {"img_size", "init_values", "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "grid_size", "input_size"}


def parts(model: nn.Module) -> list[tuple[str, str, str]]:
    """What a model computes with: each module's place, type and settings, but for dropout, which acts in training."""
    skipped = ("Dropout", "DropPath", "Identity")
    return [
        (name, type(module).__name__, f"{module.extra_repr()} {plain_settings(module)}")
        for name, module in model.named_modules()
        if not type(module).__name__.startswith(skipped)
    ]


def plain_settings(module: nn.Module) -> dict[str, Any]:
    kinds = bool | int | float | str | None
    return {
        key: value
        for key, value in sorted(vars(module).items())
        if isinstance(value, kinds) and not key.startswith("_") and "drop" not in key and key not in SIZES
    }
