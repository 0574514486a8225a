"""The folder of a measuring run: run.json, and one Parquet file for each work unit and kind of table.

    run.json                       settings, images, plans and versions; written before the first unit
    pairs/unit-00000.parquet       a profile's: one row per (image, order, pair)
    images/unit-00000.parquet      a profile's: one row per (image, order). Its appearance commits the unit, always

Every file appears whole or not at all: it is written beside its place, flushed to disk, and moved there.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Part = str  # "images", and what else the run writes: "pairs", "saliency" …


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a path beside `path`, then put that file in its place.

    Raises:
        OSError: a folder that cannot be written to, a full disk; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Strict JSON: no NaN."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda beside: _write_text(beside, text))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """A summary table; floats with all their digits."""
    write_atomically(path, lambda beside: table.to_csv(beside, index=False))


def read_run(folder: Path, command: str = "profile") -> dict[str, Any] | None:
    """run.json of a run of `a2mim COMMAND`, or None where the folder holds no run.

    Raises:
        ValueError: measured units without run.json, or one that another command wrote.
    """
    path = folder / "run.json"
    if not path.exists():
        if finished_units(folder):
            raise ValueError(f"{folder} holds measured units but no run.json: give another output folder")
        return None
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        complete = isinstance(run, dict) and {"settings", "images", "status"} <= run.keys()
    except ValueError:
        complete = False
    # The first profiles did not write down their command; they alone had orders.
    if not complete or run.get("command", "profile" if "orders" in run else None) != command:
        article = "an" if command[0] in "aeiou" else "a"
        raise ValueError(f"{path} is not the record of {article} {command} run: give another output folder")
    return run


def refuse_unwritable(folder: Path) -> None:
    """Raises OSError where the folder cannot be made or written to, before any time is spent on measuring."""
    place = folder
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"{folder} cannot be an output folder: {place} is a file")
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to: choose another output folder")


def remove_orphans(folder: Path) -> None:
    """Delete the unfinished files of a process that was killed while it wrote."""
    for orphan in [*folder.glob(".*.tmp"), *folder.glob("*/.unit-*.tmp")]:
        orphan.unlink(missing_ok=True)


def write_unit(folder: Path, unit: int, parts: Mapping[Part, pd.DataFrame], about: Mapping[str, Any]) -> None:
    """Write one unit, `images` last: it counts as finished when that file is there. `about` goes into the metadata."""
    for part in sorted(parts, reverse=True):
        table = pa.Table.from_pandas(parts[part], preserve_index=False)
        table = table.replace_schema_metadata({"a2mim": json.dumps(about)})
        write_atomically(_unit_path(folder, part, unit), partial(pq.write_table, table))


def finished_units(folder: Path) -> set[int]:
    """Numbers of the units that were written completely."""
    matches = [re.fullmatch(r"unit-(\d+)\.parquet", path.name) for path in (folder / "images").glob("unit-*.parquet")]
    return {int(match[1]) for match in matches if match}


def read_part(folder: Path, part: Part) -> pd.DataFrame:
    """All rows of the finished units, in the order of the units."""
    units = sorted(finished_units(folder))
    paths = [path for unit in units if (path := _unit_path(folder, part, unit)).exists()]
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True) if paths else pd.DataFrame()


def read_about(folder: Path) -> list[dict[str, Any]]:
    """The metadata of every finished unit."""
    paths = [_unit_path(folder, "images", unit) for unit in sorted(finished_units(folder))]
    return [json.loads(pq.read_schema(path).metadata[b"a2mim"]) for path in paths]


def _unit_path(folder: Path, part: Part, unit: int) -> Path:
    return folder / part / f"unit-{unit:05d}.parquet"


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
