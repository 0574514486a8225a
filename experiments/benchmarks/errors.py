"""`a2mim bench errors`: whether standard errors of pairs, and the variance told of an image's mean square, are as large
as the errors are, against exact values."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from a2mim.bounds import Budget, Count, Natural, Pixels, Share, Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd
    import torch

    from interactions.estimators import Plan

OPTIONS: dict[str, dict[str, int]] = {"pairwise": {"draws": 32}, "shared": {"draws": 32}, "pooled": {}}
"""The designs, with draws enough of each pair to tell an error."""
LARGEST = 4
"""Cells along a side, of which all 2ⁿ coalitions are played."""


@dataclass(frozen=True)
class Settings:
    """Estimate the interactions of an image over and over, where all of its coalitions are known.

    On grids of so few cells that the network sees every coalition, every interaction is known exactly. Each design then
    estimates all pairs again and again, each time with other coalitions: z = (estimate − truth) / standard error has
    variance 1 where errors are told as they are. The mean square is held against the truth, and where a part of the
    pairs was measured, the variance that an image's row tells of it (pair_variance) against that over the repeats.
    Writes errors.csv and errors.json.

    For example:
        a2mim bench errors
        a2mim bench errors resnet18 --weights random --image-size 64 --grids 3 --repeats 100 --out runs/errors
    """

    model: tyro.conf.Positional[str] = "experiments.recipes.cifar10:cnn_cpu"
    """A timm name, or a factory module:function."""
    weights: str = "random"
    """random, pretrained, or a checkpoint file."""
    data: str | None = None
    """A folder or a .tar of images, of which one is taken; without it, an image of noise."""
    image_size: Pixels | None = 32
    """Side of the image in pixels."""
    grids: tuple[Count, ...] = (3, 4)
    """Cells along one side, at most 4."""
    ratios: tuple[Share, ...] = (0.3, 0.5, 0.7)
    """Orders, as shares of n − 2."""
    budgets: tuple[Budget, ...] = (400, 600, 2400)
    """Passes of an estimate."""
    repeats: Count = 400
    """Estimates of each kind."""
    out: Path = Path("runs/bench/errors")
    """Folder of the results (of those that are committed: experiments/results/errors)."""
    seed: Natural = 0
    """Of the image, random weights and coalitions."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""

    def check(self) -> None:
        """Raises ValueError for a grid whose coalitions are too many, and for less than two repeats."""
        if not self.grids or max(self.grids) > LARGEST or min(self.grids) < 2:
            raise ValueError(f"--grids are 2 to {LARGEST} here: of larger ones not every coalition can be played")
        if self.repeats < 2:
            raise ValueError("--repeats 1 tells no variance: give two or more")


def run(settings: Settings) -> None:
    """Measure, print the table and write it."""
    import pandas as pd

    from experiments.benchmarks.record import begin, write_results
    from experiments.machine import pick_device

    device = pick_device(settings.device)
    about = begin(settings, device)
    table = pd.concat([of_grid(settings, side, device) for side in settings.grids], ignore_index=True)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    write_results(settings.out, "errors", table, about)


def of_grid(settings: Settings, side: int, device: "torch.device") -> "pd.DataFrame":
    """A row for each order, design and number of passes that the design can do with."""
    import pandas as pd
    from tqdm import tqdm

    from experiments.benchmarks.playing import play
    from interactions.estimators import Plan
    from interactions.grid import PatchGrid, orders_of

    grid = PatchGrid(side)
    asked = (settings.model, settings.weights, settings.data, 1, grid, device)
    table = in_a_table(play(*asked, image_size=settings.image_size, seed=settings.seed), grid.n_players)
    rows = []
    orders = orders_of(settings.ratios, grid.n_players)
    kinds = [(order, Plan(name, dict(of))) for order in orders for name, of in OPTIONS.items()]
    for order, plan in tqdm(kinds, desc=f"orders and designs, {side}×{side} cells"):
        for budget in settings.budgets:
            row = of_design(settings, table, plan, order, grid, budget)
            if row:
                rows.append({"players": grid.n_players, "order": order, "ratio": orders[order], **row})
            else:
                tqdm.write(f"left out: {plan.design} with {budget} passes at order {order} of {grid.n_players} cells")
    return pd.DataFrame(rows)


def in_a_table(game: Any, n_players: int) -> "Callable[[torch.Tensor], torch.Tensor]":
    """The game of the first image, all of whose values have been looked up before."""
    import torch

    places_N = torch.arange(n_players)
    all_BN = (torch.arange(1 << n_players)[:, None] >> places_N & 1).bool()
    values_B = game(all_BN, 0).cpu().double()
    return lambda coalitions_BN: values_B[(coalitions_BN.long() << places_N).sum(1)]


def of_design(
    settings: Settings,
    game: "Callable[[torch.Tensor], torch.Tensor]",
    plan: "Plan",
    order: int,
    grid: Any,
    budget: int,
) -> dict[str, Any] | None:
    """How far the errors of a design are from those that it tells; None where it cannot do with so few passes."""
    import numpy as np
    import torch

    from experiments.benchmarks.playing import seed_of
    from interactions.estimators import draw, exact
    from interactions.strength import image_row

    pairs_P2, n = grid.all_pairs(), grid.n_players
    every = exact.draw(order, pairs_P2, n)
    truth_P = every.estimate(game(every.coalitions_BN)).mean
    z_R, known_R, rows = [], [], []
    for repeat in range(settings.repeats):
        generator = torch.Generator().manual_seed(seed_of(settings.seed, n, order, budget, repeat))
        try:
            sample = draw(plan, order, pairs_P2, n, budget, generator)
        except ValueError:
            return None
        found = sample.estimate(game(sample.coalitions_BN))
        z_P = (found.mean - truth_P) / found.standard_error
        z_R.append(float(z_P[z_P.isfinite()].square().mean()))
        known_R.append(float(z_P.isfinite().double().mean()))
        rows.append(image_row(found))
    square_R = np.array([row["mean_square"] for row in rows])
    told_R = np.array([row["pair_variance"] for row in rows])
    variance, half = mean_and_half(np.array(z_R))
    square, half_square = mean_and_half(square_R / float(truth_P.square().mean()))
    return {
        "design": plan.design,
        "passes": budget,
        "known": float(np.mean(known_R)),
        "z_variance": variance,
        "z_variance_low": variance - half,
        "z_variance_high": variance + half,
        "mean_square": square,
        "mean_square_low": square - half_square,
        "mean_square_high": square + half_square,
        "variance_told": float(told_R.mean() / square_R.var(ddof=1)),
        "repeats": settings.repeats,
    }


def mean_and_half(values_R: "np.ndarray") -> tuple[float, float]:
    """Mean over the repeats that tell it, and half the length of its 95 % interval (normal); NaN where none does."""
    import numpy as np

    known = values_R[np.isfinite(values_R)]
    if len(known) < 2:
        return float("nan"), float("nan")
    return float(known.mean()), float(1.96 * known.std(ddof=1) / len(known) ** 0.5)
