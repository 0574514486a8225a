"""Which pairs of patches of one image interact, drawn over the image, beside the Shapley value of every patch."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from figures.panels import figure_of, new_axes
from figures.pictures import as_pixels
from figures.style import BLUE, COLUMN, GREY, INK, VERMILION, house_style, page, save

# Blue and orange are told apart by the colour-blind, and the two signs stay apart down to the smallest value drawn.
SIGNS = LinearSegmentedColormap.from_list(
    "signs", [(0, "#00366b"), (0.25, BLUE), (0.4999, "#9fd3f5"), (0.5001, "#ffd49a"), (0.75, VERMILION), (1, "#7a2500")]
)
HEAT = LinearSegmentedColormap.from_list("heat", ["#00366b", BLUE, "#f7f7f7", VERMILION, "#7a2500"])
TWO_SIDED_TAIL = 0.0455  # of a normal distribution, beyond 2 standard deviations
THIN, THICK = 0.7, 2.6  # points, for a strength of 0 and for the largest one
LINES = 15  # that an eye still follows
AROUND = 0.82  # inches, title and scale of a panel
TALLEST_PANEL = 5.0  # inches


@house_style()
def draw_pair_map(
    image_HWC: ArrayLike,
    side: int,
    pairs_P2: ArrayLike,
    values_P: ArrayLike,
    path: str | Path,
    shapley_N: ArrayLike | None = None,
    title: str = "",
    standard_errors: ArrayLike | None = None,
    top: int = LINES,
    unit: str = "units of v",
    caption: str = "",
    note: str = "",
) -> Figure:
    """Draw the strongest pairs of one order as lines between cell centres over the image: colour shows the sign,
    colour and width the strength. Beside it, where given, the Shapley value of each patch.

    A pair within 2 standard errors of 0 is left out, and the caption counts these. A pair without a standard error may
    be one of them: it is thin, grey and dashed, and comes after those that have one. Lines that would run through the
    centre of a third cell are bent around it.

    Args:
        image_HWC: H×W×3, uint8 or floats from 0 to 1; it may have more pixels than the model saw.
        side: of the grid; cells are numbered row by row, 0 to side² − 1.
        pairs_P2: P×2 cells.
        values_P: P interactions I of these pairs, in units of v; NaN for a pair that was not measured.
        path: .png, .pdf or .svg.
        shapley_N: side² values, in units of v.
        title, caption, note: words above and below; the note stands out.
        standard_errors: P, of the values; NaN where unknown, 0 where exact; None where all values are exact.
        top: the largest number of pairs to draw.
        unit: of v, e.g. "log-odds".

    Raises:
        ValueError: shapes that do not fit each other or the grid; pixels outside 0 to 1; another suffix.
    """
    image = as_pixels(image_HWC, 3, "the image of a pair map")
    pairs, values, errors = _checked_pairs(pairs_P2, values_P, standard_errors, side, top)
    shapley = None if shapley_N is None else _checked_shapley(shapley_N, side)
    panels = 1 if shapley is None else 2
    wide = (COLUMN - 0.1) / panels - 0.15
    height = min(TALLEST_PANEL, wide * image.shape[0] / image.shape[1])
    words = " ".join(filter(None, [caption, _count(values, errors, _chosen(values, errors, top))]))
    figure = page(height + AROUND, title, note, words, pad=0.04)
    left, *right = figure.subplots(1, panels, squeeze=False)[0]
    plot_pairs(image, side, pairs, values, left, errors, top, unit)
    left.set_title("interacting pairs", size=7)
    if shapley is not None:
        plot_shapley(shapley, right[0], unit, image.shape[0] / image.shape[1])
        right[0].set_title("Shapley values", size=7)
    save(figure, path)
    return figure


def plot_pairs(
    image_HWC: ArrayLike,
    side: int,
    pairs_P2: ArrayLike,
    values_P: ArrayLike,
    axes: Axes | None = None,
    standard_errors: ArrayLike | None = None,
    top: int = LINES,
    unit: str = "units of v",
) -> Axes:
    """Draw the strongest pairs over the image, as `draw_pair_map` does, into axes of your own or new ones. Returns the
    axes, which count cells."""
    image = as_pixels(image_HWC, 3, "the image of a pair map")
    pairs, values, errors = _checked_pairs(pairs_P2, values_P, standard_errors, side, top)
    axes = new_axes() if axes is None else axes
    axes.imshow(image, extent=(0, side, side, 0), aspect="auto")
    _dress(axes, side, image.shape[0] / image.shape[1])
    drawn = _chosen(values, errors, top)
    pairs, values, unsure = pairs[drawn], values[drawn], np.isnan(errors[drawn])
    largest = float(np.abs(values[~unsure]).max(initial=0)) or 1.0
    scale = Normalize(-largest, largest)
    if len(pairs):
        weakest_first = np.lexsort((np.abs(values), ~unsure))
        pairs, values, unsure = pairs[weakest_first], values[weakest_first], unsure[weakest_first]
        curves = [_curve(i, j, side) for i, j in pairs]
        widths = np.where(unsure, THIN, THIN + (THICK - THIN) * np.abs(values) / largest)
        colours = np.where(unsure[:, None], to_rgba(GREY), SIGNS(scale(values)))
        dashes = ["--" if dashed else "-" for dashed in unsure]
        # A white edge keeps a line apart from the picture and from the lines that it crosses.
        edges = LineCollection(curves, colors="white", linewidths=widths + 1.2, linestyles=dashes, alpha=0.9)
        lines = LineCollection(curves, colors=colours, linewidths=widths, linestyles=dashes, gid="pairs")
        axes.add_collection(edges)
        axes.add_collection(lines)
        cells = np.unique(pairs)
        axes.plot(cells % side + 0.5, cells // side + 0.5, "o", color=INK, markersize=2.0, markeredgecolor="white")
        axes.lines[-1].set_markeredgewidth(0.5)
    _colour_bar(axes, ScalarMappable(scale, SIGNS), f"interaction ({unit})")
    return axes


def plot_shapley(shapley_N: ArrayLike, axes: Axes | None = None, unit: str = "units of v", aspect: float = 1.0) -> Axes:
    """Draw the Shapley value of each cell of a square grid as an opaque cell, into axes of your own or new ones.

    Args:
        shapley_N: side² values, row by row.
        aspect: height over width of the image.

    Returns the axes.
    """
    values = np.asarray(shapley_N, dtype=float).ravel()
    side = round(len(values) ** 0.5)
    shapley = _checked_shapley(values, side)
    largest = float(np.abs(shapley[np.isfinite(shapley)]).max(initial=0)) or 1.0
    axes = new_axes() if axes is None else axes
    extent = (0, side, side, 0)
    heat = axes.imshow(shapley, HEAT, vmin=-largest, vmax=largest, extent=extent, aspect="auto", gid="shapley")
    _dress(axes, side, aspect)
    _colour_bar(axes, heat, f"Shapley value ({unit})")
    return axes


def _checked_pairs(
    pairs_P2: ArrayLike, values_P: ArrayLike, standard_errors: ArrayLike | None, side: int, top: int
) -> tuple[NDArray, NDArray, NDArray]:
    pairs, values = np.asarray(pairs_P2), np.asarray(values_P, dtype=float)
    errors = np.zeros(len(values)) if standard_errors is None else np.asarray(standard_errors, dtype=float)
    _check_pairs(pairs, values, errors, side, top)
    return pairs, values, errors


def _chosen(values: NDArray, errors: NDArray, top: int) -> NDArray:
    """Numbers of the pairs to draw: the strongest of those that differ from 0 first, behind them those of which nobody
    knows whether they are more than noise."""
    candidates = np.flatnonzero(np.isfinite(values) & ~(np.abs(values) <= 2 * errors))
    return candidates[np.lexsort((-np.abs(values[candidates]), np.isnan(errors[candidates])))][:top]


def _check_pairs(pairs: NDArray, values: NDArray, errors: NDArray, side: int, top: int) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2 or values.shape != (len(pairs),) or errors.shape != (len(pairs),):
        shapes = ", ".join("×".join(map(str, array.shape)) for array in (pairs, values, errors))
        raise ValueError(f"a pair map needs P×2 pairs, P values and P standard errors, got {shapes}")
    if len(pairs) and not (pairs.min() >= 0 and pairs.max() < side**2):
        raise ValueError(
            f"cells of a {side}×{side} grid are numbered 0 to {side**2 - 1}, got {pairs.min()} to {pairs.max()}"
        )
    if top < 1:
        raise ValueError(f"top is the number of pairs to draw, 1 or more, got {top}")


def _checked_shapley(shapley_N: ArrayLike, side: int) -> NDArray:
    shapley = np.asarray(shapley_N, dtype=float).ravel()
    if shapley.shape != (side**2,):
        raise ValueError(f"a {side}×{side} grid has {side**2} Shapley values, got {shapley.size}")
    return shapley.reshape(side, side)


def _count(values: NDArray, errors: NDArray, drawn: NDArray) -> str:
    """What the lines are out of: how many pairs were measured, and how many of them differ from 0."""
    measured, unsure = np.isfinite(values), int(np.isnan(errors[drawn]).sum())
    words = f"Drawn: the {len(drawn) - unsure} strongest of {measured.sum():,} measured pairs"
    words += f" ({len(values):,} in all)." if measured.sum() < len(values) else "."
    if unsure:
        words += f" Grey and dashed: {unsure} pairs without a standard error, which may be noise."
    tested = measured & (errors > 0)
    if tested.any():
        weak = (np.abs(values) <= 2 * errors)[tested].sum()
        # At 2 standard errors one pair in 22 passes by chance: without these words a map of noise looks like a finding.
        words += (
            f" {weak:,} pairs lie within 2 standard errors of 0 and are left out; {tested.sum() - weak:,} do not,"
            f" where chance alone would give about {TWO_SIDED_TAIL * tested.sum():.0f}."
        )
    return words


def _colour_bar(axes: Axes, colours: ScalarMappable, label: str) -> None:
    """Below the panel, as wide as it."""
    bar = figure_of(axes).colorbar(colours, ax=axes, location="bottom", pad=0.02, aspect=25)
    bar.set_label(label, size=6.5, labelpad=1)
    bar.ax.tick_params(labelsize=6, pad=1)
    bar.ax.locator_params(nbins=3)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _dress(axes: Axes, side: int, aspect: float) -> None:
    """Axes that count cells, with the grid."""
    axes.set_aspect(aspect)
    axes.hlines(range(1, side), 0, side, color="white", linewidth=0.25, alpha=0.6)
    axes.vlines(range(1, side), 0, side, color="white", linewidth=0.25, alpha=0.6)
    axes.set_axis_off()


def _curve(i: int, j: int, side: int) -> NDArray:
    """Points of the line between the centres of cells i and j, column and row in cells; bent where it would run
    through the centre of another cell."""
    start, end = (np.array([cell % side + 0.5, cell // side + 0.5]) for cell in (i, j))
    step = end - start
    t = np.linspace(0, 1, 25)[:, None]
    crosses = np.gcd(*np.abs(step).astype(int)) > 1
    bend = 0.35 * np.array([-step[1], step[0]]) / np.linalg.norm(step) if crosses else np.zeros(2)
    return start + t * step + 4 * t * (1 - t) * bend
