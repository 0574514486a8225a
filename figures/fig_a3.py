"""Figure A3 of the A²MIM paper (arXiv 2205.13943): how much high frequency the feature maps hold.

After Park & Kim 2022 (arXiv 2202.06709): Δ log amplitude is the natural logarithm of the amplitude of the Fourier-
transformed maps along the diagonal, less that at frequency 0. Above, its last entry, of the highest frequency that a
map has (π, or next to it: 6/7 π at 14×14), against the depth of the block; below, whole curves of every method, each in
the colour of its depth.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecBase

from figures.depth import COMMAND, FACETS, depth_words, draw_by_depth, read_blocks
from figures.interactions import IMAGES
from figures.panels import MOST, draw_legend, legend_height
from figures.runs import Drawn, Run, alike, by_panel, holding, looks_of, unlike
from figures.seeds import mean_of
from figures.spectrum import DEPTHS
from figures.style import DOUBLE_COLUMN, Look, house_style, page, wrap

TABLE = "spectrum.csv"
ABOVE, BELOW = 2.3, 1.5  # inches, rows of panels

Tables = Mapping[Run, pd.DataFrame]
Panels = Mapping[str, Mapping[str, Sequence[Run]]]


@house_style()
def draw(runs: Sequence[Run], title: str = "", caption: str = "") -> Drawn:
    """Draw the Δ log amplitude of every run: at the highest frequency by depth, and by frequency.

    Args:
        runs: of `a2mim spectrum`.

    Raises:
        ValueError: a run without spectrum.csv; a missing column; seeds with other blocks; more than 4 panels.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    tables = {run: read_blocks(run.folder / TABLE, "log_amplitude", run, ["frequency"]) for run in runs}
    panels, looks = by_panel(runs), looks_of(runs)
    if len(panels) > MOST:
        raise ValueError(f"{len(panels)} panels are too many for one page: draw {MOST} at most, and the rest apart")
    note = unlike(runs, FACETS | IMAGES)
    lasts = {run: last_entries(rows) for run, rows in tables.items()}
    words = [
        caption,
        "Δ log amplitude: natural logarithm of the Fourier amplitude less that at frequency 0, mean over images and "
        "channels. Above: at the highest frequency that a map has on its diagonal, 6/7 π at 14×14, lower for smaller "
        "maps.",
        depth_words(runs, lasts),
        "Below: bands are the intervals; of several seeds the mean is drawn.",
        alike(runs, FACETS),
    ]
    figure = _page(panels, looks, tables, lasts, title, note, " ".join(filter(None, words)))
    return Drawn(figure, {run: [TABLE] for run in runs}, note)


def last_entries(rows: pd.DataFrame) -> pd.DataFrame:
    """The row of the highest frequency of every block; none for one whose map is a single position."""
    rows = rows[rows["frequency"] > 0]
    return rows.loc[rows.groupby("block")["frequency"].idxmax()].sort_values("block", ignore_index=True)


def draw_frequencies(axes: Axes, seeds: Sequence[pd.DataFrame], of: str) -> None:
    """Δ log amplitude against frequency, a curve in the colour of its depth for each block; the mean over the seeds.

    Raises:
        ValueError: seeds with other blocks or frequencies.
    """
    curves = [pd.DataFrame({"x": rows["frequency"], "y": rows["log_amplitude"]}) for rows in seeds]
    mean = mean_of(curves, of)
    for _, block in mean.groupby(seeds[0]["block"].to_numpy(), sort=True):
        depth = seeds[0].loc[block.index[0], "depth"]
        axes.plot(block["x"], block["y"], color=DEPTHS(depth), linewidth=0.8)
        if len(seeds) == 1:
            rows = seeds[0].loc[block.index]
            axes.fill_between(
                rows["frequency"], rows["low"], rows["high"], color=DEPTHS(depth), alpha=0.25, linewidth=0
            )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "π/2", "π"])


def _page(
    panels: Panels, looks: Mapping[str, Look], tables: Tables, lasts: Tables, title: str, note: str, caption: str
) -> Figure:
    rows = sum(math.ceil(len(names) / MOST) for names in panels.values())
    heights = [ABOVE, legend_height(looks, DOUBLE_COLUMN), BELOW * rows]
    figure = page(DOUBLE_COLUMN, sum(heights), title, note, caption)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    above, first = grid[0].subgridspec(1, len(panels)), None
    for k, (panel, names) in enumerate(panels.items()):
        axes = figure.add_subplot(above[k], sharey=first)
        shown = {name: [lasts[run] for run in seeds] for name, seeds in names.items()}
        draw_by_depth(axes, shown, looks, "log_amplitude")
        axes.set_title(panel, parse_math=False)
        axes.tick_params(labelleft=first is None)
        first = first or axes
    if first is not None:
        first.set_ylabel("Δ log amplitude\nat the highest frequency")
    draw_legend(figure.add_subplot(grid[1]), looks, DOUBLE_COLUMN)
    _draw_curves(figure, grid[2].subgridspec(rows, MOST), panels, tables)
    return figure


def _draw_curves(figure: Figure, grid: GridSpecBase, panels: Panels, tables: Tables) -> None:
    """A small panel for each method, rows of 4 for each family, and the scale of depths beside the first one."""
    first, row = None, 0
    for panel, names in panels.items():
        for k, (name, seeds) in enumerate(names.items()):
            down, column = divmod(k, MOST)
            axes = figure.add_subplot(grid[row + down, column], sharey=first)
            draw_frequencies(axes, [tables[run] for run in seeds], name)
            lines = wrap(f"{panel}: {name}" if panel else name, DOUBLE_COLUMN / MOST - 0.3, 7)
            axes.set_title("\n".join(lines), size=7, parse_math=False)
            axes.tick_params(labelleft=column == 0)
            if column == 0:
                axes.set_ylabel("Δ log amplitude")
            if k + MOST >= len(names):
                axes.set_xlabel("frequency")
            if row + down == 0 and k == min(MOST, len(names)) - 1:
                bar = axes.inset_axes((1.06, 0, 0.06, 1))
                figure.colorbar(ScalarMappable(cmap=DEPTHS), cax=bar, label="normalised depth")
            first = first or axes
        row += math.ceil(len(names) / MOST)
