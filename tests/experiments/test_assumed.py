"""What a weights file does not tell is said by every command that loads it, and kept with the result."""

import json

import pytest
import timm
import torch

from a2mim.checkpoints.sources.common import IMAGENET
from experiments.cli import main
from experiments.models import tell_assumed
from tests.a2mim.tiny import write_images

HEADS = "note: attention heads are assumed: 3 of 64 channels, for the file does not say (--model-args num_heads=N)"
PIXELS = "note: mean and deviation of the images are assumed: ImageNet's"
FEW = ["--image-size", "32", "--workers", "0", "--device", "cpu"]
TRAINED = ["--epochs", "1", "--warmup-epochs", "0", "--batch", "8", "--lr-batch", "8"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Labelled images, and a ViT's weights without a word, as DINO's code leaves them."""
    folder = tmp_path_factory.mktemp("assumed")
    write_images(folder / "images" / "train", per_class=4, size=36)
    write_images(folder / "images" / "val", per_class=2, size=36)
    flat = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32, patch_size=8, num_classes=0)
    torch.save(flat.state_dict(), folder / "flat.pth")
    return folder


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("knn", ["--k", "3"]),
        ("linear", ["--epochs", "1", "--lrs", "0.1"]),
        ("finetune", TRAINED),
        ("pretrain", [*TRAINED, "--method", "simmim", "--mask-cell", "16"]),
    ],
)
def test_every_command_says_and_keeps_it(command, words, place, capsys):
    out = place / command if command in ("finetune", "pretrain") else place / f"{command}.json"
    data = place / "images" / ("train" if command == "pretrain" else "")
    line = [command, "--weights", place / "flat.pth", "--data", data, *FEW, *words, "--out", out]
    assert main(list(map(str, line))) == 0
    said = capsys.readouterr().out.splitlines()
    assert sum(each == HEADS for each in said) == 1, said
    assert sum(each.startswith(PIXELS) and not each.endswith(")") for each in said) == 1, said
    record = json.loads((out / "run.json" if out.is_dir() else out).read_text())
    assert set(record["loaded"]["assumed"]) == {"num_heads", "pixels"} and record["loaded"]["adapted"]
    if out.is_file():
        mean, std = map(list, IMAGENET)
        shown = {"size": [32, 32], "interpolation": "bicubic", "crop_pct": 0.875, "mean": mean, "std": std}
        assert record["transform"] == shown


def test_what_is_given_is_not_assumed(place, capsys):
    weights, out = place / "flat.pth", place / "given.json"
    line = ["knn", "--weights", weights, "--data", place / "images", *FEW, "--k", "3", "--model-args", "num_heads=6"]
    assert main([*map(str, line), "--out", str(out), "--eval-size", "32", "--crop-pct", "1"]) == 0
    assert "heads are assumed" not in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert set(record["loaded"]["assumed"]) == {"pixels"} and record["transform"]["crop_pct"] == 1


def test_weights_without_a_file_leave_nothing_to_say(place, capsys):
    line = ["knn", "--model", "test_vit", "--data", place / "images", *FEW, "--k", "3", "--out", place / "random.json"]
    assert main(list(map(str, line))) == 0
    assert "note:" not in capsys.readouterr().out
    assert json.loads((place / "random.json").read_text())["loaded"] is None


def test_one_process_says_it_for_all(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    tell_assumed({"pixels": "assumed"})
    assert not capsys.readouterr().out


def test_an_activation_is_given_by_its_name(capsys):
    tell_assumed({"act_layer": "activations are assumed: GELU"})
    assert capsys.readouterr().out == "note: activations are assumed: GELU (--model-args act_layer=quick_gelu)\n"
