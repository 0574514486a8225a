"""`a2mim bench game`: what is timed, how the ratio comes about, and what is written."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import cli, machine
from experiments.benchmarks.game import bare_forward
from experiments.benchmarks.timing import speed_ratio, time_in_turns
from experiments.models import create_model
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.values import log_odds

CPU = torch.device("cpu")


def test_tasks_take_turns_after_a_warm_up_each():
    called = []
    times = time_in_turns(lambda: called.append("a"), lambda: called.append("b"), 2, CPU)
    assert "".join(called) == "ab" + "abba" * 2
    called.clear()
    time_in_turns(lambda: called.append("a"), lambda: called.append("b"), 1, CPU, steps=2)
    assert "".join(called) == "aabb" + "aabbbbaa"
    assert np.shape(times["first"]) == np.shape(times["second"]) == (2, 2)


def test_a_task_of_twice_the_time_has_half_the_speed(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def lasting(duration):
        return lambda: clock.__setitem__(0, clock[0] + duration)

    assert speed_ratio(time_in_turns(lasting(1.0), lasting(2.0), 5, CPU)) == (0.5, 0.5, 0.5)


def test_the_ratio_is_the_median_over_repeats_and_its_interval_lies_around_it():
    # Ratios 1.0, 0.8, 0.5, 0.9, 0.7; an interval of the median of five reaches to the outermost two on each side.
    times = {"first": [[2, 2], [2, 2], [1, 1], [9, 0], [3, 4]], "second": [[3, 1], [2, 3], [2, 2], [5, 5], [5, 5]]}
    ratio, low, high = speed_ratio(times)
    assert ratio == pytest.approx(0.8)
    assert 0.5 <= low < 0.8 < high <= 1.0


def test_a_single_repeat_has_no_interval():
    ratio, low, high = speed_ratio({"first": [[1, 2]], "second": [[2, 4]]})
    assert ratio == pytest.approx(0.5)
    assert np.isnan(low) and np.isnan(high)


def test_the_bare_pass_does_the_games_own_work():
    """Fed with the pixels of the coalitions, the bare pass gives the values of the game: the same network."""
    model, _ = create_model("test_resnet", "random")
    image_CHW = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    game = PatchGame(model, image_CHW, 3, PatchGrid(4), batch_size=5)
    coalitions_BN = torch.rand(5, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    logits_BK = bare_forward(game, image_CHW * game.grid.pixels(coalitions_BN, 32, 32))
    values_B = log_odds(logits_BK.double(), torch.full((5,), 3))
    torch.testing.assert_close(values_B, game(coalitions_BN), rtol=0, atol=1e-5)


def test_writes_a_table_that_follows_from_the_recorded_seconds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")
    arguments = ["test_resnet", "--repeats", "3", "--batches", "2", "--batch-size", "2", "--device", "cpu"]
    assert cli.main(["bench", "game", *arguments, "--out", str(tmp_path)]) == 0
    (row,) = pd.read_csv(tmp_path / "cpu.csv").to_dict("records")
    record = json.loads((tmp_path / "cpu.json").read_text())
    seconds = record["seconds"]["test_resnet"]
    ratios = [sum(bare) / sum(game) for bare, game in zip(seconds["first"], seconds["second"], strict=True)]
    assert (row["model"], row["batch_size"], row["repeats"]) == ("test_resnet", 2, 3)
    assert row["ratio"] == pytest.approx(np.median(ratios), abs=1e-4)
    assert row["bare_per_second"] == pytest.approx(4 / np.median(seconds["first"]), rel=1e-4)
    assert row["game_per_second"] == pytest.approx(4 / np.median(seconds["second"]), rel=1e-4)
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["commit"] == "abc1234"
    assert "test_resnet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--repeats", "0"], "--repeats 0 is too small"),
        (["--batch-size", "0"], "--batch-size 0 is too small"),
        (["resnet5"], "did you mean resnet50"),
        (["--device", "nowhere"], "there is no device 'nowhere' here"),
        (["--amp", "int3"], "unknown precision 'int3'"),
        (["--grid", "1"], "--grid 1 is too small"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, said, tmp_path, capsys):
    names = [] if arguments == ["resnet5"] else ["test_resnet"]
    assert cli.main(["bench", "game", *names, *arguments, "--out", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
