"""What networks reach on other tasks: values with their intervals, and beside them what they differ by, and M."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from figures.forest import plot_intervals, row_height
from figures.runs import Drawn, Run, holding
from figures.style import GREY, Look, house_style, looks, page
from figures.tables import read_table
from figures.words import count_in_words, data_in_words, measure_in_words, setup_in_words

TABLE, COMMAND = "transfer.csv", "a2mim transfer"
LEADS = ("miou", "box_ap", "mask_ap", "top1")
"""Measures that are drawn."""
TEXTS = ["run", "task", "data", "setup", "measure"]
SAME = ["task", "data", "setup", "measure"]
"""What is compared has these in common."""
NUMBERS = ["value", "low", "high", "difference", "difference_low", "difference_high", "images", "M", "M_low", "M_high"]
AXIS, TITLE = 0.48, 0.22  # inches: words and numbers below the rows; above them


class Panel(NamedTuple):
    """The rows of one measure on one data set, and what they are called."""

    rows: pd.DataFrame
    names: list[str]


@house_style()
def draw(runs: Sequence[Run], title: str = "") -> Drawn:
    """Draw a row for each run: its value, where there are differences its difference from the first run of its set-up,
    and where it is known the middle mass M of its backbone. Data and measures stand below each other.

    Args:
        runs: folders with transfer.csv.

    Raises:
        ValueError: a run without the table; a missing column; none of the measures that are drawn; more than a page
            holds.
    """
    table = read_transfer(runs)
    panels = panels_of(table)
    heights = [sum(map(row_height, panel.names)) + AXIS + TITLE for panel in panels]
    figure = page(sum(heights), title, "", caption(table))
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    look_of = looks([list(dict.fromkeys(table["run"]))])
    for place, panel in enumerate(panels):
        draw_panel(figure, grid[place, 0], panel, look_of)
    return Drawn(figure, {run: [TABLE] for run in runs}, "")


def read_transfer(runs: Sequence[Run]) -> pd.DataFrame:
    """The measures that are drawn, of all of these folders. Raises ValueError where there is none."""
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = [read_table(run.table(TABLE), NUMBERS, TEXTS, "the table of transfer") for run in runs]
    table = pd.concat(tables, ignore_index=True)
    table = table[table["measure"].isin(LEADS)]
    if not len(table):
        raise ValueError(f"the table of transfer has none of {', '.join(LEADS)}, so there is nothing to draw")
    return table


def panels_of(table: pd.DataFrame) -> list[Panel]:
    """Of each data set and measure; rows are called by their runs, and their set-ups where there are several."""
    found = []
    for _, rows in table.groupby(["data", "measure"], sort=False):
        several = rows["setup"].nunique() > 1
        pairs = rows[["run", "setup"]].itertuples(index=False)
        names = [f"{run}: {setup_in_words(setup)}" if several else str(run) for run, setup in pairs]
        found.append(Panel(rows, names))
    return found


def draw_panel(figure: Figure, place: SubplotSpec, panel: Panel, look_of: dict[str, Look]) -> None:
    """The columns of a panel that there are numbers for."""
    first = panel.rows.iloc[0]
    words = measure_in_words(first["measure"])
    columns = [("value", f"{words} (%)", None), ("difference", "difference", 0.0), ("M", "middle mass M", 1.0)]
    columns = [column for column in columns if panel.rows[column[0]].notna().any()]
    grid = place.subgridspec(1, len(columns))
    for across, (column, label, reference) in enumerate(columns):
        ends = ("low", "high") if column == "value" else (f"{column}_low", f"{column}_high")
        rows = panel.rows[[column, *ends]].set_axis(["value", "low", "high"], axis=1)
        rows["name"] = panel.names
        axes = figure.add_subplot(grid[0, across])
        seen = {name: look_of[run] for name, run in zip(panel.names, panel.rows["run"], strict=True)}
        plot_intervals(rows, axes, seen, reference, label, sign=column == "difference")
        if column == "difference":
            compared = panel.rows.groupby(SAME)["difference"].transform(lambda some: some.notna().any())
            say_first(axes, rows["value"].isna() & compared)
        if across:
            axes.set_yticks([])
        else:
            axes.set_title(f"{data_in_words(first['data'])}", parse_math=False)


def say_first(axes: Axes, first: pd.Series) -> None:
    """Words in place of the dash of what others are compared with: of these rows, each of which has one text."""
    for text, others in zip(axes.texts, first, strict=True):
        if others:
            text.set(text="compared with", size=6, color=GREY)


def means_of_seeds(table: pd.DataFrame) -> str:
    """What the interval of a probe of several seeds is of, where there is one."""
    return ", of a mean of seeds over the seeds" if table["setup"].str.contains(", mean of ").any() else ""


def caption(table: pd.DataFrame) -> str:
    """What bars and differences are."""
    images = table["images"].dropna().astype(int).tolist()
    words = [f"Bars: 95 % intervals over {count_in_words(images, 'picture')}{means_of_seeds(table)}."]
    if table["difference"].notna().any():
        alone = table.groupby(SAME)["difference"].apply(lambda x: x.notna().all())
        first = "first on the same pictures" if alone.any() else "first of its set-up"
        words.append(f"Differences are paired over the pictures: of each run less the {first}.")
    if np.isfinite(table["M"]).any():
        words.append("M: mean of the relative strength over the order ratios 0.3 to 0.7, of the backbone.")
    return " ".join([*words, "One training run each: nothing is known of others."])
