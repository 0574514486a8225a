"""The central figure: middle mass M of every method, by three measures side by side, in every network and set-up.

M is the mean of the relative strength J over the order ratios 0.3 to 0.7; J is raw as published, noise-corrected, or of
the unbiased rms.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.curves import MEASURES, MIDDLE, RELATIVE
from figures.panels import FAMILIES, panel_page
from figures.runs import Drawn, Run, holding
from figures.seeds import SMALL
from figures.style import GREY, Look, house_style, look
from figures.tables import read_table

TABLE = "masses.csv"
COMMAND = "a2mim reproduce"
NUMBERS, TEXTS = ("seed", "M", "M_low", "M_high", "images"), ("network", "setup", "measure", "method")
ROW = 0.34  # inches, a method with its measures below each other


@house_style()
def draw(runs: Sequence[Run], title: str = "", caption: str = "") -> Drawn:
    """Draw a panel for each network and set-up, in it a row for each method with its measures below each other.

    A point with a bar is a seed with its interval over images; where there are several, the larger mark is their mean.

    Args:
        runs: folders with masses.csv: network, setup, measure, method, seed, M, M_low, M_high, images.

    Raises:
        ValueError: a run without the table; a missing column; a seed twice; more than 4 panels.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = [read_table(run.folder / TABLE, NUMBERS, TEXTS, "the table of middle masses") for run in runs]
    rows = pd.concat(tables, ignore_index=True)
    rows = rows[rows["measure"].isin(RELATIVE)]
    twice = rows[rows.duplicated(["network", "setup", "measure", "method", "seed"])]
    if len(twice):
        raise ValueError(
            "the middle masses hold {network}, {setup}, {method}, seed {seed} twice".format(**twice.iloc[0])
        )
    methods = list(rows["method"].unique())
    panels = {
        f"{FAMILIES.get(str(network), str(network))}\n{setup}": some
        for (network, setup), some in rows.groupby(["network", "setup"], sort=False)
    }
    measures = [measure for measure in RELATIVE if measure in set(rows["measure"])]
    looks = {MEASURES[measure].kind: Look(look(k).colour, look(k).marker, "none") for k, measure in enumerate(measures)}
    words = " ".join(filter(None, [caption, _words(rows)]))
    span = _span(rows)
    figure, axes = panel_page(list(panels), looks, (0.6 + ROW * len(methods),), title, "", words)
    for each, some in zip(axes[0], panels.values(), strict=True):
        for k, measure in enumerate(measures):
            shift = (k - (len(measures) - 1) / 2) * 0.26
            for row, method in enumerate(methods):
                seeds = some[(some["method"] == method) & (some["measure"] == measure)]
                _draw_mass(each, seeds, row + shift, look(k), measure)
        each.axvline(1, color=GREY, linewidth=0.5, zorder=0)
        each.set_xlabel("middle mass M")
        each.hlines(
            np.arange(1, len(methods)) - 0.5, 0, 1, transform=each.get_yaxis_transform(), color=GREY, linewidth=0.2
        )
        each.set_xlim(span)
        each.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    for text in axes[0, 0].get_yticklabels():
        text.set_parse_math(False)
    return Drawn(figure, {run: [TABLE] for run in runs}, "")


def _draw_mass(axes: Axes, seeds: pd.DataFrame, y: float, look: Look, measure: str) -> None:
    """The seeds of one method and measure, closely below each other, and their mean."""
    several = len(seeds) > 1
    places = y + (np.arange(len(seeds)) - (len(seeds) - 1) / 2) * (0.16 / max(len(seeds) - 1, 1))
    bars = axes.hlines(places, seeds["M_low"], seeds["M_high"], color=look.colour, linewidth=0.8)
    bars.set_alpha(0.5 if several else 1.0)
    bars.set_gid(f"interval of {measure}")
    (points,) = axes.plot(seeds["M"], places, color=look.colour, linestyle="none", marker=look.marker)
    points.set_gid(f"seeds of {measure}")
    if several:
        points.set_markersize(SMALL)
        (mean,) = axes.plot(seeds["M"].mean(skipna=False), y, color=look.colour, marker=look.marker, markersize=4.5)
        mean.set_markeredgecolor("white")
        mean.set_gid(f"mean of {measure}")


def _span(rows: pd.DataFrame) -> tuple[float, float]:
    """Of the axis that all panels share; 1, the mean over all orders, is on it."""
    ends = np.append(rows[["M", "M_low", "M_high"]].to_numpy(dtype=float).ravel(), 1.0)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _words(rows: pd.DataFrame) -> str:
    images = sorted(rows["images"].dropna().astype(int).unique())
    some = f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}"
    seeds = rows.groupby(["network", "setup", "measure", "method"])["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    words = [
        f"M: mean of J over the order ratios {MIDDLE[0]} to {MIDDLE[1]}; 1: as strong as the mean over all orders.",
        f"Bars: 95 % bootstrap intervals over {some} images.",
        f"Small marks: {count} seeds; large: their mean."
        if seeds.max() > 1
        else "One seed: nothing is known of others.",
    ]
    missing = rows[rows["M"].isna()]
    if len(missing):
        listed = missing[["network", "setup", "method", "measure"]].drop_duplicates().agg(", ".join, axis=1)
        words.append(f"Missing: {'; '.join(listed)}.")
    return " ".join(words)
