"""What every measuring run has in common: run.json, its record, and when a folder's run may go on."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from interactions.fingerprint import model_digest, names_digest, structure_digest
from interactions.forecast import DryRun, foretell
from interactions.outputs import device_of
from interactions.runs import storage
from interactions.runs.files import write_json
from interactions.runs.kinds import PREPARING
from interactions.runs.machine import machine
from interactions.runs.units import units_of
from interactions.selection import Chosen, Images

LIBRARIES = ("a2mim", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pyarrow", "captum")

NOTHING: Mapping[str, Any] = {}
PARTS = {"spectrum": ("amplitudes", "images")}
"""What made a unit count before there were marks, where it was more than its images."""


@dataclass(frozen=True)
class Material:
    """What a run measures: a model in evaluation mode and images, and what they are called."""

    model: nn.Module
    dataset: Images
    names: Sequence[str] | None
    """Of the images."""
    model_name: str
    data_name: str
    transform: Mapping[str, Any]
    """How the data set makes its images; empty where nothing is said of that."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        dataset: Images,
        names: Sequence[str] | None,
        model_name: str,
        data_name: str,
        transform: Mapping[str, Any],
    ) -> "Material":
        """A model or data set that is not named is called by its Python type.

        Raises ValueError for names that are too many or few.
        """
        if names is not None and len(names) != len(dataset):
            raise ValueError(f"{len(names)} names for {len(dataset)} images: give one for each")
        called = model_name or type(model).__name__, data_name or type(dataset).__name__
        return cls(model.eval(), dataset, names, *called, transform)

    def asked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What decides the result of a run, as JSON knows it: the model, the data and the settings."""
        record = {
            "model": {
                "name": self.model_name,
                "class": type(self.model).__name__,
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "digest": model_digest(self.model),
                "structure": structure_digest(self.model),
            },
            "data": {
                "name": self.data_name,
                "images": len(self.dataset),
                "digest": None if self.names is None else names_digest(self.names),
                **({"transform": dict(self.transform)} if self.transform else {}),
            },
            "settings": settings,
        }
        return json.loads(json.dumps(record))


def begin_run(
    folder: Path,
    asked: Mapping[str, Any],
    usual: Mapping[str, Any],
    settle: Callable[[], Mapping[str, Any]],
    place: Mapping[str, Any],
    tables: Sequence[str],
    command: str,
    prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    accompany: Callable[[Path], object] | None = None,
    free: Sequence[str] = (),
    say: bool = False,
    dry_run: bool = False,
    planned: Callable[[Mapping[str, Any]], int | None] = lambda record: len(record["images"]),
    again: Callable[[Sequence[Chosen]], object] | None = None,
) -> dict[str, Any]:
    """The record to go on with. A fresh run's is written in two steps: first what `settle` finds out, then what
    `prepare` measures with that. A finished run that has its units and its tables is left as it is.

    Args:
        usual: the default settings, which an older run's record may lack.
        settle: chooses what later numbers depend on and the clock or memory may decide, such as the batch size.
        place: when, where and with which versions this process works (`place_of`). That of a later start goes into
            the record's list `resumed`.
        command: that writes such runs.
        prepare: from the record so far; what it refuses leaves nothing of the run.
        accompany: writes into the folder what belongs to the run, before the record that begins to measure.
        free: settings that may differ from those of the run that is there.
        say: how long it will take, where that is long; dry_run: only that.
        planned: the images that a run that is there will have when it is done, None where nobody knows; may refuse it.
        again: reads images of a run that is there, and refuses what are not those: the first one is, whatever follows.

    Raises:
        ValueError: the folder holds a run with other settings, or of another command.
        DryRun: instead of anything that writes, where only the forecast was asked for.
        OSError: a folder that cannot be written to.
    """
    start = time.perf_counter()
    record = storage.read_run(folder, command)
    fresh = record is None
    if record is None:
        storage.refuse_unwritable(folder)
        record = {"command": command, **asked, **settle(), "status": PREPARING, "resumed": [], **place}
        record["units"] = 0
        foretell(record, folder, say, dry_run)
        record["seconds"] = time.perf_counter() - start
    else:
        refuse_other_settings(record, asked, usual, folder, free)
        images = planned(record)
        if dry_run:
            if images is None:
                raise DryRun(f"{folder} is finished; only as it goes on can it tell what more is asked of it takes")
            foretell(record, folder, say, dry_run, passes_left(folder, record, images))
        if again and record["images"]:
            again([Chosen(**record["images"][0])])
        storage.remove_leftovers(folder)
        if "units" not in record:
            storage.mark_old_units(folder, PARTS.get(command, ("images",)))
        if record["status"] == "complete" and is_whole(folder, record, tables):
            return record
        record["status"] = PREPARING if record["status"] == PREPARING else "running"
        record["resumed"].append(place)
    if record["status"] == PREPARING:
        before = record["seconds"] if not fresh else 0.0
        try:
            if prepare:
                write_json(folder / "run.json", record)
                record |= prepare(record)
            if accompany:
                accompany(folder)
        except Exception:
            if fresh:
                (folder / "run.json").unlink(missing_ok=True)
            raise
        record["status"], record["seconds"] = "running", before + time.perf_counter() - start
    write_json(folder / "run.json", record)
    return record


def passes_left(folder: Path, record: Mapping[str, Any], images: int) -> int:
    """About as many as a run that is there still takes until it has that many images."""
    units, left = units_of(record, record["settings"]["unit_images"]), images - len(record["images"])
    if record["status"] != "complete" or "units" in record:  # a finished one may be from before units were marked
        finished = storage.finished_units(folder)
        left += sum(len(of_unit) for unit, of_unit in enumerate(units) if unit not in finished)
    a_image = record.get("passes_per_image") or record["forecast"]["passes"] / len(record["images"])
    return round(max(left, 0) * a_image)


def is_whole(folder: Path, record: Mapping[str, Any], tables: Sequence[str]) -> bool:
    """Whether a complete run has its tables and its units."""
    units = set(range(record.get("units", 0)))
    return all((folder / name).exists() for name in tables) and units <= storage.finished_units(folder)


def place_of(model: nn.Module, about: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """When, where and with which versions this process works, and what else there is to say about that."""
    device = device_of(model)
    return {
        **about,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.type,
        "machine": {**machine(device), "processes": int(os.environ.get("WORLD_SIZE", 1))},
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}},
    }


def refuse_other_settings(
    record: Mapping[str, Any],
    asked: Mapping[str, Any],
    usual: Mapping[str, Any],
    folder: Path,
    free: Sequence[str] = (),
) -> None:
    """Raises ValueError where a folder's run was asked for something else, naming what; names alone may change.

    A setting that the run there does not know yet counts as its default.
    """
    there, now = json.loads(json.dumps(usual)) | flat(record), flat(asked)
    for each in (there, now):  # what was assumed is in words, which may come to say more
        if "data transform" in each:
            each["data transform"] = {key: x for key, x in each["data transform"].items() if key != "assumed"}
    allowed = ["model name", "data name", *free]
    if "model structure" not in there:
        allowed.append("model structure")  # of a run from before it was noted, which its weights have to tell
    if "compared" not in there:
        allowed.append("compared")  # of a run from before it was noted; its network tells
    if "data transform" not in there or "data transform" not in now:
        allowed.append("data transform")  # where one side does not say how its images are made, their pixels tell
    keys = [key for key in {**now, **there} if key not in allowed]
    told = {key: (there.get(key, "unknown"), now.get(key, "unknown")) for key in keys}
    differ = {key: (before, after) for key, (before, after) in told.items() if before != after}
    if differ.keys() == {"budget"} and differ["budget"][0] is None and there.get("precision") is not None:
        raise ValueError(
            f"{folder} holds a run to a precision: give --precision as well (with --images or without), and no budget, "
            "or another output folder"
        )
    if differ:
        changes = "; ".join(f"{key} {before} there, {after} now" for key, (before, after) in differ.items())
        raise ValueError(
            f"{folder} holds a run with other settings ({changes}): give another output folder, or the same settings"
        )


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a result, by the words that name it."""
    parts = {"model ": record["model"], "data ": record["data"], "": record["settings"]}
    return {f"{part}{key}": value for part, values in parts.items() for key, value in values.items()}


def installed(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
