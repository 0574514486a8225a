"""Pixels as every figure takes them: floats from 0 to 1."""

import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from PIL import Image

GAP = 0.03
"""Between pictures below each other, as a share of their width."""


@contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """A picture from its file, to be read within.

    Raises:
        ValueError: no picture, a damaged one, or one of more pixels than Pillow takes to be safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content)) as picture:
                yield picture
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from error


def newest_pictures(folder: Path, kinds: Collection[str]) -> Path | None:
    """Of the .npz in a run's folder that hold pictures of all these kinds the newest: the last step that its training
    kept, or what was written beside run.json after that. None where there is no .npz.

    Where none holds them all it is the newest of any kind, and one that cannot be read counts, so that it is told.
    """
    found = [sorted(folder.glob(pattern)) for pattern in ("pictures/*.npz", "*.npz")]
    holding = [[path for path in paths if _holds(path, kinds)] for paths in found]
    of_training, beside = holding if any(holding) else found
    return max([*of_training[-1:], *beside], key=lambda path: path.stat().st_mtime_ns, default=None)


def _holds(path: Path, kinds: Collection[str]) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{kind}.npy" for kind in kinds} <= {*archive.namelist()}
    except Exception:  # a damaged archive raises almost anything
        return True


def stack(axes: Axes, pictures: Sequence[NDArray], options: Sequence[Mapping[str, Any]] = ()) -> None:
    """Pictures below each other into one panel, as many times as high as wide as `stacked` says.

    One panel for all of them: to make a panel takes as long as to draw a dozen pictures.

    Args:
        options: of `imshow`, for each picture.
    """
    top = 0.0
    for picture, how in zip(pictures, options or [{}] * len(pictures), strict=True):
        height = picture.shape[0] / picture.shape[1]
        axes.imshow(picture, extent=(0, 1, top + height, top), aspect="auto", **how)
        top += height + GAP
    axes.set(xlim=(0, 1), ylim=(top - GAP, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def stacked(pictures: Sequence[NDArray]) -> float:
    """Height over width of these pictures below each other."""
    return sum(picture.shape[0] / picture.shape[1] + GAP for picture in pictures) - GAP


def fitting(pictures: Sequence[NDArray], wide: float, free: float) -> int:
    """How many of these pictures, `wide` inches wide and below each other, fit into `free` inches; at least one."""
    counts = range(1, len(pictures) + 1)
    return max((count for count in counts if wide * stacked(pictures[:count]) <= free), default=1)


def as_pixels(picture: ArrayLike, dimensions: int, what: str) -> NDArray[np.float64]:
    """The picture, or pictures, of `dimensions` axes, the last of which holds the three colours; uint8 becomes 0 to 1.

    Raises:
        ValueError: another shape; values outside 0 to 1, as a normalised picture has them; NaN. `what` names it.
    """
    pixels = np.asarray(picture)
    if pixels.ndim != dimensions or pixels.shape[-1] != 3 or 0 in pixels.shape:
        shape = "N×H×W×3" if dimensions == 4 else "H×W×3"
        raise ValueError(f"{what} must be {shape}, got {'×'.join(map(str, pixels.shape))}")
    if pixels.dtype == np.uint8:
        return pixels / 255.0
    pixels = pixels.astype(np.float64)
    if not (pixels.min() >= -1e-3 and pixels.max() <= 1 + 1e-3):
        raise ValueError(f"{what} must hold uint8 or floats from 0 to 1: undo the normalisation first")
    return pixels.clip(0, 1)
