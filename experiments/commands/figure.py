"""`a2mim figure`: the figures of the A²MIM paper, and the middle masses of a study, from folders of results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from a2mim.bounds import Count
from experiments.drawing import claim_figure, draw, drawing_of
from experiments.help import FILE

AGAIN = "again"
OF_A_TABLE = ("fig6", "mass", "prediction", "transfer")
"""Figures whose tables name networks and methods themselves."""
OPTIONS = ("measure", "dropped", "pictures", "grey", "title")


# One Literal: of a union of two, a message would name the choices in another order every time.
Figure = Literal[
    "fig1", "fig4", "fig5", "fig6", "figA1", "figA2", "figA3", "figA4", "course", "mass", "prediction", "strength",
    "transfer", "again",
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Draw a figure of the A²MIM paper from folders of results.

    Writes OUT.png, OUT.pdf, and OUT.json, which says from which runs, settings and commits it came. What is drawn:

        fig1                accuracy with dropped cells, interactions beside it (a2mim occlusion, a2mim profile)
        fig4                what the Fourier loss changes in reconstructions (a2mim pretrain, a2mim reconstruct)
        fig5, figA1, figA2  interactions by order (a2mim profile)
        fig6                accuracy by the place of the mask token (python -m experiments.studies.token_position)
        figA3, figA4        Fourier log amplitude, variance of features, by depth (a2mim spectrum)
        mass                middle mass of every method by three measures (a2mim reproduce)
        prediction          middle mass against what is reached on other tasks, with rank correlation (a2mim transfer)
        course              interactions through training (a2mim profile RUN --checkpoints all)
        strength            one run in full: three measures, relative and absolute (a2mim profile)
        transfer            mIoU, AP and accuracy on other tasks, and what they differ by (a2mim transfer)
        again               a figure anew, from its OUT.json and the tables that lie beside it

    Runs of one name and panel are seeds: each is a point, the line is their mean. At most five names of a panel are
    coloured, in the order given; --grey says which the others are compared with. All are as wide as a column, 8.5 cm.

    For example:
        a2mim figure fig5 runs/simmim runs/a2mim --names SimMIM A²MIM --out figures/fig5
        a2mim figure fig1 runs/vit-occlusion runs/vit-profile runs/cnn-occlusion runs/cnn-profile \\
            --names A²MIM A²MIM A²MIM A²MIM --panels ViT ViT CNN CNN --out figures/fig1
        a2mim figure fig4 runs/plain runs/fourier --names "without Fourier loss" "with" --out figures/fig4
        a2mim figure course runs/supervised-course runs/a2mim-course --names supervised A²MIM --out figures/course
        a2mim figure mass runs/cifar10/results --out figures/mass
        a2mim figure strength runs/resnet50 --title "ResNet-50" --out figures/strength
        a2mim figure again experiments/results/*/figures/*.json
    """

    figure: Annotated[
        tyro.conf.Positional[Figure],
        tyro.conf.arg(metavar="FIGURE"),
    ]
    """fig1, fig4, fig5, fig6, figA1, figA2, figA3, figA4, course, mass, prediction, strength or transfer; again."""
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs, or of a study's results; for again, the .json of figures."""
    out: Annotated[Path | None, FILE] = None
    """The files' path without suffix; again writes over the figure without it."""
    names: tuple[str, ...] = ()
    """Names for the legend, one a run; without them, those of the folders."""
    panels: tuple[str, ...] = ()
    """Title of the panel that each run belongs to, one a run, such as ViT or CNN; without them, one panel. A run may be
    given once for each of several panels."""
    grey: tuple[str, ...] = ()
    """fig1, fig5, figA1 to figA4, course: names of runs that are drawn in grey, as what the others are compared
    with."""
    measure: Literal["J", "J_corrected", "J_rms"] | None = None
    """fig1, fig5, figA1, figA2: J as published, with the noise taken out, or from the noise-free mean square (what is
    drawn without this)."""
    dropped: Literal["random", "salient", "non_salient"] | None = None
    """fig1: which patches were dropped; random without this."""
    pictures: Count | None = None
    """fig4: how many pictures of each panel; 1 without this."""
    title: str | None = None
    """Words above the figure."""


def run(settings: Settings) -> None:
    """Draw, write, and say what was written and what is missing."""
    from experiments.records import check_records
    from figures.runs import open_runs

    if settings.figure == AGAIN:
        return draw_again(settings)
    if settings.out is None:
        raise ValueError("give the figure a name with --out")
    if settings.figure in OF_A_TABLE and (settings.names or settings.panels):
        raise ValueError(f"{settings.figure} takes no --names and no --panels: its table names networks and methods")
    claim_figure(settings.out)
    runs = open_runs(settings.runs, settings.names, settings.panels)
    check_records(runs)
    draw(settings.figure, runs, options_of(settings), settings.out)


def draw_again(settings: Settings) -> None:
    """Every figure of these records."""
    from figures.again import read_source

    if settings.names or settings.panels:
        raise ValueError("again takes no --names and no --panels: a figure is drawn from the same runs")
    if not settings.runs:
        raise ValueError("there is no figure to draw again: give the .json beside it")
    if settings.out and len(settings.runs) > 1:
        raise ValueError(f"{len(settings.runs)} figures cannot all be {settings.out}: leave --out out, or draw one")
    found = [(settings.out or path, read_source(path)) for path in settings.runs]
    asked = [{**source.options, **options_of(settings)} for _, source in found]
    for (out, source), options in zip(found, asked, strict=True):  # before one of them is drawn over
        drawing_of(source.figure, options)
        claim_figure(out)
    for (out, source), options in zip(found, asked, strict=True):
        draw(source.figure, source.runs, options, out)


def options_of(settings: Settings) -> dict[str, Any]:
    """What was asked for of a figure."""
    given = {name: getattr(settings, name) for name in OPTIONS}
    return {name: value for name, value in given.items() if value not in (None, ())}
