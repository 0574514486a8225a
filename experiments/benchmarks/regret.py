"""`a2mim bench regret`: what the chosen design of an order costs beside the best fixed one, for a model's curve."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from a2mim.bounds import Budget, Count, Grid, Natural, Pixels, Share, Threads

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from interactions.estimators import Plan
    from interactions.game import PatchGame

OPTIONS: dict[str, dict[str, int]] = {"pairwise": {"draws": 8}, "shared": {"draws": 8}, "pooled": {}}
"""What the fixed designs have by themselves."""
FIXED = tuple(OPTIONS)
PILOT_IMAGES, PILOT_BUDGET = 4, 300
PILOT, MEASUREMENT = 0, 1
"""Purposes of random streams."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Settings:
    """Measure the same photographs with every fixed design and with the one that auto chooses, order by order.

    What a design costs a curve is the images that it takes for a wanted width of J_rms(m)²: in proportion to the
    variance of an image's influence on it, of which a part lies between images and is the same for all designs,
    and a part is the design's own noise. Every design measures every image twice, which tells them apart: the first is
    the covariance of the two measurements, over all designs, the second half the variance of their difference. The
    other orders are measured as auto does. Regret = what auto's design takes over the best fixed one's, less 1; its
    interval is a bootstrap over images. The least of several noisy variances is too small, so the regret is too large
    rather than too small. The two end orders, which are exact, are in the curve and not compared. Writes MODEL.csv and
    MODEL.json.

    For example:
        a2mim bench regret tf_efficientnet_lite0 --weights lite0.pth --data val.tar --image-size 112
        a2mim bench regret resnet50 --weights random --data photos --images 12 --budget 200 --out runs/regret
    """

    model: tyro.conf.Positional[str]
    """A timm name, or a factory module:function."""
    data: str
    """A folder or a .tar of images."""
    weights: str = "pretrained"
    """random, pretrained, or a checkpoint file."""
    name: str = ""
    """Of the files; without it, the model's."""
    out: Path = Path("runs/bench/regret")
    """Folder of the results (of those that are committed: experiments/results/curve/regret)."""
    image_size: Pixels | None = None
    """Side of the images in pixels; without it, the model's own."""
    grid: Grid = 14
    """Cells along one side."""
    radius: Count = 2
    """Pairs of cells at most so many rows and columns apart."""
    ratios: tuple[Share, ...] = (0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1)
    """Orders, as shares of n − 2."""
    images: Count = 24
    """Photographs."""
    budget: Budget = 110
    """Passes of an image and order: about what a profile to a precision takes."""
    seed: Natural = 0
    """Of photographs, random weights and coalitions."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""


def run(settings: Settings) -> None:
    """Measure, print the table and write it."""
    import numpy as np

    from experiments.benchmarks.playing import play
    from experiments.benchmarks.record import begin, file_name, write_results
    from experiments.machine import pick_device
    from interactions.grid import PatchGrid, orders_of
    from interactions.speed import settle

    grid, device = PatchGrid(settings.grid), pick_device(settings.device)
    orders = dict(sorted(orders_of(settings.ratios, grid.n_players).items()))
    about = begin(settings, device)
    asked = (settings.model, settings.weights, settings.data, settings.images, grid, device)
    game = play(*asked, image_size=settings.image_size, seed=settings.seed)
    ways = settle(game, "auto", None, 2 * settings.images * settings.budget * (len(FIXED) + 1) * len(orders))
    pairs_P2 = grid.neighbours(settings.radius)
    plans = {order: chosen_plan(settings, game, pairs_P2, order) for order in orders}
    squares = measured(settings, game, pairs_P2, plans)
    table = compared(squares, plans, orders, np.random.default_rng(settings.seed))
    name = settings.name or file_name(settings.model)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    write_results(settings.out, name, table, {**ways, "images": len(game.images_ICHW), **about})


def chosen_plan(settings: Settings, game: "PatchGame", pairs_P2: "torch.Tensor", order: int) -> "Plan":
    """What a profile would choose for the order: by a pilot on a few images with the passes of its first round."""
    import torch

    from experiments.benchmarks.playing import seed_of
    from interactions.estimators import Plan
    from interactions.estimators.auto import plan_from, run_pilot

    n = game.n_players
    if order in (0, n - 2):
        return Plan("exact", {"subset": True})
    generator = torch.Generator().manual_seed(seed_of(PILOT, settings.seed, order))
    games = [game.of(k) for k in range(min(PILOT_IMAGES, settings.images))]
    pilot = run_pilot(games, order, pairs_P2, PILOT_BUDGET, generator)
    return plan_from(pilot, order, pairs_P2, n, settings.budget)


def measured(
    settings: Settings, game: "PatchGame", pairs_P2: "torch.Tensor", plans: "dict[int, Plan]"
) -> "dict[int, np.ndarray]":
    """Mean squares of each order: designs × 2 measurements × images, auto's design first, then the fixed ones.

    A fixed design is auto's own measurement where auto chose it with the same draws, and NaN where the budget does not
    hold it.
    """
    import numpy as np
    from tqdm import tqdm

    from experiments.benchmarks.playing import mean_square, seed_of
    from interactions.estimators import Plan

    def twice(plan: Plan, order: int, image: int) -> list[float]:
        seeds = [seed_of(MEASUREMENT, settings.seed, order, repeat, image) for repeat in (0, 1)]
        try:
            return [mean_square(game, image, plan, order, pairs_P2, settings.budget, seed) for seed in seeds]
        except ValueError:
            return [float("nan")] * 2

    found = {}
    with tqdm(total=len(plans) * settings.images, desc="images and orders") as bar:
        for order, plan in plans.items():
            others = [] if plan.design == "exact" else [Plan(design, dict(OPTIONS[design])) for design in FIXED]
            rows = []
            for k in range(settings.images):
                own = twice(plan, order, k)
                rows.append([own, *(own if same(plan, other) else twice(other, order, k) for other in others)])
                bar.update()
            found[order] = np.array(rows, float).transpose(1, 2, 0)
    return found


def same(plan: "Plan", other: "Plan") -> bool:
    """Whether two plans draw the same coalitions."""
    return (plan.design, plan.options) == (other.design, other.options)


def compared(
    squares: "dict[int, np.ndarray]",
    plans: "dict[int, Plan]",
    ratios: "dict[int, float]",
    generator: "np.random.Generator",
) -> "pd.DataFrame":
    """One row for each order that has a choice."""
    import numpy as np
    import pandas as pd

    places, images = list(squares), next(iter(squares.values())).shape[-1]
    auto_RMI = np.stack([squares[order][0] for order in places], 1)
    index_BI = generator.integers(images, size=(RESAMPLES, images))
    rows = []
    for place, order in enumerate(places):
        plan = plans[order]
        if plan.design == "exact":
            continue
        needs_D = needs(squares[order], auto_RMI, place)
        drawn = [regret(needs(squares[order][..., index], auto_RMI[..., index], place)) for index in index_BI]
        low, high = np.nanquantile(drawn, (0.025, 0.975))
        told = " ".join([plan.design, *(str(value) for value in plan.options.values())])
        fixed = dict(zip(FIXED, needs_D[1:].tolist(), strict=True))
        row: dict[str, Any] = {"order": order, "ratio": ratios[order], "chosen": told, "auto": float(needs_D[0])}
        rows.append(row | fixed | {"regret": regret(needs_D), "regret_low": low, "regret_high": high})
    return pd.DataFrame(rows).assign(images=images)


def needs(squares_DRI: "np.ndarray", auto_RMI: "np.ndarray", place: int) -> "np.ndarray":
    """Variance of an image's influence on J_rms(m)² by each design: the images that a standard error of 1 takes."""
    import numpy as np

    from interactions.allocation import gradient_of
    from interactions.intervals import standard_error

    mean_MI = auto_RMI.mean(0)
    slope_MM, _ = gradient_of(mean_MI.mean(1), standard_error(mean_MI - mean_MI.mean(1, keepdims=True)))
    others_RI = np.einsum("n,rni->ri", slope_MM[place], auto_RMI) - slope_MM[place, place] * auto_RMI[:, place]
    influence_DRI = others_RI + slope_MM[place, place] * squares_DRI
    first_DI, second_DI = influence_DRI.transpose(1, 0, 2)
    own_D = (first_DI - second_DI).var(1, ddof=1) / 2
    total_D = influence_DRI.var(2, ddof=1).mean(1)
    between = max(np.nanmean(total_D - own_D), 0.0)
    return between + own_D


def regret(needs_D: "np.ndarray") -> float:
    """Of auto, which is the first; NaN where nothing varies, as in a resample of one image."""
    import numpy as np

    least = float(np.nanmin(needs_D[1:]))
    return float(needs_D[0]) / least - 1 if least > 0 else float("nan")
