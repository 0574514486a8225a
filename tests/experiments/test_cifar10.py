"""The CIFAR-10 study: its networks and recipes fit together, and it makes, resumes and collects what it says."""

import importlib
import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
import tyro

from a2mim.backbones import find_place, read_structure
from experiments import cifar10, cli
from experiments.cifar10 import NOT_YET, Study, run, steps
from experiments.training import find_recipe, make_method, make_network, resolved
from tests.a2mim.tiny import write_images

NAMES = [
    f"{method}_{family}{size}" for method in ("simmim", "a2mim") for family in ("vit", "cnn") for size in ("", "_cpu")
]


@pytest.mark.parametrize("name", NAMES)
def test_weights_pass_from_pretraining_to_finetuning_to_the_profile(name):
    recipe, network = find_recipe(f"cifar10:{name}")(), name.split("_", 1)[1]
    tuned = find_recipe(f"cifar10:finetune_{network}")()
    before, _, _ = make_network(recipe.network, 0, 32, 0)
    after, _, _ = make_network(tuned.network, 10, 32, 0)
    profiled = getattr(cifar10, network)(10)
    shapes = {key: tensor.shape for key, tensor in after.state_dict().items()}
    assert {key: tensor.shape for key, tensor in profiled.state_dict().items()} == shapes
    carried = {key: tensor.shape for key, tensor in before.state_dict().items()}
    assert carried.items() <= shapes.items() and all("head" in key for key in shapes.keys() - carried.keys())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:SimMIM on ResNetV2")  # leaks, as published
def test_a_mask_cell_is_a_position_of_the_map_that_the_token_joins(name):
    recipe = find_recipe(f"cifar10:{name}")()
    model, _, _ = make_network(recipe.network, 0, 32, 0)
    method = make_method(recipe.method, model, {"mask_cell": recipe.mask_cell, **cifar10_settings(recipe)}, 32, 0)
    assert method.mask_token.place.layout.grid == (32 // recipe.mask_cell,) * 2 == (8, 8)
    if recipe.method == "a2mim":
        assert method.mask_token.place == find_place(model, read_structure(model, 32), "default")


def cifar10_settings(recipe):
    from experiments.training import pairs

    return pairs(recipe.set)


def test_profiles_show_the_whole_image():
    for network in (cifar10.vit, cifar10.cnn_cpu):
        config = network().pretrained_cfg
        assert config["crop_pct"] == 1.0 and tuple(config["input_size"]) == (3, 32, 32)


@pytest.mark.parametrize("size", ["gpu", "cpu"])
@pytest.mark.parametrize("quick", [False, True])
def test_every_command_is_one_that_can_be_typed(size, quick):
    made, folders = steps(Study("train.tar", "test.tar", size=size, quick=quick)), set()
    for step in made:
        module = importlib.import_module(cli.COMMANDS[step.words[0]])
        settings = tyro.cli(module.Settings, args=step.words[1:], config=(tyro.conf.OmitSubcommandPrefixes,))
        assert Path(settings.out) == step.folder
        weights = settings.weights if step.words[0] == "profile" else resolved(settings, step.words[0]).network.weights
        assert weights == "random" or Path(weights) in folders or Path(weights).parent in folders
        folders.add(step.folder)
    assert len(folders) == len(made) == (26 if size == "cpu" else 3 * 26)
    runs = [step for step in made if step.words[0] == "finetune"]
    assert len(runs) == (6 if size == "cpu" else 18) and sum("--weights" not in step.words for step in runs) * 3 == len(
        runs
    )


def test_finetuning_is_the_same_whatever_it_starts_from():
    made = [step for step in steps(Study("train.tar", "test.tar", seeds=(1,), families=("cnn",)))]
    plain = []
    for step in made:
        if step.words[0] == "finetune":
            words = [
                word for word in step.words if word not in ("--weights", str(step.folder), f"{step.folder}-pretrain")
            ]
            plain.append(words)
    assert len(plain) == 3 and plain[0] == plain[1] == plain[2]


@pytest.mark.slow
def test_the_study_stops_goes_on_and_keeps_its_results(tmp_path, monkeypatch, capsys):
    for part, images in (("train", 6), ("test", 2)):
        write_images(tmp_path / part, per_class=images, classes=10, size=32)
    monkeypatch.setattr(cifar10, "TRAINED", {"supervised": "supervised", "a2mim": "A²MIM"})
    monkeypatch.setattr(cifar10, "PROFILED", {"supervised": "supervised", "a2mim": "A²MIM"})
    monkeypatch.setattr(cifar10, "GRIDS", (4,))
    monkeypatch.setattr(cifar10, "QUICK_TRAINING", ("--batch", "20", "--epochs", "1", "--warmup-epochs", "0.5"))
    study = {"train": str(tmp_path / "train"), "test": str(tmp_path / "test"), "out": tmp_path / "runs", "size": "cpu"}
    study |= {"families": ("cnn",), "quick": True, "device": "cpu"}
    assert run(Study(**study, minutes=1e-9)) == NOT_YET  # a step or two are always taken
    told = json.loads((tmp_path / "runs" / "cnn-supervised-0" / "run.json").read_text())
    assert 0 < told["step"] < told["steps"] == 3 and told["stopped_by"] == "minutes"
    assert "not finished: start the same command again" in capsys.readouterr().out
    assert run(Study(**study)) == 0
    kept = tmp_path / "runs" / "results"
    accuracy = pd.read_csv(kept / "accuracy.csv")
    assert accuracy[["network", "method", "seed"]].to_numpy().tolist() == [
        ["cnn", "supervised", 0],
        ["cnn", "a2mim", 0],
    ]
    told = json.loads((tmp_path / "runs" / "cnn-a2mim-0" / "run.json").read_text())
    assert accuracy["top1"][1] == told["last"]["top1"] and told["loaded"]["missing"] == []
    masses = pd.read_csv(kept / "middle_mass.csv")
    assert set(masses["method"]) == {"supervised", "a2mim"} and set(masses["grid"]) == {4}
    found = {str(path.relative_to(kept)) for path in kept.rglob("*.png")}
    assert {"curves/cnn-4x4-0.png", "loss/cnn-a2mim-0-pretrain.png", "pictures/cnn-a2mim-0-pretrain.png"} <= found
    listed = [shlex.split(line) for line in (kept / "commands.sh").read_text().splitlines()[1:]]
    assert [words[1] for words in listed] == ["finetune", "pretrain", "finetune", "profile", "profile"]
    monkeypatch.setattr(cli, "main", lambda words: pytest.fail(str(words)) if words[0] != "compare" else 0)
    assert run(Study(**study)) == 0


def test_a_command_that_fails_ends_the_study_with_its_code(tmp_path, capsys):
    assert run(Study(str(tmp_path / "nowhere"), str(tmp_path / "nowhere"), out=tmp_path / "runs", device="cpu")) == 2
    assert "does not exist" in capsys.readouterr().err
