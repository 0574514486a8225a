"""The table of several segmentation runs on the same pictures: mIoU of each, and how far it is from the first one's.

python -m experiments.studies.transfer RUN [RUN ...] --out table.csv
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from a2mim.runs import read_run, write_atomically
from a2mim.segment.scores import difference
from experiments import cli
from experiments.outputs import claim


@dataclass(frozen=True)
class Settings:
    """Compare segmentation runs on the same pictures with the first of them."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs of `a2mim segment`."""
    out: Path = Path("transfer.csv")
    """The table to write."""


def counts_in(folder: Path) -> np.ndarray:
    """Of the last evaluation (N, 3, K). Raises ValueError where the run holds none."""
    read_run(folder)
    try:
        with np.load(folder / "counts.npz") as file:
            return file["counts"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no counts of pictures (counts.npz): it is no run of a2mim segment") from error


def row(folder: Path, first_N3K: np.ndarray, name: str) -> dict[str, Any]:
    """A run's line of the table. Raises ValueError for a run on other pictures or classes."""
    counts_N3K = counts_in(folder)
    if counts_N3K.shape != first_N3K.shape or not (counts_N3K[:, 1] == first_N3K[:, 1]).all():
        raise ValueError(f"{folder} was evaluated on other pictures than {name}: compare runs on the same")
    last = read_run(folder)["last"]
    kept = {key: last.get(key) for key in ("miou", "miou_low", "miou_high", "mean_accuracy", "pixel_accuracy")}
    return {"run": folder.name, **kept, **difference(first_N3K, counts_N3K), "pictures": len(counts_N3K)}


def run(settings: Settings) -> None:
    """Write the table and print it."""
    if not settings.runs:
        raise ValueError("no runs were named: give the folders of segmentation runs")
    claim([settings.out])
    first_N3K = counts_in(settings.runs[0])
    table = pd.DataFrame([row(folder, first_N3K, str(settings.runs[0])) for folder in settings.runs])
    write_atomically(settings.out, lambda beside: table.to_csv(beside, index=False, float_format="%.2f"))
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    raise SystemExit(cli.start(Settings, run, sys.argv[1:], "python -m experiments.studies.transfer"))
