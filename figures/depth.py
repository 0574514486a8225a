"""What figures A3 and A4 of the A²MIM paper (arXiv 2205.13943) share: tables of a network's blocks, drawn by depth.

The quantities are those of Park & Kim 2022 (arXiv 2202.06709).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.runs import Facets, Run, by_panel, data_name, label, seed_counts
from figures.seeds import draw_seeds, interval_words, seed_words
from figures.style import SHADE, Look, behind_first
from figures.tables import read_table

COMMAND = "a2mim spectrum"
FACETS: Facets = {"data": data_name}
ATTENTION = "attention"


def read_blocks(path: Path, value: str, run: Run, also: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a table with the columns block, name, kind, depth, `value`, low, high, images, and `also` (numbers).

    Raises:
        ValueError: a missing column.
    """
    columns = ["block", "depth", value, "low", "high", "images", *also]
    rows = read_table(path, columns, ["name", "kind"], f"{path.name} of {label(run)}")
    return rows.sort_values(["block", *also], ignore_index=True)


def draw_by_depth(
    axes: Axes, tables: Mapping[str, Sequence[pd.DataFrame]], looks: Mapping[str, Look], value: str
) -> None:
    """One value of each block against its depth, of several methods; attention blocks are shaded where all share them.

    Args:
        tables: by method: a table for each of its seeds, with a row for each block.

    Raises:
        ValueError: seeds with other blocks.
    """
    for span in attention_spans([rows for seeds in tables.values() for rows in seeds]):
        axes.axvspan(*span, color=SHADE, linewidth=0, zorder=0)
    for name in behind_first(tables, looks):
        draw_seeds(axes, [curve_of(rows, value) for rows in tables[name]], looks[name], value, of=name)
    axes.set_xlim(-0.03, 1.03)


def curve_of(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """One value of a table of blocks as `draw_seeds` takes it."""
    return rows[["depth", value, "low", "high"]].rename(columns={"depth": "x", value: "y"})


def depth_words(runs: Sequence[Run], tables: Mapping[Run, pd.DataFrame], charts: bool = False) -> str:
    """What bands, points and shade are, for a caption; charts on a page have bars, and no shade."""
    panels = by_panel(runs)
    seeds = seed_counts(panels)
    shaded = any(attention_spans([tables[run] for some in names.values() for run in some]) for names in panels.values())
    words = [
        interval_words("Bars" if charts else "Bands", tables.values(), [("low", "high")]),
        seed_words(seeds, charts),
        "Shaded: attention blocks." if shaded and not charts else "",
    ]
    return " ".join(filter(None, words))


def attention_spans(tables: Sequence[pd.DataFrame]) -> list[tuple[float, float]]:
    """Half a block to each side of the depth of every attention block, where all networks have the same ones."""
    first, *others = [list(rows[["depth", "kind"]].itertuples(index=False, name=None)) for rows in tables]
    if any(other != first for other in others):
        return []
    depths = np.array([depth for depth, _ in first])
    edges = np.concatenate([depths[:1], (depths[1:] + depths[:-1]) / 2, depths[-1:]])
    return [(edges[k], edges[k + 1]) for k, (_, kind) in enumerate(first) if kind == ATTENTION]
