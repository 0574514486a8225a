"""Spatial frequencies and variance of feature maps against depth, several models below each other.

Figures A3 and A4 of the A²MIM paper (arXiv 2205.13943), after Park & Kim 2022 (arXiv 2202.06709).
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures.panels import LINE, new_axes
from figures.seeds import interval_words
from figures.style import COLUMN, GREY, SHADE, house_style, page, save, wrap
from figures.tables import Table, read_table

KINDS = {
    "attention": ("attention", "o"),
    "mlp": ("MLP", "s"),
    "conv": ("convolution", "^"),
    "token_mixing": ("token mixing", "D"),
    "downsample": ("downsampling", "v"),
    "block": ("block", "P"),
    "stem": ("stem", "X"),
}
"""Words and markers of the kinds of blocks; one that is none of these is drawn as a block."""
DEPTHS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)))  # without the yellow that white swallows
HEIGHT, AROUND = 1.0, 0.6  # inches, a row of panels, and the words around it
NUMBERS = ["block", "depth", "low", "high", "images"]
ENDS = [("low", "high")]


@house_style()
def draw_spectrum(
    tables: Mapping[str, Table], path: str | Path, title: str = "", caption: str = "", note: str = ""
) -> Figure:
    """Draw for each model the relative log-amplitude of its maps against frequency, a curve for each block; and beside
    it the entry of each map's highest frequency against depth, in the colour of its curve, its marker told by the kind
    of block. Bars, and the bands of the first and the last block, are the tables' 95 % intervals.

    Args:
        tables: spectrum.csv of each model, by the name to show.
        path: .png, .pdf or .svg.
        title, caption, note: words above and below the panels; the note stands out.

    Raises:
        ValueError: no model; a missing column; another suffix; more than a page holds.
        FileNotFoundError: no such table.
    """
    models = _read(tables, ["frequency", "log_amplitude"], "spectrum")
    words = [
        caption,
        "Δ log amplitude: logarithm of the Fourier amplitude less that at frequency 0, mean over images and channels.",
        "Right: at the highest frequency under π that a map has on its diagonal, 6/7 π at 14×14.",
        interval_words("Bars, and bands of the first and the last block", models.values(), ENDS),
    ]
    figure, panels, legend = _rows(list(models), 2, title, note, words)
    for (left, right), rows in zip(panels, models.values(), strict=True):
        plot_frequencies(rows, left)
        plot_depths(rows.groupby("block").tail(1), right, "log_amplitude")
        left.set_ylabel("Δ log amplitude")
    panels[-1][0].set_xlabel("frequency")
    _name_kinds(legend, models.values())
    save(figure, path)
    return figure


@house_style()
def draw_variance(
    tables: Mapping[str, Table], path: str | Path, title: str = "", caption: str = "", note: str = ""
) -> Figure:
    """Draw for each model the variance of its feature maps against depth on one logarithmic axis, with the tables' 95 %
    intervals; markers tell attention, MLP, convolution and the other kinds of blocks apart.

    Args:
        tables: variance.csv of each model, by the name to show. The rest as in `draw_spectrum`.

    Raises:
        ValueError, FileNotFoundError: as `draw_spectrum`; no variance above 0.
    """
    models = _read(tables, ["variance"], "variance")
    still = [f"{row.name_} of {name}" for name, rows in models.items() for row in _flat(rows)]
    models = {name: rows[rows["variance"] > 0] for name, rows in models.items()}
    if all(rows.empty for rows in models.values()):
        raise ValueError("no map varies over its positions, so there is nothing to draw on a logarithmic axis")
    words = [
        caption,
        "Variance over the positions of a map, mean over channels and images.",
        interval_words("Bars", models.values(), ENDS),
        f"Left out, without variance: {', '.join(still)}." if still else "",
    ]
    figure, panels, legend = _rows(list(models), 1, title, note, words)
    for (axes,), rows in zip(panels, models.values(), strict=True):
        plot_depths(rows, axes, "variance")
        axes.set_yscale("log")
        axes.set_ylabel("feature variance")
        axes.yaxis.set_major_locator(LogLocator(subs=_steps(models.values())))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _name_kinds(legend, models.values())
    save(figure, path)
    return figure


def plot_frequencies(table: Table, axes: Axes | None = None) -> Axes:
    """Draw spectrum.csv of one model into axes, of your own or new ones: a curve in the colour of its depth for each
    block, and the band of the interval of the first and the last. Returns the axes."""
    rows = _read({"this model": table}, ["frequency", "log_amplitude"], "spectrum")["this model"]
    axes = new_axes() if axes is None else axes
    ends = (rows["block"].min(), rows["block"].max())
    for block, curve in rows.groupby("block"):
        colour = DEPTHS(curve["depth"].iloc[0])
        axes.plot(curve["frequency"], curve["log_amplitude"], color=colour, linewidth=0.9)
        if block in ends:
            axes.fill_between(curve["frequency"], curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
    frequency_axis(axes)
    return axes


def plot_depths(rows: pd.DataFrame, axes: Axes | None = None, value: str = "variance") -> Axes:
    """Draw one value of each block against its depth, in the colour of the depth and with the marker of the block's
    kind, into axes of your own or new ones. Returns the axes."""
    axes = new_axes() if axes is None else axes
    axes.plot(rows["depth"], rows[value], color=GREY, linewidth=0.6, zorder=1)
    for kind, some in rows.groupby("kind"):
        colours = DEPTHS(some["depth"].to_numpy())
        bars = axes.vlines(some["depth"], some["low"], some["high"], color=colours, linewidth=0.8)
        bars.set_gid(f"interval of {kind}")
        points = axes.scatter(some["depth"], some[value], s=9, c=colours, marker=_marker(str(kind)), zorder=2)
        points.set_gid(f"points of {kind}")
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.grid(axis="x", color=SHADE, linewidth=0.5)
    axes.set_xlabel("normalised depth")
    return axes


def frequency_axis(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "π/2", "π"])


def _read(tables: Mapping[str, Table], values: list[str], what: str) -> dict[str, pd.DataFrame]:
    if not tables:
        raise ValueError(f"there is no model to draw: give at least one {what} table")
    keys = ["block", "frequency"] if "frequency" in values else ["block"]
    found = {}
    for name, table in tables.items():
        rows = read_table(table, [*NUMBERS, *values], ["name", "kind"], f"the {what} table of {name}")
        found[name] = rows.sort_values(keys, ignore_index=True)
    return found


def _rows(
    names: list[str], columns: int, title: str, note: str, words: list[str]
) -> tuple[Figure, list[list[Axes]], Axes]:
    """A row of panels for every model, and room for a legend. All panels of a column share their y axis."""
    titles = ["\n".join(wrap(name, COLUMN - 0.6, 7.5)) for name in names]
    tall = sum(HEIGHT + AROUND + 0.13 * text.count("\n") for text in titles) + 2 * LINE
    figure = page(tall, title, note, " ".join(filter(None, words)))
    grid = figure.add_gridspec(len(names) + 1, columns, height_ratios=[*[HEIGHT] * len(names), 2 * LINE])
    panels: list[list[Axes]] = []
    for row, text in enumerate(titles):
        shared = panels[0] if panels else [None] * columns
        panels.append([figure.add_subplot(grid[row, k], sharey=shared[k]) for k in range(columns)])
        panels[row][0].set_title(text, parse_math=False)
        for axes in panels[row] if row < len(names) - 1 else []:
            axes.tick_params(labelbottom=True)
    return figure, panels, figure.add_subplot(grid[-1, :])


def _marker(kind: str) -> str:
    return KINDS.get(kind, KINDS["block"])[1]


def _name_kinds(axes: Axes, tables: Iterable[pd.DataFrame]) -> None:
    present = {str(kind) for rows in tables for kind in rows["kind"]}
    kinds = [kind for kind in KINDS if kind in present] + sorted(present - set(KINDS))
    handles = []
    for kind in kinds:
        words = KINDS[kind][0] if kind in KINDS else kind.replace("_", " ")
        handles.append(Line2D([], [], color=GREY, marker=_marker(kind), linestyle="none", label=words))
    axes.axis("off")
    axes.legend(handles=handles, loc="center", ncols=4, borderpad=0, handletextpad=0.1, columnspacing=0.8)


def _steps(tables: Collection[pd.DataFrame]) -> tuple[int, ...]:
    values = np.concatenate([rows["variance"].to_numpy() for rows in tables])
    span = values.max() / values.min()
    return (1, 2, 5) if span < 100 else (1,)


def _flat(rows: pd.DataFrame) -> Iterable:
    return rows[rows["variance"] <= 0].rename(columns={"name": "name_"}).itertuples()
