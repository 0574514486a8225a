"""What a masked-image model predicts: pictures, and how much of each spatial frequency is in them."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from figures.frequencies import WORDS, radial_spectrum
from figures.labels import label_curves
from figures.pictures import as_pixels, fitting, stack, stacked
from figures.style import COLUMN, MARGIN, Look, add_panel, grey_look, house_style, look, page, room, save
from figures.words import count_in_words

SPECTRUM = 0.9  # inches, the panel below the pictures
LINE, BETWEEN, LEFT, RIGHT, ABOVE, BELOW = 0.16, 0.025, 0.5, 0.72, 0.12, 0.4  # inches, around pictures and panel
LOOKS: dict[str, Look] = {"original": grey_look(0), "masked": grey_look(1), "predicted": look(0), "composite": look(1)}


@house_style()
def draw_reconstruction(
    original: ArrayLike,
    masked: ArrayLike,
    predicted: ArrayLike,
    composite: ArrayLike,
    path: str | Path,
    title: str = "",
    caption: str = "",
    note: str = "",
) -> Figure:
    """Draw a row for each image: the original, what the model saw, what it predicts, and the composite (predicted
    where masked, original elsewhere); and below them the spectrum of all four, mean over the images.

    After figure 4 of the A²MIM paper (arXiv 2205.13943). As many images are shown as a page holds.

    Args:
        original, masked, composite: N×H×W×3, uint8 or floats from 0 to 1.
        predicted: N×H×W×3 likewise; what lies outside 0 to 1, as a regression may, is cut off.
        path: .png, .pdf or .svg.
        title, caption, note: words above and below; the note stands out.

    Raises:
        ValueError: other shapes, or shapes that differ; pixels outside 0 to 1 or NaN; another suffix.
    """
    pictures = {
        "original": as_pixels(original, 4, "the original pictures"),
        "masked": as_pixels(masked, 4, "the masked pictures"),
        "predicted": as_pixels(_clipped(predicted), 4, "the predicted pictures"),
        "composite": as_pixels(_clipped(composite), 4, "the composite pictures"),
    }
    shapes = {name: "×".join(map(str, images.shape)) for name, images in pictures.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"the pictures of a reconstruction differ in shape: {shapes}")
    wide, count = (COLUMN - 2 * MARGIN - 3 * BETWEEN) / len(pictures), len(pictures["original"])
    words = f"{caption} {WORDS} Mean over {count_in_words([count], 'picture')}.".strip()
    around = LINE + ABOVE + SPECTRUM + BELOW
    free = room(title, note, f"{words} The first {count} of {count} are shown.") - around
    shown = fitting(list(pictures["original"]), wide, free)
    if shown < count:
        words += f" The first {shown} of {count} are shown."
    tall = wide * stacked(list(pictures["original"][:shown]))
    figure = page(around + tall, title, note, words)
    for k, (name, images) in enumerate(pictures.items()):
        axes = add_panel(figure, MARGIN + k * (wide + BETWEEN), LINE, wide, tall)
        stack(axes, list(images[:shown]))
        axes.set_title(name, loc="center", size=7, pad=2)
    below = add_panel(figure, LEFT, LINE + tall + ABOVE, COLUMN - LEFT - RIGHT, SPECTRUM)
    ends = {}
    for name, images in pictures.items():
        frequencies, spectra = radial_spectrum(images)
        mean = spectra.mean(axis=0)
        below.plot(frequencies, mean, color=LOOKS[name].colour, linestyle=LOOKS[name].line, linewidth=1.0)
        below.lines[-1].set_gid(f"mean of {name}")
        ends[name] = (float(frequencies[-1]), float(mean[-1]), LOOKS[name])
    below.set_xlim(0, 0.5)
    below.set_xlabel("frequency (cycles a pixel)")
    below.set_ylabel("log|F|")
    label_curves(below, ends, SPECTRUM)
    save(figure, path)
    return figure


def _clipped(pictures: ArrayLike) -> NDArray:
    pictures = np.asarray(pictures)
    return pictures if pictures.dtype == np.uint8 else pictures.clip(0, 1)
