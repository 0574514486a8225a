"""Figure 4 of the A²MIM paper (arXiv 2205.13943): what a masked-image model predicts with and without the Fourier loss.

Original, masked and predicted pictures, and the log-magnitude spectrum of the original and of every prediction.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.pictures import as_pixels
from figures.reconstruction import log_spectrum
from figures.runs import Drawn, Run, by_panel, label
from figures.style import DOUBLE_COLUMN, house_style, page, wrap

KINDS = ("original", "masked", "predicted")
ENDS = (1, 99.9)  # percentiles that bound the colours of the spectra; beyond lie rounding noise and the mean colour
BAR, LINE = 0.55, 0.14  # inches, for the scale of the spectra and for a line of words above a panel
SPECTRUM_WORDS = (
    "log|F|: natural logarithm of the magnitude of the Fourier transform, mean of the colours, frequency 0 in the "
    "centre; one scale for all."
)

Pictures = Mapping[str, NDArray[np.float64]]  # kind: N×H×W×3


class Column(NamedTuple):
    """What stands above each other in a panel: pictures, or spectra of pictures."""

    heading: str
    shown: NDArray[np.float64]  # N×H×W×3, or N×H×W
    of: str = ""  # the run


@house_style()
def draw(runs: Sequence[Run], pictures: int = 2, title: str = "", caption: str = "") -> Drawn:
    """Draw a block for each panel, a row for each picture, and in it the prediction of every run of the panel.

    Args:
        runs: folders with pictures, as training and `a2mim reconstruct` write them: .npz with original, masked and
            predicted, floats from 0 to 1, N×3×H×W. The latest of each folder counts.
        pictures: to show of each panel, at most.

    Raises:
        ValueError: a run without pictures; runs of one panel that do not show the same; several of one name in a panel;
            fewer than 1 picture.
    """
    if pictures < 1:
        raise ValueError(f"the number of pictures is {pictures}: give 1 or more")
    files = {run: pictures_file(run) for run in runs}
    shown = {run: read_pictures(file, pictures) for run, file in files.items()}
    panels = {panel: _one_each(names, shown) for panel, names in by_panel(runs).items()}
    one_mask = all(_same(shown, some, "masked") for some in panels.values())
    blocks = {panel: _columns(some, shown, one_mask) for panel, some in panels.items()}
    words = f"{caption} {SPECTRUM_WORDS}".strip()
    figure = _draw_blocks(blocks, title, words)
    return Drawn(figure, {run: [str(file.relative_to(run.folder))] for run, file in files.items()}, "")


def pictures_file(run: Run) -> Path:
    """The latest .npz of pictures in the run's folder.

    Raises:
        ValueError: there is none.
    """
    found = sorted(run.folder.glob("pictures/*.npz")) or sorted(run.folder.glob("*.npz"))
    if not found:
        raise ValueError(
            f"{run.folder} lacks pictures (.npz, of `a2mim pretrain` or `a2mim reconstruct`), from which the figure is "
            "drawn"
        )
    return found[-1]


def read_pictures(path: Path, most: int) -> Pictures:
    """The first pictures of each kind, channels last.

    Raises:
        ValueError: a file that is no such .npz; a kind that it lacks; pixels outside 0 to 1.
    """
    try:
        with np.load(path) as file:
            arrays = {kind: file[kind][:most] for kind in KINDS if kind in file}
    except (BadZipFile, EOFError, ValueError) as error:  # ValueError: objects, which only pickle could read
        raise ValueError(f"{path} cannot be read as .npz: is it a file of reconstructions?") from error
    if missing := [kind for kind in KINDS if kind not in arrays]:
        raise ValueError(f"{path} lacks {', '.join(missing)}: is it a file of reconstructions?")
    return {kind: as_pixels(np.moveaxis(x, 1, -1), 4, f"{kind} of {path}") for kind, x in arrays.items()}


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


def _columns(runs: Sequence[Run], shown: Mapping[Run, Pictures], one_mask: bool) -> list[Column]:
    """Original, masked (once, where all runs see the same), each prediction; then the spectra of all but the masked."""
    first = shown[runs[0]]
    columns = [Column("original", first["original"])]
    for k, run in enumerate(runs):
        if k == 0 or not one_mask:
            columns.append(Column("masked", shown[run]["masked"], "" if one_mask else run.name))
        columns.append(Column("predicted", shown[run]["predicted"], run.name))
    spectra = [Column(f"log|F|\n{c.heading}", log_spectrum(c.shown), c.of) for c in columns if c.heading != "masked"]
    return columns + spectra


def _draw_blocks(blocks: Mapping[str, Sequence[Column]], title: str, caption: str) -> Figure:
    """The panels one below the other."""
    spectra = [column.shown.ravel() for columns in blocks.values() for column in columns if column.shown.ndim == 3]
    ends = np.percentile(np.concatenate(spectra), ENDS)
    wide = max(len(columns) for columns in blocks.values())
    cell = (DOUBLE_COLUMN - BAR) / wide
    heads = {panel: [_heading(column, cell) for column in columns] for panel, columns in blocks.items()}
    pictures = {panel: len(columns[0].shown) for panel, columns in blocks.items()}
    height = sum(
        max(map(len, heads[panel])) * LINE + 0.05 + pictures[panel] * cell * _aspect(blocks[panel]) for panel in blocks
    )
    figure = page(DOUBLE_COLUMN, height, title, "", caption, pad=0.02)
    grid = figure.add_gridspec(sum(pictures.values()), wide)
    first, scale = 0, None
    for panel, columns in blocks.items():
        for n, k in np.ndindex(pictures[panel], len(columns)):
            axes = figure.add_subplot(grid[first + n, k])
            _show(axes, columns[k].shown[n], ends)
            if n == 0:
                axes.set_title("\n".join(heads[panel][k]), loc="center", size=7, parse_math=False)
            if n == k == 0:
                axes.set_ylabel(panel, parse_math=False)
            if k == wide - 1 and not scale:
                scale = figure.colorbar(axes.images[0], cax=axes.inset_axes((1.08, 0, 0.08, 1)), label="log|F|")
        first += pictures[panel]
    return figure


def _aspect(columns: Sequence[Column]) -> float:
    _, rows, width = columns[0].shown.shape[:3]
    return rows / width


def _heading(column: Column, width: float) -> list[str]:
    return [*column.heading.splitlines(), *wrap(column.of, 0.95 * width, 7)]


def _same(shown: Mapping[Run, Pictures], runs: Sequence[Run], kind: str) -> bool:
    return all(np.array_equal(shown[run][kind], shown[runs[0]][kind]) for run in runs)


def _show(axes: Axes, picture: NDArray[np.float64], ends: NDArray[np.float64]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if picture.ndim == 3:
        axes.imshow(picture)
    else:
        axes.imshow(picture, "magma", vmin=ends[0], vmax=ends[1])
