"""The folder of a measuring run: run.json, one Parquet file for each work unit and kind of table, and the marks that
commit the units.

    run.json                       settings, images, plans and versions; written before the first unit
    pairs/unit-00000.parquet       a profile's: one row per (image, order, pair) of a look
    images/unit-00000.parquet      a profile's: one row per (image, order) of a look
    units/unit-00000.json          sizes and checksums of the unit's files: written last, it commits the unit
    unfinished/                    what is known of units that are being measured (see unfinished.py)

A unit counts where its mark is there and its files are what the mark says; any other is measured again.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from interactions.runs.files import remove_orphans, write_atomically, write_json
from interactions.runs.kinds import wrong_part
from interactions.speed import from_older

Part = str  # "images", and what else the run writes: "pairs", "saliency" …
PART = re.compile("[a-z_]+")
LONGEST_RECORD = 100_000_000
"""Bytes of a run.json."""


def read_run(folder: Path, command: str = "profile") -> dict[str, Any] | None:
    """run.json of a run of `a2mim COMMAND`, or None where the folder holds no run.

    Raises:
        ValueError: measured units without run.json, one that is no file, one that another command wrote, or one with a
            part that is none of such a record (which).
    """
    path = folder / "run.json"
    if not path.exists():
        if any(folder.glob("*/unit-*")):
            raise ValueError(f"{folder} holds measured units but no run.json: give another output folder")
        return None
    if not path.is_file():  # a pipe, a device: reading could wait for ever, or never end
        raise ValueError(f"{path} is no file: give another output folder")
    if path.stat().st_size > LONGEST_RECORD:
        raise ValueError(f"{path} is too large for the record of a run: give another output folder")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        run = None
    # The first profiles did not write down their command; they alone had orders.
    if not isinstance(run, dict) or run.get("command", "profile" if "orders" in run else None) != command:
        article = "an" if command[0] in "aeiou" else "a"
        raise ValueError(f"{path} is not the record of {article} {command} run: give another output folder")
    refuse_damaged(run, command, path)
    return from_older(run)


def refuse_damaged(run: Mapping[str, Any], command: str, path: Path, whole: bool = True) -> None:
    """Raises ValueError where a part of what a run.json says is none of the record of such a run, and says which.

    whole: also where a part is missing.
    """
    if said := wrong_part(run, command, whole):
        raise ValueError(
            f"{path} is damaged ({said}): put back the file that the run wrote, or give another output folder"
        )


def refuse_unwritable(folder: Path) -> None:
    """Raises OSError where the folder cannot be made or written to, before any time is spent on measuring."""
    place = folder
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"nothing can be written into {folder}: {place} is a file")
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to: choose another output folder")


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files of a run's processes that were killed while they wrote."""
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        remove_orphans(place)


def write_unit(folder: Path, unit: int, parts: Mapping[Part, pd.DataFrame], about: Mapping[str, Any]) -> None:
    """Write one unit: its tables, and then the mark that names them, with what there is to say `about` the unit."""
    files = {}
    (folder / "units").mkdir(parents=True, exist_ok=True)  # tells the run from one without marks
    for part, rows in parts.items():
        path = _unit_path(folder, part, unit)
        table = pa.Table.from_pandas(rows, preserve_index=False)
        table = table.replace_schema_metadata({"a2mim": json.dumps(about)})
        write_atomically(path, partial(pq.write_table, table))
        files[part] = _seal(path.read_bytes())
    write_json(_mark_path(folder, unit), {"files": dict(sorted(files.items())), "about": about})


def remove_unit(folder: Path, unit: int) -> None:
    """Forget a unit: its mark first, so that it does not count while its files go."""
    files = read_mark(folder, unit).get("files", ())
    _mark_path(folder, unit).unlink(missing_ok=True)
    for part in files:
        _unit_path(folder, part, unit).unlink(missing_ok=True)


def mark_old_units(folder: Path, parts: Sequence[Part]) -> None:
    """Mark the units of a run from before there were marks that have all these parts, as they are now."""
    for unit in sorted(_numbers(folder / "images", "parquet") - _numbers(folder / "units", "json")):
        paths = {path.parent.name: path for path in sorted(folder.glob(f"*/unit-{unit:05d}.parquet"))}
        if set(parts) <= paths.keys():
            about = json.loads(pq.read_schema(paths["images"]).metadata[b"a2mim"])
            files = {part: _seal(path.read_bytes()) for part, path in paths.items()}
            write_json(_mark_path(folder, unit), {"files": dict(sorted(files.items())), "about": about})


def finished_units(folder: Path) -> set[int]:
    """Numbers of the units that were written completely and are as they were written."""
    marks = {unit: read_mark(folder, unit) for unit in _numbers(folder / "units", "json")}
    return {unit for unit, mark in marks.items() if mark and _is_intact(folder, unit, mark)}


def read_mark(folder: Path, unit: int) -> dict[str, Any]:
    """What a unit's mark says; empty where there is none, or none that can be read."""
    try:
        mark = json.loads(_content(_mark_path(folder, unit)))
        sound = bool(mark["files"]) and all(PART.fullmatch(part) for part in mark["files"])
        return mark if sound and isinstance(mark["about"], dict) else {}
    except (ValueError, KeyError, TypeError):
        return {}


def read_part(folder: Path, part: Part) -> pd.DataFrame:
    """All rows of the finished units, in the order of the units.

    Raises:
        ValueError: a file that is not what was written.
    """
    if not (folder / "units").is_dir():  # a run from before there were marks
        paths = [_unit_path(folder, part, unit) for unit in sorted(_numbers(folder / "images", "parquet"))]
        tables = [pd.read_parquet(path) for path in paths if path.exists()]
    else:
        marks = {unit: read_mark(folder, unit) for unit in sorted(_numbers(folder / "units", "json"))}
        tables = [_read(folder, part, unit, mark) for unit, mark in marks.items() if part in mark.get("files", ())]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def read_about(folder: Path) -> list[dict[str, Any]]:
    """What there is to say about every finished unit."""
    return [read_mark(folder, unit)["about"] for unit in sorted(finished_units(folder))]


def _read(folder: Path, part: Part, unit: int, mark: Mapping[str, Any]) -> pd.DataFrame:
    path = _unit_path(folder, part, unit)
    content = _content(path)
    if _seal(content) != mark["files"][part]:
        raise ValueError(
            f"{path} is not what was written ({'it changed since' if content else 'it is gone'}): start the run's "
            "command again, it measures that unit again"
        )
    return pd.read_parquet(io.BytesIO(content))


def _is_intact(folder: Path, unit: int, mark: Mapping[str, Any]) -> bool:
    paths = {part: _unit_path(folder, part, unit) for part in mark["files"]}
    return all(_seal(_content(path)) == mark["files"][part] for part, path in paths.items())


def _content(path: Path) -> bytes:
    """Nothing of what is no file: a pipe or a device might never end."""
    return path.read_bytes() if path.is_file() else b""


def _seal(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _numbers(folder: Path, suffix: str) -> set[int]:
    matches = (re.fullmatch(rf"unit-([0-9]+)\.{suffix}", path.name) for path in folder.glob("unit-*"))
    return {int(match[1]) for match in matches if match}


def _unit_path(folder: Path, part: Part, unit: int) -> Path:
    return folder / part / f"unit-{unit:05d}.parquet"


def _mark_path(folder: Path, unit: int) -> Path:
    return folder / "units" / f"unit-{unit:05d}.json"
