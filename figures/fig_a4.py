"""Figure A4 of the A²MIM paper (arXiv 2205.13943): variance of the feature maps against the depth of their block.

After Park & Kim 2022 (arXiv 2202.06709): variance over the positions of each channel, mean over channels and images.
"""

from collections.abc import Collection, Sequence

import numpy as np

from figures.depth import COMMAND, FACETS, curve_of, depth_words, draw_by_depth, read_blocks
from figures.game import unlike_games
from figures.interactions import tables_of
from figures.panels import Panels
from figures.runs import Drawn, Run, alike, by_panel, holding, looks_of
from figures.style import house_style

TABLE = "variance.csv"
WORDS = "Variance over the positions of a map, in squared units of the features."
WIDE = 30.0  # largest over smallest variance from which the axis is logarithmic


@house_style()
def draw(runs: Sequence[Run], grey: Collection[str] = (), title: str = "", caption: str = "") -> Drawn:
    """Draw the feature variance of every run by depth, a panel below the other.

    Args:
        runs: of `a2mim spectrum`.
        grey: names of runs that the others are compared with. At most five of a panel are coloured.

    Raises:
        ValueError: a run without variance.csv; a missing column; an unknown name; seeds with other blocks; more than a
            page holds.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = {run: read_blocks(run.table(TABLE), "variance", run) for run in runs}
    note = unlike_games(runs, FACETS)
    words = " ".join(filter(None, [caption, WORDS, depth_words(runs, tables), alike(runs, FACETS)]))
    panels = {panel: tables_of(names, tables) for panel, names in by_panel(runs).items()}
    looks = looks_of(runs, grey)
    shown = Panels(panels, looks, title=title, note=note, caption=words)
    for axes, names in zip(shown.axes[:, 0], panels.values(), strict=True):
        draw_by_depth(axes, names, looks, "variance")
        axes.set_ylabel("feature variance")
    shown.axes[-1, 0].set_xlabel("normalised depth")
    values = np.concatenate([rows["variance"].to_numpy() for rows in tables.values()])
    for axes in shown.axes[:, 0]:
        if values.min() > 0 and values.max() / values.min() > WIDE:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    shown.name_all(panels.values(), lambda rows: curve_of(rows, "variance"))
    return Drawn(shown.figure, {run: [TABLE] for run in runs}, note)
