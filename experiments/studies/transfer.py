"""The table of several runs of segmentation, or of detection, on the same pictures: mIoU or box AP of each, and how far
it is from the first one's.

python -m experiments.studies.transfer RUN [RUN ...] --out table.csv
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from a2mim.detect import scores
from a2mim.detect.scores import Matches
from a2mim.runs import read_run, write_atomically
from a2mim.segment.scores import difference
from experiments import cli
from experiments.outputs import claim

SEGMENTED = ("miou", "miou_low", "miou_high", "mean_accuracy", "pixel_accuracy")
DETECTED = ("box_ap", "box_ap_low", "box_ap_high", "box_ap50", "box_ap75")


@dataclass(frozen=True)
class Settings:
    """Compare runs of segmentation, or of detection, on the same pictures with the first of them."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs of `a2mim segment`, or of `a2mim detect`."""
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


def matches_in(folder: Path) -> Matches:
    """Of the boxes of the last evaluation. Raises ValueError where the run holds none."""
    try:
        with np.load(folder / "matches.npz") as file:
            return Matches(**{each.name: file[f"box_{each.name}"] for each in fields(Matches)})
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no matches of boxes (matches.npz): it is no run of a2mim detect") from error


def row(folder: Path, first: Any, name: str) -> dict[str, Any]:
    """A run's line of the table, beside what the first one found. Raises ValueError for a run on other pictures or
    classes."""
    found: Any
    apart: Any
    if isinstance(first, Matches):
        found, columns, apart = matches_in(folder), DETECTED, boxes_apart
        same = found.there.shape == first.there.shape and (found.there == first.there).all()
    else:
        found, columns, apart = counts_in(folder), SEGMENTED, difference
        same = found.shape == first.shape and (found[:, 1] == first[:, 1]).all()
    if not same:
        raise ValueError(f"{folder} was evaluated on other pictures than {name}: compare runs on the same")
    last = read_run(folder)["last"]
    pictures = found.there.shape[2] if isinstance(found, Matches) else len(found)
    return {"run": folder.name, **{key: last.get(key) for key in columns}, **apart(first, found), "pictures": pictures}


def boxes_apart(first: Matches, second: Matches) -> dict[str, float]:
    return scores.difference(first, second, "box")


def run(settings: Settings) -> None:
    """Write the table and print it."""
    if not settings.runs:
        raise ValueError("no runs were named: give the folders of runs")
    claim([settings.out])
    leader = settings.runs[0]
    first: Any = matches_in(leader) if read_run(leader)["command"] == "detect" else counts_in(leader)
    table = pd.DataFrame([row(folder, first, str(leader)) for folder in settings.runs])
    write_atomically(settings.out, lambda beside: table.to_csv(beside, index=False, float_format="%.2f"))
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    raise SystemExit(cli.start(Settings, run, sys.argv[1:], "python -m experiments.studies.transfer"))
