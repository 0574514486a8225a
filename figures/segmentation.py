"""What a segmentation predicts: pictures, their annotations, and the predictions, in the colours of the classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.pictures import as_pixels
from figures.style import DOUBLE_COLUMN, house_style, page, save

NAMED = 24
"""Classes that the legend names at most: those with most pixels."""


@house_style()
def draw_segmentation(
    pictures: Sequence[Mapping[str, NDArray]], classes: Sequence[str], path: str | Path, title: str = ""
) -> Figure:
    """Draw a row for each picture: itself, its annotation, the prediction. What has no class is black.

    Args:
        pictures: of each: image H×W×3 (0 to 1), target and predicted H×W (number of the class, -1: none).
        classes: their names.
        path: .png, .pdf or .svg.

    Raises:
        ValueError: no pictures; another suffix.
    """
    if not pictures:
        raise ValueError("there is no picture to draw")
    colours = class_colours(len(classes))
    height = sum(each["image"].shape[0] / each["image"].shape[1] for each in pictures) * DOUBLE_COLUMN / 3 + 0.6
    figure = page(DOUBLE_COLUMN, height, title, "", "What has no class is black.", pad=0.02)
    grid = figure.subplots(len(pictures), 3, squeeze=False)
    seen = np.zeros(len(classes), int)
    for axes, each in zip(grid, pictures, strict=True):
        axes[0].imshow(as_pixels(each["image"], 3, "the pictures"))
        for place, name in zip(axes[1:], ("target", "predicted"), strict=True):
            known = each[name] >= 0
            place.imshow(np.where(known[..., None], colours[each[name]], 0.0))
            seen += np.bincount(each[name][known], minlength=len(classes))
    for axes, name in zip(grid[0], ("picture", "annotation", "prediction"), strict=True):
        axes.set_title(name, loc="center", size=7)
    for axes in grid.flat:
        axes.set_axis_off()
    most = [n for n in np.argsort(-seen, kind="stable")[:NAMED] if seen[n]]
    handles = [Patch(color=colours[n], label=classes[n]) for n in most]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=6, frameon=False)
    save(figure, path)
    return figure


def class_colours(count: int) -> NDArray:
    """A colour for each class (count, 3), neighbours far apart."""
    colours = colormaps["hsv"](np.arange(count) * 0.618034 % 1)[:, :3]
    return colours * np.where(np.arange(count) % 2, 0.6, 1.0)[:, None]
