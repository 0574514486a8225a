"""Reading a result table, whether it lies in memory or in a CSV file, and refusing one that lacks what is drawn."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

Table = pd.DataFrame | str | Path
NAMES = ("run", "run_a", "run_b", "data")
"""Columns that hold names, whether they are asked for or not."""


def read_table(
    table: Table, numbers: Iterable[str], texts: Iterable[str], what: str, empty: bool = False
) -> pd.DataFrame:
    """The table with at least the columns `numbers` (numeric or boolean) and `texts`. Texts of a file are read as they
    stand there: a run may be called 01 or None.

    empty: whether it may be without rows.

    Raises:
        FileNotFoundError: no file of that name.
        ValueError: a file that is not CSV, a table without rows that needs some, a missing column, or one that should
            hold numbers and does not; `what` opens the sentence.
    """
    numbers, texts = list(numbers), list(texts)
    if not isinstance(table, pd.DataFrame):
        what = f"{what} ({table})"
        table = _read_csv(Path(table), {*texts, *NAMES}, what)
    missing = [column for column in numbers + texts if column not in table.columns]
    if missing:
        raise ValueError(f"{what} lacks {_columns(missing)}: is it the file that the measuring run wrote?")
    if table.empty and empty:
        return table
    if table.empty:
        raise ValueError(f"{what} has no rows, so there is nothing to draw")
    wordy = [column for column in numbers if not is_numeric_dtype(table[column])]
    if wordy:
        raise ValueError(f"{what} holds something other than numbers in {_columns(wordy)}")
    return table


def has_rows(path: Path) -> bool:
    """Whether the table is there and has more than its header: what was not measured is a table without rows."""
    return path.is_file() and path.read_bytes().strip().count(b"\n") > 0


def _read_csv(path: Path, texts: Collection[str], what: str) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{what} does not exist")
    try:
        # Once more for the texts: pandas tells "None" and "NA" from nothing in every column, or in none.
        plain = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=lambda name: name in texts)
        return pd.read_csv(path).assign(**plain)
    except ValueError as error:  # pandas' parser errors and undecodable bytes are ValueErrors
        raise ValueError(f"{what} cannot be read as CSV: {' '.join(str(error).split())}") from error


def _columns(names: list[str]) -> str:
    return f"the column{'s' * (len(names) > 1)} {', '.join(names)}"


def of_folders(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of all of these tables, and the folder that each is from."""
    return pd.concat([rows.assign(folder=folder) for folder, rows in tables.items()], ignore_index=True)


def refuse_in_several(table: pd.DataFrame, key: Sequence[str], what: str, why: str) -> None:
    """Raise ValueError where rows that have the columns `key` alike are of several folders: nobody has looked whether
    what stands there is comparable.

    Args:
        table: as `of_folders` makes it.
        what: the rows are, with the columns of the key in braces.
        why: they cannot be laid together, and the way out.
    """
    for values, rows in table.groupby(list(key), sort=False):
        if len(folders := rows["folder"].unique()) > 1:
            about = what.format(**dict(zip(key, values, strict=True)))
            raise ValueError(f"{about} stands in {' and in '.join(folders)}, {why}")
