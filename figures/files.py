"""Files that appear whole or not at all."""

import os
import platform
from collections.abc import Callable
from pathlib import Path


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
