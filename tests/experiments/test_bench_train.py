"""`a2mim bench train`: that both sides do the same work, how the overhead comes about, and what is written."""

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pandas as pd
import pytest
import torch

from a2mim.methods import A2MIM
from a2mim.settings import Augmentation, Loop, Network, Optim
from experiments import cli, machine
from experiments.benchmarks import train as bench
from experiments.benchmarks.step import bare
from experiments.commands.pretrain import Settings as Pretrain
from tests.a2mim.tiny import write_images

CPU = torch.device("cpu")
SMALL = ["cifar10:a2mim_cnn_cpu", "--device", "cpu", "--batch-size", "2", "--steps", "2", "--repeats", "2"]


def test_the_bare_step_does_to_the_weights_what_the_loop_does(monkeypatch):
    mask = torch.tensor([[[True, False], [True, False]]]).float().expand(4, -1, -1)
    monkeypatch.setattr(A2MIM, "draw_mask", lambda *_: mask)  # else each side draws its own
    recipe = Pretrain(
        mask_cell=16,
        network=Network("test_vit"),
        augment=Augmentation(image_size=32, crop="centre", flip=0.0),
        optim=Optim(epochs=1, lr=1e-2, lr_batch=4, schedule="multistep", warmup_epochs=0),
        loop=Loop(batch=4),
    )
    made = []
    monkeypatch.setattr(bench, "new_method", lambda recipe, new=bench.new_method: made.append(new(recipe)) or made[-1])
    with bench.running_loop(recipe, 3, CPU) as (loop, source, plan, _):
        step = bare(bench.new_method(recipe)[0], recipe, next(bench.batches_of(source, plan, recipe, CPU)), CPU)
        before = {name: tensor.clone() for name, tensor in made[1][0].state_dict().items()}
        for _ in range(2):
            next(loop)
            step()
    (looped, _), (stepped, _) = made
    after = stepped.state_dict()
    assert any(not torch.equal(after[name], before[name]) for name in before)
    for name, tensor in looped.state_dict().items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)


def test_methods_get_the_views_that_they_compare():
    recipe = Pretrain(
        method="dino",
        set=("local_crops=2", "local_size=16", "prototypes=8", "hidden=8", "bottleneck=4"),
        network=Network("test_vit", ("dynamic_img_size=True",)),
        augment=Augmentation(image_size=32),
        loop=Loop(batch=2),
    )
    with bench.running_loop(recipe, 2, CPU) as (loop, source, plan, _):
        batch = next(bench.batches_of(source, plan, recipe, CPU))
        assert [view.shape[-1] for view in batch["image"]] == [32, 32, 16, 16]
        assert next(loop) == 1
        bare(bench.new_method(recipe)[0], recipe, batch, CPU)()


def test_the_overhead_follows_from_the_recorded_seconds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")
    assert cli.main(["bench", "train", *SMALL, "--out", str(tmp_path), "--seed", "3"]) == 0
    (row,) = pd.read_csv(tmp_path / "cpu.csv").to_dict("records")
    record = json.loads((tmp_path / "cpu.json").read_text())
    times = record["seconds"]["cifar10:a2mim_cnn_cpu"]
    ratios = [sum(loop) / sum(bare) for loop, bare in zip(times["first"], times["second"], strict=True)]
    assert row["overhead"] == pytest.approx(np.median(ratios), abs=1e-4)
    assert row["loop_per_second"] == pytest.approx(2 * 2 / np.median(times["first"]), rel=1e-4)
    assert row["bare_per_second"] == pytest.approx(2 * 2 / np.median(times["second"]), rel=1e-4)
    assert (row["batch_size"], row["repeats"], record["settings"]["seed"]) == (2, 2, 3)
    assert np.isnan(row["files_per_second"]) and np.isnan(row["bottleneck"])
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["commit"] == "abc1234"
    assert "a2mim_cnn_cpu" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "named"), [(0.1, "step"), (10.0, "loading")])
def test_the_slower_of_step_and_loading_is_the_bottleneck(seconds, named):
    times = {"batch_size": 4, "steps": 1, "first": [[1, 1]], "second": [[1, 1]], "memory": [1], "files": [seconds] * 3}
    row = bench.row("any", times)
    assert row["bottleneck"] == named and row["files_per_second"] == pytest.approx(4 / seconds)


def test_what_was_fetched_ahead_is_not_counted():
    asked = count()
    settings = bench.Settings(workers=2, repeats=3)
    found = bench.loading_times(asked, settings, CPU)
    assert len(found) == 10 and next(asked) == 15


def test_files_are_loaded_as_the_recipe_shows_them(tmp_path, monkeypatch):
    write_images(tmp_path / "images", per_class=2, size=40)
    seen = []
    monkeypatch.setattr(bench, "loading_times", lambda loading, *_: seen.append(next(loading)) or [1.0])
    words = [*SMALL, "--data", str(tmp_path / "images"), "--workers", "0"]
    assert cli.main(["bench", "train", *words, "--out", str(tmp_path / "out")]) == 0
    assert seen[0]["image"].shape == (2, 3, 32, 32) and seen[0]["image"].dtype == torch.float32


def test_quick_writes_no_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "train", "--quick", "--device", "cpu", "--batch-size", "2"]) == 0
    assert "overhead" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_left_out_settings_depend_on_the_device():
    assert bench.completed(bench.Settings(), "cpu").batch_size < bench.completed(bench.Settings(), "cuda").batch_size
    assert bench.completed(replace(bench.Settings(), recipes=("a",)), "cpu").recipes == ("a",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--repeats", "0"], "--repeats 0 is too small"),
        (["--workers", "-1"], "--workers -1 is too small: use 0"),
        (["cifar10:a2mim_vi"], "has no recipe 'a2mim_vi', did you mean a2mim_vit"),
        (["cifar10:finetune_vit"], "cifar10:finetune_vit is not one of `a2mim pretrain`"),
        (["--data", "nowhere.tar"], "there are no images at 'nowhere.tar'"),
        (["--device", "nowhere"], "there is no device 'nowhere' here"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, said, tmp_path, capsys):
    assert cli.main(["bench", "train", *arguments, "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert said in error[-1] and not (tmp_path / "new").exists()
