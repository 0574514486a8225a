"""What every measuring run has in common: its record in run.json, and the units of images that are left to measure."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from interactions import storage
from interactions.fingerprint import model_digest, names_digest
from interactions.ranks import Ranks
from interactions.selection import Chosen, Images

PACE = 0.5 if sys.stderr.isatty() else 10.0
"""Seconds between two updates of a progress bar; a log file need not have all of them."""
LIBRARIES = ("a2mim", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pyarrow")

NOTHING: Mapping[str, Any] = {}

Parts = Mapping[storage.Part, Any]
Measure = Callable[[Sequence[Chosen], Callable[[int], object]], tuple[Parts, Mapping[str, Any]]]
"""The images of a unit, and what to call with the number of passes made -> the unit's tables, and what to say about
them."""


def describe(
    model: nn.Module,
    dataset: Images,
    names: Sequence[str] | None,
    named: Mapping[str, str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides the result of a run, as JSON knows it: the model, the data and the settings."""
    record = {
        "model": {
            "name": named["model"],
            "class": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "digest": model_digest(model),
        },
        "data": {
            "name": named["data"],
            "images": len(dataset),
            "digest": None if names is None else names_digest(names),
        },
        "settings": settings,
    }
    return json.loads(json.dumps(record))


def begin_run(
    folder: Path,
    asked: Mapping[str, Any],
    usual: Mapping[str, Any],
    prepare: Callable[[], Mapping[str, Any]],
    place: Mapping[str, Any],
    tables: Sequence[str],
    command: str,
) -> dict[str, Any]:
    """The record to go on with. A fresh run's is written here, last of all, with what `prepare` finds out; a finished
    run that has its tables is left as it is.

    Args:
        usual: the default settings, which an older run's record may lack.
        place: when, where and with which versions this process works (`place_of`). That of a later start goes into
            the record's list `resumed`.
        command: that writes such runs.

    Raises:
        ValueError: the folder holds a run with other settings, or of another command.
        OSError: a folder that cannot be written to.
    """
    start = time.perf_counter()
    record = storage.read_run(folder, command)
    if record is None:
        storage.refuse_unwritable(folder)
        record = {"command": command, **asked, **prepare(), "status": "running", "resumed": [], **place}
        record["seconds"] = time.perf_counter() - start
    else:
        refuse_other_settings(record, asked, usual, folder)
        if record["status"] == "complete" and all((folder / name).exists() for name in tables):
            return record
        storage.remove_orphans(folder)
        record["status"] = "running"
        record["resumed"].append(place)
    storage.write_json(folder / "run.json", record)
    return record


def measure_units(
    folder: Path, record: dict[str, Any], unit_images: int, ranks: Ranks, measure: Measure, progress: bool
) -> None:
    """Measure and write this rank's share of the units that are not there yet."""
    chosen = [Chosen(**one) for one in record["images"]]
    units = [chosen[first : first + unit_images] for first in range(0, len(chosen), unit_images)]
    finished = ranks.from_first(lambda: storage.finished_units(folder))
    mine = [unit for unit in range(len(units)) if unit not in finished][ranks.rank :: ranks.size]
    before, start = record["seconds"], time.perf_counter()
    passes = record["passes_per_image"] * sum(len(units[unit]) for unit in mine)
    with tqdm(total=passes, unit=" passes", unit_scale=True, mininterval=PACE, disable=not progress) as bar:
        for unit in mine:
            parts, about = measure(units[unit], bar.update)
            storage.write_unit(folder, unit, parts, about)
            if ranks.rank == 0:
                record["seconds"] = before + time.perf_counter() - start
                storage.write_json(folder / "run.json", record)
        bar.total = bar.n  # how many passes an image takes was an estimate


def place_of(model: nn.Module, about: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """When, where and with which versions this process works, and what else there is to say about that."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        **about,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.type,
        "machine": {
            "accelerator": gpu,
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": int(os.environ.get("WORLD_SIZE", 1)),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}},
    }


def refuse_other_settings(
    record: Mapping[str, Any], asked: Mapping[str, Any], usual: Mapping[str, Any], folder: Path
) -> None:
    """Raises ValueError where a folder's run was asked for something else, naming what; names alone may change.

    A setting that the run there does not know yet counts as its default.
    """
    there, now = json.loads(json.dumps(usual)) | flat(record), flat(asked)
    keys = [key for key in {**now, **there} if key not in ("model name", "data name")]
    told = {key: (there.get(key, "unknown"), now.get(key, "unknown")) for key in keys}
    differ = {key: (before, after) for key, (before, after) in told.items() if before != after}
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
