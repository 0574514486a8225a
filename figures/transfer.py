"""What networks reach on other tasks: values with their intervals, and beside them what they differ by, and M."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from figures.curves import PRIMARY
from figures.forest import plot_intervals, row_height
from figures.runs import Drawn, Run, holding
from figures.style import GREY, Look, house_style, looks, page, room
from figures.tables import of_folders, read_table, refuse_in_several
from figures.words import column_in_words, count_in_words, data_in_words, left_out, measure_in_words, setup_in_words

TABLE, COMMAND = "transfer.csv", "a2mim transfer"
LEADS = ("miou", "box_ap", "mask_ap", "top1")
"""Measures that are drawn."""
TEXTS = ["run", "task", "data", "setup", "measure"]
SAME = ["task", "data", "setup", "measure"]
"""What is compared has these in common."""
ONE_TABLE = "put all runs into one table with a2mim transfer, or draw one folder"
NUMBERS = ["value", "low", "high", "difference", "difference_low", "difference_high", "images", "M", "M_low", "M_high"]
AXIS, TITLE = 0.48, 0.22  # inches: words and numbers below the rows; above them


@house_style()
def draw(runs: Sequence[Run], title: str = "") -> Drawn:
    """Draw a row for each run: its value, where there are differences its difference from the first run of its set-up,
    and where it is known the middle mass M of its backbone. Data and measures stand below each other; where a page does
    not hold all, the first of LEADS come first, and the caption names the others.

    Args:
        runs: folders with transfer.csv.

    Raises:
        ValueError: a run without the table; a missing column; none of the measures that are drawn; one task and
            set-up in two folders; more runs than a page holds.
    """
    table = read_transfer(runs)
    note = mass_note(table)
    panels, words = fitting(table, title, note)
    heights = list(map(height_of, panels))
    figure = page(sum(heights), title, note, words)
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    look_of = looks([list(dict.fromkeys(table["run"]))])
    for place, panel in enumerate(panels):
        draw_panel(figure, grid[place, 0], panel, look_of)
    return Drawn(figure, {run: [TABLE] for run in runs}, note)


def read_transfer(runs: Sequence[Run]) -> pd.DataFrame:
    """The rows of all of these folders that are drawn, with their names. Raises ValueError where there is none, and
    where what is compared stands in several folders."""
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = {str(run.folder): read_table(run.table(TABLE), NUMBERS, TEXTS, "the table of transfer") for run in runs}
    table = of_folders(tables)
    table = table[table["measure"].isin(LEADS)]
    compared = "each with a first run of its own to compare with"
    refuse_in_several(table, SAME, "{task} on {data} ({setup})", f"{compared}: {ONE_TABLE}")
    if not len(table):
        raise ValueError(f"the table of transfer has none of {', '.join(LEADS)}, so there is nothing to draw")
    return table.assign(name=names_of(table))


def fitting(table: pd.DataFrame, title: str, note: str = "") -> tuple[list[pd.DataFrame], str]:
    """As many set-ups and measures as a page holds, those of the leading measures first, and the words below them."""
    of_rows = list(zip(table["data"], table["setup"], table["measure"], strict=True))
    keys = sorted(dict.fromkeys(of_rows), key=lambda key: LEADS.index(key[-1]))
    for count in range(len(keys), 0, -1):
        shown = table[[key in keys[:count] for key in of_rows]]
        panels = [rows for _, rows in shown.groupby(["data", "measure"], sort=False)]
        words = " ".join(filter(None, [caption(shown), left_out(in_words(keys[count:]))]))
        if sum(map(height_of, panels)) <= room(title, note, words):
            break
    return panels, words


def in_words(keys: Iterable[Sequence[str]]) -> list[str]:
    """Data, set-up and measure of what is left out: the measures of each set-up together."""
    measures: dict[str, list[str]] = {}
    for data, setup, measure in keys:
        place = f"{data_in_words(data)}, {setup_in_words(setup)}"
        measures.setdefault(place, []).append(measure_in_words(measure))
    return [f"{place}, {', '.join(names)}" for place, names in measures.items()]


def height_of(rows: pd.DataFrame) -> float:
    """Inches that a panel takes."""
    return sum(map(row_height, rows["name"])) + AXIS + TITLE


def names_of(table: pd.DataFrame) -> list[str]:
    """Rows are called by their runs, and their set-ups where there are several of one data set and measure."""
    several = table.groupby(["data", "measure"])["setup"].transform("nunique") > 1
    each = zip(table["run"], table["setup"], several, strict=True)
    return [f"{run}: {setup_in_words(setup)}" if also else str(run) for run, setup, also in each]


def draw_panel(figure: Figure, place: SubplotSpec, panel: pd.DataFrame, look_of: dict[str, Look]) -> None:
    """The columns of a panel that there are numbers for."""
    first = panel.iloc[0]
    words = measure_in_words(first["measure"])
    columns = [("value", f"{words} (%)", None), ("difference", "difference", 0.0), ("M", "middle mass M", 1.0)]
    columns = [column for column in columns if panel[column[0]].notna().any()]
    grid = place.subgridspec(1, len(columns))
    for across, (column, label, reference) in enumerate(columns):
        ends = ("low", "high") if column == "value" else (f"{column}_low", f"{column}_high")
        rows = panel[["name", column, *ends]].set_axis(["name", "value", "low", "high"], axis=1)
        axes = figure.add_subplot(grid[0, across])
        seen = {name: look_of[run] for name, run in zip(panel["name"], panel["run"], strict=True)}
        plot_intervals(rows, axes, seen, reference, label, sign=column == "difference")
        if column == "difference":
            compared = panel.groupby(SAME)["difference"].transform(lambda some: some.notna().any())
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


def mass_words(table: pd.DataFrame) -> str:
    """The strength whose middle mass M is: by the primary measure where an older table does not say."""
    measures = table.get("M_measure", pd.Series(PRIMARY, table.index))[table["M"].notna()]
    return " or ".join(column_in_words(str(name)) for name in dict.fromkeys(measures.fillna(PRIMARY)))


def mass_note(table: pd.DataFrame) -> str:
    """What may be as it should, or not, of the pixels that M was measured with; an older table says nothing of it."""
    if "M_note" not in table:
        return ""
    return " ".join(dict.fromkeys(filter(None, table["M_note"][table["M"].notna()].dropna())))


def caption(table: pd.DataFrame) -> str:
    """What bars and differences are."""
    images = table["images"].dropna().astype(int).tolist()
    words = [f"Bars: 95 % intervals over {count_in_words(images, 'picture')}{means_of_seeds(table)}."]
    if table["difference"].notna().any():
        alone = table.groupby(SAME)["difference"].apply(lambda x: x.notna().all())
        first = "first on the same pictures" if alone.any() else "first of its set-up"
        words.append(f"Differences are paired over the pictures: of each run less the {first}.")
    if np.isfinite(table["M"]).any():
        words.append(
            f"M: mean of the relative strength {mass_words(table)} over the order ratios 0.3 to 0.7, of the backbone; "
            "its bars are over the images of its profile."
        )
    return " ".join([*words, "One training run each: nothing is known of others."])
