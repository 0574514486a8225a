"""Figure 4 of the A²MIM paper (arXiv 2205.13943): what a masked-image model predicts with and without the Fourier loss.

Original, masked and predicted pictures with their log-magnitude spectra, and what the runs differ in: as a picture, as
a spectrum, and by frequency over all pictures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from figures.files import read_arrays
from figures.frequencies import WORDS, log_spectrum, radial_spectrum
from figures.panels import draw_legend, legend_height
from figures.pictures import as_pixels, newest_pictures, stack, stacked
from figures.runs import Drawn, Run, by_panel, label, looks_of
from figures.seeds import draw_band
from figures.style import COLUMN, GREY, MARGIN, Look, add_panel, house_style, page, wrap
from figures.words import count_in_words

KINDS = ("original", "masked", "predicted")
ENDS = (1, 99.9)  # percentiles that bound the colours of the spectra; beyond lie rounding noise and the mean colour
FEWEST = 3  # pictures, for an interval of their mean
MOST = 99.0  # percentile of the differences that is shown at full strength
LINE = 0.11  # inches, a line of a heading
LEFT, BETWEEN = 0.22, 0.025  # inches, beside the first column, between columns
ABOVE, CURVES, BELOW, AXIS = (
    0.3,
    0.75,
    0.42,
    0.36,
)  # inches, around a panel of curves: above, itself, below, to its left

Pictures = Mapping[str, NDArray[np.float64]]  # kind: N×H×W×3


class Column(NamedTuple):
    """What stands above each other in a panel: pictures N×H×W×3 and their spectra, or the differences of both."""

    heading: str
    pictures: NDArray[np.float64]
    spectra: NDArray[np.float64]
    differs: bool = False


@house_style()
def draw(runs: Sequence[Run], pictures: int = 1, title: str = "", caption: str = "") -> Drawn:
    """Draw a block for each panel: for each picture a row, and below it one of the spectra; in it original, masked, the
    prediction of every run, and the difference of each to the last run. Below: by frequency, the predictions less the
    original, and the difference between the runs with its 95 % interval over all pictures.

    Args:
        runs: folders with pictures, as training and `a2mim reconstruct` write them: .npz with original, masked and
            predicted, floats from 0 to 1, N×3×H×W. The newest of each folder counts, by the time of
            writing.
        pictures: to show of each panel, at most.

    Raises:
        ValueError: a run without pictures; runs of one panel that do not show the same; several of one name in a panel;
            fewer than 1 picture; more than a page holds.
    """
    if pictures < 1:
        raise ValueError(f"the number of pictures is {pictures}: give 1 or more")
    files = {run: pictures_file(run) for run in runs}
    shown = {run: read_pictures(file) for run, file in files.items()}
    panels = {panel: _one_each(names, shown) for panel, names in by_panel(runs).items()}
    one_mask = all(_same(shown, some, "masked") for some in panels.values())
    blocks = {panel: _columns(some, shown, one_mask, pictures) for panel, some in panels.items()}
    words = [caption, WORDS, _curve_words([(len(shown[some[0]]["original"]), len(some)) for some in panels.values()])]
    if (times := _strength(blocks)) is not None:
        words.append(f"Differences of pictures are drawn {times:.2g} times as strong, grey where there is none.")
    figure = _draw_blocks(blocks, panels, shown, looks_of(runs), times or 1.0, title, " ".join(filter(None, words)))
    return Drawn(figure, {run: [_name_of(run, file)] for run, file in files.items()}, "")


def pictures_file(run: Run) -> Path:
    """The newest .npz in the run's folder that holds what is drawn, by the time of writing (`newest_pictures`).

    Raises:
        ValueError: there is none.
    """
    found = [path for name, path in sorted(run.tables.items()) if name.endswith(".npz")]
    newest = found[-1] if found else newest_pictures(run.folder, KINDS)
    if newest is None:
        raise ValueError(
            f"{run.folder} lacks pictures (.npz, of `a2mim pretrain` or `a2mim reconstruct`), from which the figure is "
            "drawn"
        )
    return newest


def read_pictures(path: Path) -> Pictures:
    """The pictures of each kind, channels last.

    Raises:
        ValueError: a file that is no such .npz; a kind that it lacks; pixels outside 0 to 1.
    """
    try:
        arrays = read_arrays(path, KINDS)
    except ValueError as error:
        raise ValueError(f"{error}: is it a file of reconstructions?") from error
    if missing := [kind for kind in KINDS if kind not in arrays]:
        raise ValueError(f"{path} lacks {', '.join(missing)}: is it a file of reconstructions?")
    return {kind: as_pixels(np.moveaxis(x, 1, -1), 4, f"{kind} of {path}") for kind, x in arrays.items()}


def plot_excess(runs: Mapping[str, Pictures], axes: Axes, looks: Mapping[str, Look]) -> Axes:
    """Draw by frequency how much more there is in the predictions than in the originals, mean over the pictures.
    Returns the axes."""
    for name, pictures in runs.items():
        frequencies, predicted = radial_spectrum(pictures["predicted"])
        excess = (predicted - radial_spectrum(pictures["original"])[1]).mean(axis=0)
        axes.plot(frequencies, excess, color=looks[name].colour, linestyle=looks[name].line, linewidth=1.0)
        axes.lines[-1].set_gid(f"mean of {name}")
    return _by_frequency(axes)


def plot_change(one: Pictures, other: Pictures, axes: Axes, look: Look) -> Axes:
    """Draw by frequency how much more there is in the one's predictions than in the other's: mean over the pictures,
    and a band of Student's 95 % interval, from three pictures on. Returns the axes."""
    frequencies, first = radial_spectrum(one["predicted"])
    paired = first - radial_spectrum(other["predicted"])[1]
    several = len(paired) >= FEWEST
    times = stats.t.ppf(0.975, len(paired) - 1) if several else np.nan
    mean, half = paired.mean(axis=0), times * (stats.sem(paired, axis=0) if several else 1.0)
    rows = pd.DataFrame({"x": frequencies, "y": mean, "low": mean - half, "high": mean + half})
    draw_band(axes, rows, look, "change")
    axes.plot(frequencies, mean, color=look.colour, linewidth=1.0)
    axes.lines[-1].set_gid("mean of change")
    return _by_frequency(axes)


def _by_frequency(axes: Axes) -> Axes:
    axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    axes.set_xlim(0, 0.5)
    axes.set_xticks([0, 0.25, 0.5])
    return axes


def _name_of(run: Run, file: Path) -> str:
    """What the file is called in the run's folder."""
    names = [name for name, path in run.tables.items() if path == file]
    return names[0] if names else str(file.relative_to(run.folder))


def _one_each(names: Mapping[str, Sequence[Run]], shown: Mapping[Run, Pictures]) -> list[Run]:
    """The runs of a panel, of which none has two seeds, and all show the same pictures."""
    several = [name for name, seeds in names.items() if len(seeds) > 1]
    if several:
        raise ValueError(
            f"{', '.join(several)} is several runs in one panel: pictures have no mean, give one seed each"
        )
    runs = [seeds[0] for seeds in names.values()]
    if not _same(shown, runs, "original"):
        raise ValueError(f"{', '.join(map(label, runs))} show other pictures: reconstruct the same ones with each")
    return runs


def _columns(runs: Sequence[Run], shown: Mapping[Run, Pictures], one_mask: bool, most: int) -> list[Column]:
    """Original, masked (once, where all runs see the same), each prediction, and its difference to the last run's."""
    first = {kind: pictures[:most] for kind, pictures in shown[runs[0]].items()}
    columns = [Column("original", first["original"], log_spectrum(first["original"]))]
    predicted = {run: shown[run]["predicted"][:most] for run in runs}
    for k, run in enumerate(runs):
        masked = shown[run]["masked"][:most]
        if k == 0 or not one_mask:
            columns.append(Column("masked" if one_mask else f"masked {run.name}", masked, log_spectrum(masked)))
    columns += [Column(run.name, pixels, log_spectrum(pixels)) for run, pixels in predicted.items()]
    *others, last = predicted
    for run in others:
        change = log_spectrum(predicted[run]) - log_spectrum(predicted[last])
        heading = f"{run.name} less {last.name}"
        columns.append(Column(heading, predicted[run] - predicted[last], change, differs=True))
    return columns


def _curve_words(panels: Sequence[tuple[int, int]]) -> str:
    """What curves and bands are, from the numbers of pictures and of runs of every panel."""
    counts = [pictures for pictures, _ in panels]
    words = f"Curves: mean over {count_in_words(counts, 'picture')}"
    if not any(pictures >= FEWEST and runs > 1 for pictures, runs in panels):
        return f"{words}."
    return f"{words}; band{', from three pictures on' if min(counts) < FEWEST else ''}: Student's 95 % interval."


def _strength(blocks: Mapping[str, Sequence[Column]]) -> float | None:
    """By how much differences of pictures are multiplied, so that all but the largest fit; None without any."""
    found = [np.abs(column.pictures).ravel() for columns in blocks.values() for column in columns if column.differs]
    if not found:
        return None
    return 0.5 / max(float(np.percentile(np.concatenate(found), MOST)), 1e-3)


def _draw_blocks(
    blocks: Mapping[str, Sequence[Column]],
    panels: Mapping[str, Sequence[Run]],
    shown: Mapping[Run, Pictures],
    looks: Mapping[str, Look],
    times: float,
    title: str,
    caption: str,
) -> Figure:
    """The panels one below the other, and what the curves are called below the last."""
    every = [column for columns in blocks.values() for column in columns]
    ends = np.percentile(np.concatenate([column.spectra.ravel() for column in every if not column.differs]), ENDS)
    changes = [np.abs(column.spectra).ravel() for column in every if column.differs]
    scales = (tuple(ends), float(np.percentile(np.concatenate(changes), MOST)) if changes else 1.0)
    cell = (COLUMN - LEFT - MARGIN) / max(map(len, blocks.values()))
    tall = sum(_height(columns, cell) + ABOVE + CURVES + BELOW for columns in blocks.values())
    figure = page(tall + legend_height(looks), title, "", caption)
    top = 0.0
    for panel, columns in blocks.items():
        _draw_pictures(figure, columns, panel, top, cell, scales, times)
        top += _height(columns, cell) + ABOVE
        _draw_curves(figure, top, panels[panel], shown, looks)
        top += CURVES + BELOW
    draw_legend(add_panel(figure, 0, top, COLUMN, legend_height(looks)), looks)
    return figure


def _height(columns: Sequence[Column], cell: float) -> float:
    """Inches of the headings, and of the pictures and spectra of one panel."""
    return _heads(columns, cell) + (cell - BETWEEN) * stacked(_alternating(columns[0]))


def _heads(columns: Sequence[Column], cell: float) -> float:
    return max(len(wrap(column.heading, cell, 6)) for column in columns) * LINE


def _alternating(column: Column) -> list[NDArray[np.float64]]:
    """Every picture and its spectrum."""
    return [each for pair in zip(column.pictures, column.spectra, strict=True) for each in pair]


def _draw_pictures(
    figure: Figure,
    columns: Sequence[Column],
    panel: str,
    top: float,
    cell: float,
    scales: tuple[tuple[float, ...], float],
    times: float,
) -> None:
    """Headings, and for each picture a row with its spectra below it."""
    (low, high), change = scales
    wide = cell - BETWEEN
    for k, column in enumerate(columns):
        shown, how = _alternating(column), [{"cmap": "magma", "vmin": low, "vmax": high}] * 2 * len(column.pictures)
        if column.differs:
            shown[::2] = [(0.5 + times * pixels).clip(0, 1) for pixels in column.pictures]
            how = [{"cmap": "RdBu_r", "vmin": -change, "vmax": change}] * len(shown)
        axes = add_panel(figure, LEFT + k * cell, top + _heads(columns, cell), wide, wide * stacked(shown))
        stack(axes, shown, how)
        lines = "\n".join(wrap(column.heading, cell, 6))
        axes.set_title(lines, loc="center", size=6, pad=2, parse_math=False)
        if k == 0:
            places = [np.mean(image.get_extent()[2:]) for image in axes.images]
            axes.set_yticks(places, [panel, "log|F|"] * len(column.pictures), rotation=90, va="center", size=6)
            axes.tick_params(axis="y", length=0, pad=2)
            for text in axes.get_yticklabels():
                text.set_parse_math(False)


def _draw_curves(
    figure: Figure, top: float, runs: Sequence[Run], shown: Mapping[Run, Pictures], looks: Mapping[str, Look]
) -> None:
    """By frequency: the predictions less the original; and, of two runs or more, the first's less the last's."""
    several = len(runs) > 1
    wide = (COLUMN - MARGIN) / (1 + several) - AXIS - MARGIN
    left = add_panel(figure, AXIS, top, wide, CURVES)
    plot_excess({run.name: shown[run] for run in runs}, left, looks)
    left.set_title("log|F|: predicted less original", size=6, pad=3)
    left.set_xlabel("frequency (cycles a pixel)")
    if several:
        right = add_panel(figure, 2 * AXIS + wide + MARGIN, top, wide, CURVES)
        plot_change(shown[runs[0]], shown[runs[-1]], right, looks[runs[0].name])
        right.set_title(f"{runs[0].name} less {runs[-1].name}", size=6, pad=3, parse_math=False)
        right.set_xlabel("frequency (cycles a pixel)")


def _same(shown: Mapping[Run, Pictures], runs: Sequence[Run], kind: str) -> bool:
    return all(np.array_equal(shown[run][kind], shown[runs[0]][kind]) for run in runs)
