"""From a file to tensors under timm's names.

A file from the internet must not run code: pickles are read with `weights_only=True`, which knows tensors and plain
containers alone.
"""

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from a2mim.checkpoints.convert import recognise
from a2mim.checkpoints.errors import CheckpointError, listed

# Averaged weights come first, as in timm: they are what a run that kept them was evaluated with.
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state", "model_state_dict", "module")

# What wrappers write in front of every key: DistributedDataParallel and torch.compile.
PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file under timm's names, and what the file was."""

    tensors: dict[str, Tensor]
    path: Path
    container: str
    """Key of the file's top level that held the tensors; empty for a flat file."""
    prefix: str
    """What was stripped from the front of every key."""
    source: str
    """Whose names the file used (see `convert`)."""


def read(path: str | Path) -> Checkpoint:
    """Read a .safetensors file or a torch pickle (.pth, .pt, .bin) onto the CPU, running no code that it may hold.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint, damaged, or with other things inside than plain tensors.
    """
    path = Path(path)
    container, tensors = unwrap(read_file(path), path)
    prefix, tensors = strip_prefixes(tensors)
    source = recognise(tensors)
    return Checkpoint(source.convert(tensors), path, container, prefix, source.name)


def read_file(path: Path) -> Any:
    """Whatever the file holds: plain containers, numbers, strings and tensors."""
    if path.is_dir():
        raise CheckpointError(f"checkpoint '{path}' is a folder: name the file in it")
    if not path.exists():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # A training checkpoint often carries its command line, which is an inert record. What torch would warn of (odd
        # pickle protocols, TorchScript) is refused below in one sentence.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            # Only the zip format can be mapped, and so be read without a second copy in memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
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
    if "TorchScript" in str(error):
        return f"checkpoint '{path}' is a TorchScript program, which is code: save the model's state_dict() instead"
    return (
        f"checkpoint '{path}' cannot be read as a {'safetensors' if path.suffix == '.safetensors' else 'torch'} file: "
        "it is damaged, cut short, or something else; fetch it again and compare its size"
    )


def unwrap(content: Any, path: Path) -> tuple[str, dict[str, Tensor]]:
    """Find the state dict in what a file holds: (key of the container or "", tensors by name)."""
    if not isinstance(content, Mapping) or not content:
        kind = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"checkpoint '{path}' holds {kind}, not tensors by name: save model.state_dict()")
    container = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping) and content[key]), "")
    tensors = content[container] if container else content
    foreign = [str(key) for key, value in tensors.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if foreign:
        where = f"under '{container}'" if container else "at its top level"
        raise CheckpointError(
            f"checkpoint '{path}' holds {len(foreign)} things {where} that are not tensors by name "
            f"({listed(foreign)}): save model.state_dict() alone, or under 'state_dict'"
        )
    return container, dict(tensors)


def strip_prefixes(tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Take wrappers' prefixes off, as long as every key carries the same one: (what was taken off, tensors)."""
    stripped = ""
    while tensors and (prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), "")):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
        stripped += prefix
    return stripped, tensors
