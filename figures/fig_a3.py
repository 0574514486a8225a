"""Figure A3 of the A²MIM paper (arXiv 2205.13943): how much high frequency the feature maps hold.

After Park & Kim 2022 (arXiv 2202.06709): Δ log amplitude is the natural logarithm of the amplitude of the Fourier-
transformed maps along the diagonal, less that at frequency 0. Above, its last entry, of the highest frequency that a
map has (π, or next to it: 6/7 π at 14×14), against the depth of the block; below, whole curves of every method, each in
the colour of its depth.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from figures.depth import COMMAND, FACETS, curve_of, depth_words, draw_by_depth, read_blocks
from figures.game import unlike_games
from figures.interactions import tables_of
from figures.panels import Panels
from figures.runs import Drawn, Run, alike, by_panel, holding, looks_of
from figures.seeds import mean_of
from figures.spectrum import DEPTHS, frequency_axis
from figures.style import COLUMN, house_style, wrap

TABLE = "spectrum.csv"
DELTA = "natural logarithm of the Fourier amplitude less that at frequency 0"
WORDS = f"Δ log amplitude: {DELTA}, mean over images and channels"
FEW, ACROSS = 4, 5  # small panels in a row: of a few methods, and of more than two rows of them
ABOVE = {1: 1.1, 2: 0.9}  # inches of a row above, by how many there are; 0.7 of more
SMALL, AXIS = 0.76, 0.3  # inches: a small panel; the scale under the last one

Tables = Mapping[Run, pd.DataFrame]


@house_style()
def draw(runs: Sequence[Run], grey: Collection[str] = (), title: str = "", caption: str = "") -> Drawn:
    """Draw the Δ log amplitude of every run: at the highest frequency by depth, and by frequency.

    Args:
        runs: of `a2mim spectrum`.
        grey: names of runs that the others are compared with. At most five of a panel are coloured.

    Raises:
        ValueError: a run without spectrum.csv; a missing column; no map of several positions; an unknown name; seeds
            with other blocks; more than a page holds.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = {run: read_blocks(run.table(TABLE), "log_amplitude", run, ["frequency"]) for run in runs}
    lasts = {run: last_entries(rows) for run, rows in tables.items()}
    if all(rows.empty for rows in lasts.values()):
        raise ValueError("no map has more than one position, so there is no frequency above 0 to draw")
    note = unlike_games(runs, FACETS)
    methods = _methods(by_panel(runs), tables)
    words = [
        caption,
        f"{WORDS}; above, at the highest frequency of a map.",
        depth_words(runs, lasts),
        _words_below([seeds for *_, seeds in methods]),
        alike(runs, FACETS),
    ]
    panels = {panel: tables_of(names, lasts) for panel, names in by_panel(runs).items()}
    across = min(len(methods), FEW if len(methods) <= 2 * FEW else ACROSS)
    looks, below = looks_of(runs, grey), math.ceil(len(methods) / across) * SMALL + AXIS
    text = " ".join(filter(None, words))
    shown = Panels(panels, looks, title=title, note=note, caption=text, height=ABOVE.get(len(panels), 0.7), rest=below)
    for axes, names in zip(shown.axes[:, 0], panels.values(), strict=True):
        draw_by_depth(axes, names, looks, "log_amplitude")
        axes.set_ylabel("Δ log amplitude")
    shown.axes[-1, 0].set_xlabel("normalised depth")
    shown.name_all(panels.values(), lambda rows: curve_of(rows, "log_amplitude"))
    _draw_small(shown.figure, shown.rest, methods, across)
    return Drawn(shown.figure, {run: [TABLE] for run in runs}, note)


def last_entries(rows: pd.DataFrame) -> pd.DataFrame:
    """The row of the highest frequency of every block; none for one whose map is a single position."""
    rows = rows[rows["frequency"] > 0]
    return rows.loc[rows.groupby("block")["frequency"].idxmax()].sort_values("block", ignore_index=True)


def draw_frequencies(axes: Axes, seeds: Sequence[pd.DataFrame], of: str) -> None:
    """Δ log amplitude against frequency, a curve in the colour of its depth for each block, the mean over the seeds;
    the first and the last block of a single seed have the band of their interval.

    Raises:
        ValueError: seeds with other blocks or frequencies.
    """
    rows = seeds[0]
    mean = mean_of([each.rename(columns={"frequency": "x", "log_amplitude": "y"}) for each in seeds], of)
    banded = banded_blocks(seeds)
    for block, curve in mean.groupby(rows["block"].to_numpy(), sort=True):
        colour = DEPTHS(rows.loc[curve.index[0], "depth"])
        axes.plot(curve["x"], curve["y"], color=colour, linewidth=0.8)
        if block in banded:
            axes.fill_between(curve["x"], curve["low"], curve["high"], color=colour, alpha=0.25, linewidth=0)
    frequency_axis(axes)


def banded_blocks(seeds: Sequence[pd.DataFrame]) -> set[int]:
    """The first and the last block of a single seed, where they have intervals."""
    rows = pd.concat(seeds)
    known = rows[rows[["low", "high"]].notna().all(axis=1)]
    return {rows["block"].min(), rows["block"].max()} & {*known["block"]} if len(seeds) == 1 else set()


def _words_below(methods: Sequence[Sequence[pd.DataFrame]]) -> str:
    """What the small panels show, whose seeds these are."""
    several = any(len(seeds) > 1 for seeds in methods)
    bands = f", bands of the first and the last{' of one seed' * several}" * any(map(banded_blocks, methods))
    return f"Below: a curve for each block{bands}{'; of several seeds the mean' * several}."


def _methods(
    panels: Mapping[str, Mapping[str, Sequence[Run]]], tables: Tables
) -> list[tuple[str, str, list[pd.DataFrame]]]:
    """The beginning of the panel's title, the name and the tables of every method; of one in several panels, once."""
    found: dict[tuple, tuple[str, str, list[pd.DataFrame]]] = {}
    for panel, names in panels.items():
        for name, runs in names.items():
            folders = tuple(run.folder for run in runs)
            found.setdefault(folders, (panel.split(",")[0], name, [tables[run] for run in runs]))
    return list(found.values())


def _draw_small(
    figure: Figure, place: SubplotSpec, methods: Sequence[tuple[str, str, list[pd.DataFrame]]], across: int
) -> None:
    """A small panel for each method, so many in a row, and the scale of depths under the last one."""
    rows = math.ceil(len(methods) / across)
    grid = place.subgridspec(rows + 1, across, height_ratios=[*[SMALL] * rows, AXIS])
    first, width = None, (COLUMN - 0.4) / across - 0.08
    for k, (panel, name, seeds) in enumerate(methods):
        axes = figure.add_subplot(grid[k // across, k % across], sharey=first)
        draw_frequencies(axes, seeds, name)
        line, *more = wrap(name, width, 6)
        title = [*wrap(panel, width, 6)[:1], line + "…" * bool(more)]
        axes.set_title("\n".join(title), size=6, pad=1.5, parse_math=False)
        axes.tick_params(labelleft=k % across == 0, labelsize=6, pad=1.5)
        if k + across < len(methods):
            axes.tick_params(labelbottom=False)
        first = first or axes
    scale = figure.add_subplot(grid[-1, :])
    scale.axis("off")
    scale.text(0.3, 0.5, "frequency", size=7, va="center", ha="center")
    place_of_bar = scale.inset_axes((0.72, 0.35, 0.26, 0.3))
    bar = figure.colorbar(ScalarMappable(cmap=DEPTHS), cax=place_of_bar, orientation="horizontal")
    bar.set_ticks([0, 1], labels=["0", "1"], size=6)
    bar.outline.set_visible(False)  # type: ignore[operator]
    scale.text(0.7, 0.5, "depth", size=6.5, ha="right", va="center")
