"""What a page is made of, as plain data. A page is a list of sections, a section a title and a list of blocks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Curve:
    """Points of one curve. NaN in y leaves a point out and breaks the line.

    notes: what else is known of each point.
    hollow: points to draw so.
    legend: what the legend calls the curve, its name if empty; curves of one such name, seeds of one model, look alike.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    notes: Sequence[str] = ()
    hollow: Sequence[bool] = ()
    legend: str = ""


@dataclass(frozen=True)
class Chart:
    """One chart. `x_name` and `y_name` are what a point's values are called; `shade` is a span of x; `limits` are the
    ends of the y axis, where the points do not decide."""

    title: str
    x_label: str
    curves: Sequence[Curve]
    x_name: str = "x"
    y_name: str = "y"
    shade: tuple[float, float] | None = None
    from_zero: bool = False
    logarithmic: bool = False
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Charts:
    """Charts side by side under one legend: curves that it calls the same look the same in all of them. At most five
    are coloured; `grey` are names that the others are compared with."""

    charts: Sequence[Chart]
    caption: str = ""
    title: str = ""
    grey: Collection[str] = ()


@dataclass(frozen=True)
class Rows:
    """A table that the reader sorts. Columns X, X_low, X_high, and X followed by low, high, become one column.

    plot: the column whose values and intervals are drawn in a column of their own, beside a line at `reference`.
    """

    caption: str
    table: pd.DataFrame
    plot: str = ""
    reference: float | None = None


@dataclass(frozen=True)
class Card:
    """One model or run: what it is in short, and its whole record."""

    name: str
    facts: Mapping[str, str]
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture, described in words by `alt` for those who do not see it. `source`: the path of a .png, .jpg or .svg,
    or the bytes of a PNG. A `thumbnail` is small until it is opened."""

    source: Path | bytes
    alt: str
    caption: str = ""
    thumbnail: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures N×H×W×3 (uint8 or 0 to 1) in columns of the given names; one row for each of the N."""

    columns: Mapping[str, ArrayLike]
    caption: str = ""


@dataclass(frozen=True)
class Fold:
    """Blocks that open at a click."""

    summary: str
    blocks: "Sequence[Block]"


Block = str | Charts | Rows | Card | Picture | Gallery | Fold
"""A string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A title and what stands under it; `folded`: until it is opened."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False
