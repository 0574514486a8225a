"""One curve of a panel, measured once or with several seeds: points with their intervals, and the line of the mean."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures.style import Look

SMALL = 2.2  # points, the marker of a seed among several


def draw_seeds(
    axes: Axes, seeds: Sequence[pd.DataFrame], look: Look, shift: float = 0.0, what: str = "y", of: str = "this curve"
) -> None:
    """Draw one curve: a point with its interval for every seed and x, and a line through the means over the seeds.

    Where a seed misses a point, the mean and the line do: a mean over fewer seeds is another quantity.

    Args:
        seeds: a table for each seed with the columns x, y, low and high, and, where some points are drawn hollow,
            the boolean column hollow.
        look: of the curve.
        shift: by which everything is moved along x, so that the intervals of several curves are seen.
        what: name of the quantity, by which the intervals are found in the figure.
        of: name of the curve, for an error.

    Raises:
        ValueError: seeds that were not measured at the same x.
    """
    line = mean_of(seeds, of)
    several = len(seeds) > 1
    for rows in seeds:
        bars = axes.vlines(rows["x"] + shift, rows["low"], rows["high"], color=look.colour, linewidth=0.8)
        bars.set_alpha(0.5 if several else 1.0)
        bars.set_gid(f"interval of {what}")
    (mean,) = axes.plot(line["x"] + shift, line["y"], color=look.colour, linestyle=look.line)
    mean.set_gid(f"mean of {what}")
    for rows in seeds:
        hollow = rows["hollow"] if "hollow" in rows else pd.Series(False, rows.index)
        for drawn, fill in ((~hollow, look.colour), (hollow, "white")):
            chosen = rows[drawn & rows["y"].notna()]
            if len(chosen):
                (points,) = axes.plot(chosen["x"] + shift, chosen["y"], color=look.colour, linestyle="none")
                points.set_marker(look.marker)
                points.set_markerfacecolor(fill)
                if several:
                    points.set_markersize(SMALL)


def mean_of(seeds: Sequence[pd.DataFrame], of: str = "this curve") -> pd.DataFrame:
    """x, and the mean over the seeds of y: missing where one of them is.

    Raises:
        ValueError: seeds that were not measured at the same x.
    """
    x = seeds[0]["x"].to_numpy()
    if any(not np.array_equal(rows["x"], x) for rows in seeds[1:]):
        raise ValueError(f"the runs of {of} were not measured at the same points, so they are no seeds of one curve")
    return pd.DataFrame({"x": x, "y": np.mean([rows["y"] for rows in seeds], axis=0)})


def legend_sample(look: Look, label: str) -> Line2D:
    """The curve's entry in a legend."""
    return Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker, label=label)


def seed_words(seeds: Sequence[int]) -> str:
    """Words on the seeds for a caption, from the number of them of each curve; none where all have one."""
    most = max(seeds)
    if most == 1:
        return ""
    some = str(most) if min(seeds) == most else f"{min(seeds)} to {most}"
    return f"Points: {some} training seeds, each with its own interval; line: their mean."
