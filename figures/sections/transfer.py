"""What runs reach on other tasks: tables with their intervals drawn, classes, and pictures of predictions."""

from collections.abc import Iterator, Sequence

import pandas as pd

from figures.page.blocks import Block, Fold, Picture, Rows, Section
from figures.runs import Run
from figures.sections.common import narrow
from figures.tables import has_rows, read_table
from figures.transfer import LEADS, mass_note
from figures.words import data_in_words, measure_in_words, setup_in_words

TASKS = {"segment": "Segmentation", "detect": "Detection", "finetune": "Fine-tuning", "linear": "Probe", "knn": "Probe"}


def transfer_summary(table: pd.DataFrame | None) -> list[Block]:
    """A narrow table for each task, data set and measure: every run, its value drawn."""
    blocks: list[Block] = []
    for words, rows in _groups(table):
        blocks.append(narrow(rows, ["run", "setup"], "value", None, words))
    return blocks


def transfer_section(runs: Sequence[Run], table: pd.DataFrame | None, note: str = "") -> Section:
    """Values, paired differences and M; of each run its classes and its predictions.

    note: why M is not beside all of them.
    """
    blocks: list[Block] = [note] if note else []
    if table is not None and (words := mass_note(table)):
        blocks.append(f"Of M: {words}")
    for words, rows in _groups(table):
        shown = rows.drop(columns=["task", "data", "measure", "M_note"], errors="ignore")
        ends = shown.columns.isin(["low", "high"])  # which stay where there are none, as of few pictures
        shown = shown.loc[:, shown.notna().any() | ends]
        blocks.append(Rows(words, shown, "value"))
        if "difference" in shown:
            blocks.append("Differences are from the first run of the same set-up, paired over the pictures.")
    if table is not None:
        for run in runs:
            if run.record.get("command") in ("segment", "detect"):
                blocks += list(_of_run(run))
    return Section("Segmentation and detection", blocks, folded=True)


def _groups(table: pd.DataFrame | None) -> Iterator[tuple[str, pd.DataFrame]]:
    """The measures that figures draw, with their set-ups in words, and what each is."""
    if table is None:
        return
    drawn = table[table["measure"].isin(LEADS)]
    for (task, data, measure), rows in drawn.groupby(["task", "data", "measure"], sort=False):
        words = (
            f"{TASKS.get(str(task), task)} of {data_in_words(str(data))}: {measure_in_words(str(measure))}, per cent"
        )
        yield words, rows.assign(setup=rows["setup"].map(setup_in_words))


def _of_run(run: Run) -> Iterator[Block]:
    """Its classes, and what it predicts, folded."""
    inside: list[Block] = []
    if has_rows(run.table("per_class.csv")):
        table = read_table(run.table("per_class.csv"), [], ["class"], f"the classes of {run.name}")
        inside.append(Rows(f"Classes of {run.name}, per cent", table))
    if (picture := run.folder / "predictions.png").is_file():
        words = f"{run.name}: pictures, what is in them, and what was predicted"
        inside.append(Picture(picture, words, words))
    if inside:
        yield Fold(f"Classes and predictions of {run.name}", inside)
