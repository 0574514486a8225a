"""How a benchmark begins and ends: its threads and what else its numbers depend on; a table with a record beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from experiments.folders import read_record
from experiments.machine import provenance
from interactions.runs.files import write_csv, write_json


def begin(settings: Any, device: torch.device) -> dict[str, Any]:
    """Give torch its threads, where they are limited; returns what the numbers depend on, ready for JSON."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return provenance(settings, device)


def quickened(settings: Any, **small: Any) -> Any:
    """The settings of a --quick run: these in place of the usual ones, and what was asked for as asked."""
    asked = {name for name in small if getattr(settings, name) != getattr(type(settings), name)}
    return replace(settings, **{name: value for name, value in small.items() if name not in asked})


def refuse_other_run(folder: Path, mark: str) -> None:
    """Raise ValueError where a folder's run.json is not of this benchmark, which alone writes `mark` into it."""
    record = read_record(folder)
    if record and mark not in record:
        raise ValueError(f"{folder} holds a run of another command: give another folder with --out")


def file_name(model: str) -> str:
    """A model's name, or that of a factory, as the name of a file."""
    return model.replace(":", "-").replace("/", "-")


def write_results(folder: Path, name: str, table: pd.DataFrame, record: dict[str, Any]) -> None:
    """NAME.csv and NAME.json, and say so."""
    write_csv(folder / f"{name}.csv", table)
    write_json(folder / f"{name}.json", record)
    print(f"wrote {folder / name}.csv and .json")
