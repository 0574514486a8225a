"""What a run will take, said before it: passes, time on this device at the measured rate, and disk. Imports nothing
heavy."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

PAIR_BYTES, IMAGE_BYTES = 26, 300
"""Of a row of a table of pairs, and of one of a table of images, as written."""
WORTH_SAYING = 60.0
"""Seconds of a run from which it is said without being asked."""


class DryRun(Exception):
    """Raised in place of a run of which only the forecast was asked for; it says the forecast. passes and seconds: of a
    measuring run."""

    def __init__(self, words: str, passes: int = 0, seconds: float = 0.0) -> None:
        super().__init__(words)
        self.passes, self.seconds = passes, seconds


def forecast(passes: float, size: float, least: bool = False) -> dict[str, Any]:
    """What a record holds of it: passes, bytes on disk, and whether there will be no fewer."""
    return {"forecast": {"passes": round(passes), "bytes": round(size), "least": least}}


def foretell(record: Mapping[str, Any], folder: Any, say: bool, dry_run: bool, passes: int | None = None) -> None:
    """Say what a run takes, if it is long or if nothing else is asked for.

    Args:
        record: with `forecast`, `passes_per_second` and `batch_size` where it knows them.
        passes: that are left of a run that is there.

    Raises:
        DryRun: where only this was asked for.
    """
    expected, rate, count = record.get("forecast"), record.get("passes_per_second"), 0
    if expected is None:
        words, seconds = "nothing is known of how long it takes: it began before that was written down", 0.0
    else:
        count = expected["passes"] if passes is None else passes
        seconds = count / rate / int(os.environ.get("WORLD_SIZE", 1)) if rate else 0.0
        words = in_words(record, expected, seconds, folder, passes)
    if dry_run:
        raise DryRun(words, count, seconds)
    announce(words, seconds, say)


def announce(words: str, seconds: float, say: bool, dry_run: bool = False) -> None:
    """Say a forecast where the run is long.

    Raises:
        DryRun: where only this was asked for.
    """
    if dry_run:
        raise DryRun(words)
    if say and seconds >= WORTH_SAYING:
        print(words, file=sys.stderr, flush=True)


def in_words(
    record: Mapping[str, Any], expected: Mapping[str, Any], seconds: float, folder: Any, passes: int | None
) -> str:
    """One line."""
    least, more = ("at least ", ", mostly several times as many") if expected["least"] else ("about ", "")
    count = f"{least}{expected['passes']:,} passes{more}" if passes is None else f"{least}{passes:,} passes left"
    how = [name.replace("_", "-") for name, on in record.get("speed", {}).items() if on]
    device, rate = record.get("device", "this device"), record.get("passes_per_second")
    return line(count, seconds, device, f"{rate:,.3g} a second" if rate else "", how, expected["bytes"], folder)


def line(count: str, seconds: float, device: str, pace: str, how: Sequence[str], size: float, folder: Any) -> str:
    """What is to be done, in which time at which pace (empty: not known) and how, and what is written where."""
    time = [f"{duration(seconds)} on {device} at {', '.join((pace, *how))}"] if pace else []
    return "; ".join([count, *time, f"{size / 1e6:,.3g} MB in {folder}"])


def duration(seconds: float) -> str:
    """A time as one says it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
