"""How images reach the model: what is asked for, what is said, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from experiments.datasets import evaluation_transform
from experiments.measuring.inputs import Input, adjusted, description, in_words
from experiments.measuring.opening import warn_about_cells
from tests.experiments.test_profile import FEW, MODEL, profile

CONFIG = {"input_size": (3, 8, 8), "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center"}
CONFIG |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def test_what_is_given_takes_the_place_of_the_models_own():
    assert adjusted(CONFIG, Input()) == CONFIG
    given = Input(image_size=4, crop_pct=0.5, interpolation="nearest", mean=(0.5,), std=(0.1, 0.2, 0.5))
    config = adjusted(CONFIG, given)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    # 4 px at a crop of half: resized to 8, which is no change, of which the middle 4 stay.
    expected_HWC = (pixels[2:6, 2:6] / 255 - 0.5) / [0.1, 0.2, 0.5]
    found_CHW = evaluation_transform(config)(Image.fromarray(pixels))
    np.testing.assert_allclose(found_CHW.permute(1, 2, 0), expected_HWC, atol=1e-5)
    told = description(config)
    assert told["resize"] == 8 and json.loads(json.dumps(told)) == told
    assert in_words(told) == "Resize 8 nearest, centre crop 4×4, mean 0.5 0.5 0.5, std 0.1 0.2 0.5"


def test_the_published_input_in_words():
    told = description(CONFIG | {"input_size": (3, 224, 224), "interpolation": "bilinear"})
    assert in_words(told).startswith("Resize 256 bilinear, centre crop 224×224, mean 0.485 0.456 0.406")


def test_what_a_factory_does_not_say_is_told_and_recorded(photos, tmp_path, capsys):
    assert profile(photos, tmp_path / "silent") == 0
    assert f"'{MODEL}' says nothing of its own: are they right? (--mean, --std)" in capsys.readouterr().out
    given = ("--mean", "0.5", "0.4", "0.3", "--std", "0.25", "--crop-pct", "1", "--interpolation", "nearest")
    assert profile(photos, tmp_path / "told", *given) == 0
    said = capsys.readouterr().out
    assert "input: Resize 12 nearest, centre crop 12×12, mean 0.5 0.4 0.3, std 0.25 0.25 0.25\n" in said
    record = json.loads((tmp_path / "told" / "run.json").read_text())
    assert record["settings"]["normalisation"] == {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.25, 0.25]}
    assert record["data"]["transform"]["crop_pct"] == 1 and record["data"]["transform"]["interpolation"] == "nearest"
    other = [*given[:-1], "bilinear"]
    assert profile(photos, tmp_path / "told", *other) == 2  # finished as it is, that run has other images
    assert "holds a run with other settings (data transform" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["profile", "map", "occlusion", "spectrum"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--mean", "0.5", "0.5"], "--mean has 2 numbers, images have 3 channels: give 1 or all"),
        (["--std", "0", "1", "1"], "--std 0.0 1.0 1.0 is too small: use 1e-06 or more"),
        (["--crop-pct", "1.5"], "--crop-pct 1.5 is too large: use at most 1"),
        (["--image-size", "0"], "--image-size 0 is too small: use 1 or more"),
    ],
)
def test_every_measuring_command_takes_and_checks_them(command, option, said, photos, tmp_path, capsys):
    where = ["--image", str(next(photos.rglob("*.png")))] if command == "map" else ["--data", str(photos)]
    out = tmp_path / "new" / "out.png"
    size = [] if "--image-size" in option else FEW[:2]
    words = [command, MODEL, "--weights", "random", *where, "--out", str(out), *size, *option]
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err and not out.parent.exists()


def test_cells_of_several_sizes_are_told(capsys):
    warn_about_cells(5, (64, 64))
    assert "note: 5 cells do not divide 64×64 px: their sides are 12 and 13" in capsys.readouterr().err
    warn_about_cells(8, (64, 64))
    warn_about_cells("map.png", (64, 64))
    assert capsys.readouterr().err == ""
