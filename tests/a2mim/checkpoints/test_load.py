"""Fitting tensors to a model: complete or refused, with every key accounted for."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from a2mim.checkpoints import CheckpointError, load_into


def tiny_net(classes=5):
    """A network with every kind of entry, and no tensor that looks the same transposed."""
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(3, 4, (2, 5)))
    net.add_module("norm", nn.BatchNorm2d(4))
    net.add_module("head", nn.Linear(4, classes))
    return net


NET = tiny_net()
KEYS = list(NET.state_dict())


def remove(tensors, key):
    del tensors[key]


def rename(tensors, key):
    tensors[key + "_old"] = tensors.pop(key)


def transpose(tensors, key):
    tensors[key] = tensors[key].transpose(0, 1).contiguous()


def reshape(tensors, key):
    tensors[key] = tensors[key].reshape(1, *tensors[key].shape)


def add(tensors, key):
    tensors[key + ".extra"] = tensors[key].clone()


def make_integer(tensors, key):
    tensors[key] = tensors[key].to(torch.int8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(KEYS), mutate=st.sampled_from([remove, rename, transpose, reshape, add, make_integer]))
def test_any_mutated_key_is_reported_and_nothing_is_changed(folder, key, mutate):
    tensors = {name: tensor.clone() for name, tensor in NET.state_dict().items()}
    if mutate is transpose and tensors[key].ndim < 2:
        mutate = remove
    if mutate is make_integer and not tensors[key].is_floating_point():
        mutate = reshape
    mutate(tensors, key)
    torch.save(tensors, folder / "net.pth")
    model = tiny_net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError) as refused:
        load_into(model, folder / "net.pth")
    assert key in str(refused.value)
    assert "\n" not in str(refused.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_matching_file_is_loaded_completely(tmp_path):
    torch.save(NET.state_dict(), tmp_path / "net.pth")
    model = tiny_net()
    report = load_into(model, tmp_path / "net.pth")
    assert report.complete
    assert report.loaded == len(KEYS)
    assert all(torch.equal(NET.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_half_precision_becomes_single(tmp_path):
    torch.save(tiny_net().half().state_dict(), tmp_path / "net.pth")
    model = tiny_net()
    assert load_into(model, tmp_path / "net.pth").complete
    assert model.conv.weight.dtype == torch.float32


def test_the_sentence_counts_and_lists_and_cuts_the_list(tmp_path):
    tensors = {f"part{n}.weight": torch.zeros(2) for n in range(8)}
    tensors["head.bias"] = torch.zeros(3)
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as refused:
        load_into(tiny_net(), tmp_path / "net.pth")
    assert str(refused.value) == (
        f"checkpoint '{tmp_path / 'net.pth'}' does not fit Sequential: "
        "8 missing keys (conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean and 3 more), "
        "8 unexpected keys (part0.weight, part1.weight, part2.weight, part3.weight, part4.weight and 3 more), "
        "1 mis-shaped key (head.bias: 3 instead of 5); "
        "take the model that the file was made with, or load what fits with partial=True (--partial)"
    )


def test_another_architecture_is_called_that_even_in_part(tmp_path):
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "net.pth")
    for partial in (False, True):
        with pytest.raises(CheckpointError, match=r"no key in common, the file has 1 such as a\.weight, the model 9"):
            load_into(tiny_net(), tmp_path / "net.pth", partial=partial)


def test_another_number_of_classes_names_both(tmp_path):
    torch.save(tiny_net(classes=7).state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"has 7 classes, the model's 5: make the model with num_classes=7"):
        load_into(tiny_net(), tmp_path / "net.pth")


def test_a_file_without_a_classifier_names_the_missing_keys_and_the_way_out(tmp_path):
    torch.save({key: t for key, t in NET.state_dict().items() if not key.startswith("head")}, tmp_path / "net.pth")
    with pytest.raises(
        CheckpointError, match=r"2 missing keys \(head.weight, head.bias\); .*not in the file.*--partial"
    ):
        load_into(tiny_net(), tmp_path / "net.pth")


def test_the_classifier_is_where_timm_says(tmp_path):
    model = timm.create_model("test_convnext", num_classes=6)
    tensors = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("head.fc.")}
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"fit test_convnext: 2 missing keys.*head\.fc.*classifier is not in"):
        load_into(model, tmp_path / "net.pth")
    # The norm before the classifier lies under head. too, and is no part of it.
    del tensors["head.norm.weight"]
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="take the model that the file was made with"):
        load_into(model, tmp_path / "net.pth")


def test_a_headless_model_says_that_the_file_has_more(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "net.pth")
    with pytest.raises(
        CheckpointError, match=r"unexpected keys \(fc\.weight, fc\.bias\); the file's classifier is not"
    ):
        load_into(timm.create_model("test_resnet", num_classes=0), tmp_path / "net.pth")


def test_partial_loads_what_fits_and_reports_the_rest(tmp_path):
    tensors = dict(tiny_net(classes=7).state_dict())
    tensors["extra"] = torch.zeros(1)
    del tensors["norm.bias"]
    torch.save({"model": {f"module.{key}": tensor for key, tensor in tensors.items()}}, tmp_path / "net.pth")
    model = tiny_net()
    head = model.head.weight.clone()
    report = load_into(model, tmp_path / "net.pth", partial=True)
    assert (report.container, report.prefix, report.loaded) == ("model", "module.", len(KEYS) - 3)
    assert report.missing == ("norm.bias",)
    assert report.unexpected == ("extra",)
    assert report.mis_shaped == {"head.weight": "7×4 instead of 5×4", "head.bias": "7 instead of 5"}
    assert torch.equal(model.conv.weight, tensors["conv.weight"])
    assert torch.equal(model.head.weight, head)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
def test_timm_models_load_their_own_state(tmp_path, name):
    source, target = timm.create_model(name, num_classes=4), timm.create_model(name, num_classes=4)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    assert load_into(target, tmp_path / "net.pth").complete
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_torchvision_resnet_loads_into_timm(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    source = torchvision.models.resnet18().eval()
    torch.save(source.state_dict(), tmp_path / "net.pth")
    target = timm.create_model("resnet18").eval()
    assert load_into(target, tmp_path / "net.pth").complete
    image_BCHW = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(target(image_BCHW), source(image_BCHW))


def test_a_last_norm_before_the_pooling_goes_behind_it(tmp_path):
    """As OpenMixup's ConvNeXts take it from pre-training to fine-tuning; the other way round it is refused."""
    before = timm.create_model("convnext_atto", num_classes=0, head_norm_first=True)
    nn.init.uniform_(before.norm_pre.weight)
    torch.save(before.state_dict(), tmp_path / "first.pth")
    after = timm.create_model("convnext_atto", num_classes=0)
    report = load_into(after, tmp_path / "first.pth")
    assert report.complete and any("trained on every position" in note for note in report.adapted)
    assert torch.equal(after.head.norm.weight, before.norm_pre.weight)
    torch.save(after.state_dict(), tmp_path / "last.pth")
    with pytest.raises(CheckpointError, match=r"norm_pre"):
        load_into(before, tmp_path / "last.pth")
