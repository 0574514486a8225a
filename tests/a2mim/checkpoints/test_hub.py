"""Folders as timm's own code writes them for its hub, and the networks that were in them."""

import json

import pytest
import timm
import torch

from a2mim.checkpoints.errors import CheckpointError
from a2mim.checkpoints.read import read
from experiments.models import create_model, other_view

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
NETWORKS = [
    ("resnet18", {"act_layer": "gelu"}),
    ("vit_tiny_patch16_224", {"img_size": 64, "act_layer": "relu", "depth": 2}),
    ("vit_tiny_patch16_224", {"img_size": 64, "num_heads": 2, "depth": 1}),
    ("convnext_atto", {"depths": (1, 1, 1, 1), "act_layer": "silu", "drop_path_rate": 0.4}),
]


def saved(folder, name, arguments, safe=True, **config):
    """The network, in the folder."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=3, **arguments).eval()
    timm.models.save_for_hf(net, str(folder), model_config=config, safe_serialization=safe)
    return net


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
@pytest.mark.parametrize("model", ["auto", "named"])
def test_what_timm_says_beside_a_file_is_what_it_computes(tmp_path, name, arguments, model):
    net = saved(tmp_path, name, arguments)
    sizes = {key: arguments[key] for key in ("img_size", "depth", "depths") if key in arguments}
    ours, _ = (
        create_model("auto", tmp_path / "model.safetensors")
        if model == "auto"
        else create_model(name, tmp_path / "model.safetensors", num_classes=3, **sizes)
    )
    torch.testing.assert_close(ours.eval()(IMAGES), net(IMAGES), rtol=0, atol=0)


def test_rates_of_training_are_not_taken_along(tmp_path):
    saved(tmp_path, *NETWORKS[3])
    model, _ = create_model("auto", tmp_path / "model.safetensors")
    assert not any("DropPath" in type(module).__name__ for module in model.modules())


def test_the_classes_have_the_names_that_timm_wrote(tmp_path):
    saved(tmp_path, *NETWORKS[0], label_names=["crane", "owl", "crane"])
    # Two classes of one name: that name tells neither.
    assert read(tmp_path / "model.safetensors").classes == {"owl": 1}
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"label_names": {"0": "owl", "1": "crane"}}))
    assert read(tmp_path / "model.safetensors").classes == {"owl": 0, "crane": 1}
    (tmp_path / "config.json").write_text(json.dumps(config | {"label_names": "owl"}))
    with pytest.raises(CheckpointError, match="is no list of classes"):
        _ = read(tmp_path / "model.safetensors").classes


def test_images_that_were_prepared_otherwise_are_told(tmp_path):
    saved(tmp_path, *NETWORKS[0], pretrained_cfg={"input_size": (3, 96, 96), "crop_pct": 1.0})
    file = tmp_path / "model.safetensors"
    _, config = create_model("resnet18", file, num_classes=3)
    assert other_view(file, config)["view"].endswith(
        "config.json beside the weights says: input_size [3, 96, 96], crop_pct 1.0"
    )
    assert other_view(file, config | {"crop_pct": 1.0})["view"].endswith("says: input_size [3, 96, 96]")
    assert other_view(file, config | {"crop_pct": 1.0, "input_size": (3, 96, 96)}) == {}
    assert other_view("random", config) == {}


def test_arguments_that_no_file_may_give_are_refused_and_the_model_can_be_named(tmp_path):
    saved(tmp_path, "resnet18", {})
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"]["block"] = "os.system"
    config["model_args"]["act_layer"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config.json beside it\) gives its network the argument 'block'"):
        create_model("auto", tmp_path / "model.safetensors")
    model, said = create_model("resnet18", tmp_path / "model.safetensors", num_classes=3)
    assert type(model.act1).__name__ == "GELU"  # what a file may say counts
    assert "its network 'block' = 'os.system', which is not taken over" in said["assumed"]["arguments"]


@pytest.mark.parametrize("kept", ["pretrained_cfg", "flat"])
def test_configurations_of_before_say_names_and_images(tmp_path, kept):
    """Without arguments; at first without parts, too. The shapes tell the number of classes."""
    saved(tmp_path, "resnet18", {})
    old = {"mean": [0.1] * 3, "std": [0.2] * 3, "input_size": [3, 224, 224]}
    config = {"architecture": "resnet18", **({kept: old} if kept == "pretrained_cfg" else old)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, images = create_model("auto", tmp_path / "model.safetensors")
    assert model.num_classes == 3 and images["mean"] == (0.1,) * 3
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_args": {"act_layer": "gelu"}}))
    model, _ = create_model("auto", tmp_path / "model.safetensors")
    assert model.num_classes == 3 and type(model.act1).__name__ == "GELU"


def test_a_configuration_of_others_says_nothing_of_timms(tmp_path):
    net = saved(tmp_path, "resnet18", {})
    said = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_act": "relu"}
    (tmp_path / "config.json").write_text(json.dumps({**said, "id2label": {"0": "owl"}, "model_args": {"depth": 99}}))
    model, _ = create_model("resnet18", tmp_path / "model.safetensors", num_classes=3)
    torch.testing.assert_close(model.eval()(IMAGES), net(IMAGES), rtol=0, atol=0)
    assert read(tmp_path / "model.safetensors").classes == {}


def test_a_damaged_configuration_is_no_missing_one(tmp_path):
    saved(tmp_path, "resnet18", {})
    (tmp_path / "config.json").write_text('{"architecture": "resnet')
    with pytest.raises(CheckpointError, match=r"config\.json, which may say what the network of 'model.safetensors'"):
        read(tmp_path / "model.safetensors")
