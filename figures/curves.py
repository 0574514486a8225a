"""Interaction strength against order: of one run in full, and what every figure of strengths shares.

Strength A(m), relative strength J(m) and order m, out of n − 2, as in Deng et al. 2022 (arXiv 2111.06236).
"""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures.labels import label_curves
from figures.panels import new_axes
from figures.seeds import draw_seeds, interval_words, last_point
from figures.style import FIRST, GREY, SHADE, Look, grey_look, house_style, look, page, save
from figures.tables import Table, read_table


class Measure(NamedTuple):
    """A measure of strength.csv: the kind of estimate, the quantity estimated, its unit."""

    kind: str
    quantity: str
    unit: str


MEASURES = {
    "J": Measure("raw, as published", "relative strength J", "mean over orders = 1"),
    "J_corrected": Measure("noise-corrected", "relative strength J", "mean over orders = 1"),
    "J_rms": Measure("rms", "relative strength J", "mean over orders = 1"),
    "A": Measure("raw, as published", "strength A", "{v}"),
    "A_corrected": Measure("noise-corrected", "strength A", "{v}"),
    "rms": Measure("rms", "strength A", "{v}"),
    "mean_square": Measure("unbiased", "mean square of I", "{v}, squared"),
}
PRIMARY = "J_rms"
"""The measure whose expectation no number of passes changes (docs/reading-curves.md)."""
RELATIVE, ABSOLUTE = ("J_rms", "J_corrected", "J"), ("rms", "A_corrected", "A")
KINDS: dict[str, Look] = {"rms": look(0), "noise-corrected": look(1), "raw, as published": grey_look(2)}
"""How the kinds of estimates look where they stand beside each other: what noise lifts is faint."""
MIDDLE = (0.3, 0.7)  # the order ratios over which the middle mass is a mean
UPPER, LOWER, AROUND = 1.35, 1.1, 1.1  # inches of the panels of draw_strength, and of the words around them
FAR = 30.0  # times the highest point: tops of intervals that lie higher do not stretch the axis


def draw_strength(
    table: Table, path: str | Path, title: str = "", caption: str = "", unit: str = "units of v", note: str = ""
) -> Figure:
    """Draw one run's strength.csv into a file, as `strength_figure` composes it.

    Args:
        path: .png, .pdf or .svg.

    Raises:
        ValueError: a column that the table lacks; another suffix.
        FileNotFoundError: no such table.
    """
    figure = strength_figure(table, title, caption, unit, note)
    save(figure, path)
    return figure


@house_style()
def strength_figure(
    table: Table, title: str = "", caption: str = "", unit: str = "units of v", note: str = ""
) -> Figure:
    """One run's strength.csv: J on an axis from 0, and below it the absolute strength with the numerical floor on a
    logarithmic one; each as rms and noise-corrected, and faintly as published (raw).

    Bands are the table's 95 % intervals, hollow points lie near the numerical floor; a missing point is left out and
    the caption names it with the reason.

    Args:
        table: one row per order: a DataFrame, or the path of strength.csv.
        title, caption, note: words above and below the panels; the note stands out.
        unit: of v, e.g. "log-odds".

    Raises:
        ValueError, FileNotFoundError: as `draw_strength`.
    """
    rows = read_strength(table, RELATIVE + ABSOLUTE, "the strength table")
    bottom, top = _positive_span(rows, ABSOLUTE)
    floor = _highest_floor(rows)
    words = [
        caption,
        band_words([rows], RELATIVE + ABSOLUTE),
        f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}.",
        hollow_words([rows]),
        "Some bands go on above the axis."
        if (rows[[f"{name}_high" for name in ABSOLUTE]] > top).any(axis=None)
        else "",
        *left_out(rows, RELATIVE + ABSOLUTE, logarithmic=ABSOLUTE),
        f"The numerical floor, {floor:.1g} or less, lies below the axis." if 0 < floor < bottom else "",
    ]
    figure = page(UPPER + LOWER + AROUND, title, note, " ".join(filter(None, words)))
    above, below = figure.subplots(2, 1, height_ratios=(UPPER, LOWER))
    shade_middle(above)
    for axes, measures in ((above, RELATIVE), (below, ABSOLUTE)):
        for measure in reversed(measures):  # the faint one lies behind
            plot_strength(rows, axes, measure, KINDS[MEASURES[measure].kind])
        _, quantity, scale = MEASURES[measures[0]]
        axes.set_ylabel(f"{quantity}\n({scale.format(v=unit)})")
    label_orders(above, rows, below=False)
    label_orders(below, None)
    start_at_zero(above, [rows], RELATIVE)
    with warnings.catch_warnings():  # of a run without any interaction, which the caption says
        warnings.filterwarnings("ignore", "Data has no positive values")
        below.set_yscale("log")
    below.set_ylim(bottom, top)
    _label_decades(below, top / bottom)
    if floor >= bottom:
        below.plot(rows["ratio"], rows["floor"], color=GREY, linewidth=0.8, linestyle=":", label="numerical floor")
        below.annotate("numerical floor", (0, floor), (0, 2), textcoords="offset points", size=6, color=GREY)
    for axes, measures, height in ((above, RELATIVE, UPPER), (below, ABSOLUTE, LOWER)):
        ends = {MEASURES[measure].kind: last_point([curve_of(rows, measure)]) for measure in measures}
        shown = {kind: (*end, KINDS[kind]) for kind, end in ends.items() if np.isfinite(end).all()}
        if axes is below:
            shown = {kind: end for kind, end in shown.items() if end[1] > 0}
        label_curves(axes, shown, height)
    return figure


def plot_strength(
    table: Table, axes: Axes | None = None, measure: str = PRIMARY, look: Look = FIRST, name: str = ""
) -> Axes:
    """Draw one measure of one run into axes, of your own or new ones: line, points and the band of its intervals.

    Args:
        table: one row per order: a DataFrame, or the path of strength.csv.
        measure: a key of `MEASURES`.
        look: `figures.style.look(k)` for the k-th of several runs.
        name: for `axes.legend()`.

    Returns the axes. Raises ValueError for an unknown measure or a column that the table lacks.
    """
    if measure not in MEASURES:
        raise ValueError(f"there is no measure {measure!r}: choose one of {', '.join(MEASURES)}")
    rows = read_strength(table, (measure,), f"the strength table of {name}" if name else "the strength table")
    if axes is None:
        axes = new_axes()
        label_orders(axes, None)
        axes.set_ylabel(ylabel_of(measure))
    draw_seeds(axes, [curve_of(rows, measure)], look, measure, name=name)
    return axes


def ylabel_of(measure: str, unit: str = "units of v") -> str:
    """What the y axis of a measure is called."""
    kind, quantity, scale = MEASURES[measure]
    short = kind.split(",")[0]
    return f"{quantity}\n({short})" if measure in RELATIVE else f"{quantity}, {short}\n({scale.format(v=unit)})"


def read_strength(table: Table, measures: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of strength.csv by order, with what is needed of these measures. Raises as `read_table`."""
    numbers = [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]
    notes = ["rms_note"] if {"rms", "J_rms"} & set(measures) else []
    rows = read_table(table, ["order", "ratio", "images", "near_floor", *numbers], notes, what)
    return rows.sort_values("ratio", ignore_index=True).astype({"near_floor": bool})


def curve_of(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One measure of a strength table as `draw_seeds` takes it."""
    columns = {"x": "ratio", "y": measure, "low": f"{measure}_low", "high": f"{measure}_high", "hollow": "near_floor"}
    return pd.DataFrame({name: rows[column] for name, column in columns.items()})


def start_at_zero(axes: Axes, tables: Collection[pd.DataFrame], measures: Sequence[str]) -> None:
    """The axis starts at 0, or below it where a corrected or squared strength or its interval does (one without an end
    goes on below the axis)."""
    columns = [f"{measure}{end}" for measure in measures for end in ("", "_low")]
    lows = [rows[columns].replace(-np.inf, np.nan).to_numpy() for rows in tables]
    axes.set_ylim(bottom=1.05 * min(float(np.nanmin(low, initial=0)) for low in lows))


def shade_middle(axes: Axes) -> None:
    """The orders of the middle mass."""
    axes.axvspan(*MIDDLE, color=SHADE, linewidth=0, zorder=0)


def label_orders(axes: Axes, rows: pd.DataFrame | None, below: bool = True) -> None:
    """Order ratio along the bottom; where the curves share their orders, the order m of the points along the top."""
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks(np.linspace(0, 1, 6))
    if below:
        axes.set_xlabel("order ratio m / (n − 2)")
    if rows is None:
        return
    ratios = rows["ratio"].to_numpy()
    kept = [0]
    for k in range(1, len(ratios)):
        if ratios[k] - ratios[kept[-1]] > 0.13 and (ratios[-1] - ratios[k] > 0.13 or k == len(ratios) - 1):
            kept.append(k)
    above = axes.secondary_xaxis("top")
    above.set_xticks(ratios, minor=True)
    above.set_xticks(ratios[kept], rows["order"].astype(int).iloc[kept].astype(str).tolist())
    above.set_xlabel("order m  (cells of context)")


def _label_decades(axes: Axes, span: float) -> None:
    steps = (1, 2, 5) if span < 100 else (1, 3) if span < 1000 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _positive_span(rows: pd.DataFrame, measures: Sequence[str]) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds every point, and what is not far: the tops of the intervals, the floor."""
    points, tops = rows[list(measures)].to_numpy(), rows[[f"{measure}_high" for measure in measures]].to_numpy()
    points = points[points > 0]
    if not len(points):
        return 0.1, 1.0
    lowest, floor = points.min(), _highest_floor(rows)
    if 0.01 * lowest < floor < lowest:
        lowest = floor
    near = tops[tops <= FAR * points.max()]
    return lowest / 1.6, 1.3 * max(points.max(), near.max(initial=0), floor)


def _highest_floor(rows: pd.DataFrame) -> float:
    """0 where the run measured no floor."""
    return float(np.nan_to_num(rows["floor"].max())) if "floor" in rows else 0.0


def band_words(tables: Collection[pd.DataFrame], measures: Sequence[str], marks: str = "Bands") -> str:
    """What the bands of these measures are, for a caption; on a page they are bars."""
    return interval_words(marks, tables, [(f"{measure}_low", f"{measure}_high") for measure in measures])


def hollow_words(tables: Collection[pd.DataFrame]) -> str:
    """What hollow points are, for a caption; nothing where there are none."""
    return "Hollow: near the numerical floor." if any(rows["near_floor"].any() for rows in tables) else ""


def left_out(rows: pd.DataFrame, measures: Sequence[str], logarithmic: Sequence[str] = (), of: str = "") -> list[str]:
    """A sentence for every set of points that have no place in the figure, with the reason; measures that miss the
    same points for the same reason share one."""
    missing: dict[tuple[str, str], list[str]] = {}
    for measure in measures:
        reason = pd.Series("not measured", rows.index)
        if measure in ("rms", "J_rms"):
            reason = rows["rms_note"].astype(object).fillna("").astype(str).replace("", "no reason given")
        elif "A" in rows and (rows["A"] == 0).all():
            reason = pd.Series("no interaction at any order: J is relative to nothing", rows.index)
        absent = rows[measure].isna()
        if measure in logarithmic:
            reason, absent = reason.mask(rows[measure] <= 0, "not positive"), absent | (rows[measure] <= 0)
        for why, orders in rows["order"][absent].groupby(reason[absent]):
            listed = ", ".join(str(int(order)) for order in orders)
            missing.setdefault((listed, str(why)), []).append(measure)
    return [
        f"Left out: {' and '.join(names)}{of} at order {orders} ({why})." for (orders, why), names in missing.items()
    ]
