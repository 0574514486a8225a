"""What a run's folder holds, finished or not: its record, and the rows of the units that are there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from interactions.runs import storage

R = TypeVar("R", bound="Results")


@dataclass(frozen=True)
class Results:
    """What a run measured so far. `record` is its run.json."""

    folder: Path
    record: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        return self.record["settings"]

    def rows(self, part: storage.Part) -> pd.DataFrame:
        """Of all units that are there."""
        return storage.read_part(self.folder, part)


def load(kind: type[R], folder: str | Path, command: str, what: str) -> R:
    """The run of `a2mim COMMAND` in a folder, finished or not; `what` it is called where there is none.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a run.json that is not of such a run.
    """
    record = storage.read_run(Path(folder), command)
    if record is None:
        raise FileNotFoundError(f"{folder} holds no {what}: there is no run.json")
    return kind(Path(folder), record)
