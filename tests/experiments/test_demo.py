"""`make demo`, in small: real weights and photographs, two curves of the same images and classes."""

import json
import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import cli, models
from experiments.models import create_model, efficientnet_lite0_file
from experiments.studies import demo

SMALL = ("--size", "32", "--grid", "4", "--ratios", "0.3", "0.5", "--budget", "200", "--no-training")


def installed():
    try:
        efficientnet_lite0_file()
        demo.read_crop(*demo.CROPS[0], {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    except FileNotFoundError as error:
        return str(error)
    return ""


needs_extra = pytest.mark.skipif(bool(installed()), reason=installed())


@needs_extra
@pytest.mark.parametrize(("file", "box"), demo.CROPS)
def test_every_crop_lies_inside_its_photograph(file, box):
    import skimage
    from PIL import Image

    with Image.open(Path(skimage.__file__).parent / "data" / file) as photograph:
        assert 0 <= box[0] < box[2] <= photograph.width and 0 <= box[1] < box[3] <= photograph.height
    assert box[2] - box[0] == box[3] - box[1]  # nothing is squeezed
    image_CHW = demo.read_crop(file, box, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    assert image_CHW.shape == (3, demo.SIZE, demo.SIZE)
    assert image_CHW.min() >= -1 and image_CHW.max() <= 1 and image_CHW.std() > 0.1


@needs_extra
def test_the_trained_network_knows_a_cat_and_a_rocket():
    model, config = create_model(demo.MODEL, efficientnet_lite0_file())
    images = [demo.read_crop(file, box, config) for file, box in (demo.CROPS[1], demo.CROPS[3])]
    assert demo.top_classes(model, images) == [285, 812]  # Egyptian cat, space shuttle


@needs_extra
def test_both_networks_are_measured_alike_and_everything_named_is_there(tmp_path, monkeypatch, capsys):
    """Of a small network of the same family, "trained" being another seed: a pass of the demo's own takes 5 ms."""
    made = []

    def small(name, weights):
        made.append((name, weights))
        return create_model("test_efficientnet", "random", seed=int(weights != "random"))

    monkeypatch.setattr(models, "create_model", small)
    crops = demo.CROPS[1:3]
    words = ["--crops", *(str(word) for file, box in crops for word in (file, *box)), "--out", str(tmp_path / "demo")]
    assert exit_code(monkeypatch, *SMALL, *words) == 0
    assert made == [(demo.MODEL, efficientnet_lite0_file()), (demo.MODEL, "random")]
    said = capsys.readouterr().out
    records = [json.loads((tmp_path / "demo" / name / "run.json").read_text()) for name in ("trained", "random")]
    model, config = small(*made[0])
    top = demo.top_classes(model, [demo.read_crop(file, box, config, 32) for file, box in crops])
    assert [[one["target"] for one in record["images"]] for record in records] == [top, top]
    assert records[0]["model"]["digest"] != records[1]["model"]["digest"]
    last = said.splitlines()[-2:]
    assert last == [f"figures: {tmp_path}/demo/curves.png", f"page: {tmp_path}/demo/report.html"]
    written = {Path(path) for path in re.findall(rf"{tmp_path}\S+\.(?:png|csv|html)", said)}
    written |= {tmp_path / "demo" / name / f"strength.{kind}" for name in demo.WEIGHTS for kind in ("csv", "png")}
    assert len(written) == 8 and all(path.is_file() for path in written)
    strength = {name: pd.read_csv(tmp_path / "demo" / name / "strength.csv") for name in ("trained", "random")}
    assert not strength["trained"]["A"].equals(strength["random"]["A"])
    # A second start measures nothing again and writes the same.
    before = {path: path.read_bytes() for path in (tmp_path / "demo").rglob("*") if path.is_file()}
    assert exit_code(monkeypatch, *SMALL, *words) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "demo").rglob("*") if path.is_file()} == before


def exit_code(monkeypatch, *words):
    """Of the program, run as `make demo` runs it."""
    monkeypatch.setattr("sys.argv", ["demo", *words])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("experiments.studies.demo", run_name="__main__")
    return stop.value.code


def test_it_hands_on_its_exit_code(monkeypatch):
    assert exit_code(monkeypatch, "--grid", "0") == cli.BAD_INPUT


def test_a_missing_photograph_names_the_extra():
    with pytest.raises(FileNotFoundError, match=r"unicorn.png is not installed: pip install 'a2mim\[demo\]'"):
        demo.read_crop("unicorn.png", (0, 0, 1, 1), {"mean": (0.5,) * 3, "std": (0.5,) * 3})


def test_top_classes_are_those_of_the_highest_logit():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])
    network = torch.nn.Identity()
    assert demo.top_classes(network, list(logits)) == [1, 0]
