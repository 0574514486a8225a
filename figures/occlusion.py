"""Accuracy against the share of dropped cells, and under shuffled patches, of one model or several side by side."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from figures.style import DOUBLE_COLUMN, SINGLE_COLUMN, Look, house_style, look, page, save
from figures.tables import Table, read_table

KINDS = {
    "random": "random cells",
    "salient": "the most salient cells first",
    "non_salient": "the least salient cells first",
}
LEGEND_COLUMNS, LEGEND_LINE = 3, 0.17  # inches
INTERVAL = ["top1", "low", "high", "images", "seeds"]


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
        tables: occlusion.csv of each run, by the name to show.
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
    words = [caption, _bars([*runs.values(), *cuts.values()])]
    width = SINGLE_COLUMN if panels == 1 else DOUBLE_COLUMN
    lines = math.ceil(len(runs) / LEGEND_COLUMNS) if len(runs) > 1 else 0
    figure = page(width, 2.3 + LEGEND_LINE * lines, title, note, " ".join(filter(None, words)))
    grid = figure.add_gridspec(2, panels, height_ratios=(2.3, LEGEND_LINE * lines + 1e-3))
    first = figure.add_subplot(grid[0, 0])
    all_axes = [first, *(figure.add_subplot(grid[0, k], sharey=first) for k in range(1, panels))]
    looks = {name: look(k) for k, name in enumerate(runs)}
    for axes, kind in zip(all_axes[: len(kinds)], kinds, strict=True):
        for k, (name, rows) in enumerate(runs.items()):
            part = rows[rows["kind"] == kind].sort_values("share")
            _draw_curve(axes, part["share"] + _shift(k, len(runs), 0.01), part, looks[name], name)
        axes.set_title(KINDS[kind])
        axes.set_xlabel("share of cells dropped")
        axes.set_xlim(-0.04, 1.04)
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    if cuts:
        _draw_cuts(all_axes[-1], cuts, looks)
    first.set_ylim(0, 100)
    first.set_ylabel("top-1 accuracy (%)")
    for axes in all_axes[1:]:
        axes.tick_params(labelleft=False)
    if lines:
        legend = figure.add_subplot(grid[1, :])
        legend.axis("off")
        legend.legend(
            *first.get_legend_handles_labels(), loc="center", ncols=min(len(runs), LEGEND_COLUMNS), borderpad=0
        )
    save(figure, path)
    return figure


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


def _draw_curve(axes: Axes, x: pd.Series, rows: pd.DataFrame, look: Look, name: str) -> None:
    bars = axes.vlines(x, rows["low"], rows["high"], color=look.colour, linewidth=0.8)
    bars.set_gid(f"interval of {name}")
    axes.plot(x, rows["top1"], color=look.colour, linestyle=look.line, marker=look.marker, label=name)


def _draw_cuts(axes: Axes, cuts: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]) -> None:
    """Cuts stand at equal distances: each is about twice as fine as the one before."""
    grids = sorted({int(side) for rows in cuts.values() for side in rows["grid"]})
    for k, (name, rows) in enumerate(cuts.items()):
        part = rows.sort_values("grid")
        place = part["grid"].map({side: place for place, side in enumerate(grids)})
        _draw_curve(axes, place + _shift(k, len(cuts), 0.06), part, looks[name], name)
    axes.set_title("patches shuffled")
    axes.set_xlabel("number of patches")
    axes.set_xticks(range(len(grids)), [f"{side}×{side}" if len(grids) < 5 else f"{side}²" for side in grids])
    axes.set_xlim(-0.4, len(grids) - 0.6)


def _shift(k: int, curves: int, step: float) -> float:
    """By how much the k-th curve is moved aside, so that every interval is seen."""
    return (k - (curves - 1) / 2) * min(step, 4 * step / curves)


def _bars(tables: Sequence[pd.DataFrame]) -> str:
    images, seeds = ({int(count) for rows in tables for count in rows[what]} for what in ("images", "seeds"))
    some = f"{min(images)}" if len(images) == 1 else f"{min(images)} to {max(images)}"
    drawn = f", with {max(seeds)} draws of random cells for each" if max(seeds) > 1 else ""
    return f"Bars: 95 % intervals over {some} image{'s' * (images != {1})}{drawn}."
