"""A backbone's weights in timm's own names, as safetensors.

    timm.create_model(name, checkpoint_path="RUN/backbone.safetensors", **arguments)     # `architecture` says which

reads them strictly.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from a2mim.checkpoints import Checkpoint
from a2mim.checkpoints.joined import whole
from a2mim.checkpoints.load import only_heads
from a2mim.gallery import normalisation
from a2mim.runs import write_atomically

NONE: Mapping[str, int] = {}


def save(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file: the same bytes for the same content (the library orders metadata by chance)."""
    save_file(dict(state), path, metadata=dict(metadata) if metadata else None)
    if not metadata:
        return
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # as it is, but for escapes that the two may write otherwise
            file.seek(8)
            file.write(text.ljust(length))


def export_backbone(
    backbone: nn.Module, path: Path, architecture: Mapping[str, Any], classes: Mapping[str, int] = NONE
) -> None:
    """Write the state of a timm model to `path`, and into its metadata what no state keeps: mean and deviation of the
    images that it is shown, the epsilons of its layer norms, the number of its attention heads, and these.

    architecture: {"architecture": timm's name, and the keyword arguments of timm.create_model}.
    classes: of its classifier, name -> number.
    """
    contiguous = torch.contiguous_format
    # Cloned: safetensors refuses tensors that share memory.
    state = {name: x.detach().cpu().clone(memory_format=contiguous) for name, x in backbone.state_dict().items()}
    metadata = {"format": "pt", "architecture": json.dumps(dict(architecture))}
    metadata["pixels"] = json.dumps(normalisation(backbone))
    if epsilons := norm_epsilons(backbone):
        metadata["norm_eps"] = json.dumps(epsilons)
    if heads := only_heads(backbone):
        metadata["heads"] = json.dumps(heads)
    if classes:
        metadata["classes"] = json.dumps(dict(classes))
    write_atomically(path, lambda beside: save(state, beside, metadata))


def norm_epsilons(backbone: nn.Module) -> dict[str, float]:
    """Epsilons of the layer norms, by the beginnings of their names: one for all where they agree."""
    found = {name: module.eps for name, module in backbone.named_modules() if isinstance(module, nn.LayerNorm)}
    return {"": next(iter(found.values()))} if len(set(found.values())) == 1 else found


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Tensors by name, such as what a decoder has learnt."""
    kept = {name: x.detach().cpu().contiguous() for name, x in state.items()}
    write_atomically(path, lambda beside: save(kept, beside))


def write_checkpoint(checkpoint: Checkpoint, path: Path, architecture: Mapping[str, Any]) -> None:
    """Write what was read of a checkpoint to `path`, with the model that it fits, the epsilons of its norms, the number
    of its heads and the rule by which its positions are resized.

    architecture: {"architecture": timm's name, and the keyword arguments of timm.create_model}.
    """
    metadata = {"format": "pt", "architecture": json.dumps(dict(architecture)), "source": checkpoint.source}
    metadata["positions"] = checkpoint.positions
    if checkpoint.norm_eps:
        metadata["norm_eps"] = json.dumps(dict(checkpoint.norm_eps))
    if checkpoint.heads:
        metadata["heads"] = json.dumps(checkpoint.heads)
    if checkpoint.classes:
        metadata["classes"] = json.dumps(checkpoint.classes)
    if checkpoint.assumed:
        metadata["assumed"] = json.dumps(dict(checkpoint.assumed))
    if checkpoint.pixels:
        metadata["pixels"] = json.dumps(checkpoint.pixels)
    # Mapped tensors are written as they are; only what shares memory is copied, which safetensors refuses.
    tensors = {key: whole(x) for key, x in checkpoint.tensors.items()}
    shared = Counter(x.untyped_storage().data_ptr() for x in tensors.values())
    state = {
        key: x.clone(memory_format=torch.contiguous_format)
        if shared[x.untyped_storage().data_ptr()] > 1
        else x.contiguous()
        for key, x in tensors.items()
    }
    write_atomically(path, lambda beside: save(state, beside, metadata))
