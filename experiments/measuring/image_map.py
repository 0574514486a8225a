"""One image under one model: the interactions of its pairs at one order, and the Shapley value of each cell."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from captum.attr import ShapleyValueSampling
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from a2mim.decoding import Damaged, decode, is_constant
from experiments.datasets import evaluation_transform, known_classes
from interactions.baselines import Normalisation
from interactions.estimators import (
    DESIGN_NAMES,
    Interactions,
    check_budget,
    enough_passes,
    estimate_interactions,
    passes_for_errors,
)
from interactions.estimators.sample import check_order
from interactions.game import PatchGame
from interactions.grid import PatchGrid, orders_of
from interactions.selection import logits_of
from interactions.speed import settle

USUAL_BUDGET = 3000
LARGEST_SHOWN = 1024  # pixels
LARGEST_RAISE = 16 * USUAL_BUDGET
"""What a map takes by itself to give every pair a standard error; more than that is asked for."""


def read_photograph(path: Path) -> Image.Image:
    """An image file as the images of every data set are shown, and a word where it is of one colour.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not an image.
    """
    if not path.is_file():
        raise FileNotFoundError(f"image '{path}' is no file: give the path of a picture")
    try:
        image = decode(path.read_bytes(), "RGB")
    except Damaged as error:
        raise ValueError(f"'{path}' cannot be read as an image ({error}): give a JPEG, PNG or the like") from error
    if is_constant(image):
        print(f"note: {path} is of one colour throughout: there is nothing in it to interact", file=sys.stderr)
    return image


def as_pixels(image_CHW: Tensor, config: Mapping[str, Any]) -> NDArray[np.float32]:
    """A normalised image as H×W×C in 0 to 1, for drawing."""
    mean_C11, std_C11 = (torch.tensor(config[stat])[:, None, None] for stat in ("mean", "std"))
    return (image_CHW.cpu() * std_C11 + mean_C11).clamp(0, 1).permute(1, 2, 0).numpy()


def in_full(photograph: Image.Image, config: Mapping[str, Any]) -> NDArray[np.float32]:
    """What the model sees of a photograph, with the pixels that the photograph has, up to a side of 1024, in colour:
    H×W×3 in 0 to 1, for drawing."""
    _, height, width = config["input_size"]
    own = min(photograph.size) * (config.get("crop_pct") or 1.0) / min(height, width)
    times = max(1.0, min(own, LARGEST_SHOWN / max(height, width)))
    finer = {**config, "input_size": (3, round(times * height), round(times * width))}
    return as_pixels(evaluation_transform(finer)(photograph), config)


def chosen_order(order: int | None, ratio: float, grid: PatchGrid) -> int:
    """The order m that is asked for by its number, else by its share of n − 2."""
    if order is None:
        (order,) = orders_of((ratio,), grid.n_players)
    check_order(order, grid.n_players)
    return order


def play(
    model: nn.Module,
    image_CHW: Tensor,
    config: Mapping[str, Any],
    target: int | None,
    grid: PatchGrid,
    value: str,
    baseline: str,
) -> PatchGame:
    """The game on one image.

    Args:
        config: how the image was normalised: mean, std.
        target: the class that is explained; None for the model's own top class. cosine needs none.

    Raises ValueError for a class beside cosine, and as the game does.
    """
    if target is not None and value == "cosine":
        raise ValueError(f"cosine explains no class, so it has no use for class {target}: leave target out")
    if target is None and value != "cosine":
        target = int(logits_of(model.eval(), image_CHW, "the image", value).argmax())
    normalisation = Normalisation(tuple(config["mean"]), tuple(config["std"]))
    game = PatchGame(model, image_CHW, target, grid, value, baseline, normalisation=normalisation)
    game.refuse_empty()  # Shapley values begin with it
    return game


def explained(game: PatchGame, weights: str) -> str:
    """What v is, in words: its name, and the class with its name where anything tells it."""
    if game.value == "cosine":
        return game.value
    target = int(game.reference_I[0])
    name = class_name(target, game.eager, weights)
    return f"{game.value} of class {target}{name and f' ({name})'}"


def class_name(number: int, model: nn.Module, weights: str) -> str:
    """What a class of the model is called: as its weights state it, else by ImageNet's list of as many classes, which
    is said; empty where neither tells, or the weights are random."""
    if weights == "random":
        return ""
    subset = timm.data.infer_imagenet_subset(model)
    info = timm.data.ImageNetInfo(subset) if subset else None
    if known := known_classes(model, weights):
        name = next((name for name, label in known.items() if label == number), "")
        return info.label_name_to_description(name) if info and name in info.label_names() else name
    name = info.index_to_description(number) if info else ""
    return name if weights == "pretrained" or not name else f"{name}, if its classes are ImageNet's"


def chosen_budget(asked: int | None, design: str, order: int, pairs_P2: Tensor, grid: PatchGrid) -> tuple[int, bool]:
    """The passes for the pairs, and whether auto can give every pair a standard error with them.

    Raises:
        ValueError: a design or a budget that cannot be; without a budget, pairs that would need an unusual one.
    """
    if design not in DESIGN_NAMES:
        raise ValueError(f"unknown design {design!r}: choose one of {', '.join(DESIGN_NAMES)}")
    enough = enough_passes(passes_for_errors(order, pairs_P2, grid.n_players))
    if asked is None and design == "auto" and enough > LARGEST_RAISE:
        raise ValueError(
            f"it takes {enough:,} passes to give each of {len(pairs_P2):,} pairs a standard error at order {order}: "
            f"ask for --budget {enough}, or for fewer and a part of the pairs, a smaller --radius or an order "
            f"nearer the middle ({grid.max_order // 2})"
        )
    budget = asked if asked is not None else max(USUAL_BUDGET, enough if design == "auto" else 0)
    check_budget(budget, design, order, pairs_P2, grid.n_players)
    return budget, design == "auto" and budget >= enough


def missing_words(measured: Interactions, grid: PatchGrid) -> str:
    """How many pairs were not measured, or have no standard error, and what would give them one; empty where none."""
    pairs, left_out = len(measured.mean), int(measured.mean.isnan().sum())
    unsure = int(measured.standard_error.isnan().sum()) - left_out
    if not left_out + unsure:
        return ""
    counts = [f"{left_out} of {pairs} pairs were not measured"] if left_out else []
    counts += [f"{unsure} have no standard error"] if unsure else []
    needs = passes_for_errors(measured.order, measured.pairs, grid.n_players)
    return f"{' and '.join(counts)}: --design auto --budget {enough_passes(needs)} gives each of them one."


def measure(
    game: PatchGame,
    order: int,
    pairs_P2: Tensor,
    budget: int,
    design: str,
    permutations: int,
    seed: int = 0,
    every_pair: bool = False,
) -> tuple[Interactions, Tensor]:
    """`estimate_interactions` of the pairs at one order, and `shapley_values`, with a bar that counts the passes."""
    if permutations < 1:
        raise ValueError(f"{permutations} permutations give no Shapley values: ask for 1 or more")
    total = budget + permutations * game.n_players
    settle(game, "auto", game.batch_size, total)
    with tqdm(total=total, unit=" passes", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        game.on_batch = bar.update
        generator = torch.Generator().manual_seed(seed)
        measured = estimate_interactions(game.of(0), order, pairs_P2, budget, design, generator, every_pair)
        shapley_N = shapley_values(game, permutations, seed)
        bar.total = bar.n  # how many passes the pairs take was an estimate
    return measured, shapley_N


def shapley_values(game: PatchGame, permutations: int, seed: int = 0) -> Tensor:
    """Shapley value of each cell of the game's first image, in units of v, float32 n.

    captum's permutation sampling (Castro et al. 2009), permutations × n passes. The values sum to v(all) − v(none),
    however few the permutations.
    """
    game.batch_size = game.batch_size or game.tune()[0]
    # captum perturbs the coalition itself, so that grid, baseline and value function are those of the interactions.
    sampling = ShapleyValueSampling(lambda coalitions_BN: game(coalitions_BN > 0.5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        values_1N = sampling.attribute(
            torch.ones(1, game.n_players, device=game.device),
            n_samples=permutations,
            perturbations_per_eval=game.batch_size,
        )
    return values_1N.squeeze(0)


def pair_table(grid: PatchGrid, measured: Interactions) -> pd.DataFrame:
    """One row per pair, the strongest first: its two cells, I and what is known about it, in units of v."""
    i_P, j_P = measured.pairs.T.cpu().numpy()
    columns = {
        "i": i_P,
        "j": j_P,
        "row_i": i_P // grid.side,
        "column_i": i_P % grid.side,
        "row_j": j_P // grid.side,
        "column_j": j_P % grid.side,
        "order": measured.order,
        "interaction": measured.mean.cpu().numpy(),
        "standard_error": measured.standard_error.cpu().numpy(),
        "half_1": measured.halves[0].cpu().numpy(),
        "half_2": measured.halves[1].cpu().numpy(),
    }
    table = pd.DataFrame(columns)
    return table.sort_values("interaction", key=abs, ascending=False, kind="stable", ignore_index=True)


def cell_table(grid: PatchGrid, shapley_N: Tensor) -> pd.DataFrame:
    """One row per cell: its place and its Shapley value in units of v."""
    cells = pd.RangeIndex(grid.n_players)
    places = {"cell": cells, "row": cells // grid.side, "column": cells % grid.side}
    return pd.DataFrame({**places, "shapley": shapley_N.cpu().numpy()})
