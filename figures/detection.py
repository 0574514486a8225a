"""What a detector finds: pictures with what is in them, and with what was found, in the colours of the classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from figures.pictures import as_pixels, fitting
from figures.segmentation import class_colours
from figures.style import COLUMN, MARGIN, add_panel, house_style, page, room, save

WORDS = "Found: with a score of 0.5 or more, which is told."
LINE, GAP = 0.15, 0.025  # inches, of the headings; between pictures
VEIL = 0.45
"""Share of a mask's pixel that is its colour."""


@house_style()
def draw_detection(
    pictures: Sequence[Mapping[str, Any]], classes: Sequence[str], path: str | Path, title: str = ""
) -> Figure:
    """Draw a row for each picture, as many as a page holds: with the boxes and masks of what is in it, and with those
    that were found.

    Args:
        pictures: of each: image H×W×3 (0 to 1); boxes N×4 (left, top, right, bottom in pixels), labels N (number of the
            class), masks N×H×W or None; and of what was found found_boxes, found_labels, found_masks, found_scores N.
        classes: their names.
        path: .png, .pdf or .svg.

    Raises:
        ValueError: no pictures; another suffix.
    """
    if not pictures:
        raise ValueError("there is no picture to draw")
    colours = class_colours(len(classes))
    wide = (COLUMN - 2 * MARGIN) / 2
    shown = fitting([each["image"] for each in pictures], wide, room(title, "", WORDS) - 2 * LINE)
    heights = [wide * each["image"].shape[0] / each["image"].shape[1] for each in pictures[:shown]]
    words = f"{WORDS} The first {shown} of {len(pictures)} pictures." if shown < len(pictures) else WORDS
    figure = page(LINE + sum(heights), title, "", words)
    top = LINE
    for each, height in zip(pictures[:shown], heights, strict=True):
        left, right = (add_panel(figure, MARGIN + k * wide, top, wide - GAP, height - GAP) for k in (0, 1))
        names = [classes[n] for n in each["labels"]]
        draw_things(left, each["image"], each["boxes"], each["labels"], each["masks"], names, colours)
        scores = zip(each["found_labels"], each["found_scores"], strict=True)
        names = [f"{classes[n]} {score:.2f}" for n, score in scores]
        draw_things(
            right, each["image"], each["found_boxes"], each["found_labels"], each["found_masks"], names, colours
        )
        top += height
    for axes, name in zip(figure.axes[:2], ("annotation", "found"), strict=True):
        axes.set_title(name, loc="center", size=7, pad=2)
    save(figure, path)
    return figure


def draw_things(
    axes: Axes,
    image: NDArray,
    boxes: NDArray,
    labels: NDArray,
    masks: NDArray | None,
    names: Sequence[str],
    colours: NDArray,
) -> None:
    """One picture with boxes, their names, and masks."""
    pixels = as_pixels(image, 3, "the pictures").copy()
    for mask, label in zip(masks, labels, strict=True) if masks is not None else ():
        there = np.asarray(mask, bool)
        pixels[there] = (1 - VEIL) * pixels[there] + VEIL * colours[label]
    axes.imshow(pixels, extent=(0, pixels.shape[1], pixels.shape[0], 0), aspect="auto")  # the first pixel begins at 0
    for (left, top, right, bottom), label, name in zip(boxes, labels, names, strict=True):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=colours[label], lw=0.8))
        axes.text(
            left, top, name, size=6, color="white", va="bottom", clip_on=True,
            bbox={"facecolor": colours[label], "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
    axes.set_axis_off()
