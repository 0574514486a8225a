"""Interaction strength against order: one run in full, and several runs side by side.

Strength A(m), relative strength J(m) and order m, out of n − 2, as in Deng et al. 2022 (arXiv 2111.06236).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from figures.seeds import draw_seeds, legend_sample
from figures.style import DOUBLE_COLUMN, GREY, INK, SHADE, house_style, look, page, save, wrap
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
RELATIVE, ABSOLUTE = ("J", "J_corrected", "J_rms"), ("A", "A_corrected", "rms")
MIDDLE = (0.3, 0.7)  # the order ratios over which the middle mass is a mean
LIST_WIDTH, MASS_WIDTH = 2.05, 1.05  # inches


@house_style()
def draw_strength(
    table: Table, path: str | Path, title: str = "", caption: str = "", unit: str = "units of v", note: str = ""
) -> Figure:
    """Draw one run's strength.csv: J on an axis from 0, and the absolute strength with the numerical floor on a
    logarithmic one; each as published (raw), noise-corrected and as rms.

    Bars are the table's 95 % intervals, hollow points lie near the numerical floor; a missing point is left out and
    the caption names it with the reason.

    Args:
        table: one row per order: a DataFrame, or the path of strength.csv.
        path: .png, .pdf or .svg.
        title, caption, note: words above and below the panels; the note stands out.
        unit: of v, e.g. "log-odds".

    Raises:
        ValueError: a column that the table lacks; another suffix.
        FileNotFoundError: no such table.
    """
    rows = read_strength(table, RELATIVE + ABSOLUTE, "the strength table")
    bottom, top = _positive_span(rows, ABSOLUTE)
    floor = _highest_floor(rows)
    words = [
        caption,
        interval_words([rows]),
        hollow_words([rows]),
        *left_out(rows, RELATIVE + ABSOLUTE, logarithmic=ABSOLUTE),
        f"The numerical floor, {floor:.1g} or less, lies below the axis." if 0 < floor < bottom else "",
    ]
    figure = page(DOUBLE_COLUMN, 2.9, title, note, " ".join(filter(None, words)))
    panels = figure.subplot_mosaic([["left", "right"], ["legend", "legend"]], height_ratios=(1, 0.04))
    left, right, legend = panels["left"], panels["right"], panels["legend"]
    for axes, measures in ((left, RELATIVE), (right, ABSOLUTE)):
        for k, measure in enumerate(measures):
            draw_seeds(axes, [curve_of(rows, measure)], look(k), shift_of(k, len(measures)), measure)
        label_orders(axes, rows)
        _, quantity, scale = MEASURES[measures[0]]
        axes.set_ylabel(f"{quantity}\n({scale.format(v=unit)})")
    start_at_zero(left, [rows], RELATIVE)
    right.set_yscale("log")
    right.set_ylim(bottom, top)
    _label_decades(right, top / bottom)
    handles = [legend_sample(look(k), MEASURES[measure].kind) for k, measure in enumerate(RELATIVE)]
    if floor >= bottom:
        handles += right.plot(rows["ratio"], rows["floor"], color=GREY, linewidth=0.8, label="numerical floor")
    legend.axis("off")
    legend.legend(handles=handles, loc="center", ncols=len(handles), borderpad=0)
    save(figure, path)
    return figure


@house_style()
def draw_comparison(
    tables: Mapping[str, Table],
    path: str | Path,
    measure: str = PRIMARY,
    masses: Table | None = None,
    note: str = "",
    title: str = "",
    caption: str = "",
    unit: str = "units of v",
) -> Figure:
    """Draw one measure of several runs with its 95 % intervals, and beside the curves the runs' names and middle mass.

    The y axis starts at 0, the orders of the middle mass are shaded; hollow and missing points as in `draw_strength`.

    Args:
        tables: strength.csv of each run, by the name to show.
        path: .png, .pdf or .svg.
        measure: a key of `MEASURES`.
        masses: middle mass of each run, columns run, M, M_low, M_high; where there is a column measure too, the rows
            of this measure count.
        note: what else sets the runs apart; it stands out below the panels.
        unit: of v, for a measure that has one.

    Raises:
        ValueError: no run; an unknown measure; a missing column; a run without a middle mass; another suffix.
        FileNotFoundError: no such table.
    """
    if not tables:
        raise ValueError("there is no run to draw: give at least one strength table")
    if measure not in MEASURES:
        raise ValueError(f"there is no measure {measure!r}: choose one of {', '.join(MEASURES)}")
    runs = {name: read_strength(table, (measure,), f"the strength table of {name}") for name, table in tables.items()}
    mass_of = {} if masses is None else _masses(masses, measure, list(runs))
    words = [
        caption,
        interval_words(list(runs.values())),
        hollow_words(list(runs.values())),
        f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}{', whose mean J is M' if mass_of else ''}.",
        *(sentence for name, rows in runs.items() for sentence in left_out(rows, (measure,), of=f" of {name}")),
    ]
    entries = [_entry(name, mass_of.get(name)) for name in runs]
    row_height = (max(len(entry) for entry in entries) + 0.8) * 0.13
    body_height = max(3.0, len(runs) * row_height + 0.7)
    figure = page(DOUBLE_COLUMN, body_height, title, note, " ".join(filter(None, words)))
    widths = [DOUBLE_COLUMN - LIST_WIDTH, LIST_WIDTH]
    if mass_of:
        widths = [widths[0] - MASS_WIDTH, MASS_WIDTH, LIST_WIDTH]
    curves, *beside, names = figure.subplots(1, len(widths), width_ratios=widths)

    for k, rows in enumerate(runs.values()):
        draw_seeds(curves, [curve_of(rows, measure)], look(k), shift_of(k, len(runs)), measure)
    curves.axvspan(*MIDDLE, color=SHADE, linewidth=0, zorder=0)
    start_at_zero(curves, runs.values(), (measure,))
    kind, quantity, scale = MEASURES[measure]
    curves.set_ylabel(f"{quantity}, {kind}\n({scale.format(v=unit)})")
    first, *others = runs.values()
    same = all(np.array_equal(rows[["order", "ratio"]], first[["order", "ratio"]]) for rows in others)
    label_orders(curves, first if same else None)
    for axes in beside:
        _draw_masses(axes, mass_of)
    _draw_names(names, entries)
    save(figure, path)
    return figure


def read_strength(table: Table, measures: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of strength.csv by order, with what is needed of these measures. Raises as `read_table`."""
    numbers = [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]
    notes = ["rms_note"] if {"rms", "J_rms"} & set(measures) else []
    rows = read_table(table, ["order", "ratio", "images", "near_floor", *numbers], notes, what)
    return rows.sort_values("ratio", ignore_index=True).astype({"near_floor": bool})


def _masses(table: Table, measure: str, runs: list[str]) -> dict[str, list[float]]:
    """M, M_low and M_high of each run."""
    what = "the table of middle masses"
    rows = read_table(table, ["M", "M_low", "M_high"], ["run"], what)
    if "measure" in rows:
        rows = rows[rows["measure"] == measure]
    rows = rows[rows["run"].isin(runs)]
    missing = [run for run in runs if run not in set(rows["run"])]
    if missing:
        raise ValueError(f"{what} has no row of {measure} for {', '.join(missing)}")
    if not rows["run"].is_unique:
        raise ValueError(f"{what} has several rows for one run: give one row for each run and measure")
    return {run: rows.loc[rows["run"] == run, ["M", "M_low", "M_high"]].iloc[0].tolist() for run in runs}


def curve_of(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One measure of a strength table as `draw_seeds` takes it."""
    columns = {"x": "ratio", "y": measure, "low": f"{measure}_low", "high": f"{measure}_high", "hollow": "near_floor"}
    return pd.DataFrame({name: rows[column] for name, column in columns.items()})


def shift_of(k: int, curves: int) -> float:
    """Order ratio by which the k-th curve is moved aside, so that every interval is seen; all stay within ± 0.02."""
    return (k - (curves - 1) / 2) * min(0.007, 0.04 / curves)


def start_at_zero(axes: Axes, tables: Collection[pd.DataFrame], measures: Sequence[str]) -> None:
    """The axis starts at 0, or below it where a corrected or squared strength or its interval does."""
    columns = [f"{measure}{end}" for measure in measures for end in ("", "_low")]
    axes.set_ylim(bottom=1.05 * min(float(np.nanmin(rows[columns].to_numpy(), initial=0)) for rows in tables))


def label_orders(axes: Axes, rows: pd.DataFrame | None) -> None:
    """Order ratio along the bottom; where the curves share their orders, the order m of the points along the top."""
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel("order ratio m / (n − 2)")
    if rows is None:
        return
    ratios = rows["ratio"].to_numpy()
    kept = [0]
    for k in range(1, len(ratios)):
        if ratios[k] - ratios[kept[-1]] > 0.085 and (ratios[-1] - ratios[k] > 0.085 or k == len(ratios) - 1):
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


def _draw_masses(axes: Axes, masses: dict[str, list[float]]) -> None:
    for k, (mass, low, high) in enumerate(masses.values()):
        axes.hlines(k, low, high, color=look(k).colour, linewidth=1.5)
        axes.plot(mass, k, color=look(k).colour, marker=look(k).marker)
    axes.margins(x=0.12)
    axes.set_xlim(axes.get_xlim())
    axes.axvline(1, color=GREY, linewidth=0.5, zorder=0)  # where the middle orders are as strong as the average order
    axes.set_ylim(len(masses) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_xlabel("middle mass M")


def _entry(name: str, mass: list[float] | None) -> list[str]:
    """The lines that the list shows for one run."""
    lines = wrap(name, LIST_WIDTH - 0.5, 7)
    if mass is None:
        return lines
    return [*lines, "M = {:.3f}  [{:.3f}, {:.3f}]".format(*mass) if np.isfinite(mass[0]) else "M is missing"]


def _draw_names(axes: Axes, entries: list[list[str]]) -> None:
    for k, lines in enumerate(entries):
        sample = legend_sample(look(k), "_")
        sample.set_data([0, 0.06, 0.12], [k, k, k])
        sample.set_markevery([1])
        axes.add_line(sample)
        axes.text(0.16, k, "\n".join(lines), size=7, color=INK, va="center", parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.axis("off")


def _positive_span(rows: pd.DataFrame, measures: Sequence[str]) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds every point, the tops of the intervals, and the floor if it is not far."""
    points, tops = rows[list(measures)].to_numpy(), rows[[f"{measure}_high" for measure in measures]].to_numpy()
    points = points[points > 0]
    if not len(points):
        return 0.1, 1.0
    lowest, floor = points.min(), _highest_floor(rows)
    if 0.01 * lowest < floor < lowest:
        lowest = floor
    return lowest / 1.6, 1.3 * max(points.max(), np.nanmax(tops, initial=0), floor)


def _highest_floor(rows: pd.DataFrame) -> float:
    """0 where the run measured no floor."""
    return float(np.nan_to_num(rows["floor"].max())) if "floor" in rows else 0.0


def interval_words(tables: Collection[pd.DataFrame]) -> str:
    """What the bars are, for a caption."""
    images = {int(count) for rows in tables for count in rows["images"]}
    some = f"{min(images)}" if len(images) == 1 else f"{min(images)} to {max(images)}"
    return f"Bars: 95 % bootstrap intervals over {some} images."


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
        absent = rows[measure].isna()
        if measure in logarithmic:
            reason, absent = reason.mask(rows[measure] <= 0, "not positive"), absent | (rows[measure] <= 0)
        for why, orders in rows["order"][absent].groupby(reason[absent]):
            listed = ", ".join(str(int(order)) for order in orders)
            missing.setdefault((listed, str(why)), []).append(measure)
    return [
        f"Left out: {' and '.join(names)}{of} at order {orders} ({why})." for (orders, why), names in missing.items()
    ]
