"""Sortable tables: every header is a button, every number comes with its interval."""

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from figures.page.blocks import Rows
from figures.page.charts import draw_interval
from figures.page.markup import Html, join, tag
from figures.page.numbers import short, with_interval
from figures.words import column_in_words


class Column(NamedTuple):
    """A column as it is shown: `low` and `high` are the names of the interval's columns, or empty; `kind` is what it
    holds."""

    name: str
    low: str = ""
    high: str = ""
    kind: Literal["number", "text", "boolean"] = "text"


def shown_columns(table: pd.DataFrame) -> list[Column]:
    """The columns to show: X with X_low and X_high is one, and so is X with the low and high that follow it."""
    names = [str(name) for name in table.columns]
    kinds = [_kind(table.iloc[:, k]) for k in range(len(names))]
    shown: list[Column] = []
    for k, name in enumerate(names):
        if name in ("low", "high") and {"low", "high"} <= set(names):
            continue
        stem = name.removesuffix("_low").removesuffix("_high")
        if stem != name and {stem, f"{stem}_low", f"{stem}_high"} <= set(names):
            continue
        if {f"{name}_low", f"{name}_high"} <= set(names):
            shown.append(Column(name, f"{name}_low", f"{name}_high", kinds[k]))
        elif names[k + 1 : k + 3] == ["low", "high"]:
            shown.append(Column(name, "low", "high", kinds[k]))
        else:
            shown.append(Column(name, kind=kinds[k]))
    return shown


def draw_rows(rows: Rows) -> Html:
    """The table in a box that scrolls by itself. Without script it is a table all the same.

    Raises:
        ValueError: a column to plot that the table lacks or that has no interval.
    """
    columns = shown_columns(rows.table)
    plotted = next((column for column in columns if column.name == rows.plot and column.low), None)
    if rows.plot and plotted is None:
        raise ValueError(f"the table '{rows.caption}' has no column {rows.plot} with an interval to plot")
    heads = [
        tag("th", tag("button", column_in_words(column.name), type="button"), scope="col", aria_sort="none")
        for column in columns
    ]
    if plotted:
        heads.append(tag("th", tag("span", f"{column_in_words(plotted.name)}, drawn"), scope="col"))
    span = _span(rows, plotted) if plotted else (0.0, 1.0)
    body = [_draw_row(rows, row, columns, plotted, span) for row in rows.table.to_dict("records")]
    caption = tag("caption", tag("span", rows.caption))
    table = tag("table", caption, tag("thead", tag("tr", *heads)), tag("tbody", *body), class_="sortable")
    return tag("div", table, class_="scroll", role="region", tabindex="0", aria_label=rows.caption)


def _draw_row(
    rows: Rows, row: dict[Any, Any], columns: list[Column], plotted: Column | None, span: tuple[float, float]
) -> Html:
    cells = [_cell(row, column, first=k == 0) for k, column in enumerate(columns)]
    if plotted:
        value, low, high = (_number(row[name]) for name in plotted[:3])
        cells.append(tag("td", draw_interval(rows, span, value, low, high)))
    return tag("tr", *cells)


def _cell(row: dict[Any, Any], column: Column, first: bool) -> Html:
    value = row[column.name]
    name, about = ("th", {"scope": "row"}) if first else ("td", {})
    if column.kind == "boolean":
        return tag(name, "yes" if value else "no", **about)
    if column.kind == "text":
        return tag(name, "–" if pd.isna(value) else str(value), **about)
    number = _number(value)
    sort_key = "" if np.isnan(number) else f"{number:.10g}"
    if not column.low:
        return tag(name, short(number), **about, data_v=sort_key, class_="number")
    words, interval = with_interval(number, _number(row[column.low]), _number(row[column.high]))
    interval_words = join(" ", tag("span", interval, class_="ci")) if interval else Html()
    return tag(name, words, interval_words, **about, data_v=sort_key, class_="number")


def _kind(column: pd.Series) -> Literal["number", "text", "boolean"]:
    if is_bool_dtype(column):
        return "boolean"
    return "number" if is_numeric_dtype(column) else "text"


def _number(value: Any) -> float:
    return float("nan") if pd.isna(value) else float(value)


def _span(rows: Rows, column: Column) -> tuple[float, float]:
    """Ends of the scale that all rows share."""
    table = rows.table[list(column[:3])].to_numpy(dtype=float)
    values = [*table[np.isfinite(table)].tolist(), *([] if rows.reference is None else [rows.reference])]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)
