"""Figure A4 of the A²MIM paper (arXiv 2205.13943): variance of the feature maps against the depth of their block.

After Park & Kim 2022 (arXiv 2202.06709): variance over the positions of each channel, mean over channels and images.
"""

from collections.abc import Sequence

import numpy as np

from figures.depth import COMMAND, FACETS, depth_words, draw_by_depth, read_blocks
from figures.interactions import IMAGES
from figures.panels import panel_page
from figures.runs import Drawn, Run, alike, by_panel, holding, looks_of, unlike
from figures.style import house_style

TABLE = "variance.csv"
WIDE = 30.0  # largest over smallest variance from which the axis is logarithmic


@house_style()
def draw(runs: Sequence[Run], title: str = "", caption: str = "") -> Drawn:
    """Draw the feature variance of every run by depth, a panel beside the other.

    Args:
        runs: of `a2mim spectrum`.

    Raises:
        ValueError: a run without variance.csv; a missing column; seeds with other blocks.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = {run: read_blocks(run.folder / TABLE, "variance", run) for run in runs}
    note = unlike(runs, FACETS | IMAGES)
    words = " ".join(filter(None, [caption, depth_words(runs, tables), alike(runs, FACETS)]))
    panels, looks = by_panel(runs), looks_of(runs)
    figure, axes = panel_page(list(panels), looks, (2.4,), title, note, words)
    for each, names in zip(axes[0], panels.values(), strict=True):
        draw_by_depth(each, {name: [tables[run] for run in seeds] for name, seeds in names.items()}, looks, "variance")
    values = np.concatenate([rows["variance"].to_numpy() for rows in tables.values()])
    if values.min() > 0 and values.max() / values.min() > WIDE:
        axes[0, 0].set_yscale("log")
    else:
        axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("feature variance\n(squared units of the features)")
    return Drawn(figure, {run: [TABLE] for run in runs}, note)
