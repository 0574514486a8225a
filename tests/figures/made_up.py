"""Tables such as a measuring run writes, with made-up but plausible numbers."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

RATIOS = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
NOTE = "mean square not above 0"


def strength_table(seed: int = 0, n: int = 196, floor: float = 1e-5, missing_rms: tuple[int, ...] = ()) -> pd.DataFrame:
    """A U-shaped strength, lifted in the middle by noise where it is raw; `missing_rms` are row numbers."""
    g = np.random.default_rng(seed)
    rms = 0.1 + (RATIOS - 0.45) ** 2 * (1 + 0.2 * g.random(RATIOS.size))
    rms[list(missing_rms)] = np.nan
    corrected = 0.08 + 0.75 * (RATIOS - 0.45) ** 2
    raw = np.hypot(corrected, 0.06 * RATIOS * (1 - RATIOS))
    measures = {
        "A": raw,
        "A_corrected": corrected,
        "rms": rms,
        "J": raw / raw.mean(),
        "J_corrected": corrected / corrected.mean(),
        "J_rms": rms / np.nanmean(rms),
        "mean_square": np.where(np.isnan(rms), -0.001, rms**2),
    }
    table = pd.DataFrame({"order": ((n - 2) * RATIOS).astype(int), "ratio": RATIOS, "images": 50, "floor": floor})
    table["near_floor"] = corrected < 10 * floor
    for name, values in measures.items():
        width = 0.04 * np.abs(values) * (1 + g.random(RATIOS.size))
        table[name], table[f"{name}_low"], table[f"{name}_high"] = values, values - width, values + width
    table["rms_note"] = np.where(np.isnan(rms), NOTE, "")
    return table


def course_table(seed: int = 0, states: int = 9, epochs: float = 3.0) -> pd.DataFrame:
    """A U that turns into a slope while it trains, and M that falls."""
    parts = []
    for k, share in enumerate(np.linspace(0, 1, states)):
        table = strength_table(seed)
        for end in ("", "_low", "_high"):
            table[f"J_rms{end}"] = (1 - share) * table[f"J_rms{end}"] + share * (0.4 + 2 * table["ratio"] ** 2)
        mass = 1.2 - 0.5 * share + 0.02 * seed
        parts.append(table.assign(step=100 * k, epoch=epochs * share, M=mass, M_low=mass - 0.1, M_high=mass + 0.12))
    return pd.concat(parts, ignore_index=True)


def texts(figure: Figure) -> list[str]:
    """Every text that is seen in the figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]  # type: ignore[attr-defined]


def occlusion_table(level: float = 80.0) -> pd.DataFrame:
    """Accuracy that falls to chance, later for cells that matter less."""
    rows = []
    for kind, power in {"random": 2.0, "salient": 1.0, "non_salient": 4.0}.items():
        for share in np.linspace(0, 1, 6):
            top1 = 10 + (level - 10) * (1 - share**power)
            rows.append((kind, share, round(64 * share), top1, top1 - 2, top1 + 1.5, 500, 3))
    return pd.DataFrame(rows, columns=["kind", "share", "dropped", "top1", "low", "high", "images", "seeds"])


def block_tables(level: float = 1.0, attention: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """spectrum.csv and variance.csv of a stem and six blocks."""
    kinds = ["stem", *["attention" if attention else "conv", "mlp" if attention else "conv"] * 3]
    spectrum, variance = [], []
    for k, kind in enumerate(kinds):
        block = (k, f"block {k}", kind, k / 6)
        spread = level * (1 + k**2)
        variance.append((*block, spread, 0.9 * spread, 1.2 * spread, 40))
        for frequency in (0.0, 0.5, 1.0):
            amplitude = -level * frequency * (5 - k / 2)
            spectrum.append(
                (*block, frequency, amplitude, amplitude - 0.2 * frequency, amplitude + 0.1 * frequency, 40)
            )
    block_columns = ["block", "name", "kind", "depth"]
    return (
        pd.DataFrame(spectrum, columns=[*block_columns, "frequency", "log_amplitude", "low", "high", "images"]),
        pd.DataFrame(variance, columns=[*block_columns, "variance", "low", "high", "images"]),
    )


def masses_table(seeds: int = 3) -> pd.DataFrame:
    """masses.csv of two networks, two set-ups and three methods."""
    rows = []
    for network, setup in product(("vit", "cnn"), ("fine-tuned log_odds", "frozen cosine")):
        for k, (measure, method) in enumerate(
            product(("J", "J_corrected", "J_rms"), ("untrained", "supervised", "a2mim"))
        ):
            for seed in range(seeds):
                mass = 0.5 + k / 20 + seed / 100 + (network == "cnn") / 5 + (setup == "frozen cosine") / 10
                rows.append((network, setup, measure, method, seed, mass, mass - 0.06, mass + 0.05, 100))
    columns = ["network", "setup", "measure", "method", "seed", "M", "M_low", "M_high", "images"]
    return pd.DataFrame(rows, columns=columns)


def sweep_table(seeds: int = 3) -> pd.DataFrame:
    """token_position.csv of two networks."""
    places = {"vit": ["patch_embed", "blocks.1", "blocks.2"], "cnn": ["stem", "stages.1"]}
    rows = [
        (network, position, seed, 80 + 2 * k + seed * (1 + k) / 4)
        for network, positions in places.items()
        for k, position in enumerate(positions)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["network", "position", "seed", "top1"])


def transfer_tables(runs: int = 5) -> dict[str, pd.DataFrame]:
    """transfer.csv of two set-ups on one data set, random weights first, and probes of `runs` networks with M on
    another; and correlation.csv."""
    rows = []
    for setup, (run, gain) in product(("linear, frozen", "fpn, fine-tuned"), (("random", None), ("ImageNet", 24.0))):
        value = 16 + (gain or 0)
        apart = (np.nan,) * 3 if gain is None else (gain, gain - 1, gain + 1)
        rows.append(
            (run, "segment", "camvid-320", setup, "miou", value, value - 1, value + 1, *apart, 101, *(np.nan,) * 3)
        )
    for k in range(runs):
        value, M = 40 + 3 * k - 8 * (k == 2), 0.9 + k / 10
        ends = (value, value - 1, value + 1, *(np.nan,) * 3, 10_000, M, M - 0.05, M + 0.05)
        rows.append((f"net {k}", "linear", "cifar10-test", "attentive", "top1", *ends))
    columns = ["run", "task", "data", "setup", "measure", "value", "low", "high"]
    columns += ["difference", "difference_low", "difference_high", "images", "M", "M_low", "M_high"]
    ranks = [("linear", "cifar10-test", "attentive", "top1", 0.7, -0.2, 1.0, 0.2, runs)]
    named = ["task", "data", "setup", "measure", "rho", "low", "high", "p", "runs"]
    return {"transfer.csv": pd.DataFrame(rows, columns=columns), "correlation.csv": pd.DataFrame(ranks, columns=named)}


def pictures(seed: int = 0, count: int = 3) -> dict[str, np.ndarray]:
    """Reconstructions as training writes them: float32, N×3×H×W; the seed changes the prediction alone."""
    original = np.random.default_rng(0).random((count, 3, 16, 24), dtype=np.float32)
    predicted = np.random.default_rng(seed + 1).random((count, 3, 16, 24), dtype=np.float32)
    masked = original.copy()
    masked[:, :, :8, :8] = 0.5
    return {"original": original, "masked": masked, "predicted": predicted, "composite": predicted}


def record(command: str = "profile", **changes) -> dict:
    """run.json of a measuring run."""
    settings = {"grid": 8, "value": "log_odds", "baseline": "mean", "radius": 2, "masking": "after_normalisation"}
    return {
        "command": command,
        "model": {"name": "a net (random)", "digest": "0123456789abcdef"},
        "data": {"name": "some/where/photos.tar", "images": 1000, "digest": "fedcba9876543210"},
        "settings": settings | {"saliency": "gradient"} | changes,
        "images": [{"image": k, "name": f"{k}.png"} for k in range(50)],
        "versions": {"a2mim": "0.1.0", "torch": "2.9"},
        "commit": "89abcdef",
        "status": "complete",
    }


def write_run(folder: Path, tables: dict[str, pd.DataFrame] | None = None, about: dict | None = None) -> Path:
    """A run's folder with these tables and this run.json (none where it is None)."""
    folder.mkdir(parents=True)
    for name, table in (tables or {}).items():
        table.to_csv(folder / name, index=False)
    if about is not None:
        (folder / "run.json").write_text(json.dumps(about))
    return folder
