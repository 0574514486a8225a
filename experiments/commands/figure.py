"""`a2mim figure`: the figures of the A²MIM paper, and the middle masses of a study, from folders of results."""

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from a2mim.bounds import Count
from experiments.help import FILE

FIGURES = {
    "fig1": "figures.fig1",
    "fig4": "figures.fig4",
    "fig5": "figures.fig5",
    "fig6": "figures.fig6",
    "figA1": "figures.fig_a1",
    "figA2": "figures.fig_a2",
    "figA3": "figures.fig_a3",
    "figA4": "figures.fig_a4",
    "mass": "figures.middle_mass",
}
OF_A_TABLE = ("fig6", "mass")
"""Figures whose tables name networks and methods themselves."""
OPTIONS = ("measure", "dropped", "pictures", "title")


@dataclass(frozen=True)
class Settings:
    """Draw a figure of the A²MIM paper from folders of results.

    Writes OUT.png, OUT.pdf, and OUT.json, which says from which runs, settings and commits it came. What is drawn:

        fig1                accuracy with dropped cells, interactions below it (a2mim occlusion, a2mim profile)
        fig4                reconstructions with and without the Fourier loss (a2mim pretrain, a2mim reconstruct)
        fig5, figA1, figA2  interactions by order (a2mim profile)
        fig6                accuracy by the place of the mask token (python -m experiments.studies.token_position)
        figA3, figA4        Fourier log amplitude, variance of features, by depth (a2mim spectrum)
        mass                middle mass of every method by three measures (a2mim reproduce)

    Runs of one name and panel are seeds: each is a point with its interval, and the line is their mean.

    For example:
        a2mim figure fig5 runs/simmim runs/a2mim --names SimMIM A²MIM --out figures/fig5
        a2mim figure fig1 runs/vit-occlusion runs/vit-profile runs/cnn-occlusion runs/cnn-profile \\
            --names A²MIM A²MIM A²MIM A²MIM --panels ViT ViT CNN CNN --out figures/fig1
        a2mim figure fig4 runs/plain runs/fourier --names "without Fourier loss" "with" --out figures/fig4
        a2mim figure mass runs/cifar10/results --out figures/mass
    """

    figure: Annotated[
        tyro.conf.Positional[Literal["fig1", "fig4", "fig5", "fig6", "figA1", "figA2", "figA3", "figA4", "mass"]],
        tyro.conf.arg(metavar="FIGURE"),
    ]
    """fig1, fig4, fig5, fig6, figA1, figA2, figA3, figA4 or mass."""
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs, or of a study's results."""
    out: Annotated[Path, FILE]
    """The files' path without suffix."""
    names: tuple[str, ...] = ()
    """Names for the legend, one a run; without them, those of the folders."""
    panels: tuple[str, ...] = ()
    """Title of the panel that each run belongs to, one a run, such as ViT or CNN; without them, one panel."""
    measure: Literal["J", "J_corrected", "J_rms"] | None = None
    """fig1, fig5, figA1, figA2: J as published, with the noise taken out (what is drawn without this), or from the
    noise-free mean square."""
    dropped: Literal["random", "salient", "non_salient"] | None = None
    """fig1: which patches were dropped; random without this."""
    pictures: Count | None = None
    """fig4: how many pictures of each panel; 2 without this."""
    title: str | None = None
    """Words above the figure."""


def run(settings: Settings) -> None:
    """Draw, write, and say what was written and what is missing."""
    from experiments.outputs import claim
    from experiments.records import check_records
    from figures.runs import figure_files, open_runs, write_figure

    claim(figure_files(settings.out))
    draw = importlib.import_module(FIGURES[settings.figure]).draw
    given = {name: getattr(settings, name) for name in OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in inspect.signature(draw).parameters:
            raise ValueError(f"{settings.figure} takes no --{name}: leave it out")
    if settings.figure in OF_A_TABLE and (settings.names or settings.panels):
        raise ValueError(f"{settings.figure} takes no --names and no --panels: its table names networks and methods")
    runs = open_runs(settings.runs, settings.names, settings.panels)
    check_records(runs)
    drawn = draw(runs, **options)
    files = write_figure(drawn, settings.out, settings.figure, runs, options)
    if drawn.note:
        print(drawn.note)
    print("wrote " + ", ".join(map(str, files)))
