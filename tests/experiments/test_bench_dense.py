"""`a2mim bench dense`: the loop of segmentation and detection against their bare steps."""

import json

import pandas as pd
import pytest
import torch

from experiments.benchmarks.dense import Settings, Task, first_batch, row, segmenting
from experiments.benchmarks.step import bare
from experiments.cli import main
from tests.a2mim.scenes import write_scenes
from tests.commands import done

CPU = torch.device("cpu")
pytest.importorskip("pycocotools")
pytestmark = pytest.mark.xdist_group("commands")


def test_both_commands_are_timed_and_written(tmp_path_factory):
    """By the command of tests/commands.py: two repeats of both."""
    folder, _, said = done(tmp_path_factory.getbasetemp())
    assert (folder / "dense").is_dir(), said
    table = pd.read_csv(folder / "dense" / "dense-cpu.csv")
    assert list(table["command"]) == ["segment", "detect"] and (table["overhead_low"] <= table["overhead"]).all()
    record = json.loads((folder / "dense" / "dense-cpu.json").read_text())
    assert all(len(record["seconds"][name]["first"]) == 2 for name in table["command"]) and record["machine"]


def test_the_bare_step_is_that_of_the_very_model_and_losses(tmp_path):
    scenes = write_scenes(tmp_path / "scenes", {"train": 4, "val": 1})
    task = segmenting(Settings(camvid=str(scenes), model="test_resnet", batch_size=2, device="cpu"))
    assert isinstance(task, Task)
    before = {name: x.clone() for name, x in task.bare.named_parameters()}
    assert all(torch.equal(x, before[name]) for name, x in task.looped.named_parameters())
    bare(task.bare, task.recipe, first_batch(task, CPU), CPU)()
    moved = {name.split(".")[0] for name, x in task.bare.named_parameters() if not torch.equal(x, before[name])}
    assert moved == {"backbone", "decoder"}  # the network learns, too


def test_the_overhead_is_the_loops_time_over_the_bare_steps():
    times = {"first": [[1.1, 1.1], [2.4, 2.4], [1.3, 1.3]], "second": [[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]}
    found = row("segment", times, Settings(camvid="x", batch_size=4))
    assert found["overhead"] == pytest.approx(1.2)  # of 1.1, 1.2 and 1.3
    assert found["overhead_low"] == pytest.approx(1.1) and found["overhead_high"] == pytest.approx(1.3)
    assert found["bare_per_second"] == 4 and found["repeats"] == 3


def test_without_pictures_there_is_nothing_to_time(capsys):
    assert main(["bench", "dense"]) == 2
    assert "give --camvid, --coco or both" in capsys.readouterr().err
