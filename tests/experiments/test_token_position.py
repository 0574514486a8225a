"""The sweep behind figure 6: its places are those of the networks, its commands can be typed, and it goes on."""

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from a2mim.backbones import find_place, read_structure
from experiments import cli
from experiments.help import parse
from experiments.recipes import cifar10
from experiments.studies import trainings
from experiments.studies.steps import NOT_YET
from experiments.studies.token_position import PLACES, Sweep, collect, places, run, steps
from experiments.training.asked import resolved
from tests.a2mim.tiny import write_images


@pytest.mark.parametrize("name", PLACES)
def test_the_places_are_all_blocks_of_the_network_in_the_order_of_its_pass(name):
    model = getattr(cifar10, name)()
    structure = read_structure(model, 32)
    for place in PLACES[name]:
        assert find_place(model, structure, place).module == place
    entered = []
    for module, part in model.named_modules():
        part.register_forward_pre_hook(lambda *_, module=module: entered.append(module))
    model.eval()(torch.zeros(1, 3, 32, 32))
    order = [module for module in entered if module in PLACES[name]]
    assert tuple(order) == PLACES[name]
    blocks = {module for module in entered if module.split(".")[-2:-1] == ["blocks"]}
    first = {"blocks.0", "stages.0.blocks.0", "stages.1.blocks.0"}  # their inputs are places under another name
    assert blocks - set(PLACES[name]) <= first


@pytest.mark.parametrize("size", ["gpu", "cpu"])
@pytest.mark.parametrize("quick", [False, True])
def test_every_command_can_be_typed_and_only_the_place_differs(size, quick):
    made = steps(Sweep("train.tar", "test.tar", size=size, quick=quick, seeds=(0,)))
    plain, folders = set(), set()
    for step in made:
        module = importlib.import_module(cli.COMMANDS[step.words[0]])
        settings = parse(module.Settings, args=step.words[1:])
        settings = resolved(settings, step.words[0])
        assert Path(settings.out) == step.out
        if step.words[0] == "finetune":
            assert Path(settings.network.weights) in folders
        else:
            assert settings.method == "a2mim" and settings.mask_at in PLACES["vit"] + PLACES["cnn"]
        own = {str(step.out), f"{step.out}-pretrain", getattr(settings, "mask_at", "")}
        plain.add(tuple(word for word in step.words if word not in own))
        folders.add(step.out)
    assert len(folders) == len(made) == 2 * (12 if size == "gpu" else 6)
    assert len(plain) == 2 * 2  # pre-training and fine-tuning, of two networks


@pytest.mark.slow
def test_the_sweep_stops_goes_on_and_draws_its_figure(tmp_path, monkeypatch, capsys):
    for part, images in (("train", 4), ("test", 2)):
        write_images(tmp_path / part, per_class=images, classes=10, size=32)
    monkeypatch.setitem(PLACES, "cnn_cpu", ("stem", "stages.1"))
    monkeypatch.setattr(trainings, "QUICK", ("--batch", "20", "--epochs", "1", "--warmup-epochs", "0.5"))
    given = {"train": str(tmp_path / "train"), "test": str(tmp_path / "test"), "out": tmp_path / "runs", "seeds": (0,)}
    sweep = Sweep(**given, size="cpu", families=("cnn",), quick=True, device="cpu")
    assert run(Sweep(**given, size="cpu", families=("cnn",), quick=True, device="cpu", budget=1e-9)) == NOT_YET
    assert not sweep.kept.exists()
    assert run(sweep) == 0
    table = pd.read_csv(sweep.kept / "token_position.csv")
    assert list(table["position"]) == list(places(sweep, "cnn")) == ["stem", "stages.1"]
    for row in table.itertuples():
        told = json.loads((tmp_path / "runs" / f"cnn-token-{row.position}-0" / "run.json").read_text())
        assert row.top1 == told["last"]["top1"] and row.images == 20 and row.pretrain_epochs == row.epochs == 1
        before = json.loads((tmp_path / "runs" / f"cnn-token-{row.position}-0-pretrain" / "run.json").read_text())
        assert before["settings"]["mask_at"] == row.position
    assert {"fig6.png", "fig6.pdf", "fig6.json"} <= {path.name for path in (sweep.kept / "figures").iterdir()}
    monkeypatch.setattr(cli, "main", lambda words: pytest.fail(str(words)) if words[0] != "figure" else 0)
    assert run(sweep) == 0


def test_a_table_of_what_is_no_more_there_goes(tmp_path):
    sweep = Sweep("train", "test", out=tmp_path / "runs", size="cpu")
    assert not collect(sweep)
    sweep.kept.mkdir(parents=True)
    (sweep.kept / "token_position.csv").write_text("network,position,seed,top1\n")
    assert not collect(sweep) and not list(sweep.kept.iterdir())


def test_a_plan_is_printed_and_nothing_is_written(tmp_path, capsys):
    assert run(Sweep("train", "test", out=tmp_path / "runs", size="cpu", plan=True)) == 0
    assert "36 of 36 commands are left" in capsys.readouterr().out and not (tmp_path / "runs").exists()


def test_a_command_that_fails_ends_the_sweep_with_its_code(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    data = str(tmp_path / "empty")
    assert run(Sweep(data, data, out=tmp_path / "runs", size="cpu", device="cpu")) == 2
    assert "empty" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [("--train nowhere", "does not exist"), ("--device nodev", "'nodev'")])
def test_a_sweep_without_its_images_or_device_leaves_nothing(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    given = ["--train", "images", "--test", "images", "--out", "runs", "--device", "cpu", *words.split()]
    assert cli.start(Sweep, run, given, "sweep") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()
