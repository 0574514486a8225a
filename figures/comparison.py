"""Several runs side by side: their curves, and below them middle mass and paired differences of each."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.curves import (
    MEASURES,
    MIDDLE,
    PRIMARY,
    band_words,
    curve_of,
    hollow_words,
    label_orders,
    left_out,
    plot_strength,
    read_strength,
    shade_middle,
    start_at_zero,
    ylabel_of,
)
from figures.forest import plot_intervals, row_height
from figures.labels import fit_beside, label_curves
from figures.panels import draw_legend, legend_height
from figures.seeds import last_point
from figures.style import GREY, behind_first, house_style, looks, page, save
from figures.tables import Table, read_table
from figures.words import count_in_words

CURVES, AROUND = 1.4, 0.75  # inches, a panel of curves, and the words above and below it
AXIS = 0.5  # inches, the numbers and words below the rows
PAIRED = ["difference", "low", "high"]


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
    differences: Table | None = None,
) -> Figure:
    """Draw one measure of several runs with its 95 % intervals, and below the curves the middle mass M of each run and
    the paired difference of its M to that of the first run.

    The y axis starts at 0, the orders of the middle mass are shaded; hollow and missing points as in `draw_strength`.

    Args:
        tables: strength.csv of each run, by the name to show. The first five are coloured, the others grey.
        path: .png, .pdf or .svg.
        measure: a key of `MEASURES`.
        masses: middle mass of each run, columns run, M, M_low, M_high; where there is a column measure too, the rows
            of this measure count.
        note: what else sets the runs apart; it stands out below the panels.
        unit: of v, for a measure that has one.
        differences: of M, with run_a, run_b, difference (a − b), low, high, measure where there are several, and
            images, the number that both hold, where that is known.

    Raises:
        ValueError: no run; an unknown measure; a missing column; a run without a middle mass; another suffix; more
            runs than a page holds.
        FileNotFoundError: no such table.
    """
    if not tables:
        raise ValueError("there is no run to draw: give at least one strength table")
    if measure not in MEASURES:
        raise ValueError(f"there is no measure {measure!r}: choose one of {', '.join(MEASURES)}")
    runs = {name: read_strength(table, (measure,), f"the strength table of {name}") for name, table in tables.items()}
    names = list(runs)
    mass_of = None if masses is None else _masses(masses, measure, names)
    paired = None if differences is None or len(names) < 2 else _to_the_first(differences, measure, names)
    looks_of = looks([names])
    words = [
        caption,
        band_words(list(runs.values()), (measure,)),
        hollow_words(list(runs.values())),
        f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}{'' if mass_of is None else ', whose mean J is M'}.",
        "" if mass_of is None else _bar_words(mass_of, paired, names[0]),
        *(sentence for name, rows in runs.items() for sentence in left_out(rows, (measure,), of=f" of {name}")),
    ]
    beside = fit_beside(names, CURVES)
    legend = 0.0 if beside or mass_of is not None else legend_height(looks_of)
    rows_below = 0.0 if mass_of is None else sum(map(row_height, names))
    # The layout hands out what is left beside all words, so that the ratios are those of the bare panels.
    heights = [CURVES, *filter(None, [legend, rows_below])]
    tall = sum(heights) + AROUND + AXIS * bool(rows_below)
    figure = page(tall, title, note, " ".join(filter(None, words)))
    columns = 1 if paired is None or mass_of is None else 2
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)

    curves = figure.add_subplot(grid[0, :])
    shade_middle(curves)
    for name in behind_first(names, looks_of):
        plot_strength(runs[name], curves, measure, looks_of[name], name)
    start_at_zero(curves, runs.values(), (measure,))
    curves.set_ylabel(ylabel_of(measure, unit))
    first, *others = runs.values()
    same = all(np.array_equal(rows[["order", "ratio"]], first[["order", "ratio"]]) for rows in others)
    label_orders(curves, first if same else None)
    if beside:
        ends = {name: (*last_point([curve_of(rows, measure)]), looks_of[name]) for name, rows in runs.items()}
        label_curves(curves, {name: end for name, end in ends.items() if np.isfinite(end[:2]).all()}, CURVES)
    if legend:
        draw_legend(figure.add_subplot(grid[1, :]), looks_of)
    if mass_of is not None:
        plot_intervals(mass_of, figure.add_subplot(grid[-1, 0]), looks_of, 1.0, "middle mass M")
        if paired is not None:
            axes = figure.add_subplot(grid[-1, 1])
            plot_intervals(paired, axes, looks_of, 0.0, "difference of M", sign=True)
            axes.set_yticks([])
            axes.texts[0].set(text="compared with", size=6, color=GREY)
    save(figure, path)
    return figure


def _masses(table: Table, measure: str, runs: list[str]) -> pd.DataFrame:
    """name, value, low and high of M of each run."""
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
    renamed = rows.rename(columns={"run": "name", "M": "value", "M_low": "low", "M_high": "high"})
    return renamed.set_index("name").loc[runs, ["value", "low", "high"]].reset_index()


def _to_the_first(table: Table, measure: str, runs: list[str]) -> pd.DataFrame | None:
    """name, value, low and high of each run's M less that of the first, over so many images; missing for the first, and
    where two share no images. None where no run shares images with the first."""
    rows = read_table(table, PAIRED, ["run_a", "run_b"], "the table of differences")
    if "measure" in rows:
        rows = rows[rows["measure"] == measure]
    found = {}
    for row in rows.to_dict("records"):
        images = row.get("images", np.nan)
        if row["run_b"] == runs[0]:
            found[row["run_a"]] = row["difference"], row["low"], row["high"], images
        elif row["run_a"] == runs[0]:
            found[row["run_b"]] = -row["difference"], -row["high"], -row["low"], images
    values = [(run, *found.get(run, (np.nan,) * 4)) for run in runs]
    drawn = pd.DataFrame(values, columns=["name", "value", "low", "high", "images"])
    return drawn if any(run in found for run in runs) else None


def _bar_words(masses: pd.DataFrame, paired: pd.DataFrame | None, first: str) -> str:
    """What the bars of M and its differences are, and of how many images the differences are."""
    there = pd.concat([masses, paired])[["low", "high"]].notna().all(axis=1).any()
    words = ["Bars: 95 % intervals." if there else "M has no intervals."]
    if paired is not None:
        counts = paired["images"].dropna().astype(int).tolist()
        shared = f"{count_in_words(counts, 'image')} that both hold" if counts else "the images that both hold"
        words.append(f"Differences of M are paired over {shared}: of each run less {first}.")
    return " ".join(words)
