"""The results of a study: its tables, and its figures as charts that tell their values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from figures.again import Source, is_run, read_source
from figures.curves import PRIMARY, read_strength
from figures.fig1 import read_occlusion
from figures.files import read_json
from figures.page.blocks import Block, Chart, Charts, Fold, Picture, Section
from figures.panels import FAMILIES
from figures.runs import Run, by_panel, label, looked_up
from figures.sections.captions import chart_words
from figures.sections.common import MASS, NUMBER, narrow, rows_of
from figures.sections.measured import frequency_chart, occlusion_chart, variance_chart
from figures.sections.pictures import study_figures
from figures.sections.strength import CHANCE, strength_chart
from figures.spectrum import NUMBERS
from figures.tables import has_rows, read_table
from figures.transfer import mass_note
from figures.words import data_in_words, setup_in_words

# Tables of a study: what the page calls them, the number that is drawn, and the line beside which it is.
STUDY: dict[str, tuple[str, str, float | None]] = {
    "accuracy.csv": ("Accuracy, per cent", "", None),
    "masses.csv": ("Middle mass M of every model and seed", "M", 1.0),
    "declared.csv": ("The declared test: does A²MIM raise M? Intervals and p over seeds and images", "difference", 0.0),
    "differences.csv": ("Differences of M between methods", "difference", 0.0),
    "published.csv": (
        "Middle mass M by the published protocol, but for its 50 contexts a pair: ×1 as many as the study has passes "
        "for, ×4 four times as many",
        "M",
        None,
    ),
    "transfer.csv": ("What is reached on other tasks, per cent", "value", None),
    "correlation.csv": ("Rank correlation of the middle mass M with what is reached on other tasks", "rho", 0.0),
    "token_position.csv": ("Where the mask token goes", "", None),
}
TABLED = {"mass": "masses.csv", "fig6": "token_position.csv", "transfer": "transfer.csv"}
"""Figures whose tables the page shows anyway."""
HEADLINE = ("fig5", "figA1")
"""Figures, the first of which that is there stands in the summary."""
Tables = dict[str, pd.DataFrame]


def study_summary(runs: Sequence[Run]) -> list[Block]:
    """Of every study: M by the primary measure, for each network and set-up; the curves of its first figure of them;
    and what M differs by from the method that the others are compared with first."""
    blocks: list[Block] = []
    for run in runs:
        if has_rows(run.table("masses.csv")):
            masses = _primary(run, "masses.csv", ["seed", "M", "M_low", "M_high"], ["method"])
            several = masses.duplicated(["network", "setup", "method"]).any()
            names = ["method", "seed"] if several else ["method"]
            for words, some in _by_setup(masses):
                blocks.append(narrow(some, names, "M", 1.0, f"{words}: {MASS[0].lower()}{MASS[1:]}"))
        records = {path.stem: path for path in _records(run)}
        headline = next((records[name] for name in HEADLINE if name in records), None)
        if headline and (source := _source(headline)):
            blocks += list(_charts(source))
        if has_rows(run.table("differences.csv")):
            chosen = _primary(run, "differences.csv", ["difference", "low", "high"], ["method_a", "method_b"])
            other = chosen["method_b"].iloc[0]
            for words, some in _by_setup(chosen[chosen["method_b"] == other]):
                blocks.append(narrow(some, ["method_a"], "difference", 0.0, f"{words}: M less that of {other}"))
            blocks.append(CHANCE)
    return blocks


def _by_setup(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each network and set-up, and what these are called."""
    for (network, setup), some in table.groupby(["network", "setup"], sort=False):
        yield f"{FAMILIES.get(str(network), network)}, {setup_in_words(str(setup))}", some


def study_section(runs: Sequence[Run]) -> Section:
    """The tables of results folders, and their figures: as charts where their tables are there, else as pictures. Of a
    network through training, the figure."""
    blocks: list[Block] = []
    for run in runs:
        if run.record.get("command") in (None, "course"):
            blocks += _figures(run)
        for name, (caption, plot, reference) in STUDY.items():
            if has_rows(run.table(name)):
                table = read_table(run.table(name), [], [], f"{name} of {run.name}")
                blocks.append(rows_of(table.drop(columns="M_note", errors="ignore"), caption, plot, reference))
                blocks += [f"Of M: {words}"] if (words := mass_note(table)) else []
                blocks += [CHANCE] if name == "differences.csv" else []
    return Section("Results of the study", blocks, folded=True)


def study_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs that the figures of results folders were drawn from, as far as these say."""
    found: dict[str, Run] = {}
    for run in runs:
        for path in _records(run):
            for entry in filter(is_run, _drawn_from(read_json(path))):
                name = " ".join(filter(None, [entry["panel"].split(",")[0], entry["name"]]))
                found.setdefault(entry["folder"], Run(Path(entry["folder"]), name, "", entry))
    return list(found.values())


def _drawn_from(about: Mapping[str, Any]) -> list[Any]:
    """What the record of a figure, or another file of that name, has in the place of the runs."""
    runs = about.get("runs")
    return runs if isinstance(runs, list) else []


def accuracy_section(runs: Sequence[Run]) -> Section:
    """One row for each training run that was evaluated."""
    rows = accuracies(runs)
    return Section("Accuracy", [rows_of(rows, "Top-1 accuracy, per cent")] if len(rows) else [], folded=True)


def accuracies(runs: Sequence[Run]) -> pd.DataFrame:
    """run, command, the images of the evaluation where they are not of one data set, top-1 of the last and of the best
    epoch, images, epochs, seconds."""
    rows = []
    for run in runs:
        best, last = (run.record.get(key) or {} for key in ("best", "last"))
        if "top1" not in last:
            continue
        rows.append(
            {
                "run": run.name,
                "command": run.record.get("command", ""),
                "data": looked_up(_evaluated_on, run.record) or "",
                "top1, last": last["top1"],
                "top1, best": best.get("top1", np.nan),
                "images": last.get("val_images", np.nan),
                "epochs": run.record.get("epochs", np.nan),
                "seconds": run.record.get("seconds", np.nan),
            }
        )
    table = pd.DataFrame(rows)
    return table.drop(columns="data") if len(table) and table["data"].nunique() == 1 else table


def _evaluated_on(record: Mapping[str, Any]) -> str:
    """The validation images of a training run, and the part of them that is no usual one."""
    data = record["settings"]["data"]
    words, part = data_in_words(data.get("val") or data["data"]), data.get("val_split", "validation")
    return words if part == "validation" else f"{words}, {part}"


def _primary(run: Run, name: str, numbers: list[str], texts: list[str]) -> pd.DataFrame:
    """The rows of the primary measure, where the table has several, with these columns and what tells set-ups."""
    table = read_table(run.table(name), numbers, ["network", "setup", "measure", *texts], f"{name} of {run.name}")
    chosen = table[table["measure"] == PRIMARY]
    return (chosen if len(chosen) else table).drop(columns="measure")


def _records(run: Run) -> list[Path]:
    """What the figures of a results folder say of themselves."""
    pictures = {path.with_suffix(".json") for path in study_figures(run)}
    return sorted(path for path in pictures if path.is_file())


def _figures(run: Run) -> Iterator[Block]:
    """Every figure, folded."""
    for path in study_figures(run):
        beside, words = path.with_suffix(".json"), path.stem.replace("_", " ").replace("-", " ")
        about = read_json(beside) if beside.exists() else {}
        tabled = TABLED.get(str(about.get("figure")))
        if tabled and has_rows(run.table(tabled)):
            continue
        source = _source(beside) if about else None
        charts = list(_charts(source)) if source else []
        yield Fold(f"Figure {words}", charts or [_picture(path, words, about)])


def _source(path: Path) -> Source | None:
    """Where a figure came from, with its tables; None where a table has gone, or the record does not say."""
    read_json(path)  # one that is damaged is told
    try:
        return read_source(path)
    except (FileNotFoundError, ValueError):
        return None


def _charts(source: Source) -> Iterator[Block]:
    """The figure as charts, a group for each panel; nothing for one that is made of pictures."""
    makers: Mapping[str, Callable[[Mapping[str, list[Run]]], list[Chart]]] = {
        "fig1": lambda names: [*_occlusions(names, source), *_strengths(names, source)],
        "fig5": lambda names: _strengths(names, source),
        "figA1": lambda names: _strengths(names, source),
        "figA2": lambda names: _strengths(names, source),
        "figA3": lambda names: [frequency_chart(_tables(names, "spectrum.csv", ["frequency", "log_amplitude"]))],
        "figA4": lambda names: [variance_chart(_tables(names, "variance.csv", ["variance"]))],
    }
    if source.figure not in makers:
        return
    words = f"{source.note} {chart_words(source)}".strip()  # once, since they speak of all panels
    for panel, names in by_panel(source.runs).items():
        yield Charts(makers[source.figure](names), words, panel, list(source.options.get("grey", ())))
        words = ""


def _occlusions(names: Mapping[str, list[Run]], source: Source) -> list[Chart]:
    kind = source.options.get("dropped", "random")
    held = {name: runs for name, runs in names.items() if any(run.holds("occlusion.csv") for run in runs)}
    read = lambda run: read_occlusion(run.table("occlusion.csv"), kind, label(run))  # noqa: E731
    return [occlusion_chart(_of_seeds(held, "occlusion.csv", read), kind)] if held else []


def _strengths(names: Mapping[str, list[Run]], source: Source) -> list[Chart]:
    measure = source.options.get("measure", PRIMARY)
    read = lambda run: read_strength(run.table("strength.csv"), (measure,), label(run))  # noqa: E731
    tables = _of_seeds(names, "strength.csv", read)
    return [strength_chart(tables, measure, "")] if tables else []


def _tables(names: Mapping[str, list[Run]], table: str, values: list[str]) -> Tables:
    columns, texts = [*NUMBERS, *values], ["name", "kind"]
    return _of_seeds(names, table, lambda run: read_table(run.table(table), columns, texts, f"{table} of {label(run)}"))


def _of_seeds(names: Mapping[str, list[Run]], table: str, read: Callable[[Run], pd.DataFrame]) -> Tables:
    """The table of every run that holds it; seeds of one name are numbered."""
    found = {}
    for name, runs in names.items():
        held = [run for run in runs if run.holds(table)]
        for k, run in enumerate(held, 1):
            found[f"{name}{NUMBER}{k}" if len(held) > 1 else name] = read(run)
    return found


def _picture(path: Path, words: str, about: Mapping) -> Picture:
    """A figure as it was drawn; the file beside it, where there is one, says what is noted on it."""
    drawn = _drawn_from(about)
    runs = ", ".join(dict.fromkeys(str(run["name"]) for run in drawn if isinstance(run, dict) and "name" in run))
    caption = [f"{words}.", f"Runs: {runs}." if runs else "", str(about.get("note") or "")]
    return Picture(path, f"Figure {words}", " ".join(filter(None, caption)))
