"""A run's folder: run.json (settings, versions, result), log.jsonl, and state/, from which it can go on.

Every file appears whole or not at all: it is written beside its place and moved there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError

from a2mim.bounds import check, complaint
from a2mim.checkpoints.archive import check_file, check_zip, is_zip, read_text
from a2mim.errors import one_line, out_of_memory
from a2mim.plain import differences, finite, from_plain, printable, to_plain
from a2mim.record import Record
from a2mim.versions import versions

S = TypeVar("S")
NOTHING: Mapping[str, Any] = {}
LONGEST_RECORD = 100_000_000
"""Bytes of a run.json: it lists the damaged images."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, then put that file in its place, on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that says whose it is: what a killed process left is told from everything else (interactions.runs.files).
    beside = path.with_name(f".{path.name}.{os.getpid()}@{platform.node()}.tmp")
    try:
        try:
            write(beside)
        except (RuntimeError, SafetensorError) as error:  # what torch and safetensors make of a full disk
            raise OSError(f"{path} cannot be written: {one_line(error)}") from error
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:  # a full disk does not say of what file
        if error.strerror:
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda beside: beside.write_text(text))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """A compressed .npz of NumPy arrays."""

    def save(beside: Path) -> None:
        with beside.open("wb") as file:  # a name without .npz would get it
            np.savez_compressed(file, **arrays)

    write_atomically(path, save)


def write_json(path: Path, content: Any) -> None:
    """Strict JSON. Raises ValueError for NaN and infinities, before anything is written."""
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path} is not written: there is a number in it that is not finite") from error
    write_text(path, text + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a run. Raises FileNotFoundError where there is none, ValueError where it is no record of a run."""
    path = folder / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no run: there is no run.json")
    try:
        run = json.loads(read_text(path, LONGEST_RECORD))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    refuse_damaged(run, path)
    return run


def refuse_damaged(run: Any, path: Path) -> None:
    """Raise ValueError where what was read from a run.json is no record of a training run, and say which part."""
    if wrong := complaint(run, Record):
        if isinstance(run, dict) and "status" in run and isinstance(run.get("command"), str):
            raise ValueError(f"{path.parent} holds a run of `a2mim {printable(run['command'])}`, which trains nothing")
        raise ValueError(
            f"{path} is not the record of a training run (it {wrong}): put back the file that the run wrote, or begin "
            "a new run in another folder"
        )


ALWAYS = ("network", "data", "optim", "loop")
"""Parts of the settings of every training run, which are not taken for defaults where a record lacks them."""


def stored_settings(kind: type[S], folder: Path, run: Mapping[str, Any]) -> S:
    """The settings in a run's record. Raises ValueError where they are none of `kind`."""
    try:
        known = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
        if gone := [part for part in ALWAYS if part in known and part not in run["settings"]]:
            raise ValueError(f"settings.{gone[0]} is missing")
        settings = from_plain(kind, run["settings"])
        if dataclasses.is_dataclass(settings):  # plain data has no types
            check(settings, lambda name: name)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the settings in {folder / 'run.json'} cannot be used ({error}): put back the file that the run wrote, or "
            "begin a new run in another folder"
        ) from error
    return settings


def open_run(
    folder: Path,
    command: str,
    settings: Any,
    free: Sequence[str] = (),
    about: Mapping[str, Any] = NOTHING,
    first: Mapping[str, Any] = NOTHING,
) -> dict[str, Any]:
    """Begin a run in `folder`, or go on with the one that is there.

    settings: a frozen dataclass, or plain data; `free` names those that may differ ('loop.minutes'). A setting that the
    run there does not know yet counts as the default of its dataclass.
    about: what else to say of this start, such as the commit: of the first one in run.json itself, of each later one
    in its list `resumed`.
    first: what to say where the run begins, and never again.

    A finished run that is asked for more epochs, and for nothing else, is not finished any more: its weights are kept
    under the name of their epochs, and what it had reached goes into its list `extended`.

    Raises ValueError as `run_there` does.
    """
    run = run_there(folder, command, settings, free)
    if run is None:
        run = {"command": command, "settings": to_plain(settings), "versions": versions(), "started": _now()}
        write_json(folder / "run.json", {**run, **about, **first, "finished": False, "resumed": []})
    elif run["finished"] and added_epochs(run, settings) > 0:
        extend(folder, run, settings, about)
    elif not run["finished"]:
        entry = {"started": _now(), "versions": versions(), **about}
        update_run(folder, settings=to_plain(settings), resumed=[*run.get("resumed", []), entry])
    return read_run(folder)


def known_run(folder: Path) -> dict[str, Any] | None:
    """The record of the run in a folder; None where there is none. Raises as `read_run` does."""
    return read_run(folder) if (folder / "run.json").exists() else None


def run_there(folder: Path, command: str, settings: Any, free: Sequence[str] = ()) -> dict[str, Any] | None:
    """The run that `open_run` would go on with; None where it would begin one.

    Raises ValueError where the folder holds another command's run or other settings (and says which), or files that
    are no run.
    """
    if not (folder / "run.json").exists():
        if folder.is_dir() and any(not _begun(path) for path in folder.iterdir()):
            raise ValueError(f"{folder} holds files but no run: name another folder with --out")
        return None
    run = read_run(folder)
    if run["command"] != command:
        raise ValueError(f"{folder} holds a run of `a2mim {run['command']}`: name another folder with --out")
    there = to_plain(stored_settings(type(settings), folder, run))
    changed = [part for part in differences(there, to_plain(settings)) if part.split(" was ")[0] not in free]
    if changed and not extends(run, changed, settings):
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): "
            "repeat its settings, or name another folder with --out"
        )
    if run["finished"] and saved_step(folder) != run.get("step"):
        raise ValueError(
            f"{folder} holds a finished run that has lost the state it ended with (state/), and can neither be gone on "
            "with nor extended: begin a new run with its backbone.safetensors as --weights"
        )
    return run


def extends(run: Mapping[str, Any], changed: Sequence[str], settings: Any) -> bool:
    """Whether settings, which differ from a run's in `changed`, ask for more epochs than it was finished with, and for
    nothing else."""
    alone = [part.split(" was ")[0] for part in changed] == ["optim.epochs"]
    return alone and run["finished"] and added_epochs(run, settings) > 0


def added_epochs(run: Mapping[str, Any], settings: Any) -> int:
    """How many more epochs settings ask for than those of a run."""
    wanted, there = (plain.get("optim", {}).get("epochs", 0) for plain in (to_plain(settings), run["settings"]))
    return wanted - there


def extend(folder: Path, run: Mapping[str, Any], settings: Any, about: Mapping[str, Any]) -> None:
    """Make a finished run one that goes on to more epochs."""
    before = run["settings"]["optim"]["epochs"]
    for weights in folder.glob("*.safetensors"):
        if not weights.stem.endswith("-epochs"):
            os.replace(weights, weights.with_stem(f"{weights.stem}-{before}-epochs"))
    reached = {name: run[name] for name in ("step", "last", "best") if name in run}
    entry = {"epochs": before, **reached, "started": _now(), "versions": versions(), **about}
    extended = [*run.get("extended", []), entry]
    update_run(folder, settings=to_plain(settings), finished=False, extended=extended)


def _begun(path: Path) -> bool:
    """Whether a file is all that a process left which was killed before its first run.json: its lock, and that file."""
    return path.name.startswith((".lock", ".run.json."))


def update_run(folder: Path, **fields: Any) -> None:
    """Put `fields` into run.json."""
    write_json(folder / "run.json", {**read_run(folder), **fields})


def _now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# ---------------------------------------------------------------------------------------------------- states


STATE = {"step", "method", "optimizer", "scaler", "ema", "recent", "epoch_average", "closed_epochs", "best"}
"""What every saved state holds."""


def save_state(folder: Path, state: dict[str, Any], keep: int, best: bool = False) -> Path:
    """Write state/step-N.pt, remove all but the newest `keep`, and make it state/best.pt as well if it is the best."""
    path = folder / "state" / f"step-{state['step']:08d}.pt"
    write_atomically(path, lambda beside: _save(state, beside))
    if best:
        make_best(path)
    remove_old(folder, keep)
    return path


def _save(state: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:  # by its name, torch would put that into the file: other bytes in every process
        torch.save(state, file)


def settle_states(folder: Path, state: Mapping[str, Any], keep: int) -> None:
    """What saving the newest `state` was to do after writing it, where the process was killed in between."""
    if state["best"].get("step") == state["step"]:
        make_best(_states(folder)[-1])
    remove_old(folder, keep)


def make_best(path: Path) -> None:
    """Make a saved state state/best.pt as well."""
    write_atomically(path.with_name("best.pt"), lambda beside: _link(path, beside))


def remove_old(folder: Path, keep: int) -> None:
    """Remove all saved states but the newest `keep`."""
    for old in _states(folder)[: -max(1, keep)]:
        old.unlink()


def _link(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, other)


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The latest saved state, tensors on the CPU; None where there is none.

    Raises ValueError for a file that is not a saved state.
    """
    paths = _states(folder)
    return _read_state(paths[-1]) if paths else None


def best_state(folder: Path) -> dict[str, Any] | None:
    """The best of the saved states, as `newest_state` gives the latest."""
    path = folder / "state" / "best.pt"
    return _read_state(path) if path.exists() else None


def state_path(folder: Path) -> Path:
    """The file of the latest saved state. Raises IndexError where there is none."""
    return _states(folder)[-1]


def saved_step(folder: Path) -> int:
    """The step of the latest saved state, told by its name; 0 where there is none."""
    paths = _states(folder)
    return int(paths[-1].stem.removeprefix("step-")) if paths else 0


def _read_state(path: Path) -> dict[str, Any]:
    try:
        check_file(path)
        if is_zip(path):
            check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ValueError(f"{path} cannot be read: remove it to go on from an older state") from error
    if not isinstance(state, dict) or not state.keys() >= STATE or not isinstance(state["step"], int):
        raise ValueError(f"{path} is not a state of a run: remove it to go on from an older state")
    return state


def _states(folder: Path) -> list[Path]:
    return sorted((folder / "state").glob("step-*.pt"))


# ---------------------------------------------------------------------------------------------------- log


class Log:
    """log.jsonl, one flat JSON object a line, and TensorBoard's files where it is installed.

    Opened at `step`: lines after it belong to work that was lost, and are dropped; so is that of an epoch which ends
    there and is not `closed` yet: it was written, and then the process was killed before it could be saved.
    """

    def __init__(self, folder: Path, step: int, closed: bool = True) -> None:
        self.path = folder / "log.jsonl"
        if self.path.exists():
            kept = [line for line in read_log(folder) if line["step"] <= step]
            kept = [line for line in kept if closed or line["step"] < step or line["kind"] != "epoch"]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_text(self.path, text)
        self.file = self.path.open("a")
        self.board = _tensorboard(folder, step)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append a line; kind: train, epoch or evaluation."""
        self.file.write(json.dumps({"kind": kind, "step": step, **finite(values)}, allow_nan=False) + "\n")
        self.file.flush()
        for name, value in values.items() if self.board else ():
            if isinstance(value, int | float):
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self.file.close()
        if self.board:
            self.board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl; one cut short by a kill is left out.

    Raises ValueError for a line that is none of a log, and where it is no file.
    """
    path, lines = folder / "log.jsonl", []
    check_file(path)
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            read = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not (isinstance(read, dict) and isinstance(read.get("step"), int) and isinstance(read.get("kind"), str)):
            raise ValueError(f"line {number} of {path} is none of a training log: remove it")
        lines.append(read)
    return lines


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
