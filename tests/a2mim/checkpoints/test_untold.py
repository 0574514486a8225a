"""What a file tells beside its weights, and what is said where it tells nothing: image size, pixels, heads, norms."""

import argparse
import json
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from a2mim.checkpoints import Checkpoint, CheckpointError, load_into, read
from a2mim.checkpoints.describe import describe
from a2mim.checkpoints.identify import UntoldError, identify
from a2mim.checkpoints.sources import recognise
from a2mim.checkpoints.sources.common import HALF, IMAGENET
from a2mim.export import export_backbone
from a2mim.shapes import shapes_alone
from experiments.models import create_model
from tests.a2mim.checkpoints import layouts
from tests.a2mim.checkpoints.layouts import Beit, HFViT, Named, Swin, ViT, randomise
from tests.a2mim.checkpoints.test_sources import IMAGES, mm, reread, same


def test_a_last_stage_smaller_than_the_window_tells_the_image_size(tmp_path):
    net = randomise(layouts.SimMIM(Swin(classes=0, windows=(8, 4)), 16))
    torch.save({"model": net.state_dict()}, tmp_path / "simmim.pth")
    model, report, _ = reread(tmp_path / "simmim.pth")
    assert model.patch_embed.img_size == (32, 32)
    assert not [note for note in report.adapted if "resized" in note]
    same(model.forward_features(IMAGES), net.encoder.tokens(IMAGES))


def test_the_image_size_of_a_swin_by_its_settings(tmp_path):
    net = randomise(Swin())
    state = {key: x for key, x in net.state_dict().items() if not key.endswith(("_index", "attn_mask"))}
    config = OrderedDict(DATA=OrderedDict(IMG_SIZE=32), MODEL=OrderedDict(TYPE="swin"))
    torch.save({"model": state, "config": config}, tmp_path / "swin.pth")
    model, _, checkpoint = reread(tmp_path / "swin.pth")
    assert checkpoint.image_size == 32
    same(model(IMAGES), net(IMAGES))


def test_every_resized_tensor_is_listed_with_both_shapes(tmp_path):
    net = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1, 1, 1))
    torch.save(net.state_dict(), tmp_path / "swin.pth")
    said = describe(read(tmp_path / "swin.pth"), "swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)})
    tables = [note for note in said["adapted"] if "resized" in note]
    assert said["fits"] and len(tables) == 4
    assert tables[0] == "layers.0.blocks.0.attn.relative_position_bias_table was resized from 9×3 to 169×3"


def vit(**arguments):
    return ViT(head=nn.Linear(128, 9), **arguments)


def args(imagenet):
    return {"args": argparse.Namespace(imagenet_default_mean_and_std=imagenet)}


SWIN_CODE = {"config": OrderedDict(DATA=OrderedDict(IMG_SIZE=32)), "max_accuracy": 80.0}
PIXELS = {
    # content of the file, its name, what its images are normalised with, whether that is assumed
    "mae, tuned": (lambda: {"model": vit(mean=True).state_dict()}, "tuned.pth", IMAGENET, True),
    "deit": (lambda: {"model": vit().state_dict()}, "deit_base_patch16_224.pth", IMAGENET, True),
    "dino": (lambda: ViT().state_dict(), "dino_vitbase16_pretrain.pth", IMAGENET, True),
    "timm": (lambda: vit().state_dict(), "model.pth", None, True),
    "simmim, tuned": (lambda: {"model": Beit().state_dict(), **SWIN_CODE}, "ckpt.pth", IMAGENET, False),
    "beit": (lambda: {"model": Beit().state_dict()}, "beit_base_patch16_224.pth", HALF, True),
    "beit v2": (lambda: {"model": Beit().state_dict()}, "beitv2_base_patch16_224_pt1k_ft1k.pth", IMAGENET, True),
    "beit, told": (lambda: {"model": Beit().state_dict(), **args(True)}, "checkpoint.pth", IMAGENET, False),
    "beit, told half": (lambda: {"model": Beit().state_dict(), **args(False)}, "checkpoint.pth", HALF, False),
    "mae": (lambda: {"model": layouts.MAE().state_dict()}, "mae.pth", IMAGENET, False),
}


@pytest.mark.parametrize("case", PIXELS)
def test_mean_and_deviation_of_the_images(tmp_path, case):
    make, name, wanted, assumed = PIXELS[case]
    torch.save(make(), tmp_path / name)
    checkpoint = read(tmp_path / name)
    assert checkpoint.pixels == wanted
    assert ("pixels" in checkpoint.assumed) == assumed
    assert all("assumed" in words for words in checkpoint.assumed.values())


def mm_file(folder, mean, std, config="model = dict()"):
    """mmpretrain's file with the buffers of its data_preprocessor, which older versions save."""
    net = randomise(Named(backbone=layouts.MMViT(), data_preprocessor=nn.Module()))
    state = net.state_dict()
    for name, x in (("mean", mean), ("std", std)) if mean else ():
        state[f"data_preprocessor.{name}"] = torch.tensor(x).view(3, 1, 1)
    torch.save({"meta": {"cfg": config}, "state_dict": state}, folder / "epoch_100.pth")
    return folder / "epoch_100.pth"


def test_a_data_preprocessor_tells_mean_and_deviation(tmp_path):
    checkpoint = read(mm_file(tmp_path, [127.5] * 3, [63.75] * 3))
    assert checkpoint.pixels == ((0.5,) * 3, (0.25,) * 3) and not checkpoint.assumed
    checkpoint = read(mm_file(tmp_path, [], []))
    assert checkpoint.pixels == IMAGENET and "ImageNet's as of OpenMMLab" in checkpoint.assumed["pixels"]


@pytest.mark.parametrize(
    ("mean", "config"),
    [([103.53, 116.28, 123.675], ""), ([], "data_preprocessor = dict(mean=[0, 0, 0], to_rgb=False)")],
)
def test_a_network_that_was_shown_blue_first_is_refused(tmp_path, mean, config):
    with pytest.raises(CheckpointError, match="shown images with blue first"):
        read(mm_file(tmp_path, mean, [58.395, 57.12, 57.375], config))


@pytest.mark.parametrize("name", ["efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_b7"])
def test_the_one_efficientnet_that_torchvision_trained_with_other_means(name):
    with torch.device("meta"):
        net = getattr(torchvision.models, name)()
    (weights, *_) = torchvision.models.get_model_weights(name)
    found = recognise(net.state_dict())
    told = weights.transforms()
    assert found.pixels == (tuple(told.mean), tuple(told.std))
    assert (next(iter(found.models)) == "efficientnetv2_l") == (name == "efficientnet_v2_l")


@pytest.mark.parametrize(("kind", "wanted"), [("vit_mae", IMAGENET), ("vit", HALF), ("deit", IMAGENET)])
def test_a_hugging_face_file_without_its_processor(tmp_path, kind, wanted):
    save_file(Named(vit=HFViT()).float().state_dict(), tmp_path / "model.safetensors")
    config = {"model_type": kind, "num_attention_heads": 2, "layer_norm_eps": 1e-12}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = read(tmp_path / "model.safetensors")
    assert checkpoint.pixels == wanted and f"as of {kind}" in checkpoint.assumed["pixels"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.2] * 3}))
    stated = read(tmp_path / "model.safetensors")
    assert stated.pixels == ((0.1,) * 3, (0.2,) * 3) and not stated.assumed


def test_assumed_heads_are_said_and_can_be_given(tmp_path):
    net = randomise(Named(vit=HFViT(), classifier=nn.Linear(128, 9)))
    state = {key: x.float().contiguous() for key, x in net.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    said = describe(read(tmp_path / "model.safetensors"))
    assert said["assumed"]["num_heads"] == "attention heads are assumed: 2 of 64 channels, for the file does not say"
    _, config = create_model("auto", tmp_path / "model.safetensors")
    assert set(config["assumed"]) == {"num_heads", "pixels"}
    model, config = create_model("auto", tmp_path / "model.safetensors", num_heads=4)
    assert model.blocks[0].attn.num_heads == 4 and set(config["assumed"]) == {"pixels"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 2}))
    assert "num_heads" not in describe(read(tmp_path / "model.safetensors"))["assumed"]


def test_a2mims_convnext_normalises_its_map_as_it_did_in_training(tmp_path):
    net = randomise(mm(layouts.MMConvNeXt(), neck=Named(decoder_pred=nn.Sequential(nn.Conv2d(12, 3, 1)))))
    torch.save({"meta": {}, "state_dict": net.state_dict()}, tmp_path / "full.pth")
    model, _, _ = reread(tmp_path / "full.pth")
    x_BDHW = net.backbone.feature_map(IMAGES)
    normalised = net.backbone.norm3(x_BDHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    same(model.forward_features(IMAGES), normalised)


# --- rotary positions, which leave no trace in timm's vit_*_rope_ape_*: their keys are those of DeiT III's code


ROPE = "vit_small_patch16_rope_ape_224"
SMALL = {"depth": 1, "img_size": 64, "num_classes": 9}
PHOTOS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def rope():
    """Weights large enough that the angles show, which are no weights."""
    net = timm.create_model(ROPE, **SMALL)
    net.load_state_dict(randomise(timm.create_model(ROPE, **SMALL)).state_dict())
    return net.eval()


@pytest.mark.parametrize("said", ["name", "settings", "hub"])
def test_rotary_positions_are_kept_where_anything_names_the_network(rope, tmp_path, said):
    content = {"state_dict": rope.state_dict(), **({"arch": ROPE} if said == "settings" else {})}
    file = tmp_path / {"name": f"{ROPE}.naver_in1k.pth", "hub": "pytorch_model.bin"}.get(said, "model_best.pth.tar")
    torch.save(content, file)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": ROPE}))
    model, _ = create_model("auto", file)
    torch.testing.assert_close(model.eval()(PHOTOS), rope(PHOTOS))
    assert read(file).source == "timm"


def test_rotary_positions_are_kept_where_the_model_is_named(rope, tmp_path):
    file = tmp_path / "checkpoint.pth"
    torch.save(rope.state_dict(), file)
    model, _ = create_model(ROPE, file, **SMALL)
    torch.testing.assert_close(model.eval()(PHOTOS), rope(PHOTOS))
    again = timm.create_model(ROPE, **SMALL)
    load_into(again, file)
    torch.testing.assert_close(again.eval()(PHOTOS), rope(PHOTOS))
    plain, _ = create_model("deit3_small_patch16_224", file, **SMALL)  # what the user says counts
    assert (plain.eval()(PHOTOS) - rope(PHOTOS)).abs().max() > 0.1
    export_backbone(rope, tmp_path / "own.safetensors", {"architecture": ROPE, **SMALL})
    own, _ = create_model("auto", tmp_path / "own.safetensors")
    torch.testing.assert_close(own.eval()(PHOTOS), rope(PHOTOS))


def shapes_of(name, file):
    """A file with the tensors of a model of timm's, of which only the shapes are there."""
    with shapes_alone():
        found = recognise(timm.create_model(name).state_dict())
    return Checkpoint(found.tensors, Path(file), container="", prefix="", source=found.name)


def test_rotary_positions_are_asked_for_where_nothing_tells():
    with pytest.raises(UntoldError, match=rf"vit_small_patch16_224 \(deit iii\) and of {ROPE}, which adds rotary"):
        identify(shapes_of(ROPE, "checkpoint.pth"))
    with pytest.raises(UntoldError, match=ROPE):  # of the code that made these networks, by DeiT III's
        identify(shapes_of(ROPE, "rope_axial_ape_deit_small_patch16_LS.pth"))
    assert identify(shapes_of(ROPE, "deit_3_small_224_1k.pth")).name == "vit_small_patch16_224"


def test_timms_dinov3_with_biases_is_no_beit(tmp_path):
    name, small = "vit_small_patch16_dinov3_qkvb", {"depth": 1, "img_size": 64}
    net = timm.create_model(name, **small)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert read(tmp_path / "net.pth").source == "timm" and not read(tmp_path / "net.pth").norm_eps
    model, _ = create_model(name, tmp_path / "net.pth", **small)
    assert {each.eps for each in model.modules() if isinstance(each, nn.LayerNorm)} == {1e-5}
