"""Files that appear whole or not at all, and what a process that was killed left beside them.

While a file is written it is called .NAME.PID@HOST.tmp and lies beside its place. Of such files, those whose process
is gone from this host are removed; others' files are never touched, whatever they are called.
"""

import json
import os
import platform
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LARGEST = 10**9
"""Bytes that an .npz may unpack to."""
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]+)@(?P<host>.+)\.tmp", re.DOTALL)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path`, flush that file to disk, and put it in its place.

    Raises:
        OSError: a folder that cannot be written to, a full disk; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(path.parent, path.name)
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Strict JSON: no NaN."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_csv(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """A summary table; floats with all their digits, or as `float_format` says."""
    write_atomically(path, lambda beside: table.to_csv(beside, index=False, float_format=float_format))


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


def remove_orphans(folder: Path, name: str | None = None) -> None:
    """Delete the unfinished files of processes that were killed: in a folder, those of one name or of any."""
    for path in orphans(folder.iterdir() if folder.is_dir() else ()):
        if name is None or TEMPORARY.fullmatch(path.name)["name"] == name:  # type: ignore[index]
            path.unlink(missing_ok=True)


def orphans(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that a process of this host began to write and that is gone."""
    found = ((path, TEMPORARY.fullmatch(path.name)) for path in paths)
    here = platform.node()
    return [path for path, match in found if match and match["host"] == here and not is_alive(int(match["pid"]))]


def is_alive(pid: int) -> bool:
    """Whether another process of that number runs on this host. (A file of this one's is from one that had its number
    before: in containers numbers come again.)"""
    if pid == os.getpid():
        return False
    if os.name != "posix":
        return True  # nothing there asks without a signal; what is left over stays
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
