"""Figure 1 of the A²MIM paper (arXiv 2205.13943): accuracy against the share of dropped patches, and below it the
relative interaction strength against order, of the same methods; a column for each family of networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from figures.curves import PRIMARY
from figures.interactions import (
    FACETS,
    IMAGES,
    draw_strength_panel,
    finish_strength,
    strength_words,
    strengths,
)
from figures.occlusion import KINDS
from figures.panels import panel_page, say_empty
from figures.runs import Drawn, Run, alike, by_panel, holding, label, looks_of, unlike
from figures.seeds import draw_seeds, seed_words
from figures.style import Look, house_style
from figures.tables import read_table

OCCLUSION, STRENGTH = "occlusion.csv", "strength.csv"
TABLES = {OCCLUSION: "a2mim occlusion", STRENGTH: "a2mim profile"}
OCCLUSION_FACETS = {
    "grid": FACETS["grid"],
    "baseline": lambda record: f"{record['settings']['baseline']} {record['settings']['masking']}".replace("_", " "),
    "saliency": lambda record: record["settings"]["saliency"],
    "data": FACETS["data"],
}


@house_style()
def draw(
    runs: Sequence[Run], measure: str = PRIMARY, dropped: str = "random", title: str = "", caption: str = ""
) -> Drawn:
    """Draw occlusion above and interactions below, as far as there are runs of them; the note says what is missing.

    Args:
        runs: of `a2mim occlusion` and of `a2mim profile`, by the same names and panels.
        measure: J (as published), J_corrected (without sampling noise) or J_rms.
        dropped: random, salient or non_salient cells.

    Raises:
        ValueError: a run that holds neither table; a missing column; an unknown measure or kind of cells; seeds that
            were not measured at the same shares or orders.
    """
    if dropped not in KINDS:
        raise ValueError(f"there are no {dropped!r} cells to drop: choose one of {', '.join(KINDS)}")
    held = holding(runs, TABLES)
    accuracies = {run: read_occlusion(run.folder / OCCLUSION, dropped, label(run)) for run in held[OCCLUSION]}
    tables = strengths(held[STRENGTH], measure)
    panels, looks = list(by_panel(runs)), looks_of(runs)
    note = " ".join(filter(None, [_missing(runs, held), *_unlike(held, dropped)]))
    words = [caption]
    if accuracies:
        words.append(_occlusion_words(held[OCCLUSION], accuracies, dropped))
    if tables:
        words += ["Below:", strength_words(held[STRENGTH], tables, measure), alike(held[STRENGTH], FACETS)]
    figure, axes = panel_page(panels, looks, (2.1, 2.1), title, note, " ".join(filter(None, words)))
    above, below = by_panel(held[OCCLUSION]), by_panel(held[STRENGTH])
    for k, panel in enumerate(panels):
        if panel in above:
            shown = {name: [accuracies[run] for run in seeds] for name, seeds in above[panel].items()}
            draw_occlusion_panel(axes[0, k], shown, looks)
        else:
            say_empty(axes[0, k], "no occlusion run")
        if panel in below:
            shown = {name: [tables[run] for run in seeds] for name, seeds in below[panel].items()}
            draw_strength_panel(axes[1, k], shown, looks, measure)
        else:
            say_empty(axes[1, k], "no profile")
    if accuracies:
        axes[0, 0].set_ylabel("top-1 accuracy (%)")
        axes[0, 0].set_ylim(0, 100)
    if tables:
        finish_strength(axes[1, 0], tables.values(), measure)
    return Drawn(figure, {run: [table for table in TABLES if run.holds(table)] for run in runs}, note)


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
    """Accuracy of several methods into one panel.

    Args:
        tables: by method: the rows of each of its seeds, of one kind of dropped cells.

    Raises:
        ValueError: seeds with other shares.
    """
    for k, (name, seeds) in enumerate(tables.items()):
        shift = (k - (len(tables) - 1) / 2) * min(0.005, 0.03 / len(tables))
        curves = [
            pd.DataFrame({"x": rows["share"], "y": rows["top1"], "low": rows["low"], "high": rows["high"]})
            for rows in seeds
        ]
        draw_seeds(axes, curves, looks[name], shift, "top1", of=name)
    axes.set_xlim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("share of cells dropped")


def _occlusion_words(runs: Sequence[Run], tables: Mapping[Run, pd.DataFrame], dropped: str) -> str:
    images = sorted({int(count) for rows in tables.values() for count in rows["images"]})
    some = f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}"
    seeds = [len(some_runs) for names in by_panel(runs).values() for some_runs in names.values()]
    facets = (
        OCCLUSION_FACETS if dropped != "random" else {k: of for k, of in OCCLUSION_FACETS.items() if k != "saliency"}
    )
    words = [
        f"Above: dropped are {KINDS[dropped]}.",
        f"Bars: 95 % intervals over {some} images.",
        seed_words(seeds),
        alike(runs, facets),
    ]
    return " ".join(filter(None, words))


def _missing(runs: Sequence[Run], held: Mapping[str, Sequence[Run]]) -> str:
    """Which curves have no counterpart in the other row of panels."""
    curves = {(run.name, run.panel): label(run) for run in runs}
    parts = []
    for table, what in ((OCCLUSION, "occlusion"), (STRENGTH, "interactions")):
        there = {(run.name, run.panel) for run in held[table]}
        if lacking := [words for curve, words in curves.items() if curve not in there]:
            parts.append(f"{what} of {', '.join(lacking)}")
    return f"Not given, and so not drawn: {'; '.join(parts)}." if parts else ""


def _unlike(held: Mapping[str, Sequence[Run]], dropped: str) -> list[str]:
    facets = {k: of for k, of in OCCLUSION_FACETS.items() if k != "saliency" or dropped != "random"}
    parts = {"Above": unlike(held[OCCLUSION], facets | IMAGES), "Below": unlike(held[STRENGTH], FACETS | IMAGES)}
    return [f"{where}: {words[0].lower()}{words[1:]}" for where, words in parts.items() if words]
