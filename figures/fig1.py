"""Figure 1 of the A²MIM paper (arXiv 2205.13943): accuracy against the share of dropped patches, and beside it the
relative interaction strength against order, of the same methods; a row for each family of networks."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from figures.curves import PRIMARY
from figures.game import FACETS, TOLD, unlike_games
from figures.interactions import (
    draw_strength_panel,
    facets_of,
    finish_strength,
    strength_words,
    strengths,
    tables_of,
)
from figures.occlusion import KINDS, accuracy_axis, share_axis
from figures.panels import Panels, say_empty
from figures.runs import Drawn, Facets, Run, alike, by_panel, holding, label, looks_of, seed_counts
from figures.seeds import draw_seeds, seed_words
from figures.style import Look, behind_first, house_style
from figures.tables import read_table
from figures.words import baseline_in_words, count_in_words

OCCLUSION, STRENGTH = "occlusion.csv", "strength.csv"
TABLES = {OCCLUSION: "a2mim occlusion", STRENGTH: "a2mim profile"}
OCCLUSION_FACETS: Facets = {
    "grid": FACETS["grid"],
    "baseline": lambda record: " ".join(
        [baseline_in_words(record["settings"]["baseline"]), record["settings"]["masking"].replace("_", " ")]
    ),
    "saliency": lambda record: record["settings"]["saliency"].replace("_", " "),
    "data": FACETS["data"],
}


@house_style()
def draw(
    runs: Sequence[Run],
    measure: str = PRIMARY,
    dropped: str = "random",
    grey: Collection[str] = (),
    title: str = "",
    caption: str = "",
) -> Drawn:
    """Draw occlusion and interactions side by side, as far as there are runs of them; the note says what is missing.

    Args:
        runs: of `a2mim occlusion` and of `a2mim profile`, by the same names and panels.
        measure: J_rms, J_corrected (without sampling noise) or J (as published).
        dropped: random, salient or non_salient cells.
        grey: names of runs that the others are compared with. At most five of a panel are coloured.

    Raises:
        ValueError: a run that holds neither table; a missing column; an unknown measure, name or kind of cells; seeds
            that were not measured at the same shares or orders; more than a page holds.
    """
    if dropped not in KINDS:
        raise ValueError(f"there are no {dropped!r} cells to drop: choose one of {', '.join(KINDS)}")
    held = holding(runs, TABLES)
    accuracies = {run: read_occlusion(run.table(OCCLUSION), dropped, label(run)) for run in held[OCCLUSION]}
    tables = strengths(held[STRENGTH], measure)
    looks = looks_of(runs, grey)
    note = " ".join(filter(None, [_missing(runs, held), *_unlike(held, dropped, measure)]))
    words = [caption]
    if accuracies:
        words += ["Left:", occlusion_words(held[OCCLUSION], accuracies, dropped)]
    if tables:
        words += ["Right:", strength_words(held[STRENGTH], tables, measure), alike(held[STRENGTH], TOLD)]
    panels = by_panel(runs)
    shown = Panels(panels, looks, 2, title, note, " ".join(filter(None, words)))
    left, right = by_panel(held[OCCLUSION]), by_panel(held[STRENGTH])
    for row, panel in enumerate(panels):
        if panel in left:
            draw_occlusion_panel(shown.axes[row, 0], tables_of(left[panel], accuracies), looks)
        else:
            say_empty(shown.axes[row, 0], "no occlusion run")
        if panel in right:
            draw_strength_panel(shown.axes[row, 1], tables_of(right[panel], tables), looks, measure)
        else:
            say_empty(shown.axes[row, 1], "no profile")
    if accuracies:
        accuracy_axis(shown.axes[0, 0])
    for row, panel in enumerate(panels):
        if panel in left:
            share_axis(shown.axes[row, 0], named=row == len(panels) - 1)
            shown.axes[row, 0].set_ylabel("top-1 accuracy (%)")
    if tables:
        finish_strength(
            [shown.axes[row, 1] for row, panel in enumerate(panels) if panel in right], tables.values(), measure
        )
    return Drawn(shown.figure, {run: [table for table in TABLES if run.holds(table)] for run in runs}, note)


def read_occlusion(path: Path, dropped: str, of: str) -> pd.DataFrame:
    """The rows of occlusion.csv for one kind of dropped cells, by share.

    Raises:
        ValueError: a missing column; no row of that kind.
    """
    rows = read_table(path, ["share", "top1", "low", "high", "images"], ["kind"], f"the occlusion table of {of}")
    rows = rows[rows["kind"] == dropped].sort_values("share", ignore_index=True)
    if rows.empty:
        raise ValueError(
            f"the occlusion table of {of} ({path}) has no {dropped} cells: measure them, or draw another kind"
        )
    return rows


def draw_occlusion_panel(axes: Axes, tables: Mapping[str, Sequence[pd.DataFrame]], looks: Mapping[str, Look]) -> None:
    """Accuracy of several methods into one panel; what the others are compared with lies behind.

    Args:
        tables: by method: the rows of each of its seeds, of one kind of dropped cells.

    Raises:
        ValueError: seeds with other shares.
    """
    for name in behind_first(tables, looks):
        curves = [rows.rename(columns={"share": "x", "top1": "y"}) for rows in tables[name]]
        draw_seeds(axes, curves, looks[name], "top1", of=name)


def occlusion_words(runs: Sequence[Run], tables: Mapping[Run, pd.DataFrame], dropped: str, charts: bool = False) -> str:
    """Which cells are dropped, and what bands (of charts on a page bars) and points are, for a caption."""
    images = [int(count) for rows in tables.values() for count in rows["images"]]
    seeds = seed_counts(by_panel(runs))
    words = [
        f"dropped are {KINDS[dropped]}.",
        f"{'Bars' if charts else 'Bands'}: 95 % intervals over {count_in_words(images, 'image')}.",
        seed_words(seeds, charts),
        alike(runs, _facets(dropped)),
    ]
    return " ".join(filter(None, words))


def _missing(runs: Sequence[Run], held: Mapping[str, Sequence[Run]]) -> str:
    """Which curves have no counterpart in the other column of panels."""
    curves = {(run.name, run.panel): label(run) for run in runs}
    parts = []
    for table, what in ((OCCLUSION, "occlusion"), (STRENGTH, "interactions")):
        there = {(run.name, run.panel) for run in held[table]}
        if lacking := [words for curve, words in curves.items() if curve not in there]:
            parts.append(f"{what} of {', '.join(lacking)}")
    return f"Not given, and so not drawn: {'; '.join(parts)}." if parts else ""


def _unlike(held: Mapping[str, Sequence[Run]], dropped: str, measure: str) -> list[str]:
    parts = {
        "Left": unlike_games(held[OCCLUSION], _facets(dropped)),
        "Right": unlike_games(held[STRENGTH], facets_of(measure)),
    }
    return [f"{where}: {words[0].lower()}{words[1:]}" for where, words in parts.items() if words]


def _facets(dropped: str) -> Facets:
    """What has to be alike: where random cells are dropped, nobody asks which are salient."""
    return {name: of for name, of in OCCLUSION_FACETS.items() if name != "saliency" or dropped != "random"}
