"""What a file holds: safe reading, the container of the tensors, wrappers' prefixes, several copies of a network.

A file from the internet must not run code: pickles are read with `weights_only=True`, which knows tensors and plain
containers alone, and the harmless records listed in `inert`.
"""

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from a2mim.checkpoints.archive import check_file, check_zip, is_zip
from a2mim.checkpoints.convert import Dropped, Tensors
from a2mim.checkpoints.errors import CheckpointError, listed
from a2mim.checkpoints.inert import INERT
from a2mim.checkpoints.script import read_script
from a2mim.checkpoints.shards import is_index, is_shard, read_index
from a2mim.checkpoints.sources.common import OTHER_COPY

# Where the tensors lie in a training checkpoint, the first that is there. Averaged weights come first, as in timm: they
# are what a run that kept them was evaluated with; of DINO's two networks the teacher is. (mmengine swaps before it
# saves: its average is in state_dict.)
CONTAINERS = (
    "state_dict_ema",
    "model_ema",
    "teacher",
    "student",
    "target_encoder",
    "encoder",
    "state_dict",
    "ema_state_dict",
    "model",
    "model_state",
    "model_state_dict",
    "module",
)

# What wrappers write in front of every key: DistributedDataParallel and torch.compile.
PREFIXES = ("module.", "_orig_mod.")

# Two copies of a network side by side: the trained one, and the average that follows it (MoCo v3, MoCo, lightly,
# solo-learn).
COPIES = (
    ("base_encoder", "momentum_encoder"),
    ("encoder_q", "encoder_k"),
    ("backbone", "backbone_momentum"),
    ("backbone", "momentum_backbone"),
)

# Buffers, which OpenMMLab's hook averages only when it is told to.
NEVER_AVERAGED = r"(running_mean|running_var|num_batches_tracked|_index|attn_mask|data_preprocessor\.(mean|std))$"


def read_file(path: Path) -> tuple[Any, dict[str, str]]:
    """Whatever the file holds (plain containers, numbers, strings and tensors), and the metadata of safetensors."""
    if path.is_dir():
        raise CheckpointError(f"checkpoint '{path}' is a folder: name the file in it")
    if not path.exists():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist")
    check_file(path, f"checkpoint '{path}'")
    if is_index(path):
        return read_index(path, read_one)
    if is_shard(path):
        raise CheckpointError(
            f"checkpoint '{path}' is a part of a network: give the list of its parts, the file beside it whose name "
            "ends with .index.json"
        )
    return read_one(path)


def read_one(path: Path) -> tuple[Any, dict[str, str]]:
    """The content and the metadata of a file that is whole or a part. Raises CheckpointError for a damaged one."""
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return safetensors.torch.load_file(path), metadata
        if (zipped := is_zip(path)) and check_zip(path):
            return read_script(path), {}
        # A training checkpoint often carries its command line and logs, which are inert records. What torch would warn
        # of (odd pickle protocols) is refused below in one sentence.
        allowed = torch.serialization.safe_globals([argparse.Namespace, *INERT])
        with allowed, warnings.catch_warnings(action="ignore"):
            # Only the zip format can be mapped, and so be read without a second copy in memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped), {}
    except (OSError, CheckpointError):
        raise
    except Exception as error:
        # Damaged bytes make the readers fail in any way at all (RuntimeError, EOFError, KeyError, struct.error …).
        raise CheckpointError(unreadable(path, error)) from error


def unreadable(path: Path, error: Exception) -> str:
    """One sentence about a file that could not be read."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"checkpoint '{path}' holds {foreign[1]}, not only plain tensors, and loading that could run code: "
            "save model.state_dict() alone, best as .safetensors"
        )
    return (
        f"checkpoint '{path}' cannot be read as a {'safetensors' if path.suffix == '.safetensors' else 'torch'} file: "
        "it is damaged, cut short, or something else; fetch it again and compare its size"
    )


def unwrap(content: Any, path: Path, copy: str = "") -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """Find the state dict in what a file holds: (key of the container or "", tensors by name, keys of all containers).

    copy: the container to take, where it is one; else the first of CONTAINERS.
    """
    if not isinstance(content, Mapping) or not content:
        kind = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"checkpoint '{path}' holds {kind}, not tensors by name: save model.state_dict()")
    containers = tuple(key for key in CONTAINERS if isinstance(content.get(key), Mapping) and content[key])
    container = copy if copy in containers else next(iter(containers), "")
    tensors = content[container] if container else content
    if isinstance(tensors.get("config"), Mapping):  # SparK's state dict carries its settings
        tensors = {key: value for key, value in tensors.items() if key != "config"}
    foreign = [str(key) for key, value in tensors.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    where = f"under '{container}'" if container else "at its top level"
    if foreign:
        raise CheckpointError(
            f"checkpoint '{path}' holds {len(foreign)} things {where} that are not tensors by name "
            f"({listed(foreign)}): save model.state_dict() alone, or under 'state_dict'"
        )
    inflated = [key for key, x in tensors.items() if stored(x) < x.numel()]
    if inflated:
        raise CheckpointError(
            f"checkpoint '{path}' holds {len(inflated)} tensors {where} with more elements than it stores "
            f"({listed(inflated)}): save model.state_dict() with each tensor contiguous"
        )
    others = tuple(key for key in containers if key != container)
    return container, dict(tensors), (container, *others) if others else ()


def stored(x: Tensor) -> int:
    """How many elements of a tensor there are in the file: an expanded one states more than it brings."""
    if x.layout != torch.strided:
        return x.numel()  # refused where it is fitted to a model
    if x.device.type != "cpu":
        return 0  # a tensor without content
    return x.untyped_storage().nbytes() // x.element_size()


def strip_prefixes(tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Take wrappers' prefixes off, as long as every key carries the same one: (what was taken off, tensors)."""
    stripped = ""
    while tensors and (prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), "")):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
        stripped += prefix
    return stripped, tensors


def choose_copy(tensors: Tensors, copy: str) -> tuple[Tensors, tuple[str, ...], Dropped]:
    """Of two networks in one state dict the one to read: (its tensors, names of both with that one first, the others).

    MoCo v3 writes base_encoder and momentum_encoder; OpenMMLab's averaging hook writes a buffer `ema_a_b_weight` beside
    `a.b.weight`, which it exchanges with the weights around each evaluation.
    """
    for base, other in COPIES:
        if not all(any(key.startswith(f"{name}.") for key in tensors) for name in (base, other)):
            continue
        taken, left = (other, base) if copy == other else (base, other)
        rest = {key: x for key, x in tensors.items() if not key.startswith((f"{base}.", f"{other}."))}
        ours = {f"{base}{key.removeprefix(taken)}": x for key, x in tensors.items() if key.startswith(f"{taken}.")}
        theirs = tuple(key for key in tensors if key.startswith(f"{left}."))
        if alone := [key for key in theirs if f"{base}{key.removeprefix(left)}" not in ours]:
            raise CheckpointError(f"{taken}, the copy to read, lacks what {left} has: {listed(alone)}")
        return ours | rest, (taken, left), {OTHER_COPY.format(left): theirs}
    averages = {f"ema_{key.replace('.', '_')}": key for key in tensors}
    found = {ema: key for ema, key in averages.items() if ema in tensors}
    if not found:
        return tensors, (), {}
    plain = {key: x for key, x in tensors.items() if key not in found}
    if copy == "ema":
        if alone := [key for key in plain if key not in found.values() and not re.search(NEVER_AVERAGED, key)]:
            raise CheckpointError(f"the average lacks {len(alone)} of the weights ({listed(alone)}): damaged?")
        others = tuple(found.values())
        plain |= {key: tensors[ema] for ema, key in found.items()}
        return plain, ("ema", "weights"), {OTHER_COPY.format("weights"): others}
    return plain, ("weights", "ema"), {OTHER_COPY.format("ema"): tuple(found)}
