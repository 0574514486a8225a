"""What a checkpoint is, as plain data: method, family, model, head, copies, and what of it would be loaded."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm

from a2mim.checkpoints.architecture import Architecture, build, left_open
from a2mim.checkpoints.archive import is_zip
from a2mim.checkpoints.errors import CheckpointError, sound
from a2mim.checkpoints.identify import identify
from a2mim.checkpoints.load import LoadReport, adapt, compare, only_heads, other_heads
from a2mim.checkpoints.positions import table_of
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.shards import is_index

# What stands under a source's name when its marks alone tell the method.
METHODS = {
    "mae": "MAE",
    "mae linear probe": "MAE, linear probe",
    "mae, hiera": "MAE",
    "fcmae": "FCMAE",
    "i-jepa": "I-JEPA",
    "dinov2": "DINOv2",
    "moco v3": "MoCo v3",
    "moco": "MoCo (v1 or v2)",
    "swav": "SwAV",
    "barlow twins": "Barlow Twins",
    "vicreg": "VICReg",
    "simclr": "SimCLR",
    "dino": "DINO",
    "ibot": "iBOT",
    "simmim": "SimMIM",
    "spark": "SparK",
    "imgsim": "AugNet, instance contrast",
    "deit iii": "DeiT III",
    "deit iii, parallel": "DeiT III",
    "vit with beit's layer scale": "iBOT, or another ViT with BEiT's layer scale",
    "spark's convnext": "SparK",
    "deit distilled": "DeiT, distilled",
}

# Beginnings of keys that were left out, and the method that has them.
TRACES = {
    "neck.decoder_pred.": "A²MIM",
    "neck.decoder.0.": "SimMIM",
    "neck.decoder_embed.": "MAE",
    "backbone.mask_gamma": "A²MIM",
    "mask_gamma": "A²MIM",
    "decoder.decoder_": "MAE",
    "cls_pt_": "BEiT v2",
    "lm_head.": "BEiT",
}

UNTOLD = "not told by the file"
NONE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Fit:
    """A timm model beside a checkpoint."""

    architecture: Architecture
    report: LoadReport | None
    """None where timm cannot build the model."""
    problem: str = ""
    heads: int | None = None
    """Of the model's attentions, where all have as many."""

    @property
    def complete(self) -> bool:
        return self.report is not None and not self.problem


def fit(checkpoint: Checkpoint, model: str = "", arguments: Mapping[str, Any] = NONE) -> Fit | None:
    """Compare a checkpoint with the timm model of that name, or with the one that its shapes suggest; loads nothing.
    A named model gets from the file what its name leaves open, as `left_open` has it.

    arguments: of the model, which win over what the file suggests.

    None where no model was named and none is known. Raises ValueError for a name that timm does not have, and
    CheckpointError for a file that names what no file may name.
    """
    if checkpoint.unread:
        raise CheckpointError(f"checkpoint '{checkpoint.path}' is {checkpoint.unread}")
    if model and not timm.is_model(model):
        raise ValueError(f"timm has no model '{model}': timm.list_models() names those it has")
    if model:
        found: Architecture | None = Architecture(model.split("_")[0], model, left_open(model, checkpoint))
    else:
        found = identify(checkpoint)
    if found is not None and arguments:
        told = {key: words for key, words in found.assumed.items() if key not in arguments}
        found = replace(found, arguments={**found.arguments, **arguments}, assumed=told)
    if found is None:
        return None
    try:
        empty = build(found)
    except ValueError as error:
        return Fit(found, None, str(error))
    with sound(checkpoint.path):
        tensors, adapted = adapt(checkpoint, empty)
        report = replace(compare(checkpoint, tensors, empty.state_dict()), adapted=adapted)
    return Fit(found, report, report.differences or other_heads(checkpoint, empty), only_heads(empty))


def describe(checkpoint: Checkpoint, model: str = "", arguments: Mapping[str, Any] = NONE) -> dict[str, Any]:
    """Everything that `a2mim inspect` says. Raises ValueError for a model name that timm does not have."""
    problem = "no timm model is known for these names and shapes"
    try:
        fitting = fit(checkpoint, model, arguments)
    except CheckpointError as error:  # it names what no file may, or several fit; all the rest can be said
        fitting, problem = None, str(error)
    report = fitting.report if fitting else None
    tensors = checkpoint.tensors
    path = Path(checkpoint.path)
    classes = class_count(checkpoint, fitting)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": file_format(path),
        "names": checkpoint.source,
        "method": method(checkpoint),
        "stage": stage(checkpoint, classes),
        "classes": classes,
        "container": checkpoint.container,
        "prefix": checkpoint.prefix,
        "copies": list(checkpoint.copies),
        "averaged": averaged(checkpoint),
        "tensors": len(tensors),
        "parameters": sum(x.numel() for key, x in tensors.items() if not is_statistic(key)),
        "precision": dict(Counter(str(x.dtype).removeprefix("torch.") for x in tensors.values())),
        "beside": list(checkpoint.beside),
        "family": fitting.architecture.family if fitting else None,
        "model": fitting.architecture.name if fitting else None,
        "arguments": fitting.architecture.arguments if fitting else {},
        "fits": bool(fitting and fitting.complete),
        "problem": fitting.problem if fitting else problem,
        "loaded": report.loaded if report else 0,
        "missing": list(report.missing) if report else [],
        "unexpected": list(report.unexpected) if report else [],
        "mis_shaped": dict(report.mis_shaped) if report else {},
        "fresh": {why: list(keys) for why, keys in checkpoint.fresh.items()},
        "adapted": list(report.adapted) if report else [],
        "assumed": untold(checkpoint, fitting, arguments),
        "dropped": {why: list(keys) for why, keys in checkpoint.dropped.items()},
        "norm_eps": dict(checkpoint.norm_eps),
        "pixels": checkpoint.pixels and {"mean": checkpoint.pixels[0], "std": checkpoint.pixels[1]},
        "positions": table_of(tensors.get("pos_embed")),
    }


def untold(checkpoint: Checkpoint, fitting: Fit | None, arguments: Mapping[str, Any] = NONE) -> dict[str, str]:
    """What is assumed of a network and its images, but for the arguments that were given."""
    assumed = {**checkpoint.assumed, **(fitting.architecture.assumed if fitting else {})}
    return {key: words for key, words in assumed.items() if key not in arguments}


def file_format(path: Path) -> str:
    """safetensors, which of torch's two pickle formats, or the list of the files of one network."""
    if is_index(path):
        return "list of its files"
    if path.suffix == ".safetensors":
        return "safetensors"
    return "torch (zip)" if is_zip(path) else "torch (before 1.6)"


def method(checkpoint: Checkpoint) -> str:
    """The training method, as far as the names, what was left out, and the table of positions tell it."""
    if checkpoint.source in METHODS:
        return METHODS[checkpoint.source]
    left_out = [key for keys in checkpoint.dropped.values() for key in keys]
    for trace, name in TRACES.items():
        if any(key.startswith(trace) for key in left_out):
            return name
    table = table_of(checkpoint.tensors.get("pos_embed"))
    return f"{METHODS[table]}, by its fixed positions" if table else UNTOLD


def stage(checkpoint: Checkpoint, classes: int) -> str:
    """Pre-trained, or with a classifier."""
    if classes:
        return "with a classifier: supervised, fine-tuned or probed"
    left_out = any("pre-training" in why or "contrastive" in why for why in checkpoint.dropped)
    return "pre-trained, no classifier" if left_out else "no classifier"


def class_count(checkpoint: Checkpoint, fitting: Fit | None) -> int:
    """Classes of the classifier; 0 without one."""
    prefixes: tuple[str, ...] = ("head.fc.", "head.", "fc.", "classifier.")
    if fitting and timm.is_model(fitting.architecture.name):
        config: Any = timm.get_pretrained_cfg(fitting.architecture.name)
        names = (config.classifier,) if isinstance(config.classifier, str) else config.classifier or ()
        prefixes = tuple(f"{name}." for name in names) or prefixes
    found = (checkpoint.tensors.get(f"{prefix}weight") for prefix in prefixes)
    return next((x.shape[0] for x in found if x is not None and x.ndim == 2), 0)


def averaged(checkpoint: Checkpoint) -> bool:
    """Whether the tensors that were taken are a moving average of the trained ones, as far as the file tells."""
    names = (checkpoint.container, *checkpoint.copies[:1])
    return any(
        name.endswith("_ema") or name in ("ema", "ema_state_dict", "teacher", "momentum_encoder", "encoder_k")
        for name in names
    )


def is_statistic(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))
