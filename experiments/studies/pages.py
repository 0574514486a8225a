"""Figures and the page of a study, drawn by the very commands that a user types."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from experiments import cli
from figures.report import Section, write_report
from figures.runs import figure_files
from interactions.runs.files import remove_orphans


class Shown(NamedTuple):
    """A folder of results, and what a figure calls it and its panel."""

    folder: Path
    name: str
    panel: str


def draw(figure: str, runs: Iterable[Shown], out: Path, grey: Collection[str] = ()) -> int:
    """`a2mim figure`, where there is something to draw, with these names in grey; its exit code. Where there is
    nothing, neither is there the figure that was drawn when there was."""
    runs = list(runs)
    if not runs:
        for file in figure_files(out):
            file.unlink(missing_ok=True)
        print(f"{figure}: nothing is finished that it could be drawn from")
        return 0
    words = ["figure", figure, *(str(each.folder) for each in runs)]
    if any(each.name for each in runs):
        words += ["--names", *(each.name for each in runs), "--panels", *(each.panel for each in runs)]
    if compared := sorted(set(grey) & {each.name for each in runs}):
        words += ["--grey", *compared]
    return cli.main([*words, "--out", str(out)])


def write_page(kept: Path, sections: list[Section], title: str) -> None:
    """report.html, and nothing of one whose writing was cut short."""
    remove_orphans(kept, "report.html")
    write_report(kept / "report.html", sections, title)
