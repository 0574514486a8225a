"""`a2mim bench methods`: what is counted as memory, what a step does, what is skipped, and what is written."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from a2mim.methods import METHODS
from experiments import cli, machine
from experiments.benchmarks import methods as bench

CPU = torch.device("cpu")
TINY = bench.Settings(models=("test_vit",), image_size=32, batch_size=2, repeats=1)


def test_the_peak_is_the_most_that_is_held_at_once():
    def step():
        first = torch.ones(1000, 250)  # 1 MB each: never more than two
        second = first + 1
        del first
        third = second * 2
        del second, third

    held = torch.zeros(250_000)
    assert bench.peak_bytes(step, lambda: [held], CPU) == pytest.approx(3e6, rel=0.01)
    assert bench.peak_bytes(lambda: None, lambda: [held], CPU) == 1e6


def test_a_step_trains():
    step, held = bench.make_step("test_vit", "simmim", replace(TINY, image_size=64), CPU)
    before = [tensor.clone() for tensor in held()]
    step()
    after = held()
    assert len(after) > len(before)  # the optimizer's state
    assert any(not torch.equal(one, two) for one, two in zip(before, after[: len(before)], strict=True))


@pytest.mark.parametrize("name", ["mae", "simclr"])
def test_batches_have_the_views_that_a_method_wants(name):
    if name not in METHODS:
        pytest.skip(f"there is no {name} yet")
    method = METHODS[name](bench.new_backbone("test_vit", 0, TINY), METHODS[name].Settings(image_size=32))
    batch = bench.make_batch(method, TINY, CPU)
    views = batch["image"] if isinstance(batch["image"], list) else [batch["image"]]
    assert len(views) == {"mae": 1, "simclr": 2}[name]
    assert all(view.shape == (2, 3, 32, 32) for view in views) and batch["target"].shape == (2,)


def test_the_table_follows_from_the_recorded_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")
    words = ["test_resnet", "--methods", "simmim", "mae", "--image-size", "64", "--batch-size", "2", "--repeats", "2"]
    assert cli.main(["bench", "methods", *words, "--device", "cpu", "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "cpu.csv")
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert list(table.method) == ["supervised", "simmim"]  # MAE needs a transformer
    said = capsys.readouterr().out
    assert "skipped mae on test_resnet: MAE shows the encoder a part of its tokens, and ResNet has no" in said
    assert list(record["skipped"]) == ["test_resnet mae"] and record["settings"]["seed"] == 0
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["commit"] == "abc1234"
    supervised = record["measured"]["test_resnet supervised"]
    for line in table.to_dict("records"):
        found = record["measured"][f"test_resnet {line['method']}"]
        ratios = [sum(a) / sum(b) for a, b in zip(found["first"], found["second"], strict=True)]
        assert line["relative_time"] == pytest.approx(np.median(ratios), abs=1e-4)
        assert line["relative_time_low"] <= line["relative_time"] <= line["relative_time_high"]
        assert line["step_ms"] == pytest.approx(1000 * np.median(found["first"]), rel=1e-3)
        assert line["memory_mb"] == pytest.approx(found["peak_bytes"] / 1e6, rel=1e-3)
        assert line["relative_memory"] == pytest.approx(found["peak_bytes"] / supervised["peak_bytes"], abs=1e-4)
        assert (line["batch_size"], line["repeats"]) == (2, 2)


def test_the_supervised_step_comes_first_and_every_method_is_asked_for():
    assert bench.completed(bench.Settings(), "cpu").methods[0] == "supervised"
    assert set(bench.completed(bench.Settings(), "cpu").methods) == set(METHODS)
    assert bench.completed(bench.Settings(methods=("mae",)), "cuda").methods == ("supervised", "mae")
    quick = bench.completed(bench.Settings(quick=True, repeats=9), "cpu")
    assert quick.out is None and (quick.image_size, quick.repeats, quick.models) == (64, 9, bench.QUICK)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--repeats", "0"], "--repeats 0 is too small"),
        (["--methods", "spork"], "there is no method 'spork', did you mean spark"),
        (["test_vitt"], "did you mean test_vit"),
        (["--device", "nowhere"], "there is no device 'nowhere' here"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, said, tmp_path, capsys):
    assert cli.main(["bench", "methods", *arguments, "--out", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "new").exists()
