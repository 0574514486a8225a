"""`a2mim map`: which pairs of cells interact in one image, beside the Shapley value of each cell."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from a2mim.bounds import Budget, Count, Grid, Natural, Share
from experiments.help import FILE
from experiments.measuring.inputs import Input
from experiments.options import Network


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
    from experiments.datasets import evaluation_transform
    from experiments.machine import pick_device, provenance
    from experiments.measuring.image_map import (
        cell_table,
        chosen_budget,
        chosen_order,
        explained,
        in_full,
        measure,
        missing_words,
        pair_table,
        play,
        read_photograph,
    )
    from experiments.measuring.inputs import assumptions, description, open_model
    from experiments.measuring.opening import with_own_functions
    from experiments.outputs import claim
    from figures.pair_map import draw_pair_map
    from figures.style import check_suffix
    from figures.words import baseline_in_words, value_in_words
    from interactions.grid import PatchGrid
    from interactions.runs.files import write_csv, write_json

    settings, out = with_own_functions(settings), check_suffix(settings.out)
    tables, record = (out.with_suffix(".csv"), out.with_name(f"{out.stem}-cells.csv")), out.with_suffix(".json")
    claim((out, *tables, record), [settings.image])
    photograph = read_photograph(settings.image)
    device = pick_device(settings.device)
    about = provenance(settings, device)
    grid = PatchGrid(settings.grid)
    order, pairs_P2 = chosen_order(settings.order, settings.order_ratio, grid), grid.neighbours(settings.radius)
    budget, every_pair = chosen_budget(settings.budget, settings.design, order, pairs_P2, grid)
    model, config = open_model(settings)
    shown, photograph = in_full(photograph, config), photograph.convert("L" if config["input_size"][0] == 1 else "RGB")
    game = play(
        model.to(device),
        evaluation_transform(config)(photograph),
        config,
        None if settings.target == "predicted" else settings.target,
        grid,
        settings.value,
        settings.baseline,
    )
    measured, shapley_N = measure(
        game, order, pairs_P2, budget, settings.design, settings.permutations, settings.seed, every_pair
    )
    pairs, cells = pair_table(grid, measured), cell_table(grid, shapley_N)
    caption = (
        f"Order {order} of {grid.max_order} on a {grid.side}×{grid.side} grid, pairs within radius {settings.radius}; "
        f"{explained(game).replace(game.value, value_in_words(game.value), 1)}, "
        f"baseline {baseline_in_words(settings.baseline)}. "
        f"Interactions: {measured.passes:,} passes, {measured.design} design. Shapley values: {settings.permutations} "
        f"permutation{'s' * (settings.permutations > 1)}, "
        f"{game.passes - measured.passes:,} passes. {assumptions(config)}"
    ).strip()
    note = missing_words(measured, grid)
    draw_pair_map(
        shown,
        grid.side,
        pairs[["i", "j"]],
        pairs["interaction"],
        out,
        cells["shapley"],
        title=f"{settings.image.name}, {settings.model}",
        standard_errors=pairs["standard_error"],
        top=settings.lines,
        unit=value_in_words(settings.value),
        caption=caption,
        note=note,
    )
    write_csv(tables[0], pairs)
    write_csv(tables[1], cells)
    about["input"] = description(config)
    found = {"explained": explained(game), "order": order, "design": measured.design, "passes": game.passes}
    found |= {
        "pairs": len(pairs),
        "pairs_measured": int(pairs["interaction"].notna().sum()),
        "pairs_with_standard_error": int(pairs["standard_error"].notna().sum()),
    }
    write_json(record, {"command": "map", **about, **found})
    print(f"{caption} {note}\n\nwrote {out}, {tables[0]}, {tables[1]}, {record}")
