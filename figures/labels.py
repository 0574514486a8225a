"""Names beside the curves that they belong to, where there is room for them."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from figures.style import INK, Look, text_width, wrap

SIZE = 6.5  # points
LINE = 1.25 * SIZE / 72  # inches
ROOM = 0.85  # inches beside a panel, at most
MOST_LINES = 2  # of one name
LEADER = {"arrowstyle": "-", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2, "relpos": (0.0, 0.5)}


def lines_of(name: str) -> list[str]:
    """The name in lines that fit beside a panel."""
    return wrap(name, ROOM, SIZE)


def fit_beside(names: Collection[str], height: float) -> bool:
    """Whether all names have room beside a panel of `height` inches."""
    lines = [len(lines_of(name)) for name in names]
    broken = any(text_width(word, SIZE) > ROOM for name in names for word in name.split())
    return not broken and max(lines, default=0) <= MOST_LINES and sum(lines) * LINE <= height


def label_curves(axes: Axes, ends: Mapping[str, tuple[float, float, Look]], height: float) -> None:
    """The name of every curve to the right of the panel, in the curve's colour, with a thin line to its end.

    Args:
        axes: their limits are final.
        ends: by name, the last point of the curve, in the units of the axes, and its look.
        height: of the panel, about, in inches.
    """
    label_points(axes, [(name, *end) for name, end in ends.items()], height)


def label_points(axes: Axes, points: Sequence[tuple[str, float, float, Look]], height: float) -> None:
    """As `label_curves`, of names of which several may be alike: name, x, y and look of each point."""
    if not points:
        return
    places = axes.transAxes.inverted().transform(axes.transData.transform([(x, y) for _, x, y, _ in points]))
    texts = [lines_of(name) for name, *_ in points]
    sizes = [len(lines) * LINE / height for lines in texts]
    for (_, x, y, look), lines, place in zip(points, texts, spread(places[:, 1], sizes), strict=True):
        axes.annotate(
            "\n".join(lines),
            (x, y),
            (1.04, place),
            textcoords="axes fraction",
            va="center",
            size=SIZE,
            color=look.colour if not look.context else INK,
            parse_math=False,
            annotation_clip=False,
            arrowprops=LEADER | {"color": look.colour},
        )


def spread(wanted: ArrayLike, sizes: ArrayLike | Sequence[float]) -> NDArray[np.float64]:
    """Centres in 0 to 1 next to the wanted ones (least squares, in the same order), so that spans of these sizes do not
    overlap; those that together are larger than 1 are evenly too close."""
    wanted_N, sizes_N = np.asarray(wanted, dtype=float), np.asarray(sizes, dtype=float)
    sizes_N = sizes_N / max(1.0, sizes_N.sum())
    order = np.argsort(wanted_N, kind="stable")
    below = np.cumsum(sizes_N[order]) - sizes_N[order] / 2  # centres of spans that stand on each other from 0 on
    free = 1 - sizes_N.sum()
    placed = np.empty_like(wanted_N)
    placed[order] = below + np.clip(isotonic_regression(wanted_N[order] - below).x, 0, free)
    return placed
