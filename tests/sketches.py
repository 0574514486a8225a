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
EMPTY = {"png": PIXEL.getvalue(), "pdf": b"%PDF-1.4\n%%EOF\n"}


@contextmanager
def sketched() -> Iterator[None]:
    """Panels stay where they are, a .png is one pixel and a .pdf has no page; an .svg holds all that is drawn."""
    settle, render = figures.style._settle, Figure.savefig

    def write(figure: Figure, file: Any, *, format: str, **options: Any) -> Any:
        return file.write(EMPTY[format]) if format in EMPTY else render(figure, file, format=format, **options)

    def stay(figure: Figure) -> None:
        figure.set_layout_engine("none")

    figures.style._settle, Figure.savefig = stay, write  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        figures.style._settle, Figure.savefig = settle, render  # type: ignore[method-assign]
