"""Values with their intervals in rows below each other, beside a line at what they are compared with."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from figures.panels import new_axes
from figures.style import FIRST, GREY, INK, Look, wrap

SIZE = 6.5  # points, of names
NAMES = 1.0  # inches, of a name
LINE = 1.2 * SIZE / 72  # inches
LEAST = 0.26  # inches, a row
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
"""Words and numbers that a line runs behind stay readable. (An outline would make paths of them, which nobody can
search.)"""


def plot_intervals(
    rows: pd.DataFrame,
    axes: Axes | None = None,
    looks: Mapping[str, Look] | None = None,
    reference: float | None = None,
    label: str = "",
    sign: bool = False,
) -> Axes:
    """Draw a row for each name: a point, the bar of its interval, and the value in numbers.

    Args:
        rows: columns name, value, low, high; a missing value gives its row a dash.
        axes: of your own, or new ones.
        looks: of the names; the first look of the house without them.
        reference: where a line stands.
        label: of the axis.
        sign: write a plus before what is positive.

    Returns the axes.
    """
    axes = new_axes() if axes is None else axes
    names, ends = list(rows["name"]), rows[["value", "low", "high"]].to_numpy(dtype=float)
    for y, name, (value, low, high) in zip(centres(names), names, ends, strict=True):
        seen = (looks or {}).get(name, FIRST)
        if not np.isfinite(value):
            dash = axes.text(0.5, y, "–", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GREY)
            dash.set_bbox(CLEAR)
            continue
        axes.hlines(y, low, high, color=seen.colour, linewidth=1.2).set_gid("interval")
        (point,) = axes.plot(value, y, color=seen.colour, marker=seen.marker, linestyle="none")
        point.set_gid("value")
        number = f"{value:{'+' * sign}.2f}".replace("-", "−")
        above = axes.annotate(
            number, (value, y), (0, 2.2), textcoords="offset points", ha="center", va="bottom", size=6
        )
        above.set_bbox(CLEAR)
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=0.6, zorder=0)
    axes.margins(x=0.14)
    axes.set_xlim(axes.get_xlim())
    axes.xaxis.set_major_locator(
        MaxNLocator(3, steps=[1, 2, 5, 10])
    )  # 2.5 has a decimal more, for which there is no room
    axes.set_xlabel(label)
    name_rows(axes, names, looks)
    return axes


def name_rows(axes: Axes, names: Sequence[str], looks: Mapping[str, Look] | None = None) -> None:
    """The names before the rows, whose places are their `centres`; those of coloured curves in their colours."""
    axes.set_yticks(centres(names), ["\n".join(wrap(name, NAMES, SIZE)) for name in names], size=SIZE)
    axes.set_ylim(sum(map(row_height, names)), 0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for text, name in zip(axes.get_yticklabels(), names, strict=True):
        text.set_parse_math(False)
        seen = (looks or {}).get(name)
        text.set_color(INK if seen is None or seen.context else seen.colour)


def row_height(name: str) -> float:
    """Inches that the row of this name takes."""
    return max(LEAST, len(wrap(name, NAMES, SIZE)) * LINE + 0.08)


def centres(names: Sequence[str]) -> NDArray[np.float64]:
    """Places of the rows, in inches from above."""
    heights = np.array([row_height(name) for name in names])
    return np.cumsum(heights) - heights / 2
