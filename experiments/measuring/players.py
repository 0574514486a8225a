"""Players and pairs that the user brings as files: a label map, a list of pairs."""

from dataclasses import replace
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from a2mim.decoding import Damaged
from a2mim.segment.pairs import read_mask
from interactions.own import named_grid, named_pairs
from interactions.segments import Segments

if TYPE_CHECKING:
    from interactions.settings import ProfileSettings


def with_own_players(measure: "ProfileSettings") -> "ProfileSettings":
    """Settings in which a label map and a list of pairs, where files were named, are known by their contents.

    Raises:
        ValueError: a file that holds something else.
        OSError: a file that cannot be read.
    """
    grid = named_grid(read_segments(Path(measure.grid))) if isinstance(measure.grid, str) else measure.grid
    pairs = measure.pairs if measure.pairs in ("near", "all") else named_pairs(read_pairs(Path(measure.pairs)))
    return replace(measure, grid=grid, pairs=pairs)


def read_segments(path: Path) -> Segments:
    """The label map in a .npy file, or in a grey or palette picture, whose values are the labels.

    Raises:
        ValueError: a file that is no label map.
        OSError: a file that cannot be read.
    """
    existing(path, "label map", "--grid takes the cells along one side, or a file, the same regions for all images")
    try:
        return Segments(array_in(path) if path.suffix == ".npy" else read_mask(path.read_bytes()))
    except (Damaged, ValueError) as error:
        raise ValueError(f"{path} is no label map: {error}") from error


def array_in(path: Path) -> np.ndarray:
    """The array of a .npy. It is mapped, not read: one that says it is larger than its file is refused by numpy.
    Raises ValueError for another file, and for objects, which could run code."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (SyntaxError, TokenError) as error:  # of a damaged header
        raise ValueError("it is damaged") from error


def read_pairs(path: Path) -> np.ndarray:
    """The pairs in a CSV file with the columns i and j, P×2.

    Raises:
        ValueError: another file.
        OSError: a file that cannot be read.
    """
    existing(path, "list of pairs", "--pairs takes near, all, or a CSV file with the columns i and j")
    try:
        return pd.read_csv(path)[["i", "j"]].to_numpy()
    except (KeyError, ValueError) as error:  # what pandas cannot parse is a ValueError, too
        raise ValueError(f"{path} is no list of pairs: give a CSV file with the columns i and j") from error


def existing(path: Path, what: str, way_out: str) -> Path:
    """The path of a file that is there. Raises FileNotFoundError, which says what it was to be."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} '{path}': {way_out}")
    return path
