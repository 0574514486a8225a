"""Spatial frequencies and variance of feature maps against depth, several models side by side.

Figures A3 and A4 of the A²MIM paper (arXiv 2205.13943), after Park & Kim 2022 (arXiv 2202.06709).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures.style import COLOURS, DOUBLE_COLUMN, GREY, MARKERS, SHADE, house_style, page, save, wrap
from figures.tables import Table, read_table

ACROSS = 4  # models in a row; more of them would be narrower than their labels
KINDS = ("attention", "mlp", "conv", "token_mixing", "downsample", "block", "stem")
DEPTHS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)))  # without the yellow that white swallows


@house_style()
def draw_spectrum(
    tables: Mapping[str, Table], path: str | Path, title: str = "", caption: str = "", note: str = ""
) -> Figure:
    """Draw for each model the relative log-amplitude of its maps against frequency, a curve for each block, coloured by
    depth; and below it the entry of each map's highest frequency against depth, its marker told by the kind of block.

    Shades and bars are the tables' 95 % intervals.

    Args:
        tables: spectrum.csv of each model, by the name to show.
        path: .png, .pdf or .svg.
        title, caption, note: words above and below the panels; the note stands out.

    Raises:
        ValueError: no model; a missing column; another suffix.
        FileNotFoundError: no such table.
    """
    numbers = ["block", "depth", "frequency", "log_amplitude", "low", "high", "images"]
    models = _read(tables, numbers, "spectrum")
    highest = {name: rows.groupby("block").tail(1) for name, rows in models.items()}
    words = [
        caption,
        "Logarithm of the Fourier amplitude less that at frequency 0, mean over images and channels.",
        "Below: at the highest frequency under π that a map has on its diagonal, 6/7 π at 14×14.",
        _intervals("Shades and bars", models.values()),
    ]
    figure, panels, legend = _grid(list(models), (1.55, 1.35), title, note, words)
    above, below = panels
    for axes, (name, rows) in zip(above, models.items(), strict=True):
        _draw_curves(axes, rows)
        axes.set_title(_title(name, len(models)), parse_math=False)
    for axes, rows in zip(below, highest.values(), strict=True):
        _draw_depths(axes, rows, "log_amplitude")
    _label(above, "frequency", "relative\nlog amplitude", len(models))
    _label(below, "normalised depth", "at the highest\nfrequency", len(models))
    for axes in above:
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "π/2", "π"])
    shrink = 1 if len(models) <= ACROSS else 0.35  # beside the first of several rows
    scale = ScalarMappable(Normalize(0, 1), DEPTHS)
    figure.colorbar(
        scale, ax=above, label="normalised depth", aspect=30 * shrink, pad=0.01, shrink=shrink, anchor=(0, 1)
    )
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
    models = _read(tables, ["block", "depth", "variance", "low", "high", "images"], "variance")
    still = [f"{row.name_} of {name}" for name, rows in models.items() for row in _flat(rows)]
    models = {name: rows[rows["variance"] > 0] for name, rows in models.items()}
    if all(rows.empty for rows in models.values()):
        raise ValueError("no map varies over its positions, so there is nothing to draw on a logarithmic axis")
    words = [
        caption,
        "Variance over the positions of a map, mean over channels and images.",
        _intervals("Bars", models.values()),
        f"Left out, without variance: {', '.join(still)}." if still else "",
    ]
    figure, (panels,), legend = _grid(list(models), (1.7,), title, note, words)
    for axes, (name, rows) in zip(panels, models.items(), strict=True):
        _draw_depths(axes, rows, "variance")
        axes.set_yscale("log")
        axes.set_title(_title(name, len(models)), parse_math=False)
    _label(panels, "normalised depth", "feature variance", len(models))
    for axes in panels:
        axes.yaxis.set_major_locator(LogLocator(subs=_steps(models.values())))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _name_kinds(legend, models.values())
    save(figure, path)
    return figure


def _read(tables: Mapping[str, Table], numbers: list[str], what: str) -> dict[str, pd.DataFrame]:
    if not tables:
        raise ValueError(f"there is no model to draw: give at least one {what} table")
    read: Callable[[str, Table], pd.DataFrame] = lambda name, table: read_table(  # noqa: E731
        table, numbers, ["name", "kind"], f"the {what} table of {name}"
    )
    keys = [key for key in ("block", "frequency") if key in numbers]
    return {name: read(name, table).sort_values(keys, ignore_index=True) for name, table in tables.items()}


def _grid(
    names: list[str], heights: tuple[float, ...], title: str, note: str, words: list[str]
) -> tuple[Figure, list[list[Axes]], Axes]:
    """For each of `heights` (inches) a panel for every model, as many models in a row as fit, and room for a legend.

    All panels of one kind share their y axis.
    """
    across, kinds = min(len(names), ACROSS), len(heights)
    lines = ceil(len(names) / across)
    titles = max(_title(name, len(names)).count("\n") + 1 for name in names) * 0.14
    body_height = lines * (sum(heights) + 0.35 * kinds + titles) + 0.3
    figure = page(DOUBLE_COLUMN, body_height, title, note, " ".join(filter(None, words)))
    grid = figure.add_gridspec(lines * kinds + 1, across, height_ratios=[*heights * lines, 0.12])
    panels: list[list[Axes]] = [[] for _ in heights]
    for k in range(len(names)):
        for kind, made in enumerate(panels):
            share = made[0] if made else None
            made.append(figure.add_subplot(grid[k // across * kinds + kind, k % across], sharey=share))
    return figure, panels, figure.add_subplot(grid[-1, :])


def _title(name: str, models: int) -> str:
    """The name, in lines as wide as a panel is, between its labels and the scale of depths."""
    return "\n".join(wrap(name, DOUBLE_COLUMN / min(models, ACROSS) - 0.75, 8))


def _draw_curves(axes: Axes, rows: pd.DataFrame) -> None:
    for _, curve in rows.groupby("block"):
        colour = DEPTHS(curve["depth"].iloc[0])
        axes.fill_between(curve["frequency"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(curve["frequency"], curve["log_amplitude"], color=colour, linewidth=0.9)


def _draw_depths(axes: Axes, rows: pd.DataFrame, value: str) -> None:
    axes.plot(rows["depth"], rows[value], color=GREY, linewidth=0.6, zorder=1)
    for kind, some in rows.groupby("kind"):
        colour, marker = _look(str(kind))
        bars = axes.vlines(some["depth"], some["low"], some["high"], color=colour, linewidth=0.8)
        bars.set_gid(f"interval of {kind}")
        axes.plot(some["depth"], some[value], color=colour, marker=marker, linestyle="none", markersize=2.8)
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.grid(axis="x", color=SHADE, linewidth=0.5)


def _look(kind: str) -> tuple[str, str]:
    k = KINDS.index(kind) if kind in KINDS else len(KINDS) - 2
    return COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]


def _label(panels: list[Axes], x: str, y: str, models: int) -> None:
    """y labels on the left alone: the panels share their axis."""
    across = min(models, ACROSS)
    for k, axes in enumerate(panels):
        axes.set_xlabel(x)
        if k % across == 0:
            axes.set_ylabel(y)
        else:
            axes.tick_params(labelleft=False)


def _name_kinds(axes: Axes, tables: Iterable[pd.DataFrame]) -> None:
    present = {str(kind) for rows in tables for kind in rows["kind"]}
    kinds = [kind for kind in KINDS if kind in present] + sorted(present - set(KINDS))
    handles = []
    for kind in kinds:
        colour, marker = _look(kind)
        label = {"mlp": "MLP", "conv": "convolution"}.get(kind, kind.replace("_", " "))
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=label))
    axes.axis("off")
    axes.legend(handles=handles, loc="center", ncols=len(handles), borderpad=0, handletextpad=0.2, columnspacing=1.2)


def _steps(tables: Collection[pd.DataFrame]) -> tuple[int, ...]:
    values = np.concatenate([rows["variance"].to_numpy() for rows in tables])
    span = values.max() / values.min()
    return (1, 2, 5) if span < 100 else (1,)


def _flat(rows: pd.DataFrame) -> Iterable:
    return rows[rows["variance"] <= 0].rename(columns={"name": "name_"}).itertuples()


def _intervals(what: str, tables: Collection[pd.DataFrame]) -> str:
    counts = sorted({int(count) for rows in tables for count in rows["images"]})
    over = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{what}: 95 % bootstrap intervals over {over} images." if counts[-1] > 1 else "One image, no intervals."
