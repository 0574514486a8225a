"""`a2mim bench estimators`: what it measures goes on design by design, and its gains are those of made-up errors."""

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from experiments.benchmarks import estimators as bench
from experiments.benchmarks.gains import cell_errors, design_weights, gain, order_gains, squared_bias
from interactions.grid import PatchGrid
from tests.a2mim.tiny import write_images

SETTINGS = bench.Settings(data=Path("none"), work=Path("none"), pairs=4, budget=400, replicates=1)


class Smooth:
    """A game whose value is a smooth function of the number of cells shown, and the passes it has played."""

    n_players = 196

    def __init__(self) -> None:
        self.passes = 0

    def of(self, image: int) -> "Smooth":
        return self

    def __call__(self, coalitions_BN: torch.Tensor, image: int = 0) -> torch.Tensor:
        self.passes += len(coalitions_BN)
        weight_N = torch.linspace(0, 1, 196, dtype=torch.float64)
        return torch.tanh(coalitions_BN.double() @ weight_N / 40) + 0.01 * coalitions_BN.double().sum(1)


def measure(folder: Path) -> tuple[dict, int]:
    settings, game = replace(SETTINGS, work=folder), Smooth()
    bench.measure_cell(settings, game, PatchGrid(14), 0, 1, 97)  # type: ignore[arg-type]
    return bench.read_file(bench.cell_file(settings, 0, 1, 97)), game.passes


def test_a_round_that_was_interrupted_goes_on_design_by_design(tmp_path):
    (tmp_path / "whole").mkdir()
    whole, passes = measure(tmp_path / "whole")
    # 4 published pairs with 50 contexts, and one run of each design.
    assert passes == 4 * 4 * 50 + sum(int(whole[f"{design}_passes"].sum()) for design in bench.MEASURED)
    assert all(whole[design].shape == (1, 2) for design in bench.MEASURED) and whole["published"].shape == (3, 4)
    (tmp_path / "part").mkdir()
    path = bench.cell_file(replace(SETTINGS, work=tmp_path / "part"), 0, 1, 97)
    np.savez(path, **{name: values for name, values in whole.items() if not name.startswith("shared")})
    part, passes = measure(tmp_path / "part")
    assert passes == int(whole["shared_passes"].sum())
    assert whole.keys() == part.keys() and all(np.array_equal(whole[name], part[name]) for name in whole)
    assert measure(tmp_path / "part")[1] == 0


@pytest.mark.parametrize("change", [{"seed": 1}, {"image_size": 64}, {"budget": 500}, {"replicates": 2}, {"data": "b"}])
def test_measurements_of_other_settings_are_refused(tmp_path, change):
    """They were kept, and the new settings written beside them."""
    for name, count in (("a", 1), ("b", 2)):
        write_images(tmp_path / name, per_class=count, classes=2)
    settings = replace(SETTINGS, data=tmp_path / "a", work=tmp_path / "work")
    bench.remember(settings)
    bench.remember(replace(settings, rounds=9, images=7))
    changed = {name: tmp_path / value if name == "data" else value for name, value in change.items()}
    with pytest.raises(ValueError, match="holds measurements with other settings"):
        bench.remember(replace(settings, **changed))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "image0-order97-round0.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="nothing says with what settings"):
        bench.remember(replace(settings, work=tmp_path / "old"))


def test_a_damaged_round_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"a\.npz cannot be read .*: remove it, and its round is measured again"):
        bench.read_file(tmp_path / "a.npz")


class Brightness(torch.nn.Module):
    """Class 0 is dark, class 1 bright."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        light_B = x_BCHW.mean((1, 2, 3))
        return torch.stack([-light_B, light_B], 1)


def test_a_damaged_photograph_is_told_and_left_out(tmp_path, monkeypatch, capsys):
    """Another one took its place before, and was measured twice."""
    noise = np.random.default_rng(0).integers(0, 40, (64, 64, 3), dtype=np.uint8)
    for name, light in (("a/0", 20), ("a/1", 30), ("b/0", 200)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise + np.uint8(light)).save(path)
    damaged = tmp_path / "a" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    config = {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setattr("experiments.models.create_model", lambda *_: (Brightness(), config))
    monkeypatch.setattr("experiments.models.efficientnet_lite0_file", lambda: "none")
    settings = replace(SETTINGS, data=tmp_path, images=2, image_size=56)
    game = bench.photographs_game(settings, PatchGrid(14))
    assert sorted((game.images_ICHW.mean((1, 2, 3)) > 0).tolist()) == [False, True]
    with pytest.raises(ValueError, match="classifies only 2 of the 3 images"):
        bench.photographs_game(replace(settings, images=3), PatchGrid(14))
    assert "left out a/1.png: " in capsys.readouterr().err


def made_up_cell(rng, truth, published_spread, spreads, replicates):
    """A cell in which everything is normal: mean square `truth`, mean |I| its root, whatever the design."""
    square_P = rng.normal(truth, published_spread, 20_000)
    cell = {"published": np.stack([np.sqrt(truth) + rng.normal(0, 0.01, 20_000), square_P, square_P])}
    for design, spread in spreads.items():
        cell[design] = np.stack([rng.normal(truth, spread, replicates), rng.normal(truth**0.5, 1e-4, replicates)], 1)
        cell[f"{design}_passes"] = np.full(replicates, 2000)
        cell[f"{design}_choice"] = np.full(replicates, design)
    return cell


def test_gains_and_regret_of_made_up_errors():
    rng = np.random.default_rng(0)
    published_error = 0.02
    spreads = {"pairwise": 0.04, "shared": 0.02, "pooled": 0.01, "auto": 0.012}
    cells = [made_up_cell(rng, 0.3, published_error * 50**0.5, spreads, 3000) for _ in range(3)]
    weights = design_weights(cells)
    for design, spread in spreads.items():
        if design != "auto":
            assert weights[design][0] == pytest.approx((0.3 / spread) ** 2, rel=0.06)
    errors = [cell_errors(cell, weights) for cell in cells]
    for row in errors:
        assert row["mean_square"] == pytest.approx(0.3, abs=4 * row["reference_rmse_ms"])
        assert row["published_rmse_ms"] == pytest.approx(published_error, rel=0.05)
        assert row["auto_rmse_ms"] == pytest.approx(0.012, rel=0.06)
    table = pd.DataFrame([{"image": k, "order": 97, "ratio": 0.5} | row for k, row in enumerate(errors)])
    gains = order_gains(table, resamples=50)
    # 0.36 of the published squared error: at least the passes over its root.
    assert gains["gain_ms"] == pytest.approx(10_000 / (2000 * 0.6), rel=0.06)
    assert gains["gain_low"] <= gains["gain"] <= gains["gain_high"] and gains["gain"] == gains["gain_ms"]
    assert gains["regret"] == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize(("error", "passes", "expected"), [(1, 2000, 5), (0.25, 2000, 10), (4, 2000, 1.25)])
def test_the_law_that_gives_the_smaller_gain_is_used(error, passes, expected):
    assert gain(error, passes) == expected


def test_the_bias_of_values_that_are_off_is_found_and_noise_is_none():
    rng = np.random.default_rng(1)
    assert squared_bias(rng.normal(2, 0.1, 5000), 1.5, 0.0) == pytest.approx(0.25, rel=0.05)
    found = [squared_bias(rng.normal(2, 0.1, 20), 2.0, 0.0) for _ in range(500)]
    assert np.mean(found) < 0.1**2 / 20


def test_too_little_measured_is_said(tmp_path):
    with pytest.raises(ValueError, match="too little was measured"):
        bench.summarise(replace(SETTINGS, work=tmp_path, out=tmp_path / "results"), {})
    assert not (tmp_path / "results").exists()


def test_exact_orders_have_no_gain(tmp_path, monkeypatch, capsys):
    """Their errors are 0, by which the summary divided after all the measuring."""
    spreads = dict.fromkeys(("pairwise", "shared", "pooled", "auto"), 0.02)
    cell = made_up_cell(np.random.default_rng(0), 0.3, 0.1, spreads, 20)
    exact = cell | {design: np.tile([0.25, 0.5], (20, 1)) for design in spreads}
    monkeypatch.setattr(bench, "read_cell", lambda settings, image, order: exact if order in (0, 194) else cell)
    settings = replace(SETTINGS, work=tmp_path / "work", out=tmp_path, ratios=(0, 0.5, 1), images=1, budget=2147)
    bench.summarise(settings, {})
    assert list(pd.read_csv(tmp_path / "gains.csv").order) == [97]
    assert "orders 0, 194 are exact with 2147 passes" in capsys.readouterr().out
    assert list(bench.estimated_orders(replace(settings, budget=2146))) == [0, 97, 194]
    with pytest.raises(ValueError, match="every order asked for is exact"):
        bench.run(replace(settings, ratios=(0, 1)))


def test_what_a_killed_summary_left_beside_the_results_goes(tmp_path, monkeypatch):
    spreads = dict.fromkeys(("pairwise", "shared", "pooled", "auto"), 0.02)
    cell = made_up_cell(np.random.default_rng(0), 0.3, 0.1, spreads, 20)
    monkeypatch.setattr(bench, "read_cell", lambda *_: cell)
    left = [tmp_path / f".{name}.4194305@{platform.node()}.tmp" for name in ("cells.csv", "gains.csv", "run.json")]
    for path in left:
        path.touch()
    bench.summarise(replace(SETTINGS, work=tmp_path / "work", out=tmp_path, ratios=(0.5,), images=1), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.csv", "gains.csv", "run.json"]
