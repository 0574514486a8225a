"""Accuracy against the share of dropped cells, and under shuffled patches, of one model or several side by side."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from figures.panels import draw_legend, legend_height, new_axes
from figures.seeds import draw_seeds
from figures.style import COLUMN, FIRST, Look, house_style, looks, page, save
from figures.tables import Table, read_table
from figures.words import count_in_words

KINDS = {
    "random": "random cells",
    "salient": "the most salient cells first",
    "non_salient": "the least salient cells first",
}
INTERVAL = ["top1", "low", "high", "images", "seeds"]
HEIGHT = 1.6  # inches, a row of panels


@house_style()
def draw_occlusion(
    tables: Mapping[str, Table],
    path: str | Path,
    shuffling: Mapping[str, Table] | None = None,
    title: str = "",
    caption: str = "",
    note: str = "",
) -> Figure:
    """Draw top-1 accuracy against the share of dropped cells, one panel for each kind of cells that some run dropped,
    with 95 % intervals; and a panel of the accuracy on shuffled patches where there are tables of it.

    Args:
        tables: occlusion.csv of each run, by the name to show; the first five are coloured, the others grey.
        path: .png, .pdf or .svg.
        shuffling: shuffling.csv of runs that `tables` has, by the same names.
        title, caption, note: words above and below the panels; the note stands out.

    Raises:
        ValueError: no run; shuffling of a run without a table; a missing column; an unknown kind; another suffix.
        FileNotFoundError: no such table.
    """
    if not tables:
        raise ValueError("there is no run to draw: give at least one occlusion table")
    runs = {name: _occlusion(table, name) for name, table in tables.items()}
    cuts = {name: _shuffling(table, name, runs) for name, table in (shuffling or {}).items()}
    kinds = [kind for kind in KINDS if any((rows["kind"] == kind).any() for rows in runs.values())]
    panels = len(kinds) + bool(cuts)
    across = min(panels, 2)
    down = math.ceil(panels / across)
    words = [caption, _bands([*runs.values(), *cuts.values()])]
    looks_of = looks([list(runs)])
    cell = across * down - panels  # one is free where there are three panels
    below = legend_height(looks_of) if len(runs) > 1 and not cell else 0.0
    figure = page(HEIGHT * down + below, title, note, " ".join(filter(None, words)))
    grid = figure.add_gridspec(down + bool(below), across, height_ratios=[HEIGHT] * down + [below] * bool(below))
    first = figure.add_subplot(grid[0, 0])
    axes = [first, *(figure.add_subplot(grid[k // across, k % across], sharey=first) for k in range(1, panels))]
    for each, kind in zip(axes[: len(kinds)], kinds, strict=True):
        for name, rows in runs.items():
            if (rows["kind"] == kind).any():
                plot_occlusion(rows, each, kind, looks_of[name], name)
        each.set_title(KINDS[kind], size=6.5)
    if cuts:
        _draw_cuts(axes[-1], cuts, looks_of)
    accuracy_axis(first)
    for k, each in enumerate(axes):
        each.tick_params(labelleft=k % across == 0)
        if k % across == 0:
            each.set_ylabel("top-1 accuracy (%)")
    if len(runs) > 1:
        draw_legend(figure.add_subplot(grid[-1, cell:]), looks_of, COLUMN / (1 + cell))
    save(figure, path)
    return figure


def plot_occlusion(
    table: Table, axes: Axes | None = None, kind: str = "random", look: Look = FIRST, name: str = ""
) -> Axes:
    """Draw the accuracy of one run against the share of dropped cells into axes, of your own or new ones.

    Args:
        table: a DataFrame, or the path of occlusion.csv.
        kind: of the dropped cells: random, salient or non_salient.
        look: `figures.style.look(k)` for the k-th of several runs.
        name: for `axes.legend()`.

    Returns the axes. Raises ValueError for a missing column, and for cells that the table does not have.
    """
    rows = _occlusion(table, name or "this run")
    rows = rows[rows["kind"] == kind].sort_values("share", ignore_index=True)
    if rows.empty:
        raise ValueError(f"the occlusion table of {name or 'this run'} has no {kind} cells")
    if axes is None:
        axes = new_axes()
        axes.set_ylabel("top-1 accuracy (%)")
        accuracy_axis(axes)
    draw_seeds(axes, [rows.rename(columns={"share": "x", "top1": "y"})], look, "top1", name=name)
    share_axis(axes)
    return axes


def accuracy_axis(axes: Axes) -> None:
    """All of the scale: how much is lost is seen only beside what there is to lose."""
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 25))


def share_axis(axes: Axes, named: bool = True) -> None:
    """Shares of cells in per cent along the bottom."""
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    if named:
        axes.set_xlabel("share of cells dropped")


def _occlusion(table: Table, name: str) -> pd.DataFrame:
    what = f"the occlusion table of {name}"
    rows = read_table(table, ["share", "dropped", *INTERVAL], ["kind"], what)
    unknown = sorted(set(rows["kind"]) - set(KINDS))
    if unknown:
        raise ValueError(f"{what} has the kind {unknown[0]!r}: the kinds are {', '.join(KINDS)}")
    return rows


def _shuffling(table: Table, name: str, runs: Collection[str]) -> pd.DataFrame:
    if name not in runs:
        raise ValueError(f"{name} has a table of shuffling, but none of occlusion: give both under one name")
    return read_table(table, ["grid", *INTERVAL], [], f"the shuffling table of {name}")


def _draw_cuts(axes: Axes, cuts: Mapping[str, pd.DataFrame], looks_of: Mapping[str, Look]) -> None:
    """Cuts stand at equal distances: each is about twice as fine as the one before."""
    grids = sorted({int(side) for rows in cuts.values() for side in rows["grid"]})
    for name, rows in cuts.items():
        rows = rows.sort_values("grid", ignore_index=True)
        place = rows["grid"].map({side: float(place) for place, side in enumerate(grids)})
        draw_seeds(axes, [rows.assign(x=place, y=rows["top1"])], looks_of[name], "shuffled")
    axes.set_title("patches shuffled", size=6.5)
    axes.set_xlabel("number of patches")
    axes.set_xticks(range(len(grids)), [f"{side}×{side}" if len(grids) < 5 else f"{side}²" for side in grids])
    axes.set_xlim(-0.3, len(grids) - 0.7)


def _bands(tables: Sequence[pd.DataFrame]) -> str:
    images = [int(count) for rows in tables for count in rows["images"]]
    random = [int(count) for rows in tables if "kind" in rows for count in rows.seeds[rows.kind == "random"]]
    cuts = [int(count) for rows in tables if "grid" in rows for count in rows.seeds]
    what = [f"{max(random)} draws of random cells"] if max(random, default=1) > 1 else []
    what += [f"{max(cuts)} shuffles"] if max(cuts, default=1) > 1 else []
    drawn = f", with {' and '.join(what)} for each" if what else ""
    return f"Bands: 95 % intervals over {count_in_words(images, 'image')}{drawn}."
