"""`a2mim bench regret`: regret of made-up measurements, and the command on a small network."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import cli
from experiments.benchmarks.regret import FIXED, compared, needs, regret
from interactions.estimators import Plan


def write_photos(folder, count):
    folder.mkdir()
    for k, each in enumerate(np.random.default_rng(0).integers(0, 256, size=(count, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(each).save(folder / f"{k}.png")


def test_needs_are_the_variance_between_images_and_the_designs_own():
    generator = np.random.default_rng(0)
    images, own_D = 40_000, np.array([2.0, 1.0, 3.0, 2.0])
    image_I = generator.normal(10, 2, images)
    squares_DRI = image_I + np.sqrt(own_D)[:, None, None] * generator.normal(size=(4, 2, images))
    steady_RI = np.full((2, images), 10.0)
    auto_RMI = np.stack([squares_DRI[0], steady_RI], 1)
    # J_rms² = 4a/(√a + √b)²: its derivative by a is 1/20 at a = b = 10, where b has none of the variance.
    assert needs(squares_DRI, auto_RMI, 0) == pytest.approx((4 + own_D) / 20**2, rel=0.05)
    assert regret(needs(squares_DRI, auto_RMI, 0)) == pytest.approx(6 / 5 - 1, abs=0.03)


def test_where_noise_rules_designs_are_compared_all_the_same():
    """Half of the mean squares are negative: a root has no slope there, its square has."""
    generator = np.random.default_rng(1)
    images, own_D = 40_000, np.array([2.0, 1.0, 3.0, 2.0])
    squares_DRI = generator.normal(0, 2, images) + np.sqrt(own_D)[:, None, None] * generator.normal(size=(4, 2, images))
    auto_RMI = np.stack([squares_DRI[0] - squares_DRI[0].mean() - 1e-3, np.full((2, images), 100.0)], 1)
    assert regret(needs(squares_DRI, auto_RMI, 0)) == pytest.approx(6 / 5 - 1, abs=0.03)


def test_a_design_that_the_budget_does_not_hold_is_left_out():
    generator = np.random.default_rng(0)
    squares = {order: 5 + generator.normal(size=(4, 2, 30)) for order in (1, 2)}
    squares[1][FIXED.index("pooled") + 1] = np.nan
    plans = {1: Plan("shared"), 2: Plan("pooled")}
    table = compared(squares, plans, {1: 0.2, 2: 0.4}, generator)
    assert np.isnan(table.pooled[0]) and table.regret.notna().all() and list(table.chosen) == ["shared", "pooled"]
    assert ((table.regret_low <= table.regret) & (table.regret <= table.regret_high)).all()


def test_every_design_measures_the_same_photographs(tmp_path, capsys):
    write_photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "0.png").write_bytes(b"no picture")
    small = ["--grid", "4", "--radius", "1", "--images", "3", "--budget", "160", "--ratios", "0", "0.5", "1"]
    words = ["bench", "regret", "test_resnet", "--weights", "random", "--data", str(tmp_path / "photos"), *small]
    assert cli.main([*words, "--out", str(tmp_path / "out"), "--image-size", "32", "--device", "cpu"]) == 0
    table = pd.read_csv(tmp_path / "out" / "test_resnet.csv")
    assert list(table.order) == [7] and list(table.images) == [3]
    assert (table[["auto", "pairwise", "pooled"]] > 0).all(axis=None)
    assert json.loads((tmp_path / "out" / "test_resnet.json").read_text())["images"] == 3
    said = capsys.readouterr()
    assert "regret" in said.out and "left out 0.png" in said.err


def test_too_few_images_are_refused_before_anything_is_measured(tmp_path, capsys):
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "1.png").write_bytes(b"no picture")
    for name in ("regret", "drop"):
        words = ["bench", name, "test_vit", "--weights", "random", "--data", str(tmp_path / "photos"), "--grid", "5"]
        assert cli.main([*words, "--images", "8", "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "only 2 of the 8 images asked for can be read" in said and "left out 1.png" in said
    assert not (tmp_path / "out").exists()
