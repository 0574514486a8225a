"""Interactions through training: J against order of every state that a run kept, and below it M against epochs.

What the middle mass M of a trained network is, and what its training made of the network that it began with, are two
questions: the second one needs the states between.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from figures.curves import MIDDLE, PRIMARY, band_words, curve_of, read_strength, shade_middle
from figures.game import TOLD, unlike_games
from figures.interactions import finish_strength
from figures.labels import fit_beside, label_curves
from figures.panels import AROUND, HEIGHTS, Panels, draw_legend, legend_height, say_empty
from figures.runs import Drawn, Run, alike, by_panel, holding, label, looks_of, seed_counts
from figures.seeds import draw_band, draw_seeds, last_point, mean_of, seed_words
from figures.style import GREY, INK, Look, behind_first, house_style
from figures.tables import read_table

TABLE = "course.csv"
COMMAND = "a2mim profile RUN --checkpoints all"
NUMBERS = ("step", "epoch", "M", "M_low", "M_high")
LIGHT, DARK = 0.3, 1.0
"""Ends of the part of the colour map that is used: the lightest of it still stands out from paper."""
TICK = 0.105  # inches that the number of an epoch needs
States = dict[float, list[pd.DataFrame]]
"""By epoch, the strengths of a network, a table for each seed."""


@house_style()
def draw(runs: Sequence[Run], grey: Collection[str] = (), title: str = "", caption: str = "") -> Drawn:
    """Draw each training below the other: J (rms) of its states against the order ratio, from light (the first) to dark
    (the last). Below them, for each panel, M of all its trainings against the epochs, with bands of their intervals.

    Args:
        runs: folders with course.csv. Those of one name and panel are seeds: lines are their means.
        grey: names of runs that the others are compared with.

    Raises:
        ValueError: a run without the table; a missing column; seeds with other states or orders; more than a page
            holds.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = {run: read_course(run) for run in runs}
    panels = by_panel(runs)
    looks = looks_of(runs, grey)
    note = unlike_games(runs)
    trainings = {
        ", ".join(filter(None, [panel, name])): [tables[run] for run in seeds]
        for panel, names in panels.items()
        for name, seeds in names.items()
    }
    rows = len(trainings) + len(panels)
    height = HEIGHTS.get(rows, 0.9 if rows < 5 else 0.75)
    names = [list(names) if len(runs) > 1 else [] for names in panels.values()]
    below = [legend_height({name: looks[name] for name in some}) * (not fit_beside(some, height)) for some in names]
    words = " ".join(filter(None, [caption, words_of(tables, panels), alike(runs, TOLD)]))
    rest = sum(height + AROUND + legend for legend in below)
    shown = Panels(dict.fromkeys(trainings, ()), {}, 1, title, note, words, height, rest)
    for axes, (name, seeds) in zip(shown.axes[:, 0], trainings.items(), strict=True):
        draw_states(axes, states_of(seeds, name), name, height)
    finish_strength(list(shown.axes[:, 0]), tables.values(), PRIMARY)

    heights = [part for legend in below for part in (height, legend) if part]
    places = iter(shown.rest.subgridspec(len(heights), 1, height_ratios=heights))  # type: ignore[attr-defined]
    for (panel, some), told, legend in zip(panels.items(), names, below, strict=True):
        axes = shown.figure.add_subplot(next(places))
        masses = {name: [masses_of(tables[run]) for run in seeds] for name, seeds in some.items()}
        draw_masses(axes, masses, looks)
        axes.set_title(panel, parse_math=False)
        if legend:
            draw_legend(shown.figure.add_subplot(next(places)), {name: looks[name] for name in told})
        elif told:
            ends = {name: (*last_point(masses[name]), looks[name]) for name in told}
            label_curves(axes, {name: end for name, end in ends.items() if np.isfinite(end[:2]).all()}, height)
    axes.set_xlabel("epochs of training")
    return Drawn(shown.figure, {run: [TABLE] for run in runs}, note)


def read_course(run: Run) -> pd.DataFrame:
    """course.csv of a run. Raises ValueError for a missing column, FileNotFoundError."""
    what = f"the table of {run.name} through training"
    return read_strength(read_table(run.table(TABLE), NUMBERS, [], what), (PRIMARY,), what)


def states_of(seeds: Sequence[pd.DataFrame], of: str) -> States:
    """The strengths by epoch, ascending. Raises ValueError where seeds kept other states."""
    epochs = sorted(seeds[0]["epoch"].unique())
    if any(sorted(rows["epoch"].unique()) != epochs for rows in seeds[1:]):
        raise ValueError(f"the runs of {of} kept other states, so they are no seeds of one training")
    return {float(epoch): [rows[rows["epoch"] == epoch] for rows in seeds] for epoch in epochs}


def masses_of(rows: pd.DataFrame) -> pd.DataFrame:
    """M against epochs as `draw_seeds` takes it."""
    states = rows.drop_duplicates("epoch").sort_values("epoch", ignore_index=True)
    columns = {"x": "epoch", "y": "M", "low": "M_low", "high": "M_high"}
    return states[list(columns.values())].rename(columns={column: name for name, column in columns.items()})


def colours_of(count: int) -> list[str]:
    """So many colours from light to dark, evenly."""
    scale = colormaps["YlGnBu"]
    places = np.linspace(LIGHT, DARK, count) if count > 1 else [DARK]
    return [to_hex(scale(place)) for place in places]


def draw_states(axes: Axes, states: States, of: str, height: float) -> None:
    """J of every state into one panel, and its epochs beside it. The first and the last have a band.

    Raises:
        ValueError: seeds with other orders.
    """
    shade_middle(axes)
    colours = colours_of(len(states))
    for number, ((epoch, seeds), colour) in enumerate(zip(states.items(), colours, strict=True)):
        mean = mean_of([curve_of(rows, PRIMARY) for rows in seeds], of)
        if number in (0, len(states) - 1):
            draw_band(axes, mean, Look(colour, "o", "-"), f"{PRIMARY} after {epoch:g} epochs")
        (line,) = axes.plot(mean["x"], mean["y"], color=colour, linewidth=1.0, marker="o", markersize=1.6)
        line.set_gid(f"{PRIMARY} after {epoch:g} epochs")
    draw_scale(axes, list(states), colours, height)


def draw_scale(axes: Axes, epochs: Sequence[float], colours: Sequence[str], height: float) -> None:
    """The colours of the states, from below, and their epochs, to the right of a panel of `height` inches."""
    scale = axes.inset_axes((1.03, 0.0, 0.035, 1.0))
    scale.barh(range(len(epochs)), 1, height=1, color=colours)
    every = math.ceil(len(epochs) * TICK / height)
    kept = range(len(epochs) - 1, -1, -every)
    scale.set_yticks(list(kept), [f"{epochs[k]:.3g}" for k in kept])
    scale.yaxis.tick_right()
    scale.tick_params(length=0, pad=2)
    scale.set(xlim=(0, 1), ylim=(-0.5, len(epochs) - 0.5), xticks=[])
    scale.spines[:].set_visible(False)
    scale.set_title("epoch", size=6.5, color=INK, loc="left")


def draw_masses(axes: Axes, masses: Mapping[str, Sequence[pd.DataFrame]], looks: Mapping[str, Look]) -> None:
    """M of several trainings against the epochs, each with the band of its intervals.

    Raises:
        ValueError: seeds with other states.
    """
    axes.set_ylabel("middle mass M")
    if not any(rows["y"].notna().any() for seeds in masses.values() for rows in seeds):
        return say_empty(axes, f"no order ratio from {MIDDLE[0]} to {MIDDLE[1]} was measured")
    for name in behind_first(masses, looks):
        draw_seeds(axes, masses[name], looks[name], "M", of=name)
    axes.axhline(1, color=GREY, linewidth=0.6, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def words_of(tables: Mapping[Run, pd.DataFrame], panels: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    """What lines, bands and colours are, for a caption, and how many points are missing."""
    rows = pd.concat(tables.values())
    missing = int(rows[PRIMARY].isna().sum())
    words = [
        "J: relative strength (rms), the strength over its mean over the orders, one line a state, from light (before "
        "training, or the first) to dark (the last); bands: of the first and the last.",
        f"M: mean of J over the shaded order ratios, {MIDDLE[0]} to {MIDDLE[1]}; 1: as strong as the mean over all.",
        band_words([rows], (PRIMARY, "M")),
        seed_words(seed_counts(panels)),
        f"Left out: {missing} of {len(rows)} points, where noise exceeds the signal." if missing else "",
        without_mass(tables),
    ]
    return " ".join(filter(None, words))


def without_mass(tables: Mapping[Run, pd.DataFrame]) -> str:
    """A sentence on the trainings whose line of M has gaps, or is not there."""
    gaps: dict[str, list[bool]] = {}
    for run, rows in tables.items():
        gaps.setdefault(label(run), []).extend(masses_of(rows)["y"].isna())
    words = [f"of {name} at {sum(gone)} of {len(gone)} states" for name, gone in gaps.items() if any(gone)]
    return f"M is missing {'; '.join(words)}." if words else ""
