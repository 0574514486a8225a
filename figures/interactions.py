"""Relative interaction strength J against order, methods side by side: figures 5, A1 and A2 of the A²MIM paper.

The paper (arXiv 2205.13943) draws J^(m) against m/n for SimMIM, A²MIM and other methods, transformers and CNNs.
"""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from figures.curves import (
    MEASURES,
    MIDDLE,
    PRIMARY,
    RELATIVE,
    curve_of,
    hollow_words,
    interval_words,
    label_orders,
    left_out,
    read_strength,
    shift_of,
    start_at_zero,
)
from figures.panels import panel_page
from figures.runs import (
    Drawn,
    Run,
    alike,
    by_panel,
    data_name,
    grid_words,
    holding,
    label,
    looks_of,
    pair_words,
    unlike,
)  # fmt: skip
from figures.seeds import draw_seeds, seed_words
from figures.style import SHADE, Look, house_style

TABLE = "strength.csv"
COMMAND = "a2mim profile"
FACETS = {
    "grid": grid_words,
    "value": lambda record: record["settings"]["value"],
    "baseline": lambda record: record["settings"]["baseline"],
    "pairs": pair_words,
    "data": data_name,
}
IMAGES = {"number of images": lambda record: len(record["images"])}


@house_style()
def draw_interactions(runs: Sequence[Run], measure: str = PRIMARY, title: str = "", caption: str = "") -> Drawn:
    """Draw J of every run against the order ratio, a panel beside the other.

    Bars are 95 % intervals over images, small points seeds, a line is their mean; the orders of the middle mass are
    shaded.

    Args:
        runs: profiles.
        measure: J (as published), J_corrected (without sampling noise) or J_rms.

    Raises:
        ValueError: an unknown measure; a run without strength.csv; a missing column; seeds with other orders.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = strengths(runs, measure)
    note = unlike(runs, FACETS | IMAGES)
    words = " ".join(filter(None, [caption, strength_words(runs, tables, measure), alike(runs, FACETS)]))
    panels, looks = by_panel(runs), looks_of(runs)
    figure, axes = panel_page(list(panels), looks, title=title, note=note, caption=words)
    for each, names in zip(axes[0], panels.values(), strict=True):
        shown = {name: [tables[run] for run in seeds] for name, seeds in names.items()}
        draw_strength_panel(each, shown, looks, measure)
    finish_strength(axes[0, 0], [tables[run] for run in runs], measure)
    return Drawn(figure, {run: [TABLE] for run in runs}, note)


def strengths(runs: Sequence[Run], measure: str) -> "dict[Run, pd.DataFrame]":
    """strength.csv of each run. Raises ValueError for an unknown measure, or a table that lacks it."""
    if measure not in RELATIVE:
        raise ValueError(f"there is no relative strength {measure!r}: choose one of {', '.join(RELATIVE)}")
    return {run: read_strength(run.folder / TABLE, (measure,), f"the strength table of {label(run)}") for run in runs}


def draw_strength_panel(
    axes: Axes, tables: Mapping[str, Sequence[pd.DataFrame]], looks: Mapping[str, Look], measure: str
) -> None:
    """J of several methods into one panel.

    Args:
        tables: by method: strength.csv of each of its seeds.

    Raises:
        ValueError: seeds with other orders.
    """
    axes.axvspan(*MIDDLE, color=SHADE, linewidth=0, zorder=0)
    for k, (name, seeds) in enumerate(tables.items()):
        curves = [curve_of(rows, measure) for rows in seeds]
        draw_seeds(axes, curves, looks[name], shift_of(k, len(tables)), measure, of=name)
    label_orders(axes, None)


def finish_strength(axes: Axes, tables: Collection[pd.DataFrame], measure: str) -> None:
    """The y axis that all panels of a row share, when all of them are drawn: a limit ends its growing with the data."""
    start_at_zero(axes, tables, (measure,))
    kind, quantity, unit = MEASURES[measure]
    axes.set_ylabel(f"{quantity}\n{kind}\n({unit})")


def strength_words(runs: Sequence[Run], tables: Mapping[Run, pd.DataFrame], measure: str) -> str:
    """What the curves, bars, points and the shade are, for a caption, and which points are missing."""
    shown = [tables[run] for run in runs]
    seeds = [len(seeds) for names in by_panel(runs).values() for seeds in names.values()]
    words = [
        interval_words(shown),
        seed_words(seeds),
        f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}.",
        hollow_words(shown),
        *(sentence for run in runs for sentence in left_out(tables[run], (measure,), of=f" of {label(run)}")),
    ]
    return " ".join(filter(None, words))
