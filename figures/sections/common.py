"""What the sections share: tables of runs, and curves made of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from figures.curves import MEASURES, PRIMARY
from figures.game import unlike_games
from figures.page.blocks import Curve, Rows
from figures.panels import FAMILIES
from figures.runs import Facets, Run
from figures.tables import has_rows, read_table
from figures.words import count_in_words, setup_in_words

MASS = f"Middle mass M, by {MEASURES[PRIMARY].kind}"
NUMBER = " · "  # parts the name that several runs share from the number of each


def read(runs: Iterable[Run], table: str, numbers: list[str], texts: list[str]) -> dict[str, pd.DataFrame]:
    """The table of each run that holds it, by the run's name."""
    return {
        run.name: read_table(run.table(table), numbers, texts, f"{table} of {run.name}")
        for run in runs
        if has_rows(run.table(table))
    }


def curve(
    name: str,
    rows: pd.DataFrame,
    x: str,
    y: str,
    notes: Sequence[str],
    low: str = "low",
    high: str = "high",
    hollow: Sequence[bool] = (),
) -> Curve:
    """Columns of a table as a curve; runs whose names differ in their number alone look alike."""
    xs, ys, lows, highs = (rows[column].astype(float).tolist() for column in (x, y, low, high))
    return Curve(name, xs, ys, lows, highs, notes, hollow, shared_name(name))


def shared_name(name: str) -> str:
    """The name without the number that tells it from those that share it."""
    shared, _, number = name.rpartition(NUMBER)
    return shared if shared and number.isdecimal() else name


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[k] for k in np.linspace(0, len(values) - 1, most).round().astype(int)]


def unlike_in(runs: Sequence[Run], table: str, facets: Facets) -> str:
    """A sentence on what the runs with this table did not measure alike."""
    return unlike_games([run for run in runs if run.holds(table)], facets)


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the words of a journal for networks, set-ups and measures."""
    words = {
        "network": lambda name: FAMILIES.get(name, name),
        "setup": setup_in_words,
        "measure": lambda name: MEASURES[name].kind if name in MEASURES else name,
    }
    return table.assign(**{name: table[name].astype(str).map(of) for name, of in words.items() if name in table})


def narrow(table: pd.DataFrame, names: Sequence[str], value: str, reference: float | None, caption: str) -> Rows:
    """A table that a phone shows whole: names, and a value with its interval, drawn. The number of images is in the
    caption."""
    ends = [f"{value}_low", f"{value}_high"] if f"{value}_low" in table else ["low", "high"]
    images = table["images"].dropna().astype(int).tolist() if "images" in table else []
    words = f"{caption}; {count_in_words(images, 'image')}" if images else caption
    return Rows(words, table[[*names, value, *ends]], value, reference)


def rows_of(table: pd.DataFrame, caption: str, plot: str = "", reference: float | None = None) -> Rows:
    """The table; drawn where the column has an interval."""
    ends = ({f"{plot}_low", f"{plot}_high"}, {"low", "high"})
    drawn = plot in table.columns and any(pair <= set(table.columns) for pair in ends)
    return Rows(caption, in_words(table), plot if drawn else "", reference if drawn else None)
