"""Does M predict transfer? The middle mass of backbones against what they reach on another task."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.labels import LINE, label_points, lines_of
from figures.runs import Drawn, Run, holding
from figures.style import FIRST, grey_look, house_style, page, room, wrap
from figures.tables import of_folders, read_table, refuse_in_several
from figures.transfer import (
    COMMAND,
    LEADS,
    NUMBERS,
    ONE_TABLE,
    TABLE,
    TEXTS,
    in_words,
    mass_note,
    mass_words,
    means_of_seeds,
)
from figures.words import data_in_words, left_out, measure_in_words, setup_in_words

RANKS = "correlation.csv"
KEY = ["task", "data", "setup", "measure"]
FEWEST = 4
Panels = dict[tuple[str, ...], pd.DataFrame]
"""The rows of each panel by task, data, set-up and measure."""
HEIGHT, AROUND = 1.5, 0.75  # inches: of a panel at least; words around it, where its place is one line
TITLE, SIZE = 2.8, 7  # inches, points: of a title's lines


@house_style()
def draw(runs: Sequence[Run], title: str = "") -> Drawn:
    """Draw a panel for each task, data set, set-up and measure with four runs or more: a point for each run with the
    intervals of both, and Spearman's rank correlation with its interval over runs. Where a page does not hold all, the
    leading measures come first, and the caption names the others.

    Args:
        runs: folders with transfer.csv and correlation.csv.

    Raises:
        ValueError: a run without the tables; a missing column; fewer than four runs with M everywhere; one task and
            set-up in two folders; more runs than a page holds.
    """
    held = holding(runs, {TABLE: COMMAND})[TABLE]
    ranks = correlations_of(held)
    panels = panels_of(held)
    note = mass_note(pd.concat(panels.values()))
    panels, words = fitting(panels, title, note)
    heights = list(map(height_of, panels.values()))
    figure = page(sum(heights) + sum(map(around, panels)), title, note, words)
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for place, (key, rows) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[place, 0])
        plot_ranks(rows, axes)
        axes.set_title(words_of(key, ranks.get(key), len(rows)), size=SIZE, parse_math=False)
    return Drawn(figure, {run: [TABLE, RANKS] for run in runs}, note)


def fitting(panels: Panels, title: str, note: str = "") -> tuple[Panels, str]:
    """As many of the panels as a page holds, those of the leading measures first, and the words below them."""
    keys = sorted(panels, key=lambda key: key[-1] not in LEADS)
    for count in range(len(keys), 0, -1):
        shown = {key: rows for key, rows in panels.items() if key in keys[:count]}
        others = left_out(in_words(key[1:] for key in keys[count:]))
        words = " ".join(filter(None, [caption(pd.concat(shown.values())), others]))
        if sum(height_of(rows) + around(key) for key, rows in shown.items()) <= room(title, note, words):
            break
    return shown, words


def height_of(rows: pd.DataFrame) -> float:
    """Inches of a panel beside which the names of its points have room."""
    return max(HEIGHT, LINE * sum(len(lines_of(name)) for name in rows["run"].astype(str)))


def around(key: tuple[str, ...]) -> float:
    """Inches of the words around a panel."""
    return AROUND + 1.2 * SIZE / 72 * (len(place_of(key)) - 1)


def caption(table: pd.DataFrame) -> str:
    """What bars, ρ and p are."""
    return (
        f"M: of {mass_words(table)}. Bars: 95 % intervals, of M over images, of transfer over "
        f"pictures{means_of_seeds(table)}. ρ: Spearman's rank correlation, its interval over runs drawn with "
        "replacement, which does not hold the intervals of the points; p: of all orders of the runs."
    )


def panels_of(runs: Sequence[Run]) -> Panels:
    """The rows with M of every task, data set, set-up and measure with four or more. Raises ValueError as `draw`."""
    tables = {run: read_table(run.table(TABLE), NUMBERS, TEXTS, "the table of transfer") for run in runs}
    table = of_folders({str(run.folder): each for run, each in tables.items()})
    groups = table.dropna(subset=["M", "value"]).groupby(KEY, sort=False)
    panels = {tuple(map(str, key)): rows for key, rows in groups if len(rows) >= FEWEST}
    if not panels:
        raise ValueError(
            f"M and transfer are ranked from {FEWEST} runs of one task and set-up on, and there are fewer: give more"
        )
    ranked = "each with a rank correlation of its own"  # of the runs of one folder
    refuse_in_several(pd.concat(panels.values()), KEY, "{task} on {data} ({setup})", f"{ranked}: {ONE_TABLE}")
    return panels


def correlations_of(runs: Sequence[Run]) -> dict[tuple[str, ...], tuple[float, ...]]:
    """rho, low, high and p of every panel."""
    found: dict[tuple[str, ...], tuple[float, ...]] = {}
    for run in holding(runs, {RANKS: COMMAND})[RANKS]:
        table = read_table(run.table(RANKS), ["rho", "low", "high", "p"], KEY, "the table of correlations")
        for row in table.to_dict("records"):
            found[tuple(str(row[name]) for name in KEY)] = row["rho"], row["low"], row["high"], row["p"]
    return found


def plot_ranks(rows: pd.DataFrame, axes: Axes) -> Axes:
    """A point for each run in axes of your own, with the intervals of M and of the value, and its name beside them.

    Args:
        rows: run, M, M_low, M_high, value, low, high, measure.

    Returns the axes.
    """
    M, value = rows["M"], rows["value"]
    axes.hlines(value, rows["M_low"], rows["M_high"], color=FIRST.colour, linewidth=0.8).set_gid("interval of M")
    axes.vlines(M, rows["low"], rows["high"], color=FIRST.colour, linewidth=0.8).set_gid("interval of value")
    (points,) = axes.plot(M, value, color=FIRST.colour, marker=FIRST.marker, linestyle="none")
    points.set_gid("runs")
    axes.margins(0.12)
    axes.set_xlabel("middle mass M of the backbone")
    axes.set_ylabel(f"{measure_in_words(rows['measure'].iloc[0])} (%)")
    axes.autoscale_view()
    plain = grey_look(0)  # lines to the names are no intervals
    ends = [(str(name), x, y, plain) for name, x, y in zip(rows["run"], M, value, strict=True)]
    label_points(axes, ends, height_of(rows))
    return axes


def words_of(key: tuple[str, ...], rank: tuple[float, ...] | None, runs: int) -> str:
    """The title of a panel: what was done, and how both rank."""
    place = "\n".join(place_of(key))
    if rank is None or not np.isfinite(rank[0]):
        return f"{place}: {runs} runs"
    rho, low, high = (f"{number:.2f}".replace("-", "−") for number in rank[:3])
    between = f"[{low}, {high}]" if np.isfinite(rank[1]) else "(no interval)"
    return f"{place}\nρ = {rho} {between}, {p_in_words(rank[3])}, {runs} runs"


def place_of(key: tuple[str, ...]) -> list[str]:
    """Data and set-up, in lines."""
    _, data, setup, _ = key
    return wrap(f"{data_in_words(data)}, {setup_in_words(setup)}", TITLE, SIZE)


def p_in_words(p: float) -> str:
    """A p-value in as many digits as say how small it is; of the table, which holds four."""
    return f"p = {p:.2f}" if p >= 0.01 else f"p = {p:.1g}" if p >= 1e-4 else "p < 0.0001"
