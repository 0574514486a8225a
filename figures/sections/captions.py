"""What stands below the charts of a study's figures: what the figures themselves say, with bars for their bands."""

from collections.abc import Sequence

from figures import fig_a3, fig_a4
from figures.again import Source
from figures.curves import PRIMARY, read_strength
from figures.depth import FACETS, depth_words, read_blocks
from figures.fig1 import occlusion_words, read_occlusion
from figures.game import TOLD
from figures.interactions import strength_words
from figures.runs import Run, alike, label


def chart_words(source: Source) -> str:
    """Of all runs of a figure: what the curves, bars, points and the shade are, and what the runs have alike."""
    runs = source.runs
    if source.figure == "fig1":
        return " ".join(filter(None, [_occlusion(source), _strength(source)]))
    if source.figure == "figA3":
        tables = {run: read_blocks(run.table(fig_a3.TABLE), "log_amplitude", run, ["frequency"]) for run in runs}
        lasts = {run: fig_a3.last_entries(rows) for run, rows in tables.items()}
        return _joined(f"{fig_a3.WORDS}; at the highest frequency of a map.", depth_words(runs, lasts, True), runs)
    if source.figure == "figA4":
        tables = {run: read_blocks(run.table(fig_a4.TABLE), "variance", run) for run in runs}
        return _joined(fig_a4.WORDS, depth_words(runs, tables, True), runs)
    return _strength(source)


def _joined(words: str, depth: str, runs: Sequence[Run]) -> str:
    return " ".join(filter(None, [words, depth, alike(runs, FACETS)]))


def _strength(source: Source) -> str:
    measure = source.options.get("measure", PRIMARY)
    runs = [run for run in source.runs if run.holds("strength.csv")]
    tables = {run: read_strength(run.table("strength.csv"), (measure,), label(run)) for run in runs}
    return f"{strength_words(runs, tables, measure, True)} {alike(runs, TOLD)}".strip() if runs else ""


def _occlusion(source: Source) -> str:
    kind = source.options.get("dropped", "random")
    runs = [run for run in source.runs if run.holds("occlusion.csv")]
    tables = {run: read_occlusion(run.table("occlusion.csv"), kind, label(run)) for run in runs}
    return f"Accuracy: {occlusion_words(runs, tables, kind, True)}" if runs else ""
