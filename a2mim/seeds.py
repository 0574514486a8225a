"""Randomness as a pure function of named integers, so that restarts, workers and process counts cannot change it."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from `parts` (integers ≥ 0 or words), mixed by NumPy's SeedSequence: equal parts, equal seed."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in parts]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(*parts: int | str) -> None:
    """Seed the global generators of Python, NumPy and torch (every device) from `parts`."""
    seed = seed_of(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Inside, Python's, NumPy's and torch's CPU global generators start from `parts`; afterwards they are as before."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = seed_of(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
