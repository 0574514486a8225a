"""What a masked-image model predicts: pictures, and how much of each spatial frequency is in them."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from figures.pictures import as_pixels
from figures.style import DOUBLE_COLUMN, house_style, page, save

GAP = 0.05
"""Between pictures below each other, as a share of their width."""


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
    where masked, original elsewhere); then the log-magnitude spectrum of each of the four.

    All spectra share one scale. After figure 4 of the A²MIM paper (arXiv 2205.13943).

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
    spectra = {name: log_spectrum(images) for name, images in pictures.items()}
    # Beyond these ends lie the rounding noise of flat regions and the mean colour; on their scale the rest is one grey.
    low, high = np.percentile(np.stack(list(spectra.values())), [1, 99.9])

    count, rows, columns, _ = pictures["original"].shape
    cell = (DOUBLE_COLUMN - 0.55) / 8
    body_height = count * cell * rows / columns + 0.4
    words = "log|F|: log magnitude of the Fourier transform, mean of the colours, frequency 0 in the centre."
    figure = page(DOUBLE_COLUMN, body_height, title, note, f"{caption} {words}".strip(), pad=0.02)
    # One panel a column: to make a panel takes as long as to draw a dozen pictures.
    panels = figure.subplots(1, 8)
    for panel, spectrum, name in zip(panels[:4], panels[4:], pictures, strict=True):
        stack(panel, pictures[name], name)
        stack(spectrum, spectra[name], f"log|F|\n{name}", cmap="magma", vmin=low, vmax=high)
    part = rows / panels[-1].get_ylim()[0]  # the first picture's, of the panel's height
    bar = panels[-1].inset_axes((1.08, 1 - part, 0.08, part))
    figure.colorbar(panels[-1].images[0], cax=bar, label="log|F|")
    save(figure, path)
    return figure


def stack(panel: Axes, pictures: NDArray, title: str, **options: Any) -> None:
    """Pictures of one size below each other."""
    _, rows, columns = pictures.shape[:3]
    gap = GAP * columns
    for n, picture in enumerate(pictures):
        top = n * (rows + gap)
        panel.imshow(picture, extent=(0, columns, top + rows, top), **options)
    panel.set(xlim=(0, columns), ylim=(top + rows, 0))
    panel.set_title(title, loc="center", size=7)
    panel.set_axis_off()


def log_spectrum(pictures_NHW3: ArrayLike) -> NDArray[np.float64]:
    """Natural logarithm of |F| + 1e-6, F the orthonormal 2-D Fourier transform of each colour with frequency 0 moved
    to the centre; mean over the colours: N×H×W. Defined as in Park & Kim 2022 (arXiv 2202.06709)."""
    spectrum = np.fft.fftshift(np.fft.fft2(pictures_NHW3, axes=(1, 2), norm="ortho"), axes=(1, 2))
    return np.log(np.abs(spectrum) + 1e-6).mean(axis=-1)


def _clipped(pictures: ArrayLike) -> NDArray:
    pictures = np.asarray(pictures)
    return pictures if pictures.dtype == np.uint8 else pictures.clip(0, 1)
