"""What is known of a unit that is being measured, so that an interruption loses little of it.

    unfinished/unit-00003-98.npz    the values of the first rows of one step of a unit

The values of a step are evaluated batch by batch, and kept up to the end of a batch: whoever goes on makes the same
batches, and so the same bits. They carry a digest of their rows; what does not fit is measured again.
"""

import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interactions.runs.files import read_arrays, write_atomically

CHUNK = 16
"""Batches that are played at once: what an interruption loses at the most."""
EVERY = 1.0
"""Seconds between two writings, so that they cost nothing where an image takes none."""

Play = Callable[[Tensor, Tensor], Tensor]
"""Rows B×n and the image of each, I -> their values B."""


class Unfinished:
    """The kept values of one unit, by step."""

    def __init__(self, folder: Path, unit: int) -> None:
        self.folder, self.unit = folder / "unfinished", unit
        self.known: dict[int, tuple[list[Tensor], np.ndarray]] = {}
        self.written = time.monotonic()

    def evaluate(self, step: int, play: Play, rows_BN: Tensor, image_B: Tensor, batch_size: int) -> Tensor:
        """`play` of all rows, some batches at a time; what is known from before is not played again.

        Args:
            batch_size: in which `play` takes the rows.

        Returns:
            The values, float64 B, on the device of `play`, or on the CPU where all of them were known.
        """
        digest = np.array([zlib.crc32(rows_BN.numpy().tobytes()), len(rows_BN), batch_size])
        parts = self._read(step, digest)
        start = sum(map(len, parts))
        for first in range(start, len(rows_BN), CHUNK * batch_size):
            chunk = slice(first, first + CHUNK * batch_size)
            parts.append(play(rows_BN[chunk], image_B[chunk]))
            self.known[step] = parts, digest
            if time.monotonic() - self.written >= EVERY:
                self.keep()
        return torch.cat([part_B.to(parts[-1].device) for part_B in parts])

    def keep(self) -> None:
        """Write what is known and was not written yet."""
        for step, (parts, digest) in self.known.items():
            self._write(step, torch.cat([part_B.cpu() for part_B in parts]), digest)
        self.known, self.written = {}, time.monotonic()

    def clear(self) -> None:
        """Forget the unit, which is written now."""
        self.known = {}
        remove(self.folder, f"unit-{self.unit:05d}-*.npz")

    def _read(self, step: int, digest: np.ndarray) -> list[Tensor]:
        try:
            kept = read_arrays(self._path(step))
            values_B, of = kept["values"], kept["digest"]
        except (OSError, ValueError, KeyError):
            return []  # not there, or damaged: measured again
        return [torch.from_numpy(values_B)] if np.array_equal(of, digest) and len(values_B) else []

    def _write(self, step: int, values_B: Tensor, digest: np.ndarray) -> None:
        def save(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez(file, values=values_B.numpy(), digest=digest)

        write_atomically(self._path(step), save)

    def _path(self, step: int) -> Path:
        return self.folder / f"unit-{self.unit:05d}-{step}.npz"


def clear(folder: Path) -> None:
    """Remove what is left in a run's folder when all of its units are written."""
    remove(folder / "unfinished", "unit-*.npz")


def remove(folder: Path, names: str) -> None:
    """Remove the files of these names, and the folder where they are all that it held."""
    for path in folder.glob(names):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
