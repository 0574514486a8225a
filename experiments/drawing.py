"""Which figures there are, and how one gets into its files: for `a2mim figure`, and for commands that end with one."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from figures.runs import Drawn, Run

FIGURES = {
    "course": "figures.course",
    "fig1": "figures.fig1",
    "fig4": "figures.fig4",
    "fig5": "figures.fig5",
    "fig6": "figures.fig6",
    "figA1": "figures.fig_a1",
    "figA2": "figures.fig_a2",
    "figA3": "figures.fig_a3",
    "figA4": "figures.fig_a4",
    "mass": "figures.middle_mass",
    "prediction": "figures.prediction",
    "strength": "figures.strength",
    "transfer": "figures.transfer",
}


def claim_figure(out: Path) -> None:
    """Make sure that the files of a figure can be written, before anything is measured for it. Raises as `claim`."""
    from experiments.outputs import claim
    from figures.runs import figure_files

    claim(figure_files(out))


def drawing_of(figure: str, options: Mapping[str, Any]) -> "Callable[..., Drawn]":
    """What draws a figure. Raises ValueError where there is no such figure, or it has no such option."""
    if figure not in FIGURES:
        raise ValueError(f"there is no figure {figure!r}: choose one of {', '.join(FIGURES)}")
    drawing = importlib.import_module(FIGURES[figure]).draw
    for name in options:
        if name not in inspect.signature(drawing).parameters:
            raise ValueError(f"{figure} takes no --{name}: leave it out")
    return drawing


def draw(figure: str, runs: "Sequence[Run]", options: Mapping[str, Any], out: Path) -> None:
    """The figure into its files."""
    from figures.runs import write_figure

    drawn = drawing_of(figure, options)(runs, **options)
    files = write_figure(drawn, out, figure, runs, options)
    if drawn.note:
        print(drawn.note)
    print("wrote " + ", ".join(map(str, files)))
