"""`a2mim bench drop` on a small vision transformer."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import cli
from experiments.benchmarks import playing
from experiments.benchmarks.drop import Settings, needs, refuse_small_budget
from interactions.grid import PatchGrid, orders_of


def test_ratios_of_every_order(tmp_path, capsys):
    small = ["--grid", "5", "--radius", "1", "--ratios", "0.1", "--batch-size", "4", "--batches", "1"]
    few = ["--repeats", "2", "--images", "2", "--budget", "200", "--device", "cpu"]
    assert cli.main(["bench", "drop", "test_vit", "--out", str(tmp_path), *small, *few]) == 0
    table = pd.read_csv(tmp_path / "test_vit.csv")
    assert list(table.order) == [2] and (table.speed_low <= table.speed).all() and (table.images == 2).all()
    # Two images in the other order add up to another last bit.
    assert ((table.gain_low <= table.gain * (1 + 1e-9)) & (table.gain <= table.gain_high * (1 + 1e-9))).all()
    record = json.loads((tmp_path / "test_vit.json").read_text())
    assert len(record["seconds"]["2"]["first"]) == 2 and len(record["load_before"]) == 3
    assert cli.main(["bench", "drop", "test_vit", "--out", str(tmp_path), *small[:4], "--ratios", "0", "1"]) == 2
    assert "the first and the last order are exact" in capsys.readouterr().err


def test_passes_that_an_order_has_no_use_for_are_refused_before_anything_is_timed(tmp_path, capsys, monkeypatch):
    """The default was too small for the fourth of its own orders, and told when three had been timed."""
    usual = Settings()
    grid = PatchGrid(usual.grid)
    refuse_small_budget(usual, grid, orders_of(usual.ratios, grid.n_players))
    monkeypatch.setattr(playing, "play", None)
    words = ["bench", "drop", "test_vit", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--budget", "300"]) == 2
    assert "order 97" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_images_that_a_relative_error_takes():
    squares = np.array([1.0, 2.0, 3.0, 6.0])
    assert needs(squares) == pytest.approx(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 3 / 9)
