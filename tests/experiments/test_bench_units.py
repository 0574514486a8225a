"""`a2mim bench units`: what is timed, and what is written."""

import json

import pandas as pd
import pytest
import torch

from experiments import cli
from experiments.benchmarks import units
from experiments.benchmarks.units import Settings, best_bare, make_game, make_unit, row
from interactions.runs import storage

CPU = torch.device("cpu")
SMALL = Settings(image_size=32, grid=4, images=2, budget=200, ratios=(0.0, 0.5), batch_size=16)


@pytest.fixture(scope="module")
def game():
    game = make_game("test_resnet", SMALL, CPU)
    game.batch_size = SMALL.batch_size
    return game


def test_a_unit_takes_the_passes_that_it_says_and_writes_its_tables(game, tmp_path):
    unit, passes = make_unit(game, SMALL, tmp_path)
    before = game.passes
    unit()
    assert game.passes - before == passes and not (tmp_path / "unfinished").exists()
    images = storage.read_part(tmp_path, "images")
    assert images.passes.sum() == passes and list(images.order) == [0, 7, 0, 7]
    assert set(storage.read_part(tmp_path, "pairs").image) == {0, 1}


def test_the_bare_pass_is_the_fastest_of_all_ways_and_sizes(game, monkeypatch):
    def told(tasks, device):  # one way and one size take the least time an image
        return [1.0 if (task.args[0].speed.folded, len(task.args[1])) == (True, 32) else 10.0 for task in tasks]

    monkeypatch.setattr("interactions.speed.in_turns", told)
    speed, size, bare = best_bare(game, compiles=False)
    assert speed.folded and size == 32 and len(bare()) == 32


def test_the_ratio_is_of_passes_a_second():
    times = {"passes": 400, "bare_passes": 100, "first": [[1.0, 1.0]] * 2, "second": [[5.0, 5.0]] * 2}
    told = {"speed": "folded", "batch_size": 16, "bare_speed": "plain", "bare_batch_size": 8}
    found = row("net", times | told, {"load_average": 0.5})
    assert found["ratio"] == found["ratio_low"] == found["ratio_high"] == pytest.approx(0.8)
    assert found["bare_per_second"] == 100 and found["unit_per_second"] == 80


def test_a_network_that_is_there_is_not_timed_again(tmp_path, capsys, monkeypatch):
    words = ["bench", "units", "test_resnet", "--image-size", "32", "--grid", "4", "--images", "1", "--budget", "200"]
    words += ["--ratios", "0.5", "--repeats", "2", "--batch-size", "32", "--speed", "plain", "--device", "cpu"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "test_resnet.json").read_text())
    assert record["machine"]["cores"] and len(record["seconds"]["second"]) == 2
    monkeypatch.setattr(units, "time_network", None)
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    assert "is there already" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "units.csv").ratio[0] == pytest.approx(record["result"]["ratio"], abs=1e-4)


@pytest.fixture
def quick(monkeypatch):
    """The command's words, where nothing takes time."""
    monkeypatch.setattr(units, "time_network", lambda *_: {})
    monkeypatch.setattr(units, "row", lambda name, *_: {"network": name, "ratio": 1.0})
    return ["bench", "units", "test_resnet", "--device", "cpu"]


def test_rows_of_other_settings_are_not_joined(quick, tmp_path, capsys, monkeypatch):
    quick += ["--out", str(tmp_path)]
    assert cli.main([*quick, "--grid", "7"]) == 0
    monkeypatch.setattr(units, "time_network", None)
    assert cli.main([*quick, "--grid", "7", "--threads", "1"]) == 2
    said = capsys.readouterr().err
    assert "test_resnet.json was timed with other settings (threads None there, 1 now)" in said


def test_other_files_of_the_folder_stay_as_they_are(quick, tmp_path, capsys, monkeypatch):
    quick += ["--out", str(tmp_path)]
    for name, text in (("run", '{"status": "complete"}'), ("list", "[1]"), ("broken", "{")):
        (tmp_path / f"{name}.json").write_text(text)
    assert cli.main(quick) == 0
    assert list(pd.read_csv(tmp_path / "units.csv").network) == ["test_resnet"]
    monkeypatch.setattr(units, "time_network", None)
    (tmp_path / "test_vit.json").write_text('{"seconds": {}}')  # as `bench drop` calls its own
    assert cli.main([*quick[:2], "test_vit", *quick[2:]]) == 2
    assert "test_vit.json is of another command" in capsys.readouterr().err


def test_the_name_of_a_network_is_one_of_a_file(quick, tmp_path):
    assert cli.main([*quick[:2], "hf-hub:timm/resnet18", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"hf-hub-timm-resnet18.json", "units.csv"}
