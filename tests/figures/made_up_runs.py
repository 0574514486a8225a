"""Folders such as `a2mim` commands write, with made-up but plausible contents."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tests.figures.made_up import strength_table


def write_run(folder: Path, command: str, **record: Any) -> Path:
    """run.json of a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"command": command, "status": "complete", "versions": {"a2mim": "0.1.0", "torch": "2.9"}, "seconds": 61.5}
    (folder / "run.json").write_text(json.dumps(about | record))
    return folder


def profile(folder: Path, seed: int = 0, missing_rms: tuple[int, ...] = (), **settings: Any) -> Path:
    """strength.csv, middle_mass.csv and the record of `a2mim profile`."""
    table = strength_table(seed, missing_rms=missing_rms)
    orders = [
        {"order": int(order), "ratio": ratio} for order, ratio in zip(table["order"], table["ratio"], strict=True)
    ]
    plan = {"grid": 14, "radius": 2, "value": "log_odds", "baseline": "mean", "target": "label", "budget": 3000}
    write_run(
        folder,
        "profile",
        model={"name": f"net {seed}", "class": "Net", "parameters": 1234567, "digest": f"digest{seed}"},
        data={"name": "photos", "images": 50, "digest": "abc"},
        settings=plan | settings,
        orders=orders,
        images=[{"image": k, "name": f"photo {k}", "target": 0} for k in range(50)],
        passes=1234567,
        commit="0123abc",
        machine={"accelerator": None, "processor": "x86_64", "cores": 2},
    )
    table.to_csv(folder / "strength.csv", index=False)
    middle = table[table["ratio"].between(0.299, 0.701)]
    rows = [
        [m, *(middle[f"{m}{end}"].mean() for end in ("", "_low", "_high")), 50] for m in ("J", "J_corrected", "J_rms")
    ]
    pd.DataFrame(rows, columns=["measure", "M", "M_low", "M_high", "images"]).to_csv(
        folder / "middle_mass.csv", index=False
    )
    return folder


def kept_pairs(folder: Path) -> Path:
    """A profile that kept the pairs of its first image at order 97."""
    g, cells = np.random.default_rng(0), np.arange(195)
    profile(folder)
    (folder / "pairs").mkdir()
    pairs = {"image": 0, "order": 97, "i": cells, "j": cells + 1, "mean": g.normal(size=195), "standard_error": 0.5}
    pd.DataFrame(pairs).to_parquet(folder / "pairs" / "unit-00000.parquet")
    return folder


def occlusion(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """occlusion.csv and shuffling.csv."""
    plan = {"grid": 14, "baseline": "mean", "masking": "after_normalisation", "saliency": "attributions"} | settings
    write_run(folder, "occlusion", model={"name": f"net {seed}"}, data={"name": "photos"}, settings=plan)
    shares = np.linspace(0, 1, 6)
    rows = []
    for power, kind in enumerate(("random", "salient", "non_salient"), 1):
        for share in shares:
            top1 = 80 * (1 - share**power) + seed
            rows.append([kind, share, round(196 * share), top1, top1 - 2, top1 + 2, 50, 3])
    columns = ["kind", "share", "dropped", "top1", "low", "high", "images", "seeds"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "occlusion.csv", index=False)
    shuffled = [[grid, 80 / grid, 80 / grid - 2, 80 / grid + 2, 50, 3] for grid in (1, 2, 4, 8)]
    pd.DataFrame(shuffled, columns=["grid", *columns[3:]]).to_csv(folder / "shuffling.csv", index=False)
    return folder


def spectrum(folder: Path, seed: int = 0, blocks: int = 24, frequencies: int = 57) -> Path:
    """spectrum.csv and variance.csv of a transformer whose attention and MLP blocks take turns."""
    write_run(folder, "spectrum", model={"name": f"net {seed}"}, data={"name": "photos"}, settings={})
    amplitudes, variances = [], []
    for block in range(blocks):
        depth, kind = block / (blocks - 1), ("attention", "mlp")[block % 2]
        about = [block, f"blocks.{block // 2}.{kind}", kind, depth]
        for frequency in np.linspace(0, 1, frequencies):
            value = -frequency * (2 + depth) - 0.1 * seed
            amplitudes.append([*about, frequency, value, value - 0.1, value + 0.1, 50])
        variances.append([*about, 1 + depth, 0.9 + depth, 1.1 + depth, 50])
    columns, ends = ["block", "name", "kind", "depth"], ["low", "high", "images"]
    pd.DataFrame(amplitudes, columns=[*columns, "frequency", "log_amplitude", *ends]).to_csv(
        folder / "spectrum.csv", index=False
    )
    pd.DataFrame(variances, columns=[*columns, "variance", *ends]).to_csv(folder / "variance.csv", index=False)
    return folder


def training(folder: Path, steps: int = 400, method: str = "a2mim", seed: int = 0) -> Path:
    """log.jsonl, run.json and the reconstructions of two times."""
    write_run(
        folder,
        "pretrain",
        settings={"method": method, "network": {"model": "vit_tiny"}, "data": {"data": "cifar10"}},
        finished=True,
        epochs=10,
        step=steps,
        images=50000,
        best={"top1": 63.5},
        last={"top1": 61.25 + seed, "val_images": 10000.0},
    )
    lines = [{"kind": "train", "step": step, "loss": 3 / (1 + step / 50), "lr": 1e-3} for step in range(1, steps + 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "pictures").mkdir()
    for step in (100, 400):
        shades = np.linspace(0, 1, 9 * 3 * 16 * 16, dtype=np.float32).reshape(9, 3, 16, 16)
        pictures = {"original": shades, "masked": 0.5 * shades, "predicted": 1.2 * shades, "composite": shades}
        np.savez(folder / "pictures" / f"step-{step:08d}.npz", **pictures)
    return folder


def study(folder: Path) -> Path:
    """The tables that a study writes, one figure with what it says of itself, and a pair map."""
    folder.mkdir(parents=True)
    methods = ("untrained", "supervised", "simmim", "a2mim")
    accuracy = [["vit", method, seed, 20.5 + 10 * k + seed, np.nan if k == 0 else 30.0 + k] for k, method in
                enumerate(methods) for seed in range(2)]  # fmt: skip
    pd.DataFrame(accuracy, columns=["network", "method", "seed", "top1", "knn"]).to_csv(
        folder / "accuracy.csv", index=False
    )
    masses = [
        ["vit", "frozen cosine", "J", method, seed, m := 0.8 + 0.1 * k + 0.02 * seed, m - 0.03, m + 0.04, 200]
        for k, method in enumerate(methods)
        for seed in range(2)
    ]
    names = ["network", "setup", "measure", "method", "seed", "M", "M_low", "M_high", "images"]
    pd.DataFrame(masses, columns=names).to_csv(folder / "masses.csv", index=False)
    rows = [["vit", "frozen cosine", "J", "a2mim", method, 0.3 - 0.1 * k, 0.25 - 0.1 * k, 0.36 - 0.1 * k, 200, 2]
            for k, method in enumerate(methods[:3])]  # fmt: skip
    names = ["network", "setup", "measure", "method_a", "method_b", "difference", "low", "high", "images", "seeds"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "differences.csv", index=False)
    Image.new("RGB", (660, 400), "#cfe8ff").save(folder / "fig5.png")
    (folder / "fig5.json").write_text(
        json.dumps({"figure": "fig5", "note": "Two of three seeds.", "runs": [{"name": "ViT"}]})
    )
    Image.new("RGB", (660, 400), "#ffe8cf").save(folder / "cat.png")
    pd.DataFrame({"cell": [0], "shapley": [1.0]}).to_csv(folder / "cat-cells.csv", index=False)
    return folder
