"""Pixels as every figure takes them: floats from 0 to 1."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
