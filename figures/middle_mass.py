"""The central figure: middle mass M of every method, by three measures, in every network and set-up.

M is the mean of the relative strength J over the order ratios 0.3 to 0.7; J is of the unbiased rms, noise-corrected, or
raw as published.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from figures.curves import KINDS, MEASURES, MIDDLE, RELATIVE
from figures.forest import centres, name_rows, row_height
from figures.panels import FAMILIES, draw_legend, legend_height
from figures.runs import Drawn, Run, holding
from figures.seeds import SMALL, interval_words
from figures.style import GREY, SHADE, Look, house_style, page, room
from figures.tables import of_folders, read_table, refuse_in_several
from figures.words import count_in_words, left_out, setup_in_words

TABLE = "masses.csv"
COMMAND = "a2mim reproduce"
NUMBERS, TEXTS = ("seed", "M", "M_low", "M_high", "images"), ("network", "setup", "measure", "method")
APART = (
    "and their images, trainings and orders may be others: join one study to the other with --joined, which looks, or "
    "draw one folder"
)
LOOKS = {kind: Look(look.colour, look.marker, "none", look.context) for kind, look in KINDS.items()}
ACROSS = 2
"""Set-ups beside each other: a third would leave no room for its title."""
AXIS, TITLE = 0.48, 0.35  # inches: words and numbers below the rows; above them


@house_style()
def draw(runs: Sequence[Run], title: str = "", caption: str = "") -> Drawn:
    """Draw the networks below and their set-ups beside each other, two in a line, and in each a row for every method
    that the network was trained with, its measures below each other. The last set-ups of the table are left out, and
    named, where a page does not hold all.

    A point with a bar is a seed with its interval over images; where there are several, the larger mark is their mean.

    Args:
        runs: folders with masses.csv: network, setup, measure, method, seed, M, M_low, M_high, images.

    Raises:
        ValueError: a run without the table; a missing column; none of the measures that are drawn; a seed twice; one
            network and set-up in two folders; more than a page holds.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    what = "the table of middle masses"
    rows = of_folders({str(run.folder): read_table(run.table(TABLE), NUMBERS, TEXTS, what) for run in runs})
    rows = rows[rows["measure"].isin(RELATIVE)]
    if rows.empty:
        raise ValueError(f"the table of middle masses has none of {', '.join(RELATIVE)}, so there is nothing to draw")
    twice = rows[rows.duplicated(["network", "setup", "measure", "method", "seed"])]
    if len(twice):
        raise ValueError(
            "the middle masses hold {network}, {setup}, {method}, seed {seed} twice".format(**twice.iloc[0])
        )
    refuse_in_several(rows, ["network", "setup"], "{network}, {setup}", APART)
    methods = {str(network): list(some["method"].unique()) for network, some in rows.groupby("network", sort=False)}
    kinds = [MEASURES[measure].kind for measure in RELATIVE if measure in set(rows["measure"])]
    looks = {kind: LOOKS[kind] for kind in kinds}
    below = legend_height(looks)
    setups = list(rows["setup"].unique())
    while True:
        shown = rows[rows["setup"].isin(setups)]
        words = " ".join(filter(None, [caption, _words(shown), left_out(_others(rows, setups))]))
        lines = _lines(shown, list(methods), setups)
        heights = [sum(map(row_height, methods[network])) for network, _ in lines]
        tall = sum(heights) + (TITLE + AXIS) * len(heights) + below
        if tall <= room(title, "", words) or len(setups) <= ACROSS:
            break
        setups = setups[:-1]
    figure = page(tall, title, "", words)
    grid = figure.add_gridspec(len(heights) + 1, min(ACROSS, len(setups)), height_ratios=[*heights, below])
    span = _span(shown)
    for down, (network, some) in enumerate(lines):
        for across, setup in enumerate(some):
            axes = figure.add_subplot(grid[down, across])
            chosen = rows[(rows["network"] == network) & (rows["setup"] == setup)]
            plot_masses(chosen, axes, methods[network])
            axes.set_title(f"{FAMILIES.get(network, network)}\n{setup_in_words(setup)}", size=6, parse_math=False)
            axes.set_xlim(span)
            if across:
                axes.set_yticklabels([])
    draw_legend(figure.add_subplot(grid[-1, :]), looks)
    return Drawn(figure, {run: [TABLE] for run in runs}, "")


def _lines(rows: pd.DataFrame, networks: Sequence[str], setups: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """A network and the set-ups that stand beside each other, wherever it was measured in one of them."""
    pairs = [(network, setups[k : k + ACROSS]) for network in networks for k in range(0, len(setups), ACROSS)]
    measured = set(zip(rows["network"], rows["setup"], strict=True))
    return [(network, some) for network, some in pairs if any((network, setup) in measured for setup in some)]


def _others(rows: pd.DataFrame, setups: Sequence[str]) -> list[str]:
    return [setup_in_words(setup) for setup in rows["setup"].unique() if setup not in setups]


def plot_masses(rows: pd.DataFrame, axes: Axes, methods: Sequence[str], looks: Mapping[str, Look] = LOOKS) -> Axes:
    """Draw the middle masses of one network and set-up into axes of your own.

    Args:
        rows: method, measure, seed, M, M_low, M_high.
        methods: in the order of their rows; one without a mass gets a dash.
        looks: by kind of measure.

    Returns the axes.
    """
    measures = [measure for measure in RELATIVE if measure in set(rows["measure"])]
    for row, (y, method) in enumerate(zip(centres(methods), methods, strict=True)):
        height = row_height(method)
        if row % 2:
            axes.axhspan(y - height / 2, y + height / 2, color=SHADE, linewidth=0, zorder=0)
        some = rows[rows["method"] == method]
        if not some["M"].notna().any():
            axes.text(0.5, y, "–", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GREY)
        for k, measure in enumerate(measures):
            shift = (k - (len(measures) - 1) / 2) * 0.26 * height
            _draw_mass(axes, some[some["measure"] == measure], y + shift, looks[MEASURES[measure].kind], measure)
    axes.axvline(1, color=GREY, linewidth=0.6, zorder=0)
    axes.set_xlabel("middle mass M")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    name_rows(axes, methods)
    return axes


def _draw_mass(axes: Axes, seeds: pd.DataFrame, y: float, look: Look, measure: str) -> None:
    """The seeds of one method and measure, closely below each other, and their mean."""
    several = len(seeds) > 1
    places = y + (np.arange(len(seeds)) - (len(seeds) - 1) / 2) * (0.042 / max(len(seeds) - 1, 1))
    bars = axes.hlines(places, seeds["M_low"], seeds["M_high"], color=look.colour, linewidth=0.9)
    bars.set_alpha(0.5 if several else 1.0)
    bars.set_gid(f"interval of {measure}")
    (points,) = axes.plot(seeds["M"], places, color=look.colour, linestyle="none", marker=look.marker)
    points.set_gid(f"seeds of {measure}")
    if several:
        points.set_markersize(SMALL)
        (mean,) = axes.plot(seeds["M"].mean(skipna=False), y, color=look.colour, marker=look.marker, markersize=4.2)
        mean.set_markeredgecolor("white")
        mean.set_gid(f"mean of {measure}")


def _span(rows: pd.DataFrame) -> tuple[float, float]:
    """Of the axis that all panels share; 1, the mean over all orders, is on it."""
    ends = np.append(rows[["M", "M_low", "M_high"]].to_numpy(dtype=float).ravel(), 1.0)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    margin = 0.05 * (high - low) or 0.5  # where all of M is missing
    return low - margin, high + margin


def _without_order_0(rows: pd.DataFrame) -> str:
    """Of which networks the strength is relative to the other orders alone, where the table says so."""
    least = pd.to_numeric(rows.get("least_ratio", pd.Series(0.0, rows.index)), errors="coerce")
    networks = [FAMILIES.get(network, network) for network in rows.loc[least > 0, "network"].unique()]
    return f", of a {' and a '.join(networks)} over the orders above 0" if networks else ""


def _words(rows: pd.DataFrame) -> str:
    seeds = rows.groupby(["network", "setup", "measure", "method"])["seed"].nunique()
    words = [
        f"M: mean of the relative strength over the order ratios {MIDDLE[0]} to {MIDDLE[1]}; 1: as strong as the mean "
        f"over all orders{_without_order_0(rows)}.",
        interval_words("Bars", [rows], [("M_low", "M_high")]),
        f"Small marks: {count_in_words(seeds.tolist(), 'seed')}; large: their mean."
        if seeds.max() > 1
        else "One seed: nothing is known of others.",
    ]
    missing = rows[rows["M"].isna()]
    if len(missing):
        who = missing[["network", "setup", "method", "measure"]].drop_duplicates().to_numpy()
        listed = [
            f"{FAMILIES.get(network, network)}, {setup_in_words(setup)}, {method}, {MEASURES[measure].kind}"
            for network, setup, method, measure in who
        ]
        words.append(f"Missing: {'; '.join(listed)}.")
    return " ".join(words)
