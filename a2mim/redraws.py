"""Intervals over pictures, from draws of them with replacement: the same draws for any model on the same pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 8
"""Pictures below which there is no interval."""
DRAWS = 1000
ENDS = (0.025, 0.975)


def times_drawn(pictures: int, seed: int) -> NDArray[Any]:
    """How often each picture is in each of 1,000 draws (1000, pictures)."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), DRAWS)


def ends_of(drawn: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """name_low and name_high: percentiles 2.5 and 97.5 of a number's values in the draws, NaN left out."""
    ends = {name: np.nanquantile(values, ENDS) for name, values in drawn.items()}
    both = ("low", "high")
    return {f"{name}_{end}": float(x) for name, pair in ends.items() for end, x in zip(both, pair, strict=True)}
