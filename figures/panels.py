"""Panels side by side under one legend, a column for each of them."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.seeds import legend_sample
from figures.style import DOUBLE_COLUMN, GREY, MARGIN, SINGLE_COLUMN, Look, page, text_width

MOST = 4  # columns whose letters and numbers still have room
LINE = 0.15  # inches, a line of the legend


FAMILIES = {"vit": "ViT", "cnn": "CNN"}
"""What panels are called, by the names that the tables of a study use."""


def panel_page(
    titles: Sequence[str],
    looks: Mapping[str, Look],
    heights: Sequence[float] = (2.4,),
    title: str = "",
    note: str = "",
    caption: str = "",
) -> tuple[Figure, NDArray[np.object_]]:
    """A page of `len(heights)` rows of panels and a column for each title; panels of a row share their y axis.

    Args:
        titles: of the columns; a lone panel is as wide as a column of text.
        looks: what the legend below the panels names; none where it is empty.
        heights: of the rows, in inches.

    Returns the figure and its axes, rows × columns.

    Raises:
        ValueError: more than 4 columns.
    """
    if len(titles) > MOST:
        raise ValueError(f"{len(titles)} panels are too many for one page: draw {MOST} at most, and the rest apart")
    width = SINGLE_COLUMN if len(titles) == 1 else DOUBLE_COLUMN
    below = legend_height(looks, width)
    body = [*heights, below] if below else list(heights)
    figure = page(width, sum(body), title, note, caption)
    grid = figure.add_gridspec(len(body), len(titles), height_ratios=body)
    axes = np.empty((len(heights), len(titles)), dtype=object)
    for row, column in np.ndindex(axes.shape):
        axes[row, column] = panel = figure.add_subplot(grid[row, column], sharey=axes[row, 0])
        panel.tick_params(labelleft=column == 0)
    for k, words in enumerate(titles):
        axes[0, k].set_title(words, parse_math=False)
    if below:
        draw_legend(figure.add_subplot(grid[-1, :]), looks, width)
    return figure, axes


def legend_height(looks: Mapping[str, Look], width: float) -> float:
    """Inches that the legend of a page of this width takes."""
    return math.ceil(len(looks) / _entries_a_line(looks, width)) * LINE + 0.05 if looks else 0.0


def draw_legend(axes: Axes, looks: Mapping[str, Look], width: float) -> None:
    """The legend of a page of this width, in axes of its own."""
    axes.axis("off")
    handles = [legend_sample(look, name) for name, look in looks.items()]
    legend = axes.legend(handles=handles, loc="center", ncols=_entries_a_line(looks, width), borderpad=0)
    for text in legend.get_texts():
        text.set_parse_math(False)


def say_empty(axes: Axes, words: str) -> None:
    """In place of a panel that there is nothing for."""
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, words, color=GREY, ha="center", va="center", transform=axes.transAxes)


def _entries_a_line(looks: Mapping[str, Look], width: float) -> int:
    widest = max(text_width(name, 7) for name in looks) + 0.6
    return max(1, min(len(looks), int((width - 2 * MARGIN) / widest)))
