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
    band_words,
    curve_of,
    hollow_words,
    label_orders,
    left_out,
    read_strength,
    shade_middle,
    start_at_zero,
    ylabel_of,
)
from figures.game import GAME, RAW, TOLD, unlike_games
from figures.panels import Panels
from figures.runs import Drawn, Facets, Run, alike, by_panel, holding, label, looks_of, seed_counts
from figures.seeds import draw_seeds, seed_words
from figures.style import Look, behind_first, house_style

TABLE = "strength.csv"
COMMAND = "a2mim profile"


@house_style()
def draw_interactions(
    runs: Sequence[Run], measure: str = PRIMARY, grey: Collection[str] = (), title: str = "", caption: str = ""
) -> Drawn:
    """Draw J of every run against the order ratio, a panel below the other.

    Bands are 95 % intervals over images, small points seeds, a line is their mean; the orders of the middle mass are
    shaded.

    Args:
        runs: profiles.
        measure: J_rms, J_corrected (without sampling noise) or J (as published).
        grey: names of runs that the others are compared with. At most five of a panel are coloured.

    Raises:
        ValueError: an unknown measure or name; a run without strength.csv; a missing column; seeds with other orders;
            more than a page holds.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = strengths(runs, measure)
    note = unlike_games(runs, facets_of(measure))
    words = " ".join(filter(None, [caption, strength_words(runs, tables, measure), alike(runs, TOLD)]))
    panels = {panel: tables_of(names, tables) for panel, names in by_panel(runs).items()}
    looks = looks_of(runs, grey)
    shown = Panels(panels, looks, title=title, note=note, caption=words)
    for each, names in zip(shown.axes[:, 0], panels.values(), strict=True):
        draw_strength_panel(each, names, looks, measure)
    finish_strength(list(shown.axes[:, 0]), tables.values(), measure)
    shown.name_all(panels.values(), lambda rows: curve_of(rows, measure))
    return Drawn(shown.figure, {run: [TABLE] for run in runs}, note)


def facets_of(measure: str) -> Facets:
    """What runs need alike, but for their images, where this measure of them is drawn."""
    return GAME | (RAW if measure == "J" else {})


def strengths(runs: Sequence[Run], measure: str) -> "dict[Run, pd.DataFrame]":
    """strength.csv of each run. Raises ValueError for an unknown measure, or a table that lacks it."""
    if measure not in RELATIVE:
        raise ValueError(f"there is no relative strength {measure!r}: choose one of {', '.join(RELATIVE)}")
    return {run: read_strength(run.table(TABLE), (measure,), f"the strength table of {label(run)}") for run in runs}


def tables_of(names: Mapping[str, Sequence[Run]], tables: Mapping[Run, pd.DataFrame]) -> dict[str, list[pd.DataFrame]]:
    """By name, the tables of its seeds."""
    return {name: [tables[run] for run in seeds] for name, seeds in names.items()}


def draw_strength_panel(
    axes: Axes, tables: Mapping[str, Sequence[pd.DataFrame]], looks: Mapping[str, Look], measure: str
) -> None:
    """J of several methods into one panel; what the others are compared with lies behind.

    Args:
        tables: by method: strength.csv of each of its seeds.

    Raises:
        ValueError: seeds with other orders.
    """
    shade_middle(axes)
    for name in behind_first(tables, looks):
        curves = [curve_of(rows, measure) for rows in tables[name]]
        draw_seeds(axes, curves, looks[name], measure, of=name)


def finish_strength(panels: Sequence[Axes], tables: Collection[pd.DataFrame], measure: str) -> None:
    """The axes of a column of panels, when all of them are drawn: a limit ends their growing with the data."""
    for k, axes in enumerate(panels):
        label_orders(axes, None, below=k == len(panels) - 1)
        axes.set_ylabel(ylabel_of(measure) if len(panels) < 3 else f"J ({MEASURES[measure].kind})")
    start_at_zero(panels[0], tables, (measure,))


def strength_words(runs: Sequence[Run], tables: Mapping[Run, pd.DataFrame], measure: str, charts: bool = False) -> str:
    """What the curves, bands (of charts on a page bars), points and the shade are, for a caption, and which points are
    missing."""
    shown = [tables[run] for run in runs]
    seeds = seed_counts(by_panel(runs))
    words = [
        "J: relative strength, the strength over its mean over the orders.",
        band_words(shown, (measure,), "Bars" if charts else "Bands"),
        seed_words(seeds, charts),
        f"Shaded: order ratios {MIDDLE[0]} to {MIDDLE[1]}.",
        hollow_words(shown),
        *(sentence for run in runs for sentence in left_out(tables[run], (measure,), of=f" of {label(run)}")),
    ]
    return " ".join(filter(None, words))
