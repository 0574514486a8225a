"""A figure drawn anew from the file that says where it came from, and from copies of its tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from figures.files import read_json
from figures.runs import Run, digest_of

PARTS = {"folder", "name", "panel", "files"}


class Source(NamedTuple):
    """Which figure it is, its runs, and the options that it was drawn with."""

    figure: str
    runs: list[Run]
    options: Mapping[str, Any]


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
    if not all(isinstance(one, dict) and one.keys() >= PARTS for one in entries):
        raise ValueError(f"{path} is not the record of a figure: it does not say which runs it was drawn from")
    folder = path.parent.parent if path.parent.name == "figures" else path.parent
    copies: dict[str, Path] = {}
    runs = [Run(Path(one["folder"]), one["name"], one["panel"], one, _tables(one, folder, copies)) for one in entries]
    return Source(about["figure"], runs, about.get("options") or {})


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
