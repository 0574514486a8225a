"""`make demo`, in small: real weights and photographs, two curves of the same images and classes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from experiments import demo
from experiments.models import create_model, efficientnet_lite0_file

SMALL: dict[str, Any] = {"crops": demo.CROPS[1:3], "grid": 4, "ratios": (0.3, 0.5), "budget": 200, "training": False}


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
def test_the_trained_network_knows_a_cat_and_a_coffee():
    model, config = create_model(demo.MODEL, efficientnet_lite0_file())
    images = [demo.read_crop(file, box, config) for file, box in demo.CROPS[1:3]]
    assert demo.top_classes(model, images) == [285, 967]  # Egyptian cat, espresso


@needs_extra
@pytest.mark.slow
def test_both_networks_are_measured_alike_and_everything_named_is_there(tmp_path):
    words = ["--crops", *(str(word) for file, box in demo.CROPS[1:3] for word in (file, *box)), "--grid", "4"]
    words += ["--ratios", "0.3", "0.5", "--budget", "200", "--no-training", "--out", str(tmp_path / "demo")]
    done = subprocess.run([sys.executable, "-m", "experiments.demo", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records = [json.loads((tmp_path / "demo" / name / "run.json").read_text()) for name in ("trained", "random")]
    assert (
        [one["target"] for one in records[0]["images"]] == [one["target"] for one in records[1]["images"]] == [285, 967]
    )
    assert records[0]["model"]["digest"] != records[1]["model"]["digest"]
    written = [Path(path) for path in re.findall(r"\S+\.(?:png|csv)", done.stdout)]
    assert len(written) == 5 and all(path.is_file() for path in written)
    strength = {name: pd.read_csv(tmp_path / "demo" / name / "strength.csv") for name in ("trained", "random")}
    assert not strength["trained"]["A"].equals(strength["random"]["A"])
    # A second start measures nothing again and draws the same.
    before = (tmp_path / "demo" / "curves.png").read_bytes()
    made = demo.measure(demo.Settings(out=tmp_path / "demo", **SMALL))
    assert made.unlike == () and (tmp_path / "demo" / "curves.png").read_bytes() == before


def test_a_missing_photograph_names_the_extra():
    with pytest.raises(FileNotFoundError, match=r"unicorn.png is not installed: pip install 'a2mim\[demo\]'"):
        demo.read_crop("unicorn.png", (0, 0, 1, 1), {"mean": (0.5,) * 3, "std": (0.5,) * 3})


def test_top_classes_are_those_of_the_highest_logit():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])
    network = torch.nn.Identity()
    assert demo.top_classes(network, list(logits)) == [1, 0]
