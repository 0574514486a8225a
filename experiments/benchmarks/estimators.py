"""`a2mim bench estimators`: how many passes the estimators need for the accuracy of the published protocol."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from interactions.game import PatchGame
    from interactions.grid import PatchGrid

PUBLISHED_PAIRS, PUBLISHED_CONTEXTS = 50, 50
PUBLISHED_PASSES = 4 * PUBLISHED_PAIRS * PUBLISHED_CONTEXTS
FIXED = ("pairwise", "shared", "pooled")
MEASURED = (*FIXED, "auto")


@dataclass(frozen=True)
class Settings:
    """Compare the estimators with the published protocol at equal error.

    EfficientNet-Lite0 with its ImageNet weights (the demo extra) on photographs that it classifies rightly, a 14×14
    grid, pairs within radius 2, log-odds. Two estimands for each image and order, over all pairs equally weighted: the
    mean |I| (the published raw mean of |Î| against the corrected mean that `auto` reports) and the mean square by split
    halves. The error level is the mean squared error of the published protocol, 50 pairs × 50 contexts = 10,000 passes;
    gain = 10,000 / the passes that `auto` needs for it, its pilot included. Work is done in rounds, each adding
    replicates to every image and order; stop it at any time and start it again. Writes gains.csv, regret.csv and
    run.json into the results folder.

    For example:
        a2mim bench estimators --data imagenet-1-per-class.tar --work runs/estimators
        a2mim bench estimators --data imagenet-1-per-class.tar --work runs/quick --quick
        a2mim bench estimators --data imagenet-1-per-class.tar --work runs/gpu --image-size 224 --ratios 0 0.05 0.1 0.5
    """

    data: Path
    """Photographs with ImageNet labels: a folder of class folders, or a tar."""
    work: Path
    """Folder for the raw measurements, one file for each image, order and round."""
    out: Path = Path("experiments/results/estimators")
    """Folder of the results."""
    image_size: int = 112
    """Pixels along a side."""
    images: int = 4
    """Photographs."""
    ratios: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Orders m/(n−2); the ends are exact and reported apart."""
    rounds: int = 5
    """How often replicates are added."""
    replicates: int = 2
    """Runs of each design in one round."""
    pairs: int = 16
    """Pairs on which a round follows the published protocol, 50 contexts each."""
    budget: int = 1000
    """Passes of one run."""
    seed: int = 0
    """Seed of photographs and coalitions."""
    compile: bool = False
    """torch.compile the model."""
    quick: bool = False
    """One image, one order and small rounds: minutes, for a look at the path."""


def run(settings: Settings) -> None:
    """Measure what is missing, then summarise everything that was measured."""
    from dataclasses import replace

    if settings.quick:
        settings = replace(settings, images=1, ratios=(0.5,), rounds=2, replicates=2, pairs=12, budget=600)
    measure(settings)
    summarise(settings)


def measure(settings: Settings) -> None:
    """Fill the work folder, one atomic file for each (round, image, order)."""
    from tqdm import tqdm

    from interactions.grid import PatchGrid, orders_of

    grid = PatchGrid(14)
    settings.work.mkdir(parents=True, exist_ok=True)
    todo = [
        (turn, image, order)
        for turn in range(settings.rounds)
        for image in range(settings.images)
        for order in orders_of(settings.ratios, grid.n_players)
        if not cell_file(settings, turn, image, order).exists()
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
    """The game of the chosen photographs: the first, in a seeded order, that the model classifies rightly."""
    import torch
    from timm.data import create_dataset, create_transform

    from experiments.models import create_model, efficientnet_lite0_file
    from interactions.game import PatchGame

    model, config = create_model("tf_efficientnet_lite0", str(efficientnet_lite0_file()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().to(device)
    size = (3, settings.image_size, settings.image_size)
    data = create_dataset("", root=str(settings.data))
    data.transform = create_transform(size, mean=config["mean"], std=config["std"], crop_pct=0.875)
    found: list[tuple[torch.Tensor, int]] = []
    for index in torch.randperm(len(data), generator=torch.Generator().manual_seed(settings.seed)).tolist():
        image_CHW, label = data[index]
        with torch.inference_mode():
            right = int(model(image_CHW[None].to(device)).argmax()) == label
        found += [(image_CHW, label)] if right else []
        if len(found) == settings.images:
            break
    images, labels = zip(*found, strict=True)
    batch = 64 if device == "cpu" else None
    layout = {"channels_last": device == "cpu", "compile": settings.compile, "batch_size": batch}
    return PatchGame(model, torch.stack(images), torch.tensor(labels), grid, **layout)  # type: ignore[arg-type]


def cell_file(settings: Settings, turn: int, image: int, order: int) -> Path:
    """Where one round of one image and order is kept."""
    return settings.work / f"image{image}-order{order}-round{turn}.npz"


def measure_cell(settings: Settings, game: "PatchGame", grid: "PatchGrid", turn: int, image: int, order: int) -> None:
    """One round: the published protocol on some pairs, and `replicates` runs of every design."""
    import os

    import numpy as np
    import torch

    from interactions.estimators import estimate_interactions, pairwise

    pairs = grid.neighbours(2)
    entropy = np.random.SeedSequence((settings.seed, turn, image, order)).generate_state(1)
    generator = torch.Generator().manual_seed(int(entropy[0]))
    chosen = pairs[torch.randperm(len(pairs), generator=generator)[: settings.pairs]]
    contexts = settings.pairs * 4 * PUBLISHED_CONTEXTS
    sample = pairwise.draw(order, chosen, grid.n_players, contexts, generator, draws=PUBLISHED_CONTEXTS)
    published = sample.estimate(game(sample.coalitions_BN, image))
    arrays: dict[str, Any] = {"published": published.halves.cpu().numpy()}
    for design in MEASURED:
        runs = [
            estimate_interactions(game.of(image), order, pairs, settings.budget, design, generator)
            for _ in range(settings.replicates)
        ]
        arrays[f"{design}_halves"] = np.stack([run.halves.cpu().numpy() for run in runs]).astype(np.float32)
        arrays[f"{design}_passes"] = np.array([run.passes for run in runs])
        arrays[f"{design}_choice"] = np.array([run.design for run in runs])
    path = cell_file(settings, turn, image, order)
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, **arrays)
    os.replace(temporary, path)


def summarise(settings: Settings) -> None:
    """gains.csv and regret.csv from all measured cells, with bootstrap intervals, and run.json."""
    import json
    import os

    import pandas as pd

    from interactions.grid import orders_of

    rows, regrets = [], []
    for order, ratio in sorted(orders_of(settings.ratios, 14**2).items()):
        for image in range(settings.images):
            cell = read_cell(settings, image, order)
            if cell is not None:
                key = {"image": image, "order": order, "ratio": ratio}
                gains, errors = cell_gains(cell)
                rows.append(key | gains)
                regrets.append(key | errors)
    if not rows:
        raise ValueError(f"nothing was measured in {settings.work}: run the benchmark first")
    table = pd.DataFrame(rows)
    by_order = table.groupby(["order", "ratio"])[["gain_abs", "gain_ms", "gain"]].agg(geometric_mean).reset_index()
    settings.out.mkdir(parents=True, exist_ok=True)
    for name, frame in (("gains", by_order), ("cells", table), ("regret", pd.DataFrame(regrets))):
        temporary = settings.out / f".{name}.csv"
        frame.to_csv(temporary, index=False, float_format="%.5g")
        os.replace(temporary, settings.out / f"{name}.csv")
    record = provenance(settings) | headline(by_order, pd.DataFrame(regrets))
    (settings.out / "run.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    print(by_order.to_string(index=False, float_format="%.2f"))
    print(json.dumps(headline(by_order, pd.DataFrame(regrets)), indent=1))


def read_cell(settings: Settings, image: int, order: int) -> "dict[str, np.ndarray] | None":
    """All rounds of one image and order, replicates stacked."""
    import numpy as np

    files = [cell_file(settings, turn, image, order) for turn in range(settings.rounds)]
    parts = [dict(np.load(file)) for file in files if file.exists()]
    if not parts:
        return None
    cell = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "published"}
    return cell | {"published": np.concatenate([part["published"] for part in parts], axis=1)}


def cell_gains(cell: "dict[str, np.ndarray]") -> "tuple[dict[str, Any], dict[str, Any]]":
    """Gains of `auto` for one image and order, and each design's error at the budget.

    The mean square by halves is unbiased for every design, so its squared error is its variance: over replicates, and
    for the published protocol over its pairs, drawn anew 50 at a time. The mean |I| is biased, so there the square of
    the bias is added, estimated without its own noise.
    """
    import numpy as np

    reference = references(cell)
    raw_P = np.abs(cell["published"].mean(0))
    product_P = cell["published"].prod(0)
    published_abs = raw_P.var(ddof=1) / PUBLISHED_PAIRS + squared_bias(raw_P, reference["A"], reference["A_variance"])
    published_ms = product_P.var(ddof=1) / PUBLISHED_PAIRS
    runs = {design: np.array([estimands(halves) for halves in cell[f"{design}_halves"]]) for design in MEASURED}
    errors_ms = {design: float(values[:, 0].var(ddof=1)) for design, values in runs.items()}
    errors_abs = {
        design: float(values[:, 1].var(ddof=1) + squared_bias(values[:, 1], reference["A"], reference["A_variance"]))
        for design, values in runs.items()
    }
    passes = float(cell["auto_passes"].mean())
    gain_ms = PUBLISHED_PASSES / (passes * runs_needed(cell, 0, errors_ms["auto"], published_ms))
    gain_abs = PUBLISHED_PASSES / (passes * runs_needed(cell, 1, errors_abs["auto"], published_abs))
    gains = {
        "mean_square": reference["mean_square"],
        "mean_square_error": reference["mean_square_variance"] ** 0.5,
        "A": reference["A"],
        "A_error": reference["A_variance"] ** 0.5,
        "published_A": float(raw_P.mean()),
        "published_rmse_abs": float(published_abs**0.5),
        "published_rmse_ms": float(published_ms**0.5),
        "auto_rmse_abs": errors_abs["auto"] ** 0.5,
        "auto_rmse_ms": errors_ms["auto"] ** 0.5,
        "auto_passes": passes,
        "replicates": len(cell["auto_choice"]),
        "gain_abs": gain_abs,
        "gain_ms": gain_ms,
        "gain": min(gain_abs, gain_ms),
    }
    names, counts = np.unique(cell["auto_choice"], return_counts=True)
    chosen = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    best = min(errors_ms[design] for design in FIXED)
    rmse = {f"{design}_rmse_ms": error**0.5 for design, error in errors_ms.items()}
    return gains, {"chosen": chosen, **rmse, "regret": (errors_ms["auto"] / best) ** 0.5 - 1}


def references(cell: "dict[str, np.ndarray]") -> dict[str, float]:
    """Mean square and mean |I| from everything that was measured, sources weighted by their precision.

    Sources are the runs of each design, and the published pairs with their 50 contexts, noise corrected. Their
    variances come from replicates and, for the published pairs, from the pairs.
    """
    import numpy as np

    estimates, variances = [], []
    for design in FIXED:
        values_RE = np.array([estimands(halves) for halves in cell[f"{design}_halves"]])
        estimates.append(values_RE.mean(0))
        variances.append(values_RE.var(0, ddof=1) / len(values_RE))
    halves_2P = cell["published"]
    resampled = np.random.default_rng(0).integers(0, halves_2P.shape[1], (400, halves_2P.shape[1]))
    estimates.append(np.array(estimands(halves_2P)))
    variances.append(np.var([estimands(halves_2P[:, index_P]) for index_P in resampled], axis=0))
    precision = 1 / np.maximum(np.array(variances), 1e-30)
    mean = (np.array(estimates) * precision).sum(0) / precision.sum(0)
    variance = 1 / precision.sum(0)
    names = ("mean_square", "A")
    return dict(zip(names, map(float, mean), strict=True)) | {
        f"{name}_variance": float(variance[k]) for k, name in enumerate(names)
    }


def squared_bias(values: "np.ndarray", truth: float, truth_variance: float) -> float:
    """Unbiased estimate of (E values − truth)², but not below 0."""
    noise = values.var(ddof=1) / len(values) + truth_variance
    return max(float((values.mean() - truth) ** 2 - noise), 0.0)


def estimands(halves_2P: "np.ndarray") -> tuple[float, float]:
    """Mean square by split halves, and the corrected mean |I|, over the pairs that have both halves."""
    import numpy as np

    from interactions.strength import corrected_abs

    first_P, second_P = halves_2P[:, np.isfinite(halves_2P).all(0)].astype(np.float64)
    mean_abs = [np.abs(first_P + sign * second_P).mean() / 2 for sign in (1, -1)]
    return float((first_P * second_P).mean()), float(corrected_abs(*(np.array(value) for value in mean_abs)))


def runs_needed(cell: "dict[str, np.ndarray]", which: int, error: float, target: float) -> float:
    """How many runs of auto, merged into one, have the squared error `target`.

    The error falls as a power of the passes, between 1 (noise of single draws, sampling of pairs) and 2 (a product of
    two noisy halves); the power is fitted to runs merged by twos and fours, each with its own pilots.
    """
    import numpy as np

    halves_RHP = cell["auto_halves"]
    runs, generator = len(halves_RHP), np.random.default_rng(0)
    sizes = [size for size in (1, 2, 4) if size <= runs // 2]
    spreads = []
    for size in sizes:
        shuffles = [generator.permutation(runs)[: runs // size * size].reshape(-1, size) for _ in range(10)]
        values = [[estimands(mean_present(halves_RHP[group]))[which] for group in groups] for groups in shuffles]
        spreads.append(np.mean([np.var(one, ddof=1) for one in values]))
    slope = np.polyfit(np.log(sizes), np.log(spreads), 1)[0] if len(sizes) > 1 else -1.0
    power = float(np.clip(-slope, 1.0, 2.0))
    return float((error / max(target, 1e-30)) ** (1 / power))


def mean_present(halves_RHP: "np.ndarray") -> "np.ndarray":
    """Mean over runs of the halves that are there; NaN where no run measured a pair."""
    import numpy as np

    present = np.isfinite(halves_RHP)
    with np.errstate(invalid="ignore"):
        return np.where(present, halves_RHP, 0).sum(0) / present.sum(0)


def geometric_mean(values: "pd.Series") -> float:
    """exp of the mean logarithm."""
    import numpy as np

    return float(np.exp(np.log(values).mean()))


def headline(gains: "pd.DataFrame", regrets: "pd.DataFrame") -> dict[str, Any]:
    """What the benchmark is about, in a few numbers; at the ends every design is exact, with no error at all."""
    return {
        "gain_geometric_mean": geometric_mean(gains.gain),
        "gain_least": float(gains.gain.min()),
        "auto_within_15_percent": float((regrets.regret <= 0.15).mean()),
        "regret_median": float(regrets.regret.median()),
        "ends_passes": ends_passes(),
        "ends_gain": PUBLISHED_PASSES / ends_passes(),
    }


def ends_passes() -> int:
    """Passes that an exact measurement of order 0 or n − 2 takes."""
    from interactions.estimators.shared import draw_exact
    from interactions.grid import PatchGrid

    grid = PatchGrid(14)
    return len(draw_exact(0, grid.neighbours(2), grid.n_players).coalitions_BN)


def provenance(settings: Settings) -> dict[str, Any]:
    """Settings, machine and versions."""
    from experiments.machine import machine, pick_device

    return {"settings": asdict(settings), **machine(pick_device("auto"))}
