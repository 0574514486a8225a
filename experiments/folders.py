"""What the folder of a run says of it, read by those who only look whether it is there: studies and benchmarks."""

from pathlib import Path
from typing import Any


def is_complete(folder: Path) -> bool:
    """Whether a training or a measuring run in this folder came to its end."""
    record = read_record(folder)
    return bool(record.get("finished")) or record.get("status") == "complete"


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder; empty where there is none."""
    return read_json(folder / "run.json")


def read_json(path: Path) -> dict[str, Any]:
    """What a study's file holds; empty where there is none.

    Raises:
        ValueError: a file that is not what a command wrote there.
    """
    from figures.files import read_json as read

    try:
        return read(path) if path.exists() else {}
    except ValueError as error:
        sentence = f"{path} is damaged: put back the file that was written there, or begin with another --out"
        raise ValueError(sentence) from error
