"""Panels below each other, a row for each group of methods, with the names of the curves beside them or below."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.labels import fit_beside, label_curves
from figures.seeds import last_point, legend_sample
from figures.style import COLUMN, GREY, MARGIN, Look, house_style, page, text_width, wrap

HEIGHTS = {1: 1.3, 2: 1.05}
"""Inches of a bare panel, by how many there are; 0.75 of more."""
AROUND, XLABEL = 0.45, 0.15  # inches: the words around a panel; those under the last of a column
LINE = 0.13  # inches, a line of a legend
SAMPLE = 0.42  # inches of an entry that are no letters

FAMILIES = {"vit": "ViT", "cnn": "CNN"}
"""What panels are called, by the names that the tables of a study use."""


class Panels:
    """A page of panels: `axes` are rows × columns, a row for each title. Panels of a column share their y axis.

    Args:
        names: by the title of each row, the names of its curves.
        looks: of all names.
        columns: panels of a row.
        height: of a bare panel, in inches; what suits their number without it.
        rest: inches below them for something else, whose place is then `rest`.

    Raises:
        ValueError: more rows than a page holds.
    """

    def __init__(
        self,
        names: Mapping[str, Collection[str]],
        looks: Mapping[str, Look],
        columns: int = 1,
        title: str = "",
        note: str = "",
        caption: str = "",
        height: float = 0.0,
        rest: float = 0.0,
    ) -> None:
        self.height = height or HEIGHTS.get(len(names), 0.75)
        self.looks = [{name: looks[name] for name in some} for some in names.values()]
        self.beside = columns == 1 and all(fit_beside(some, self.height) for some in names.values())
        below = [0.0 if self.beside else legend_height(some) for some in self.looks]
        # The layout hands out what is left beside all words, so that the ratios are those of the bare panels.
        heights = [part for legend in below for part in (self.height, legend) if part] + [rest] * bool(rest)
        tall = sum(heights) + AROUND * len(below) + XLABEL
        self.figure = page(tall, title, note, caption)
        grid = self.figure.add_gridspec(len(heights), columns, height_ratios=heights)
        self.rest = grid[-1, :]
        self.axes: NDArray[np.object_] = np.empty((len(names), columns), dtype=object)
        place = 0
        for row, words in enumerate(names):
            for column in range(columns):
                share = self.axes[0, column] if row else None
                self.axes[row, column] = self.figure.add_subplot(grid[place, column], sharey=share)
            self.axes[row, 0].set_title(words, parse_math=False)
            if below[row]:
                draw_legend(self.figure.add_subplot(grid[place + 1, :]), self.looks[row])
            place += 1 + bool(below[row])

    def name(self, row: int, ends: Mapping[str, tuple[float, float]]) -> None:
        """The names beside the curves of a row, where they stand there; the limits of its axes are final.

        Args:
            ends: x and y of the last point of each curve, by name; one that is not finite gets no name.
        """
        if not self.beside:
            return
        known = {name: (*end, self.looks[row][name]) for name, end in ends.items() if np.isfinite(end).all()}
        label_curves(self.axes[row, 0], known, self.height)

    def name_all(
        self, panels: Iterable[Mapping[str, Sequence[pd.DataFrame]]], curve: Callable[[pd.DataFrame], pd.DataFrame]
    ) -> None:
        """The same for every row, whose curves are the means of `curve` over the tables of each name's seeds."""
        for row, names in enumerate(panels):
            self.name(row, {name: last_point(list(map(curve, seeds))) for name, seeds in names.items()})


def legend_height(looks: Mapping[str, Look], width: float = COLUMN) -> float:
    """Inches that a legend takes."""
    if not looks:
        return 0.0
    tallest = max(len(lines) for lines in _wrapped(looks, width))
    return math.ceil(len(looks) / _entries_a_line(looks, width)) * LINE * tallest + 0.04


def draw_legend(axes: Axes, looks: Mapping[str, Look], width: float = COLUMN) -> None:
    """A legend of `width` inches, in axes of its own."""
    axes.axis("off")
    names = ["\n".join(lines) for lines in _wrapped(looks, width)]
    handles = [legend_sample(look, name) for name, look in zip(names, looks.values(), strict=True)]
    legend = axes.legend(
        handles=handles, loc="center", ncols=_entries_a_line(looks, width), borderpad=0, handlelength=2.2,
        columnspacing=1.0, handletextpad=0.5, labelspacing=0.3,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def say_empty(axes: Axes, words: str) -> None:
    """In place of a panel that there is nothing for."""
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, words, color=GREY, ha="center", va="center", transform=axes.transAxes)


def new_axes() -> Axes:
    """Axes of a new figure in the house style, as wide as a column."""
    with house_style():
        return page(HEIGHTS[1] + AROUND + XLABEL).subplots()


def figure_of(axes: Axes) -> Figure:
    """The figure that the axes belong to."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def _wrapped(names: Iterable[str], width: float) -> list[list[str]]:
    return [wrap(name, width - 2 * MARGIN - SAMPLE, 6.5) for name in names]


def _entries_a_line(names: Collection[str], width: float) -> int:
    widest = max((text_width(line, 6.5) for lines in _wrapped(names, width) for line in lines), default=0.0) + SAMPLE
    return max(1, min(len(names), int((width - 2 * MARGIN) / widest)))
