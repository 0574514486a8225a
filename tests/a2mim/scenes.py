"""Small scenes: rectangles of colours of their own on noise, with annotations of every pixel."""

from pathlib import Path

import numpy as np
from PIL import Image

VOID = 11
PARTS = {"train": 8, "val": 4}


def write_scenes(folder, parts=PARTS, size=(32, 64), cell=16, seed=0):
    """Maps of `cell`-sized blocks of classes 0 to 2, a strip of VOID above; the colour of a block tells its class."""
    for part, count in parts.items():
        rng = np.random.default_rng(seed)
        for number in range(count):
            blocks = rng.integers(0, 3, (size[0] // cell, size[1] // cell)).astype(np.uint8)
            mask = np.kron(blocks, np.ones((cell, cell), np.uint8))
            pixels = 160 * (mask[..., None] == np.arange(3)) + rng.integers(0, 60, (*size, 3))
            mask[:2] = VOID
            save(Path(folder) / "images" / part / f"{number}.png", pixels)
            save(Path(folder) / "annotations" / part / f"{number}.png", mask)
    return Path(folder)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
