"""One curve of a panel, measured once or with several seeds: a line, its points, and the band of its intervals."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures.style import Look
from figures.words import count_in_words

SMALL = 1.8  # points, the marker of a seed among several
BAND, GREY_BAND = 0.16, 0.10  # how opaque
BEYOND = 10.0  # times what is drawn else: where a band without an end is cut off
FEWEST = 8  # images of which measuring runs give an interval


def draw_seeds(
    axes: Axes, seeds: Sequence[pd.DataFrame], look: Look, what: str = "y", of: str = "this curve", name: str = ""
) -> None:
    """Draw one curve: a line through the means over the seeds, a point for every seed and x, and a band from the lowest
    to the highest end of the seeds' intervals. A point without neighbours has a bar in place of a band.

    Where a seed misses a point, the mean does, and where one misses an interval, the band: over fewer seeds it is
    another quantity.

    Args:
        seeds: a table for each seed with the columns x, y, low and high, and, where some points are drawn hollow,
            the boolean column hollow.
        look: of the curve.
        what: name of the quantity, by which line and band are found in the figure.
        of: name of the curve, for an error.
        name: the curve's, in a legend of the axes.

    Raises:
        ValueError: seeds that were not measured at the same x.
    """
    mean = mean_of(seeds, of)
    draw_band(axes, mean, look, what)
    (line,) = axes.plot(mean["x"], mean["y"], color=look.colour, linestyle=look.line, label=name or None)
    line.set_linewidth(0.9 if look.context else 1.2)
    line.set_gid(f"mean of {what}")
    for rows in seeds:
        hollow = rows["hollow"] if "hollow" in rows else pd.Series(False, rows.index)
        for drawn, fill in ((~hollow, look.colour), (hollow, "white")):
            chosen = rows[drawn & rows["y"].notna()]
            if len(chosen):
                (points,) = axes.plot(chosen["x"], chosen["y"], color=look.colour, linestyle="none")
                points.set_gid(f"points of {what}")
                points.set_marker(look.marker)
                points.set_markerfacecolor(fill)
                if len(seeds) > 1:
                    points.set_markersize(SMALL)


def draw_band(axes: Axes, rows: pd.DataFrame, look: Look, what: str) -> None:
    """The columns low and high against x, where they are known (y need not be: the root of a square below 0 is missing,
    and how large it can be is not); a bar for a point that stands alone."""
    known = rows[["low", "high"]].notna().all(axis=1).to_numpy()
    numbers = rows[["y", "low", "high"]].to_numpy(float)
    beyond = BEYOND * np.abs(numbers[np.isfinite(numbers)]).max(initial=0)
    rows = rows.assign(**rows[["low", "high"]].clip(-beyond, beyond))  # what has no end leaves the axes
    beside = np.append(known[1:], False) | np.append(False, known[:-1])
    opacity = GREY_BAND if look.context else BAND
    band = axes.fill_between(
        rows["x"], rows["low"], rows["high"], where=known.tolist(), color=look.colour, alpha=opacity, linewidth=0
    )
    band.set_gid(f"band of {what}")
    alone = rows[known & ~beside]
    bars = axes.vlines(alone["x"], alone["low"], alone["high"], color=look.colour, linewidth=0.8)
    bars.set_gid(f"interval of {what}")


def mean_of(seeds: Sequence[pd.DataFrame], of: str = "this curve") -> pd.DataFrame:
    """x, and over the seeds the mean of y, the least low and the largest high: missing where one of them is.

    Raises:
        ValueError: seeds that were not measured at the same x.
    """
    x = seeds[0]["x"].to_numpy()
    if any(not np.array_equal(rows["x"], x) for rows in seeds[1:]):
        raise ValueError(f"the runs of {of} were not measured at the same points, so they are no seeds of one curve")
    over: dict[str, Callable] = {"y": np.mean, "low": np.min, "high": np.max}
    columns = {
        name: of_all([rows[name] for rows in seeds], axis=0) for name, of_all in over.items() if name in seeds[0]
    }
    return pd.DataFrame({"x": x} | columns)


def last_point(seeds: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """x and y of the right end of the curve; NaN for one without a known point."""
    known = mean_of(seeds).dropna(subset="y")
    return (float(known["x"].iloc[-1]), float(known["y"].iloc[-1])) if len(known) else (np.nan, np.nan)


def legend_sample(look: Look, label: str) -> Line2D:
    """The curve's entry in a legend."""
    return Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker, label=label)


def interval_words(marks: str, tables: Iterable[pd.DataFrame], ends: Sequence[tuple[str, str]]) -> str:
    """What bands or bars are, for a caption, from the images of the rows that have an interval; else that none has.

    Args:
        marks: what they are called.
        tables: with a column images.
        ends: the columns of the lower and the upper end of each interval.
    """
    rows = pd.concat([rows[["images", *(end for pair in ends for end in pair)]] for rows in tables], ignore_index=True)
    there = np.any([rows[list(pair)].notna().all(axis=1) for pair in ends], axis=0)
    images = rows["images"] if not there.any() else rows["images"][there]
    counts = images.dropna().astype(int).tolist()
    if not there.any():
        return f"No intervals{': fewer than eight images' if max(counts, default=FEWEST) < FEWEST else ''}."
    return f"{marks}: 95 % bootstrap intervals over {count_in_words(counts, 'image')}."


def seed_words(seeds: Sequence[int], charts: bool = False) -> str:
    """Words on the seeds for a caption, from the number of them of each curve; none where all have one.

    charts: of a page, where each seed is a curve of its own.
    """
    most = max(seeds)
    if most == 1:
        return ""
    some = str(most) if min(seeds) == most else f"{min(seeds)} to {most}"
    if charts:
        return f"Curves that look alike: {some} training seeds."
    return f"Points: {some} training seeds; line: their mean; band: from the lowest to the highest of their intervals."
