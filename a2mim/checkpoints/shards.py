"""Hugging Face's networks in several files: an index says which file, in its own folder, holds which tensor."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from a2mim.checkpoints.archive import read_text
from a2mim.checkpoints.errors import CheckpointError, listed
from a2mim.checkpoints.stated import parsed

INDEX = re.compile(r"\.index\.json$")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
FILE = re.compile(r"[A-Za-z0-9_.-]{1,200}\.(safetensors|bin)")
"""The name of a file beside the index: no path, so that nothing outside its folder is opened."""

MOST = 1000
"""Files of one network."""


def is_index(path: Path) -> bool:
    return INDEX.search(path.name) is not None


def is_shard(path: Path) -> bool:
    return SHARD.search(path.name) is not None


def read_index(
    path: Path, read_file: Callable[[Path], tuple[Any, dict[str, str]]]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that an index names, from the files beside it; each file may hold no other tensor.

    read_file: what reads one file safely.

    Raises:
        FileNotFoundError: no index, or not all of its files.
        CheckpointError: an index of another form; a name that is no file beside it; tensors that are missing or extra.
    """
    places = places_in(path)
    names = sorted(set(places.values()))
    if missing := [name for name in names if not (path.parent / name).is_file()]:
        raise FileNotFoundError(f"'{path}' names files that are not beside it: {listed(missing)}")
    tensors: dict[str, Tensor] = {}
    for name in names:
        content, _ = read_file(path.parent / name)
        expected = {key for key, place in places.items() if place == name}
        if not isinstance(content, dict) or content.keys() != expected:
            odd = expected ^ set(content) if isinstance(content, dict) else expected
            raise CheckpointError(
                f"'{path.parent / name}' and its index '{path.name}' disagree about {listed(map(str, odd))}"
            )
        tensors |= content
    return tensors, {}


def places_in(path: Path) -> dict[str, str]:
    """Tensor → the file beside the index that holds it, as the index says. Raises as `read_index`."""
    said = parsed(read_text(path), f"'{path}'")
    places = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"'{path}' names no files of a network: fetch it again")
    names = sorted(set(places.values()))
    if len(names) > MOST or not all(FILE.fullmatch(name) for name in names):
        raise CheckpointError(
            f"'{path}' names something else than files beside it ({listed(names)}), which is not opened"
        )
    return places
