"""Files that appear whole or not at all."""

import json
import os
import platform
import zipfile
from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

LONGEST_RECORD = 100_000_000
"""Bytes of a run.json."""
LARGEST = 10**9
"""Bytes that an .npz may unpack to."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` with a path beside `path`, flush that file to disk, and put it in its place.

    Raises:
        OSError: a folder that cannot be written to, a full disk; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that says whose it is: what a killed process left is told from everything else (interactions.runs.files).
    beside = path.with_name(f".{path.name}.{os.getpid()}@{platform.node()}.tmp")
    try:
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:  # a full disk does not say of what file
        if error.strerror:
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)
    return path


def read_json(path: Path) -> dict[str, Any]:
    """What a record says.

    Raises:
        ValueError: a pipe or a device, whose reading might never end; a file of more than LONGEST_RECORD bytes, or that
            is no JSON; JSON of another kind.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file: put back the one that the command wrote")
    if (size := path.stat().st_size) > LONGEST_RECORD:
        raise ValueError(f"{path} has {size:,} bytes, too many for a record: put back the one that the command wrote")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not the record of a run, or of a figure")
    return record


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz, or those of these names that it holds. No object is read, which could run code.

    Raises:
        OSError: no such file, one that cannot be read.
        ValueError: another file; a damaged one; what would unpack to more than LARGEST bytes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        content = file.read(LARGEST)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            held = {name.removesuffix(".npy"): name for name in archive.namelist()}
            wanted = [name for name in (held if names is None else names) if name in held]
            if (unpacked := sum(archive.getinfo(held[name]).file_size for name in wanted)) > LARGEST:
                raise ValueError(f"it would unpack to {unpacked:,} bytes, and {LARGEST:,} are read")
            return {name: _array(archive, held[name]) for name in wanted}
    except MemoryError:
        raise
    except Exception as error:  # a damaged archive raises almost anything
        why = " ".join(str(error).split()) or "it ends early"
        raise ValueError(f"{path} cannot be read as .npz ({why})") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
