"""Two tasks timed against each other in one process."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap
from tqdm import tqdm

from interactions.speed import seconds_of

Task = Callable[[], object]


def time_in_turns(
    first: Task, second: Task, repeats: int, device: torch.device, name: str = "", steps: int = 1
) -> dict[str, Any]:
    """Seconds of both tasks, each run once beforehand, then in the order first, second, second, first.

    A shared or throttled machine changes its speed from second to second: the ratio of neighbouring timings is steady
    where the timings are not, and the mirrored order cancels a drift.

    Args:
        steps: how often a task is done in one timing.

    Returns:
        first, second: `repeats` pairs of seconds each, as plain lists.
    """

    def seconds(task: Task) -> float:
        return seconds_of(lambda: [task() for _ in range(steps)], device)

    tasks = (first, second, second, first)
    for task in tasks[:2]:
        seconds(task)
    turns = tqdm(range(repeats), name, disable=not sys.stderr.isatty())
    times_R4 = [[seconds(task) for task in tasks] for _ in turns]
    return {"first": [[a, d] for a, _, _, d in times_R4], "second": [[b, c] for _, b, c, _ in times_R4]}


def speed_ratio(times: dict[str, Any]) -> tuple[float, float, float]:
    """How fast the second task is in units of the first: the median over the repeats, and the 95 % bootstrap interval
    of that median (NaN for a single repeat)."""
    ratio_R = np.sum(times["first"], axis=1) / np.sum(times["second"], axis=1)
    if len(ratio_R) < 2:
        return float(ratio_R[0]), float("nan"), float("nan")
    generator = np.random.default_rng(0)
    result = bootstrap((ratio_R,), np.median, n_resamples=10_000, method="percentile", rng=generator)
    return float(np.median(ratio_R)), float(result.confidence_interval.low), float(result.confidence_interval.high)
