"""A figure drawn anew from the file that says where it came from, and from copies of its tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from figures.files import read_json
from figures.runs import KINDS, Run, digest_of

RUN: Mapping[str, Any] = {"folder": str, "name": str, "panel": str, "files": dict}
"""Of what kind the parts of a run are that a figure was drawn from."""
OPTIONS: Mapping[str, Any] = {"measure": str, "dropped": str, "title": str, "pictures": int, "grey": list}
"""Of what kind the options are."""


class Source(NamedTuple):
    """Which figure it is, its runs, the options that it was drawn with, and what was noted on it."""

    figure: str
    runs: list[Run]
    options: Mapping[str, Any]
    note: str


def read_source(path: str | Path) -> Source:
    """What FIGURE.json says, with tables that have the very contents which the figure was drawn from.

    They are looked for in the folders of the runs, then among all files of the folder of results: that of the figure,
    and the one above where that is called figures.

    Raises:
        FileNotFoundError: no such file, or a table that has gone.
        ValueError: a file that is not of a figure.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the .json that a2mim figure wrote beside a figure")
    about = read_json(path)
    entries = about.get("runs")
    if not (isinstance(entries, list) and entries and isinstance(about.get("figure"), str)):
        raise ValueError(f"{path} is not the record of a figure")
    if not all(map(is_run, entries)):
        raise ValueError(f"{path} is not the record of a figure: it does not say which runs it was drawn from")
    options = about.get("options") or {}
    if not (isinstance(options, dict) and all(_is_option(*each) for each in options.items())):
        raise ValueError(f"{path} is damaged (its options): put back the file that a2mim figure wrote")
    folder = path.parent.parent if path.parent.name == "figures" else path.parent
    copies: dict[str, Path] = {}
    runs = [Run(Path(one["folder"]), one["name"], one["panel"], one, _tables(one, folder, copies)) for one in entries]
    return Source(about["figure"], runs, options, str(about.get("note") or ""))


def is_run(entry: Any) -> bool:
    """Whether it is what a figure says of a run that it was drawn from."""
    if not (isinstance(entry, dict) and all(isinstance(entry.get(part), kind) for part, kind in RUN.items())):
        return False
    known = all(isinstance(entry[part], kind) for part, kind in KINDS.items() if entry.get(part) is not None)
    return known and all(isinstance(digest, str) for digest in entry["files"].values())


def _is_option(name: str, value: Any) -> bool:
    """Also of one that no figure takes, which is refused by its name."""
    return isinstance(value, OPTIONS.get(name, object)) and (name != "grey" or all(isinstance(x, str) for x in value))


def _tables(entry: Mapping[str, Any], folder: Path, copies: dict[str, Path]) -> dict[str, Path]:
    """Where the tables of one run lie; `copies`, all files of the folder by digest, is filled when one is needed."""
    found = {}
    for name, digest in entry["files"].items():
        own = Path(entry["folder"]) / name
        if own.is_file() and digest_of(own) == digest:
            found[name] = own
            continue
        if not copies:
            kinds = {Path(each).suffix for each in entry["files"]}
            copies |= {digest_of(each): each for each in sorted(folder.rglob("*")) if each.suffix in kinds}
        if digest not in copies:
            raise FileNotFoundError(
                f"{name} of {entry['name']}, from which the figure was drawn, lies neither in {entry['folder']} nor "
                f"below {folder}"
            )
        found[name] = copies[digest]
    return found
