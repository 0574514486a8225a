"""Interaction strength against order of one run in full: relative and absolute, by three measures."""

from collections.abc import Sequence

from figures.curves import strength_figure
from figures.game import TOLD
from figures.interactions import COMMAND, TABLE
from figures.runs import Drawn, Run, alike, holding, label, unit_words


def draw(runs: Sequence[Run], title: str = "", caption: str = "") -> Drawn:
    """Draw one profile, as `figures.curves.strength_figure` does; its name is the title where none is given.

    Raises:
        ValueError: several runs; a run without strength.csv; a missing column.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    if len(runs) != 1:
        raise ValueError(f"strength shows one run in full, got {len(runs)}: draw fig5 of several")
    (run,) = runs
    words = " ".join(filter(None, [caption, alike(runs, TOLD)]))
    return Drawn(
        strength_figure(run.table(TABLE), title or label(run), words, unit_words(run.record)), {run: [TABLE]}, ""
    )
