"""`a2mim bench errors`: the game in its table, and what is told against what is."""

import pandas as pd
import pytest
import torch

from experiments import cli
from experiments.benchmarks.errors import Settings, in_a_table, of_design
from interactions.estimators import Plan
from interactions.grid import PatchGrid

SETTINGS = Settings(repeats=60)


def curved(coalitions_BN, image=0):
    """Every pair interacts, by how many cells are there."""
    return (coalitions_BN.double() @ torch.linspace(0.2, 1, coalitions_BN.shape[1]).double()).square()


def test_the_table_holds_the_game():
    coalitions_BN = torch.rand(50, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    table = in_a_table(curved, 9)
    torch.testing.assert_close(table(coalitions_BN), curved(coalitions_BN))


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_errors_that_are_told_too_small_are_found(factor, monkeypatch):
    """A game of noise: each of its values is its own."""
    values_B = torch.randn(512, generator=torch.Generator().manual_seed(1)).double()
    game = in_a_table(lambda coalitions_BN, image: values_B, 9)
    plan = Plan("pooled")
    if factor > 1:
        draw = plan_with_small_errors(factor)
        monkeypatch.setattr("interactions.estimators.draw", draw)
    row = of_design(SETTINGS, game, plan, 3, PatchGrid(3), 2400)
    assert row["known"] == 1 and row["repeats"] == 60
    assert row["z_variance"] == pytest.approx(factor**2, rel=0.25)
    assert row["z_variance_low"] < row["z_variance"] < row["z_variance_high"]
    assert row["mean_square_low"] < 1 < row["mean_square_high"]


def plan_with_small_errors(factor):
    from dataclasses import replace

    from interactions.estimators import draw

    class Small:
        def __init__(self, sample):
            self.sample, self.coalitions_BN = sample, sample.coalitions_BN

        def estimate(self, values_B):
            found = self.sample.estimate(values_B)
            return replace(found, standard_error=found.standard_error / factor)

    return lambda *asked: Small(draw(*asked))


def test_the_command_writes_a_row_for_each_kind(tmp_path, capsys):
    words = ["bench", "errors", "test_resnet", "--grids", "2", "--repeats", "3", "--ratios", "0.5", "--budgets", "400"]
    assert cli.main([*words, "--out", str(tmp_path), "--device", "cpu", "--seed", "1"]) == 0
    table = pd.read_csv(tmp_path / "errors.csv")
    assert set(table.players) == {4} and set(table.order) == {1}
    assert list(table.design) == ["pairwise", "pooled"]  # 32 shared draws of every pair take more passes
    assert "wrote" in capsys.readouterr().out
    for more in (["--grids", "5"], ["--repeats", "1"]):
        assert cli.main(["bench", "errors", *more, "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()
