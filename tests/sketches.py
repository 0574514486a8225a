"""Figures that are composed but not rendered: to lay out and to draw one takes most of a second."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

import figures.style

PIXEL = io.BytesIO()
Image.new("L", (1, 1)).save(PIXEL, "PNG")


@contextmanager
def sketched() -> Iterator[None]:
    """Panels stay where they are, and a .png is one pixel; .svg and .pdf hold all that is drawn."""
    settle, render = figures.style._settle, Figure.savefig

    def write(figure: Figure, file: Any, *, format: str, **options: Any) -> Any:
        return file.write(PIXEL.getvalue()) if format == "png" else render(figure, file, format=format, **options)

    figures.style._settle, Figure.savefig = lambda figure: None, write  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        figures.style._settle, Figure.savefig = settle, render  # type: ignore[method-assign]
