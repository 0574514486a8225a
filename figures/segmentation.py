"""What a segmentation predicts: pictures, their annotations, and the predictions, in the colours of the classes."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.pictures import as_pixels, fitting, stack, stacked
from figures.style import COLUMN, MARGIN, add_panel, house_style, page, room, save

NAMED, ACROSS = 24, 4
"""Classes that the legend names at most: those with most pixels; and of them in a line."""
WORDS = "What has no class is black."
LINE, BETWEEN = 0.15, 0.025  # inches, of a legend or a heading; between columns


@house_style()
def draw_segmentation(
    pictures: Sequence[Mapping[str, NDArray]], classes: Sequence[str], path: str | Path, title: str = ""
) -> Figure:
    """Draw a row for each picture, as many as a page holds: itself, its annotation, the prediction. What has no class
    is black.

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
    wide = (COLUMN - 2 * MARGIN - 2 * BETWEEN) / 3
    images = [as_pixels(each["image"], 3, "the pictures") for each in pictures]
    shown = fitting(images, wide, room(title, "", WORDS) - LINE * (2 + math.ceil(NAMED / ACROSS)))
    tall = wide * stacked(images[:shown])
    seen = np.zeros(len(classes), int)
    for each, name in product(pictures[:shown], ("target", "predicted")):
        seen += np.bincount(each[name][each[name] >= 0], minlength=len(classes))
    most = [n for n in np.argsort(-seen, kind="stable")[:NAMED] if seen[n]]
    legend = math.ceil(len(most) / ACROSS) * LINE
    words = f"{WORDS} The first {shown} of {len(pictures)} pictures." if shown < len(pictures) else WORDS
    figure = page(LINE + tall + legend, title, "", words)
    columns = {"picture": images[:shown]}
    for heading, name in (("annotation", "target"), ("prediction", "predicted")):
        known = [(each[name], (each[name] >= 0)[..., None]) for each in pictures[:shown]]
        columns[heading] = [np.where(there, colours[number], 0.0) for number, there in known]
    for k, (heading, pixels) in enumerate(columns.items()):
        axes = add_panel(figure, MARGIN + k * (wide + BETWEEN), LINE, wide, tall)
        stack(axes, pixels)
        axes.set_title(heading, loc="center", size=7, pad=2)
    handles = [Patch(color=colours[n], label=classes[n]) for n in most]
    below = add_panel(figure, 0, LINE + tall, COLUMN, legend)
    below.axis("off")
    below.legend(handles=handles, loc="center", ncols=ACROSS, fontsize=6, borderpad=0, handlelength=1.2)
    save(figure, path)
    return figure


def class_colours(count: int) -> NDArray:
    """A colour for each class (count, 3), neighbours far apart."""
    colours = colormaps["hsv"](np.arange(count) * 0.618034 % 1)[:, :3]
    return colours * np.where(np.arange(count) % 2, 0.6, 1.0)[:, None]
