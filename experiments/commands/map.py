"""`a2mim map`: which pairs of cells interact in one image, beside the Shapley value of each cell."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from a2mim.bounds import Budget, Count, Grid, Natural, Share
from experiments.help import FILE
from experiments.measuring.inputs import Input
from experiments.options import Network, refuse_both

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from interactions.estimators import Interactions
    from interactions.game import PatchGame
    from interactions.grid import PatchGrid


@dataclass(frozen=True, kw_only=True)
class Settings(Network):
    """Draw which pairs of patches interact in one image, at one order.

    Lines over the picture join the pairs, coloured by sign and strength; beside it stand the Shapley values of the
    single patches, which captum samples from the same game. Writes the figure, and beside it a table of the pairs
    (.csv), one of the patches (-cells.csv), and the settings (.json).

    For example:
        a2mim map resnet50 --image cat.jpg --order-ratio 0.5 --out cat.png
        a2mim map vit_small_patch16_224 --weights vit.pth --image cat.jpg --order 0 --target 281 --out cat.pdf
    """

    model: tyro.conf.Positional[str]
    """A timm model, a Python factory module:function, or auto for the timm model that the weights' file is of."""
    image: Path
    """The picture."""
    out: Annotated[Path, FILE] = Path("map.png")
    """The figure: .png, .pdf or .svg."""
    target: Literal["predicted"] | Natural = "predicted"
    """The class whose score is explained: predicted (the model's own), or its number. cosine needs none."""
    order_ratio: Share = 0.5
    """Context cells as a share of n − 2."""
    order: Natural | None = None
    """Context cells, instead of --order-ratio."""
    grid: Grid = 14
    """Cells along one side of the image."""
    radius: Count = 2
    """Measure the pairs at most so many rows and columns apart."""
    value: str = "log_odds"
    """log_odds, log_prob, logit, probability, cosine, which needs no classifier, or your own module:function."""
    baseline: str = "mean"
    """What an absent cell shows: mean, image_mean, black, blur, noise, uniform_noise, or your own function
    module:function; or drop, which removes its tokens from a plain vision transformer."""
    budget: Budget | None = None
    """Forward passes for the pairs (left out: 3000, or as many as give every pair a standard error)."""
    design: str = "auto"
    """auto, exact, pairwise, shared or pooled."""
    permutations: Count = 10
    """Orderings of the cells for the Shapley values, n forward passes each."""
    lines: Count = 15
    """Draw the strongest so many of the pairs that are more than noise; the table holds all."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    seed: Natural = 0
    """Of the coalitions."""
    input: Input = field(default_factory=Input)


def run(settings: Settings) -> None:
    """Measure, draw, and write the figure, the tables and the settings."""
    from experiments.machine import pick_device, provenance
    from experiments.measuring.image_map import missing_words
    from experiments.measuring.inputs import description
    from experiments.measuring.opening import with_own_functions
    from experiments.outputs import claim
    from figures.style import check_suffix
    from interactions.runs.files import write_csv, write_json

    settings, out = with_own_functions(settings), check_suffix(settings.out)
    tables, record = (out.with_suffix(".csv"), out.with_name(f"{out.stem}-cells.csv")), out.with_suffix(".json")
    claim((out, *tables, record), [settings.image])
    device = pick_device(settings.device)
    about = provenance(settings, device)
    found = measured(settings, device)
    caption, note = caption_of(settings, found), missing_words(found.interactions, found.grid)
    draw(settings, out, found, caption, note)
    write_csv(tables[0], found.pairs)
    write_csv(tables[1], found.cells)
    about["input"] = description(found.config)
    about |= {"adapted": found.config["adapted"]} if "adapted" in found.config else {}
    write_json(record, {"command": "map", **about, **counted(settings, found)})
    print(f"{caption} {note}\n\nwrote {out}, {tables[0]}, {tables[1]}, {record}")


@dataclass(frozen=True)
class Found:
    """What was measured of the image, and of what."""

    shown: "NDArray[np.float32]"
    """The picture as it is drawn, H×W×3 in 0 to 1."""
    config: "dict[str, Any]"
    """How it reached the model."""
    grid: "PatchGrid"
    game: "PatchGame"
    interactions: "Interactions"
    pairs: "pd.DataFrame"
    cells: "pd.DataFrame"


def measured(settings: Settings, device: "torch.device") -> Found:
    """The interactions of the pairs and the Shapley values; what cannot be is told before the model is opened."""
    from experiments.datasets import evaluation_transform
    from experiments.measuring import image_map
    from experiments.measuring.inputs import open_model
    from interactions.grid import PatchGrid

    if settings.order is not None:
        refuse_both(settings, "order", "order_ratio")
    photograph, grid = image_map.read_photograph(settings.image), PatchGrid(settings.grid)
    order = image_map.chosen_order(settings.order, settings.order_ratio, grid)
    pairs_P2 = grid.neighbours(settings.radius)
    budget, every_pair = image_map.chosen_budget(settings.budget, settings.design, order, pairs_P2, grid)
    model, config = open_model(settings)
    image_CHW = evaluation_transform(config)(photograph.convert("L" if config["input_size"][0] == 1 else "RGB"))
    target = None if settings.target == "predicted" else settings.target
    game = image_map.play(model.to(device), image_CHW, config, target, grid, settings.value, settings.baseline)
    interactions, shapley_N = image_map.measure(
        game, order, pairs_P2, budget, settings.design, settings.permutations, settings.seed, every_pair
    )
    return Found(
        shown=image_map.in_full(photograph, config),
        config=config,
        grid=grid,
        game=game,
        interactions=interactions,
        pairs=image_map.pair_table(grid, interactions),
        cells=image_map.cell_table(grid, shapley_N),
    )


def caption_of(settings: Settings, found: Found) -> str:
    """What was measured, of what, in how many passes."""
    from experiments.measuring.image_map import explained
    from experiments.measuring.inputs import assumptions
    from figures.words import baseline_in_words, value_in_words

    grid, game, interactions = found.grid, found.game, found.interactions
    return (
        f"Order {interactions.order} of {grid.max_order} on a {grid.side}×{grid.side} grid, pairs within radius "
        f"{settings.radius}; {explained(game, settings.weights).replace(game.value, value_in_words(game.value), 1)}, "
        f"baseline {baseline_in_words(settings.baseline)}. "
        f"Interactions: {interactions.passes:,} passes, {interactions.design} design. "
        f"Shapley values: {settings.permutations} permutation{'s' * (settings.permutations > 1)}, "
        f"{game.passes - interactions.passes:,} passes. {assumptions(found.config)}"
    ).strip()


def draw(settings: Settings, out: Path, found: Found, caption: str, note: str) -> None:
    """The figure."""
    from experiments.measuring.inputs import title
    from figures.pair_map import draw_pair_map
    from figures.words import value_in_words

    draw_pair_map(
        found.shown,
        found.grid.side,
        found.pairs[["i", "j"]],
        found.pairs["interaction"],
        out,
        found.cells["shapley"],
        title=f"{settings.image.name}, {title(settings)}",
        standard_errors=found.pairs["standard_error"],
        top=settings.lines,
        unit=value_in_words(settings.value),
        caption=caption,
        note=note,
    )


def counted(settings: Settings, found: Found) -> dict[str, Any]:
    """What the record says of the measurement."""
    from experiments.measuring.image_map import explained

    return {
        "explained": explained(found.game, settings.weights),
        "order": found.interactions.order,
        "design": found.interactions.design,
        "passes": found.game.passes,
        "pairs": len(found.pairs),
        "pairs_measured": int(found.pairs["interaction"].notna().sum()),
        "pairs_with_standard_error": int(found.pairs["standard_error"].notna().sum()),
    }
