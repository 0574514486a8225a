"""Which pairs of patches of one image interact, drawn over the image, beside the Shapley value of every patch."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from figures.pictures import as_pixels
from figures.style import BLUE, DOUBLE_COLUMN, GREY, INK, SINGLE_COLUMN, VERMILION, house_style, page, save

# Blue and orange are told apart by the colour-blind, and the two signs stay apart down to the smallest value drawn.
SIGNS = LinearSegmentedColormap.from_list(
    "signs", [(0, "#00366b"), (0.25, BLUE), (0.4999, "#9fd3f5"), (0.5001, "#ffd49a"), (0.75, VERMILION), (1, "#7a2500")]
)
HEAT = LinearSegmentedColormap.from_list("heat", ["#00366b", BLUE, "#f7f7f7", VERMILION, "#7a2500"])
TWO_SIDED_TAIL = 0.0455  # of a normal distribution, beyond 2 standard deviations
THIN, THICK = 0.7, 2.8  # points, for a strength of 0 and for the largest one


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
    top: int = 60,
    unit: str = "units of v",
    caption: str = "",
    note: str = "",
) -> Figure:
    """Draw the strongest pairs of one order as lines between cell centres over the faded image: colour shows the sign,
    colour and width the strength. Beside it, where given, the Shapley value of each patch.

    A pair within 2 standard errors of 0 is left out, and the caption counts these. A pair without a standard error may
    be one of them: it is thin, grey and dashed, and comes after those that have one. Lines that would run through the
    centre of a third cell are bent around it.

    Args:
        image_HWC: H×W×3, uint8 or floats from 0 to 1.
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
    pairs, values = np.asarray(pairs_P2), np.asarray(values_P, dtype=float)
    errors = np.zeros(len(values)) if standard_errors is None else np.asarray(standard_errors, dtype=float)
    _check_pairs(pairs, values, errors, side, top)
    shapley = None if shapley_N is None else _checked_shapley(shapley_N, side)

    candidates = np.flatnonzero(np.isfinite(values) & ~(np.abs(values) <= 2 * errors))
    # The strongest first, behind them those of which nobody knows whether they are more than noise.
    ranked = candidates[np.lexsort((-np.abs(values[candidates]), np.isnan(errors[candidates])))]
    drawn = ranked[:top]
    words = [caption, _count(values, errors, drawn)]

    panels = 1 if shapley is None else 2
    width = SINGLE_COLUMN if panels == 1 else DOUBLE_COLUMN
    height = min(7.0, (width / panels - 0.75) * image.shape[0] / image.shape[1] + 0.3)
    figure = page(width, height, title, note, " ".join(filter(None, words)))
    left, *right = figure.subplots(1, panels, squeeze=False)[0]
    _draw_pairs(left, image, side, pairs[drawn], values[drawn], np.isnan(errors[drawn]), unit)
    if shapley is not None:
        _draw_shapley(right[0], image, side, shapley, unit)
    save(figure, path)
    return figure


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


def _draw_pairs(
    axes: Axes, image: NDArray, side: int, pairs: NDArray, values: NDArray, unsure: NDArray, unit: str
) -> None:
    largest = float(np.abs(values[~unsure]).max(initial=0)) or 1.0
    scale = Normalize(-largest, largest)
    _draw_image(axes, image, side, fading=0.55)
    if len(pairs):
        weakest_first = np.lexsort((np.abs(values), ~unsure))
        pairs, values, unsure = pairs[weakest_first], values[weakest_first], unsure[weakest_first]
        curves = [_curve(i, j, side) for i, j in pairs]
        widths = np.where(unsure, THIN, THIN + (THICK - THIN) * np.abs(values) / largest)
        colours = np.where(unsure[:, None], to_rgba(GREY), SIGNS(scale(values)))
        dashes = ["--" if dashed else "-" for dashed in unsure]
        # A thin white edge keeps a line apart from the picture and from the lines that it crosses.
        edges = LineCollection(curves, colors="white", linewidths=widths + 0.9, linestyles=dashes, alpha=0.7)
        lines = LineCollection(curves, colors=colours, linewidths=widths, linestyles=dashes, gid="pairs")
        axes.add_collection(edges)
        axes.add_collection(lines)
        cells = np.unique(pairs)
        axes.plot(cells % side + 0.5, cells // side + 0.5, "o", color=INK, markersize=2.2, markeredgecolor="white")
        axes.lines[-1].set_markeredgewidth(0.4)
    axes.set_title("Interaction of pairs")
    _colour_bar(axes, ScalarMappable(scale, SIGNS), f"interaction I  ({unit})")


def _draw_shapley(axes: Axes, image: NDArray, side: int, shapley: NDArray, unit: str) -> None:
    largest = float(np.abs(shapley[np.isfinite(shapley)]).max(initial=0)) or 1.0
    _draw_image(axes, image, side, fading=0.2)
    heat = axes.imshow(
        shapley, HEAT, vmin=-largest, vmax=largest, alpha=0.6, extent=(0, side, side, 0), aspect="auto", gid="shapley"
    )
    axes.set_aspect(image.shape[0] / image.shape[1])
    axes.set_title("Shapley value of each patch")
    _colour_bar(axes, heat, f"Shapley value  ({unit})")


def _colour_bar(axes: Axes, colours: ScalarMappable, label: str) -> None:
    bar = axes.figure.colorbar(colours, cax=axes.inset_axes((1.03, 0, 0.035, 1)))
    bar.set_label(label)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _draw_image(axes: Axes, image: NDArray, side: int, fading: float) -> None:
    """The image in grey, faded towards white, on axes that count cells; with its grid."""
    grey = image @ (0.299, 0.587, 0.114)
    axes.imshow(grey + fading * (1 - grey), "gray", vmin=0, vmax=1, extent=(0, side, side, 0), aspect="auto")
    axes.set_aspect(image.shape[0] / image.shape[1])
    axes.hlines(range(1, side), 0, side, color="white", linewidth=0.3, alpha=0.8)
    axes.vlines(range(1, side), 0, side, color="white", linewidth=0.3, alpha=0.8)
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
