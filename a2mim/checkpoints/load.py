"""From a checkpoint's tensors to a model's, completely or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from a2mim.checkpoints.convert import Pixels
from a2mim.checkpoints.errors import CheckpointError, listed, sound
from a2mim.checkpoints.read import Checkpoint, read
from a2mim.checkpoints.resize import PositionRule, resize_positions, resize_table

Tensors = Mapping[str, Tensor]

# Where a model without timm's configuration usually has its classifier.
USUAL_CLASSIFIERS = ("head", "fc", "classifier", "head_dist")


@dataclass(frozen=True)
class LoadReport:
    """What was loaded from where, and every key that was not. All plain data, ready for a run's record."""

    path: str
    source: str
    container: str
    prefix: str
    loaded: int
    """Keys of the model that got the file's tensor."""
    missing: tuple[str, ...] = ()
    """Keys of the model that the file lacks."""
    unexpected: tuple[str, ...] = ()
    """Keys of the file that the model lacks."""
    mis_shaped: dict[str, str] = field(default_factory=dict)
    """Keys of both whose shapes or kinds of number differ, and how."""
    dropped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Why → which keys of the file were left out by rule."""
    fresh: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Why → which of the loaded keys the file has not, and were made."""
    adapted: tuple[str, ...] = ()
    """What was changed to fit: resized positions, epsilons of layer norms."""
    assumed: dict[str, str] = field(default_factory=dict)
    """What the file does not tell → what was taken, in words."""

    @property
    def complete(self) -> bool:
        """Every key of the file went to a key of the model, and none of the model's was left."""
        return not (self.missing or self.unexpected or self.mis_shaped)

    @property
    def differences(self) -> str:
        """How many keys of which sort found no place, and the first of each; empty when complete."""
        sorts = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "mis-shaped": [f"{key}: {why}" for key, why in self.mis_shaped.items()],
        }
        return ", ".join(
            f"{len(keys)} {sort} key{'s' if len(keys) > 1 else ''} ({listed(keys)})"
            for sort, keys in sorts.items()
            if keys
        )


def load_into(model: nn.Module, checkpoint: str | Path | Checkpoint, partial: bool = False) -> LoadReport:
    """Load a checkpoint into a model in place.

    Every key of the file that no rule drops, and every key of the model, must match in name, shape and kind of number;
    nothing is changed unless all do. Precision may differ (float16 into float32). Position embeddings and tables of
    relative positions are resized to the model's patches by their source's rule, a table that all blocks share is
    copied into each where the model has one per block, the last norm of a CNN that was trained before the pooling goes
    behind it where the model has it there, and layer norms get the source's epsilon.

    Args:
        model: any module whose state dict has timm's names.
        checkpoint: a file, or what `read` made of it.
        partial: load what fits and report the rest, instead of refusing.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: the file is no checkpoint, or it does not fit; the message counts and lists the keys.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read(checkpoint, model_name(model))
    wanted = model.state_dict()
    with sound(checkpoint.path):
        found, adapted = adapt(checkpoint, model)
        report = compare(checkpoint, found, wanted)
    fitting = {key: found[key] for key in wanted if key in found and key not in report.mis_shaped}
    if not fitting or not (report.complete or partial):
        unread = f"checkpoint '{checkpoint.path}' is {checkpoint.unread}" if checkpoint.unread else ""
        raise CheckpointError(unread or misfit(report, model, wanted, found))
    if problem := other_heads(checkpoint, model):
        raise CheckpointError(problem)
    model.load_state_dict(fitting, strict=report.complete)
    adapted += set_epsilons(model, checkpoint.norm_eps) + set_pixels(model, checkpoint.pixels)
    return replace(report, adapted=adapted)


def compare(checkpoint: Checkpoint, found: Tensors, wanted: Tensors) -> LoadReport:
    """What of the tensors `found` in a checkpoint would fit a model's, and what not. Loads nothing."""
    mis_shaped = {key: why for key in wanted if key in found and (why := difference(found[key], wanted[key]))}
    return LoadReport(
        path=str(checkpoint.path),
        source=checkpoint.source,
        container=checkpoint.container,
        prefix=checkpoint.prefix,
        loaded=sum(key in found and key not in mis_shaped for key in wanted),
        missing=tuple(key for key in wanted if key not in found),
        unexpected=tuple(key for key in found if key not in wanted),
        mis_shaped=mis_shaped,
        dropped=checkpoint.dropped,
        fresh=checkpoint.fresh,
        assumed=dict(checkpoint.assumed),
    )


# The last norm of a timm CNN that normalises the map (head_norm_first), and of one that normalises the pooled vector.
MAP_NORM, VECTOR_NORM = "norm_pre.", "head.norm."
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
OWN_TABLE = ".attn.relative_position_bias_table"


def adapt(checkpoint: Checkpoint, model: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The checkpoint's tensors for the number of patches that the model has, and what was done to which."""
    found, wanted, notes = dict(checkpoint.tensors), model.state_dict(), []
    own = [key for key in wanted if key.endswith(OWN_TABLE)]
    if SHARED_TABLE in found and SHARED_TABLE not in wanted and own and not any(key in found for key in own):
        table = found.pop(SHARED_TABLE)
        found |= dict.fromkeys(own, table)
        notes.append(f"the table of relative positions that all blocks share was copied into {len(own)} blocks")
    moved = {key: VECTOR_NORM + key.removeprefix(MAP_NORM) for key in found if key.startswith(MAP_NORM)}
    if moved and not moved.keys() & wanted.keys() and set(moved.values()) <= wanted.keys() - found.keys():
        found |= {new: found.pop(old) for old, new in moved.items()}
        notes.append("the last norm acts on the pooled vector, it was trained on every position of the map")
    for key in [key for key in found if key in wanted and found[key].shape != wanted[key].shape]:
        resized = resize(key, found[key], wanted[key], model, checkpoint.positions)
        if resized is not None:
            notes.append(f"{key} was resized from {shape(found[key])} to {shape(resized)}")
            found[key] = resized
    return found, tuple(notes)


def resize(key: str, found: Tensor, wanted: Tensor, model: Any, rule: PositionRule) -> Tensor | None:
    """Positions of another number of patches, resized; None for what is no such tensor, and so does not fit."""
    same = found.ndim == wanted.ndim and found.shape[-1] == wanted.shape[-1] and found.is_floating_point()
    try:
        if same and key == "pos_embed" and wanted.ndim == 3 and found.shape[0] == wanted.shape[0] == 1:
            grid = model.patch_embed.grid_size
            return resize_positions(found, grid, wanted.shape[1] - grid[0] * grid[1], rule)
        if same and key.endswith("relative_position_bias_table") and wanted.ndim == 2:
            height, width = model.get_submodule(key.rpartition(".")[0]).window_size
            if height == width:
                return resize_table(found, height, wanted.shape[0] - (2 * height - 1) ** 2)
    except (AttributeError, ValueError, RuntimeError):  # no grid, no square, or none of any size
        pass
    return None


def other_heads(checkpoint: Checkpoint, model: nn.Module) -> str:
    """That a model has another number of attention heads than the checkpoint, which no shape tells; empty if not."""
    other = head_counts(model) - {checkpoint.heads}
    if not checkpoint.heads or not other:
        return ""
    return (
        f"checkpoint '{checkpoint.path}' is of a network with {checkpoint.heads} attention heads, "
        f"{model_name(model)} has {min(other)}, with tensors of the same shapes: "
        f"make the model with num_heads={checkpoint.heads}"
    )


def head_counts(model: nn.Module) -> set[int]:
    """How many heads the attentions of a transformer have; empty for a CNN."""
    attentions: Any = (module for name, module in model.named_modules() if name.endswith(".attn"))
    return {each.num_heads for each in attentions if hasattr(each, "num_heads")}


def only_heads(model: nn.Module) -> int | None:
    """The number of heads that all attentions of a model have; None where they differ, or there are none."""
    counts = head_counts(model)
    return counts.pop() if len(counts) == 1 else None


def set_epsilons(model: nn.Module, epsilons: Mapping[str, float]) -> tuple[str, ...]:
    """Give layer norms the epsilon of the longest beginning that their names have; says what changed."""
    changed: dict[tuple[float, float], int] = {}
    for name, module in model.named_modules():
        beginning = max((each for each in epsilons if name.startswith(each)), key=len, default=None)
        if not isinstance(module, nn.LayerNorm) or beginning is None or module.eps == epsilons[beginning]:
            continue
        change = (module.eps, epsilons[beginning])
        changed[change] = changed.get(change, 0) + 1
        module.eps = epsilons[beginning]
    return tuple(f"the epsilon of {n} layer norms became {new:g}, it was {old:g}" for (old, new), n in changed.items())


def set_pixels(model: Any, pixels: Pixels | None) -> tuple[str, ...]:
    """Give a timm model's data configuration the mean and deviation of the source's images; says what changed."""
    config = getattr(model, "pretrained_cfg", None)
    if not config or pixels is None or (tuple(config.get("mean", ())), tuple(config.get("std", ()))) == pixels:
        return ()
    model.pretrained_cfg = {**config, "mean": pixels[0], "std": pixels[1]}
    return (f"images are normalised with mean {pixels[0]} and deviation {pixels[1]}, as for these weights",)


def difference(found: Tensor, wanted: Tensor) -> str:
    """How a tensor of the file differs from what the model wants; empty when it can be copied."""
    if found.shape != wanted.shape:
        return f"{shape(found)} instead of {shape(wanted)}"
    # Copying would quietly turn a quantised layer's integers into weights.
    if found.is_floating_point() != wanted.is_floating_point() or found.is_complex() != wanted.is_complex():
        return f"{found.dtype} instead of {wanted.dtype}"
    if found.is_quantized or found.layout != torch.strided:
        return "quantised or sparse"
    return ""


def shape(tensor: Tensor) -> str:
    """A shape as 64×3×7×7."""
    return "×".join(map(str, tensor.shape)) or "a scalar"


def misfit(report: LoadReport, model: nn.Module, wanted: Tensors, found: Tensors) -> str:
    """One sentence: which keys do not fit, and the way out."""
    title = f"checkpoint '{report.path}' does not fit {model_name(model)}"
    if not report.loaded and not report.mis_shaped:
        return (
            f"{title}: they have no key in common, the file has {len(found)} such as {listed(found, 2)}, "
            f"the model {len(wanted)} such as {listed(wanted, 2)}: is it another architecture?"
        )
    return f"{title}: {report.differences}; {way_out(report, model, wanted, found)}"


def way_out(report: LoadReport, model: nn.Module, wanted: Tensors, found: Tensors) -> str:
    """What the user can do about it."""
    classifier = classifier_prefixes(model)
    if not all(key.startswith(classifier) for key in (*report.missing, *report.unexpected, *report.mis_shaped)):
        return "take the model that the file was made with, or load what fits with partial=True (--partial)"
    partial = "with partial=True (--partial) all but the classifier is loaded"
    if report.missing:
        return f"the model's classifier is not in the file: {partial}, and that stays as it was initialised"
    if report.unexpected:
        return f"the file's classifier is not in the model: {partial}"
    classes = {(found[key].shape[:1].numel(), wanted[key].shape[:1].numel()) for key in report.mis_shaped}
    if len(classes) == 1 and all(found[key].shape[1:] == wanted[key].shape[1:] for key in report.mis_shaped):
        in_file, in_model = classes.pop()
        return (
            f"the file's classifier has {in_file} classes, the model's {in_model}: "
            f"make the model with num_classes={in_file}, or {partial}"
        )
    return f"the file's classifier is of another form: {partial}"


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """How the classifier's keys begin: as timm's configuration of the model says, else the usual ones."""
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or USUAL_CLASSIFIERS
    names = (names,) if isinstance(names, str) else names
    return tuple(f"{name}." for name in names)


def model_name(model: nn.Module) -> str:
    """timm's name of the architecture, else the class."""
    return (getattr(model, "pretrained_cfg", None) or {}).get("architecture") or type(model).__name__
