"""Pictures inside the page, as data and not as links."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from figures.page.blocks import Gallery, Picture
from figures.page.markup import Html, tag, void
from figures.pictures import as_pixels, opened

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
LARGEST_FILE = 80_000  # bytes; a larger file is written again, with fewer pixels or colours
SIDES = (1010, 720, 520, 380)  # pixels; the first is that of a figure, a column at 300 dots an inch
LARGEST_LOSSLESS = 64  # pixels a side; JPEG would blur the cells of small pictures
SCALE = 0.45  # of a pixel on the page: the figures have 300 dpi, so that screens of any density draw them sharp
SHOWN = 6


def draw_picture(picture: Picture) -> Html:
    """Raises:
    FileNotFoundError: no such file.
    ValueError: another kind of file, or one that cannot be read as a picture.
    """
    content, kind = _read(picture.source)
    width = None
    if kind != "image/svg+xml":
        content, kind, width = _checked(content, kind, picture)
    caption = tag("figcaption", picture.caption) if picture.caption else Html()
    image = void("img", src=_uri(content, kind), alt=picture.alt, width=width)
    if picture.thumbnail:
        image = tag("details", tag("summary", image, aria_label=f"Enlarge: {picture.alt}"), class_="zoom")
    return tag("figure", image, caption, class_="picture")


def draw_gallery(gallery: Gallery) -> Html:
    """One row for each picture, one column for each kind, at most SHOWN rows.

    Raises:
        ValueError: arrays of other shapes, or pixels outside 0 to 1.
    """
    columns = {name: as_pixels(pixels, 4, f"the {name} pictures") for name, pixels in gallery.columns.items()}
    shapes = {name: "×".join(map(str, pixels.shape)) for name, pixels in columns.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"the pictures of a gallery differ in shape: {shapes}")
    count = len(next(iter(columns.values())))
    shown = min(count, SHOWN)
    heads = tag("tr", *(tag("th", name, scope="col") for name in columns))
    rows = [
        tag("tr", *(tag("td", _small(pixels[n], f"{name}, picture {n + 1}")) for name, pixels in columns.items()))
        for n in range(shown)
    ]
    words = f"{gallery.caption} The first {shown} of {count}.".strip() if shown < count else gallery.caption
    table = tag("table", tag("caption", tag("span", words)), tag("thead", heads), tag("tbody", *rows), class_="gallery")
    return tag("div", table, class_="scroll", role="region", tabindex="0", aria_label=words or "pictures")


def _small(pixels_HW3: np.ndarray, alt: str) -> Html:
    picture = Image.fromarray((255 * pixels_HW3).round().astype(np.uint8))
    lossless = max(picture.size) <= LARGEST_LOSSLESS
    content = _written(picture, "PNG" if lossless else "JPEG")
    return void("img", src=_uri(content, "image/png" if lossless else "image/jpeg"), alt=alt)


def _read(source: Path | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "image/png"
    if source.suffix.lower() not in KINDS:
        raise ValueError(f"a page cannot hold the picture {source.name!r}: it takes {', '.join(KINDS)}")
    if not source.is_file():
        raise FileNotFoundError(f"the picture {source} does not exist")
    return source.read_bytes(), KINDS[source.suffix.lower()]


def _checked(content: bytes, kind: str, picture: Picture) -> tuple[bytes, str, int]:
    """The file as it is where it is small, else its picture with fewer pixels; and the width on the page."""
    try:
        with opened(content) as found:
            width = round(found.width * SCALE)
            if len(content) <= LARGEST_FILE:
                found.load()
                return content, kind, width
            smaller = found.convert("RGB")
    except ValueError as error:
        what = picture.source if isinstance(picture.source, Path) else f"'{picture.alt}'"
        raise ValueError(f"{what} cannot be read as a picture: {error}") from error
    smaller.thumbnail((SIDES[0], SIDES[0]))
    # A photograph is smaller as JPEG, lines and letters as PNG of few colours.
    kinds = {"image/jpeg": _written(smaller, "JPEG"), "image/png": _written(smaller.quantize(), "PNG")}
    kind, content = min(kinds.items(), key=lambda each: len(each[1]))
    for side in SIDES[1:]:
        if len(content) > LARGEST_FILE:
            smaller.thumbnail((side, side))
            content = _written(smaller, "JPEG") if kind == "image/jpeg" else _written(smaller.quantize(), "PNG")
    return content, kind, width


def _written(picture: Image.Image, format: str) -> bytes:
    file = BytesIO()
    picture.save(file, format, quality=80, optimize=True)
    return file.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
