"""The folders that a figure is drawn from: their names, panels and tables, and what says where it came from."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from figures.files import read_json, write_atomically
from figures.style import Look, looks, save
from figures.words import data_in_words, value_in_words

Record = Mapping[str, Any]
Facets = dict[str, Callable[[Record], Any]]
"""What runs are to have in common, and how a record tells it."""
SUFFIXES = (".png", ".pdf")
KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("settings", "data", "versions"), dict),
    **dict.fromkeys(("orders", "skipped", "resumed"), list),
    **dict.fromkeys(("command", "status"), str),
    "finished": bool,
}
"""Of what kind the parts of a run.json are, where they are there."""


@dataclass(frozen=True)
class Run:
    """A folder of results. Runs that share name and panel are seeds of one curve.

    name: what the legend calls it; one name has one look in all panels of a figure.
    panel: title of the panel that it is drawn in.
    record: its run.json; empty where there is none.
    tables: where tables lie that are not in the folder, by their names there.
    """

    folder: Path
    name: str
    panel: str
    record: Record = field(compare=False, repr=False)
    tables: Mapping[str, Path] = field(default_factory=dict, compare=False, repr=False)

    def table(self, name: str) -> Path:
        return self.tables.get(name, self.folder / name)

    def holds(self, table: str) -> bool:
        return self.table(table).is_file()


class Drawn(NamedTuple):
    """A figure, the files of each run that it was drawn from, and the note on it (what is missing or unlike)."""

    figure: Figure
    files: Mapping[Run, Sequence[str]]
    note: str


def open_runs(folders: Sequence[str | Path], names: Sequence[str] = (), panels: Sequence[str] = ()) -> list[Run]:
    """The runs in these folders.

    Args:
        names: one a run; the folders' own names when empty.
        panels: one a run; without them, all are in one panel without a title. A run may be in several panels.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no folder; a folder twice; names or panels that do not fit; an empty name; folders of one name
            and no names given; a run.json that cannot be read; a run that is not finished.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise ValueError("there is no run to draw: give at least one folder")
    for words, what in ((names, "names"), (panels, "panels")):
        if words and len(words) != len(paths):
            raise ValueError(f"{len(words)} {what} for {len(paths)} runs: give one for each, or none")
    refuse_empty(names)
    titles = list(panels) or [""] * len(paths)
    _refuse(list(zip(paths, titles, strict=True)), "the folder {} is given {} times: give each run once")
    if not names:
        names = [path.resolve().name for path in paths]
        # Runs that share a name count as seeds, which folders that happen to have the same name need not be.
        _refuse(list(zip(names, titles, strict=True)), "{} is the name of {} folders: give each a name with --names")
    given = zip(paths, names, titles, strict=True)
    return [Run(path, name, panel, _record(path)) for path, name, panel in given]


def refuse_empty(names: Sequence[str]) -> None:
    """Raise ValueError where one of the names of runs has no letters."""
    if not all(name.strip() for name in names):
        raise ValueError("a name is empty: give each run one that can be read")


def holding(runs: Sequence[Run], tables: Mapping[str, str]) -> dict[str, list[Run]]:
    """The runs that hold each table.

    Args:
        tables: the command that writes each.

    Raises:
        ValueError: a run that holds none of them.
    """
    for run in runs:
        if not any(map(run.holds, tables)):
            wanted = " or ".join(f"{table} (of `{command}`)" for table, command in tables.items())
            raise ValueError(f"{run.folder} lacks {wanted}, from which the figure is drawn")
    return {table: [run for run in runs if run.holds(table)] for table in tables}


def by_panel(runs: Iterable[Run]) -> dict[str, dict[str, list[Run]]]:
    """Panel → name → its runs, one a seed; in the order in which they were given."""
    panels: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        panels.setdefault(run.panel, {}).setdefault(run.name, []).append(run)
    return panels


def seed_counts(panels: Mapping[str, Mapping[str, Sequence[Run]]]) -> list[int]:
    """How many seeds each name of each panel has."""
    return [len(seeds) for names in panels.values() for seeds in names.values()]


def looks_of(runs: Iterable[Run], grey: Collection[str] = ()) -> dict[str, Look]:
    """One look for each name, the same in every panel; those in `grey` are what the others are compared with.

    Raises:
        ValueError: a name in `grey` that no run has.
    """
    panels = by_panel(runs)
    known = {name for names in panels.values() for name in names}
    if strange := [name for name in grey if name not in known]:
        raise ValueError(f"no run is called {', '.join(strange)}: the names are {', '.join(sorted(known))}")
    return looks(list(map(list, panels.values())), grey)


def unlike(runs: Sequence[Run], facets: Facets) -> str:
    """A sentence on what these runs were not measured alike in; empty where all is alike, or not recorded."""
    return differ_in(phrases_of(runs, facets))


def phrases_of(runs: Sequence[Run], facets: Facets) -> list[str]:
    """A phrase for each facet that is not alike: what it is, and which runs have which."""
    phrases = []
    for facet, of in facets.items():
        runs_of = grouped(runs, of)
        if len(runs_of) > 1:
            listed = "; ".join(f"{value}: {', '.join(who(some, runs))}" for value, some in runs_of.items())
            phrases.append(f"{facet} ({listed})")
    return phrases


def grouped(runs: Sequence[Run], of: Callable[[Record], Any]) -> dict[str, list[Run]]:
    """The runs by what their records say; those that say nothing are in no group."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if (value := looked_up(of, run.record)) is not None:
            groups.setdefault(str(value), []).append(run)
    return groups


def differ_in(phrases: Sequence[str]) -> str:
    """The phrases as a sentence; empty where there are none."""
    return f"These runs differ in {'; in '.join(phrases)}." if phrases else ""


def alike(runs: Sequence[Run], facets: Facets) -> str:
    """What all of these runs have in common of the facets, as a sentence; empty where nothing is known."""
    phrases = []
    for facet, of in facets.items():
        values = {str(looked_up(of, run.record)) for run in runs}
        if len(values) == 1 and (value := values.pop()) != "None":
            phrases.append(f"{facet} {value}")
    words = ", ".join(phrases)
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def who(some: Sequence[Run], runs: Sequence[Run]) -> list[str]:
    """The panels of some of the runs, where these are whole panels, else the runs' names."""
    panels = dict.fromkeys(run.panel for run in some)
    whole = len(some) == sum(run.panel in panels for run in runs)
    return list(panels if whole and all(panels) else dict.fromkeys(map(label, some)))


def looked_up(of: Callable[[Record], Any], record: Record) -> Any:
    """What a record says; None where it does not."""
    try:
        return of(record)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def data_name(record: Record) -> str:
    """What the images are called, without the folders that lead to them."""
    return data_in_words(record["data"]["name"])


def images_of(record: Record) -> int:
    """How many images were measured; a record of a figure holds their number alone."""
    images = record["images"]
    return len(images) if isinstance(images, list) else images


def output_words(record: Record) -> str:
    """What of the network v is; with `cosine`, whether it compares the output instead of pooled features."""
    settings = record["settings"]
    return value_in_words(settings["value"]) + (" of the output" if settings.get("compared") == "output" else "")


def unit_words(record: Record) -> str:
    """The unit of an axis."""
    return looked_up(output_words, record) or "units of v"


def grid_words(record: Record) -> str:
    """The players: a grid's cells, or the regions of a label map."""
    grid = record["settings"]["grid"]
    return grid if isinstance(grid, str) else f"{grid}×{grid}"


def order_words(record: Record) -> str:
    """The order ratios that were listed."""
    return ", ".join(f"{one['ratio']:g}" for one in record["orders"])


def pair_words(record: Record) -> str:
    """Which pairs of the players were measured; "pairs" goes before. (A run from before that was a choice: near.)

    The released sampling is told, since it counts pairs at the border more often.
    """
    settings = record["settings"]
    if (named := settings.get("pairs", "near")) != "near":
        return {"all": "of all players"}.get(named, named)
    if isinstance(settings["grid"], str):
        return "that touch"
    released = ", drawn as released" if settings.get("design") == "published" else ""
    return f"within radius {settings['radius']}{released}"


def ground_words(record: Record) -> str:
    """Players and pairs, for a sentence."""
    grid = "" if isinstance(record["settings"]["grid"], str) else " grid"
    return f"{grid_words(record)}{grid}, pairs {pair_words(record)}"


def label(run: Run) -> str:
    """The run's name, and its panel where that has a title."""
    return f"{run.name} ({run.panel})" if run.panel else run.name


def write_figure(
    drawn: Drawn, out: str | Path, name: str, runs: Sequence[Run], options: Mapping[str, Any]
) -> list[Path]:
    """Write OUT.png, OUT.pdf and OUT.json, which says from which runs and with which options the figure was made.

    Args:
        out: path without suffix; one of a figure is taken off.

    Raises:
        OSError: a folder that cannot be written to, a full disk.
    """
    *pictures, path = figure_files(out)
    files = [save(drawn.figure, picture) for picture in pictures]
    about = {
        "figure": name,
        "a2mim": _version(),
        "options": dict(options),
        "note": drawn.note,
        "runs": [provenance(run, drawn.files.get(run, ()), whole=bool(drawn.note)) for run in runs],
    }
    text = json.dumps(about, indent=1, default=str, allow_nan=False) + "\n"
    return [*files, write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))]


def figure_files(out: str | Path) -> list[Path]:
    """The files that `write_figure` writes. Raises ValueError for a path that names no file."""
    path = Path(out)
    name = path.stem if path.suffix.lower() in (*SUFFIXES, ".json") else path.name
    if name in ("", ".", ".."):
        raise ValueError(f"--out {out} is no name of a file: end it in one, as figures/fig5 does")
    return [path.with_name(name + suffix) for suffix in (*SUFFIXES, ".json")]


def provenance(run: Run, files: Sequence[str], whole: bool = False) -> dict[str, Any]:
    """Where the run's part of a figure comes from. What its run.json does not say is null.

    Args:
        files: of the run's folder, that were drawn; each is listed with its digest (sha256).
        whole: with what a note of runs that differ is made of: every image, its shape, orders, passes, kind of model.
    """
    record = run.record
    model, images = record.get("model"), record.get("images")
    name = model.get("name") if isinstance(model, Mapping) else model
    count = len(images) if isinstance(images, list) else images
    if whole:
        name = _only(model, ("name", "class", "parameters", "digest"))
        count = _only(images, ("image", "name", "target", "digest"))
        orders = _only(record.get("orders"), ("order", "ratio"))
    return {
        "name": run.name,
        "panel": run.panel,
        "folder": str(run.folder),
        "command": record.get("command"),
        "commit": record.get("commit"),
        "model": name,
        "model_digest": model.get("digest") if isinstance(model, Mapping) else record.get("model_digest"),
        "data": record.get("data"),
        "images": count,
        "settings": record.get("settings"),
        "versions": record.get("versions"),
        "files": {file: digest_of(run.table(file)) for file in files},
        **({name: record.get(name) for name in ("image_shape", "passes")} | {"orders": orders} if whole else {}),
    }


def _only(value: Any, names: Collection[str]) -> Any:
    """These parts of a mapping, or of each in a list of them; anything else as it is."""
    if isinstance(value, list):
        return [_only(each, names) for each in value]
    return {name: value[name] for name in names if name in value} if isinstance(value, Mapping) else value


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record(folder: Path) -> Record:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of a run: give the folder that the command wrote")
    path = folder / "run.json"
    if not path.exists():
        return {}
    record = read_json(path)
    if other := [name for name, kind in KINDS.items() if name in record and not isinstance(record[name], kind)]:
        kind = type(record[other[0]]).__name__
        raise ValueError(f"{path} is damaged ({other[0]} is a {kind}): put back the file that the run wrote")
    if record.get("status", "complete") != "complete" or not record.get("finished", True):
        raise ValueError(f"{folder} is unfinished: start its command again, it goes on where it was")
    return record


def _refuse(things: Sequence[Any], sentence: str) -> None:
    for thing in things:
        if (times := things.count(thing)) > 1:
            raise ValueError(sentence.format(thing[0] if isinstance(thing, tuple) else thing, times))


def _version() -> str | None:
    try:
        return version("a2mim")
    except PackageNotFoundError:
        return None
