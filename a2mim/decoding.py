"""From the bytes of a file to the picture that a model is shown: one rule for each kind of picture, for both halves.

The picture is turned upright (EXIF), the first frame of an animated file is taken, what is transparent shows white, and
the rest is as Pillow converts it: palettes, CMYK and grey become RGB; colour profiles are not applied. Grey of 16 bits
is scaled to 8, so that 65,535 becomes 255. Numbers that have no white (32-bit integers of a TIFF, floating-point values
outside of 0 to 1) are refused rather than cut off.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from a2mim.errors import one_line

# What Pillow opens; a file of another kind beside these is no image here.
EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
)
# Pictures all the same: so that they are not passed over in silence.
UNREAD = frozenset((".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dng", ".cr2", ".nef", ".dcm", ".npy"))
WHITE_16 = 65535


class Damaged(ValueError):
    """A picture that cannot be decoded; the message says why."""


def decode(content: bytes, mode: str = "RGB") -> Image.Image:
    """The picture in a file's bytes, as `as_shown` has it. Raises Damaged."""
    if not content:
        raise Damaged("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about metadata; what matters is an error
        try:
            image = Image.open(io.BytesIO(content))
            image.load()
            return as_shown(image, mode)
        except UnidentifiedImageError as error:  # its message holds an address in memory
            raise Damaged("cannot identify image file: it is of no kind that Pillow knows, or damaged") from error
        except (MemoryError, Damaged):
            raise
        except Exception as error:  # decoders of damaged files raise almost anything
            raise Damaged(one_line(error)) from error


def as_shown(image: Image.Image, mode: str = "RGB") -> Image.Image:
    """A loaded picture upright, opaque, and in `mode`: RGB, or L for grey. Raises Damaged for numbers without white."""
    image = upright(image)
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return from_numbers(image).convert(mode)
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    # Grey by way of RGB, since Pillow knows no other from CMYK or a palette.
    return image.convert("RGB").convert(mode) if image.mode not in ("L", "RGB", "1") else image.convert(mode)


def upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation says that it is to be seen; metadata that cannot be read say nothing."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a broken block of metadata raises almost anything, and is no fault of the pixels
        return image
    return image


def from_numbers(image: Image.Image) -> Image.Image:
    """A grey picture of more than 8 bits in 8, rounded to the nearest."""
    values_HW = np.asarray(image)
    if image.mode == "F":
        if not ((values_HW >= 0) & (values_HW <= 1)).all():
            raise Damaged("floating-point values outside of 0 to 1 have no stated white: save it with 8 or 16 bits")
        return Image.fromarray(np.rint(values_HW * 255).astype(np.uint8))
    low, high = int(values_HW.min()), int(values_HW.max())
    if image.mode == "I" and (image.format not in (None, "PNG", "PPM") or low < 0 or high > WHITE_16):
        raise Damaged("integers of 32 bits have no stated white: save it with 8 or 16 bits")
    bytes_HW = (values_HW.astype(np.uint32) * 255 + WHITE_16 // 2) // WHITE_16
    return Image.fromarray(bytes_HW.astype(np.uint8))


def is_constant(image: Image.Image) -> bool:
    """Whether a picture in RGB or grey is of one colour throughout."""
    for part in (image.resize((8, 8), Image.Resampling.NEAREST), image):  # 64 of its pixels rule most pictures out
        extremes: Any = part.getextrema()
        channels = extremes if isinstance(extremes[0], tuple) else (extremes,)
        if any(low != high for low, high in channels):
            return False
    return True
