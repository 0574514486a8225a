"""`a2mim compare`: the curves of several profiles in one figure, and their middle masses in a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.help import FILE


@dataclass(frozen=True)
class Settings:
    """Draw the interaction curves of several profiles side by side, and compare their middle mass M.

    M is the mean of the relative strength J over the order ratios 0.3 to 0.7. Beside the figure stand two tables:
    NAME.csv with the M of each run, and NAME-differences.csv with the difference of every two runs and its 95 %
    interval from a paired bootstrap over the images that both hold. Runs that did not measure the same thing (images,
    target, value, baseline, grid, pairs, orders) are refused; where the raw J is drawn, which noise lifts, those of
    other passes or designs, too: runs to a precision have each their own.

    For example:
        a2mim compare runs/resnet50 runs/convnext_tiny --out comparison.png
        a2mim compare runs/mae runs/simmim --names MAE SimMIM --measure J_corrected --out comparison.pdf
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished profiles."""
    out: Annotated[Path, FILE]
    """The figure: .png, .pdf or .svg."""
    names: tuple[str, ...] = ()
    """Names for the legend, one a run; without them, those of the folders."""
    measure: Literal["J", "J_corrected", "J_rms"] = "J_rms"
    """What is drawn: J as published, with the noise taken out, or from the noise-free mean square."""
    anyway: bool = False
    """Compare runs that did not measure the same thing; the figure says what differs."""


def run(settings: Settings) -> None:
    """Draw, write the tables, and print that of M and that of the differences."""
    from experiments.measuring.comparison import compare_runs

    made = compare_runs(
        settings.runs, settings.out, names=settings.names, measure=settings.measure, anyway=settings.anyway
    )
    print(made.report(settings.measure))
