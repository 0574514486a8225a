"""`a2mim bench estimators`: how many passes the estimators need for the accuracy of the published protocol."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from a2mim.bounds import Budget, Count, Natural, Pixels, Share
from experiments.benchmarks.gains import (
    MEASURED,
    cell_errors,
    design_weights,
    ends_passes,
    headline,
    order_gains,
)
from interactions.published import CONTEXTS

if TYPE_CHECKING:
    import numpy as np

    from experiments.datasets import ImageData
    from interactions.estimators import Interactions
    from interactions.game import PatchGame
    from interactions.grid import PatchGrid

IDENTITY = "settings.json"


@dataclass(frozen=True)
class Settings:
    """Compare the estimators with the published protocol at equal error.

    EfficientNet-Lite0 with its ImageNet weights (the demo extra) on photographs that it classifies rightly, a 14×14
    grid, pairs within radius 2, log-odds. Two estimands for each image and order, over all pairs equally weighted: the
    mean |I| (the published raw mean of |Î| against the corrected mean that `auto` reports) and the mean square (the
    published protocol, its contexts split in two, against what `auto` reports). The error level is the mean
    squared error of the published protocol, 50 pairs × 50 contexts = 10,000 passes; gain = 10,000 / the passes that
    `auto` needs for it, its pilot included. Work is done in rounds, each adding replicates to every image and order;
    stop it at any time and start it again. Writes gains.csv, cells.csv and run.json into the results folder.

    For example:
        a2mim bench estimators --data imagenet-1-per-class.tar --work runs/estimators
        a2mim bench estimators --data imagenet-1-per-class.tar --work runs/quick --quick
        a2mim bench estimators --data imagenet-1-per-class.tar --work runs/gpu --image-size 224 --ratios 0 0.05 0.1 0.5
    """

    data: Path
    """Photographs with ImageNet labels: a folder of class folders, or a tar."""
    work: Path
    """Folder for the raw measurements, one file for each image, order and round."""
    out: Path = Path("runs/bench/estimators")
    """Folder of the results (of those that are committed: experiments/results/estimators)."""
    image_size: Pixels = 112
    """Pixels along a side."""
    images: Count = 4
    """Photographs."""
    ratios: tuple[Share, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Orders m/(n−2). An end is exact with 2,147 passes or more, without errors to compare: it is left out."""
    rounds: Count = 3
    """How often replicates are added."""
    replicates: Count = 1
    """Runs of each design in one round."""
    pairs: Count = 16
    """Pairs on which a round follows the published protocol, 50 contexts each."""
    budget: Budget = 2000
    """Passes of one run: about what the published accuracy takes, so that little is left to a law of scaling."""
    seed: Natural = 0
    """Seed of photographs and coalitions."""
    speed: Literal["plain", "channels-last", "folded", "compiled"] = "folded"
    """How the model runs."""
    quick: bool = False
    """One image, one order and small rounds: minutes, for a look at the path."""


def run(settings: Settings) -> None:
    """Measure what is missing, then summarise everything that was measured."""
    from experiments.benchmarks.record import quickened, refuse_other_run
    from experiments.machine import pick_device, provenance
    from interactions.runs.lock import held
    from interactions.runs.storage import refuse_unwritable

    if settings.quick:
        settings = quickened(settings, images=1, ratios=(0.5,), rounds=2, replicates=2, pairs=12, budget=600)
    estimated_orders(settings)
    about = provenance(settings, pick_device("auto"))
    refuse_other_run(settings.out, "gain_least")
    refuse_unwritable(settings.out)
    photographs(settings)  # before a folder is made
    folders = dict.fromkeys(folder.resolve() for folder in (settings.out, settings.work))
    with ExitStack() as locks:
        for folder in folders:  # both are there before hours are spent
            locks.enter_context(held(folder))
        remember(settings)
        measure(settings)
        summarise(settings, about)


def remember(settings: Settings) -> None:
    """Write down what decides the measurements in the work folder, before the first of them.

    More rounds, images and orders add to what is there.

    Raises:
        ValueError: the folder holds those of other settings, or of unknown ones; says which.
    """
    import json

    from experiments.folders import read_json
    from interactions.runs.files import write_json

    path, now = settings.work / IDENTITY, json.loads(json.dumps(identity(settings)))
    if not path.exists():
        if any(settings.work.glob("image*.npz")):
            raise ValueError(f"nothing says with what settings {settings.work} was measured: give another --work")
        write_json(path, now)
        return
    there = read_json(path)
    changed = [
        f"{name} {there.get(name)} there, {value} now" for name, value in now.items() if there.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{settings.work} holds measurements with other settings ({'; '.join(changed)}): repeat them, or give "
            "another --work"
        )


def identity(settings: Settings) -> dict[str, Any]:
    """What decides the contents of a file of measurements, besides its name."""
    from interactions.fingerprint import names_digest

    names = photographs(settings).names or ()
    size = settings.data.stat().st_size if settings.data.is_file() else None
    data = {"photographs": len(names), "names": names_digest(names), "bytes": size}
    fixed = ("image_size", "replicates", "pairs", "budget", "seed", "speed")
    return data | {name: getattr(settings, name) for name in fixed}


def photographs(settings: Settings) -> "ImageData":
    """The data set, labelled for a model of ImageNet's 1,000 classes. Raises as the reader of images does."""
    from torchvision.transforms.functional import pil_to_tensor

    from experiments.datasets import open_images

    return open_images(str(settings.data), pil_to_tensor, model_classes=1000)


def estimated_orders(settings: Settings) -> dict[int, float]:
    """Orders with something to compare, and their ratios: not an end of which the budget holds every pair, since all
    designs are exact there.

    Raises:
        ValueError: none is left.
    """
    orders = all_orders(settings)
    if settings.budget < ends_passes():
        return orders
    kept = {order: ratio for order, ratio in orders.items() if order not in (0, 14**2 - 2)}
    if not kept:
        raise ValueError(
            f"every order asked for is exact with {settings.budget} passes: give --ratios between the ends, or a "
            f"--budget below {ends_passes()}"
        )
    return kept


def all_orders(settings: Settings) -> dict[int, float]:
    from interactions.grid import orders_of

    return dict(sorted(orders_of(settings.ratios, 14**2).items()))


def measure(settings: Settings) -> None:
    """Fill the work folder, one file for each (round, image, order), to which each design is added atomically."""
    from tqdm import tqdm

    from interactions.grid import PatchGrid

    grid = PatchGrid(14)
    settings.work.mkdir(parents=True, exist_ok=True)
    todo = [
        (turn, image, order)
        for turn in range(settings.rounds)
        for image in range(settings.images)
        for order in estimated_orders(settings)
        if set(MEASURED) - read_file(cell_file(settings, turn, image, order)).keys()
    ]
    if not todo:
        return
    game = photographs_game(settings, grid)
    bar = tqdm(total=len(todo), unit="cell", desc="estimators")
    for turn, image, order in todo:
        measure_cell(settings, game, grid, turn, image, order)
        bar.set_postfix(passes=game.passes)
        bar.update()


def photographs_game(settings: Settings, grid: "PatchGrid") -> "PatchGame":
    """The game of the chosen photographs: the first, in a seeded order, that the model classifies rightly.

    Raises ValueError where there are too few of them.
    """
    import torch

    from experiments.benchmarks.playing import readable
    from experiments.datasets import evaluation_transform
    from experiments.machine import pick_device
    from experiments.models import create_model, efficientnet_lite0_file
    from interactions.game import PatchGame

    model, config = create_model("tf_efficientnet_lite0", str(efficientnet_lite0_file()))
    device = pick_device("auto")
    model = model.eval().to(device)
    as_measured = {name: config[name] for name in ("input_size", "mean", "std")} | {"crop_pct": 0.875}
    data = replace(photographs(settings), transform=evaluation_transform(as_measured, settings.image_size))
    found: list[tuple[torch.Tensor, int | None]] = []
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    for image_CHW, label in readable(data, order):
        with torch.inference_mode():
            right = int(model(image_CHW[None].to(device)).argmax()) == label
        found += [(image_CHW, label)] if right else []
        if len(found) == settings.images:
            break
    else:
        raise ValueError(
            f"the model classifies only {len(found)} of the {len(data)} images in {settings.data} rightly, and "
            f"{settings.images} are asked for: give photographs with ImageNet labels, or fewer --images"
        )
    images, labels = zip(*found, strict=True)
    batch = 64 if device.type == "cpu" else None
    return PatchGame(model, torch.stack(images), torch.tensor(labels), grid, speed=settings.speed, batch_size=batch)


def cell_file(settings: Settings, turn: int, image: int, order: int) -> Path:
    """Where one round of one image and order is kept."""
    return settings.work / f"image{image}-order{order}-round{turn}.npz"


def read_file(path: Path) -> "dict[str, np.ndarray]":
    """What a file holds, by name; nothing where there is none. Raises ValueError for a damaged one."""
    from interactions.runs.files import read_arrays

    try:
        return read_arrays(path) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{error}: remove it, and its round is measured again") from error


def measure_cell(settings: Settings, game: "PatchGame", grid: "PatchGrid", turn: int, image: int, order: int) -> None:
    """One round: the published protocol on some pairs, and `replicates` runs of every design; what is there stays."""
    from experiments.benchmarks.playing import seed_of
    from interactions.runs.files import write_atomically

    path = cell_file(settings, turn, image, order)
    arrays: dict[str, Any] = read_file(path)
    for stream, name in enumerate(("published", *MEASURED)):
        if name in arrays:
            continue
        measured = measure_published if name == "published" else measure_design
        arrays |= measured(settings, game, grid, image, order, name, seed_of(settings.seed, turn, image, order, stream))
        write_atomically(path, partial(save_arrays, arrays))


def save_arrays(arrays: "dict[str, np.ndarray]", path: Path) -> None:
    import numpy as np

    with path.open("wb") as file:  # a name without .npz would get it
        np.savez(file, **arrays)  # type: ignore[arg-type]


def measure_published(
    settings: Settings, game: "PatchGame", grid: "PatchGrid", image: int, order: int, name: str, seed: int
) -> "dict[str, np.ndarray]":
    """Of some pairs with 50 contexts: the estimate, the product of two halves, and that averaged over all halvings."""
    import torch

    from interactions.estimators import pairwise

    generator, pairs = torch.Generator().manual_seed(seed), grid.neighbours(2)
    chosen = pairs[torch.randperm(len(pairs), generator=generator)[: settings.pairs]]
    passes = settings.pairs * 4 * CONTEXTS
    sample = pairwise.draw(order, chosen, grid.n_players, passes, generator, draws=CONTEXTS)
    run = sample.estimate(game(sample.coalitions_BN, image))
    products_SP = run.halvings.prod(1)
    return {name: torch.stack([run.mean, products_SP[0], products_SP.mean(0)]).cpu().numpy()}


def measure_design(
    settings: Settings, game: "PatchGame", grid: "PatchGrid", image: int, order: int, name: str, seed: int
) -> "dict[str, np.ndarray]":
    """What `replicates` runs of a design say, the passes they took, and the design they used."""
    import numpy as np
    import torch

    from interactions.estimators import estimate_interactions

    generator, pairs = torch.Generator().manual_seed(seed), grid.neighbours(2)
    runs = [
        estimate_interactions(game.of(image), order, pairs, settings.budget, name, generator)
        for _ in range(settings.replicates)
    ]
    return {
        name: np.array([estimands(run) for run in runs]),
        f"{name}_passes": np.array([run.passes for run in runs]),
        f"{name}_choice": np.array([run.design for run in runs]),
    }


def summarise(settings: Settings, about: dict[str, Any]) -> None:
    """cells.csv, gains.csv and run.json from everything that was measured."""
    import json
    import math

    import pandas as pd

    from interactions.runs.files import write_csv, write_json

    cells, orders = [], estimated_orders(settings)
    if exact := [str(order) for order in all_orders(settings) if order not in orders]:
        print(f"note: orders {', '.join(exact)} are exact with {settings.budget} passes and have no gain: left out")
    for order, ratio in orders.items():
        found = {image: read_cell(settings, image, order) for image in range(settings.images)}
        measured = {image: cell for image, cell in found.items() if cell and len(cell["auto_passes"]) > 1}
        if not measured:
            continue
        weights = design_weights(list(measured.values()))
        cells += [
            {"image": image, "order": order, "ratio": ratio} | cell_errors(cell, weights)
            for image, cell in measured.items()
        ]
    if not cells:
        raise ValueError(f"too little was measured in {settings.work}: run the benchmark for a round or more")
    gains = pd.DataFrame([order_gains(group) for _, group in pd.DataFrame(cells).groupby("order")])
    table = pd.DataFrame(cells).drop(columns=["abs_squares", "ms_squares"])
    summary = {name: value if math.isfinite(value) else None for name, value in headline(gains, table).items()}
    settings.out.mkdir(parents=True, exist_ok=True)
    for name, frame in (("cells", table), ("gains", gains)):
        write_csv(settings.out / f"{name}.csv", frame, float_format="%.4g")
    write_json(settings.out / "run.json", {**summary, **about})
    print(gains.to_string(index=False, float_format="%.2f"))
    print(json.dumps(summary, indent=1))


def read_cell(settings: Settings, image: int, order: int) -> "dict[str, np.ndarray] | None":
    """All complete rounds of one image and order, replicates stacked."""
    import numpy as np

    files = [read_file(cell_file(settings, turn, image, order)) for turn in range(settings.rounds)]
    parts = [arrays for arrays in files if not set(MEASURED) - arrays.keys()]
    if not parts:
        return None
    cell = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "published"}
    return cell | {"published": np.concatenate([part["published"] for part in parts], axis=1)}


def estimands(run: "Interactions") -> tuple[float, float]:
    """What a run says of one image: the mean square, and the corrected mean |I|."""
    import numpy as np

    from interactions.strength import corrected_abs, image_row

    row = image_row(run)
    total, difference = (np.array(row[name]) for name in ("mean_abs_sum", "mean_abs_difference"))
    return row["mean_square"], float(corrected_abs(total, difference))
