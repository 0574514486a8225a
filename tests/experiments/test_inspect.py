"""`a2mim inspect` and `a2mim convert`: what they say of files, and that what was written is the network."""

import importlib.util
import json
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from a2mim.checkpoints import Checkpoint, load_into, read
from a2mim.checkpoints.architecture import build
from a2mim.checkpoints.describe import fit
from a2mim.checkpoints.identify import UntoldError, identify
from a2mim.export import export_backbone, save
from a2mim.shapes import shapes_alone
from experiments.cli import main
from experiments.models import create_model, efficientnet_lite0_file, fitted
from tests.a2mim.checkpoints import layouts
from tests.a2mim.checkpoints.layouts import Beit, HFViT, Named, ViT, randomise
from tests.a2mim.checkpoints.test_sources import hf_save, sin_cos

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / ".." / "shared/data/imagenet-1-per-class.tar"
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def inspected(capsys, file, *more):
    assert main(["inspect", str(file), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def lite0():
    try:
        return efficientnet_lite0_file()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_the_published_lite0(capsys, lite0):
    said = inspected(capsys, lite0)
    assert (said["model"], said["arguments"], said["fits"], said["loaded"]) == ("tf_efficientnet_lite0", {}, True, 296)
    assert (said["classes"], said["dropped"], said["missing"]) == (1000, {}, [])
    assert said["format"] == "torch (before 1.6)"


def test_the_published_augnet(capsys):
    package = importlib.util.find_spec("imgsim")
    files = [Path(folder, "model.pth") for folder in (package.submodule_search_locations or [])] if package else []
    if not files:
        pytest.skip("the package imgsim is not installed")
    said = inspected(capsys, files[0])
    assert (said["model"], said["arguments"], said["fits"]) == ("resnet50", {"num_classes": 0}, True)
    assert said["prefix"] == "module."
    assert list(said["dropped"].values()) == [["pre.fc.weight", "pre.fc.bias"]]


def test_a_mae_with_its_decoder(tmp_path, capsys):
    net = randomise(layouts.MAE()).float()
    torch.save({"model": net.state_dict(), "optimizer": {}, "epoch": 1}, tmp_path / "mae.pth")
    said = inspected(capsys, tmp_path / "mae.pth")
    assert (said["method"], said["stage"], said["classes"]) == ("MAE", "pre-trained, no classifier", 0)
    assert (said["family"], said["fits"], said["container"], said["beside"]) == (
        "vit",
        True,
        "model",
        ["optimizer", "epoch"],
    )
    assert said["precision"] == {"float32": said["loaded"]}
    assert said["parameters"] == sum(
        x.numel() for k, x in net.state_dict().items() if not k.startswith(("decoder", "mask"))
    )
    assert main(["inspect", str(tmp_path / "mae.pth")]) == 0
    table = capsys.readouterr().out
    assert "left out" in table and "decoder of the pre-training" in table and "yes, all" in table


def test_the_fixed_positions_tell_the_method(tmp_path, capsys):
    for row_first, method in ((False, "MAE"), (True, "MoCo v3")):
        net = randomise(ViT()).float()
        net.pos_embed.data = sin_cos(128, 4, row_first).float()
        torch.save(net.state_dict(), tmp_path / "net.pth")
        assert inspected(capsys, tmp_path / "net.pth")["method"] == f"{method}, by its fixed positions"
    net.pos_embed.data += 0.1
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert inspected(capsys, tmp_path / "net.pth")["method"] == "not told by the file"


@pytest.mark.parametrize(
    "name",
    ["vit_base_patch16_224", "vit_small_patch16_384", "vit_tiny_patch16_224", "beit_base_patch16_224", "resnet50",
     "resnet18", "resnet101", "resnext50_32x4d", "wide_resnet50_2", "convnext_small", "convnext_base",
     "swin_tiny_patch4_window7_224", "swin_base_patch4_window12_384", "deit_small_distilled_patch16_224"],
)  # fmt: skip
def test_models_of_timm_are_known_by_their_shapes(name):
    with shapes_alone():
        tensors = dict(timm.create_model(name).state_dict())
    file = Path(f"{name}.pth" if name in ("resnet18", "resnet50") else "net.pth")
    found = fit(Checkpoint(tensors, file, container="", prefix="", source="timm"))
    assert (found.architecture.name, found.architecture.arguments, found.complete) == (name, {}, True)


def unnamed(name, file="net.pth", **arguments):
    """A file with the tensors of a model, of which only the shapes are there."""
    with shapes_alone():
        model = timm.create_model(name, **arguments)
    return Checkpoint(dict(model.state_dict()), Path(file), container="", prefix="", source="timm")


@pytest.mark.parametrize(
    ("name", "file", "arguments"),
    [
        ("resnet18", "resnet18-f37072fd.pth", {}),
        ("resnetblur18", "resnetblur18.bt_in1k.pth", {}),
        ("resnetblur50", "my_resnetblur50_run3.pth", {"num_classes": 7}),
        ("resnetaa50", "resnetaa50_a1h-4cf422b3.pth", {}),
        ("vit_base_patch16_rpn_224", "vit_base_patch16_rpn_224-sw-3b07e89d.pth", {}),
        ("vit_base_patch16_rpn_224", "vit_base_patch16_rpn.pth", {"img_size": 96}),
        ("test_vit", "test_vit.pth", {}),
    ],
)
def test_a_files_own_name_tells_what_shapes_do_not(name, file, arguments):
    found = identify(unnamed(name, file, **arguments))
    assert (found.name, found.arguments) == (name, arguments)


def test_the_heads_of_a_named_model_are_its_own():
    """1,152 channels in 16 heads, where 64 channels a head would make 18."""
    found = identify(unnamed("vit_so400m_patch14_siglip_gap_224", "vit_so400m_patch14_siglip_gap.pth", depth=1))
    assert found.name == "vit_so400m_patch14_siglip_gap_224" and "num_heads" not in found.arguments
    assert build(found).blocks[0].attn.num_heads == 16


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18", "those of resnet18 and of resnetblur18, which compute different things: name the one"),
        ("resnetblur18", "those of resnet18 and of resnetblur18, which compute different things: name the one"),
        ("vit_base_patch16_rpn_224", "those of vit_base_patch16_224 and of vit_base_patch16_rpn_224"),
        ("test_vit", "do not tell its number of attention heads, and none is usual at 64 channels"),
    ],
)
def test_what_shapes_do_not_tell_is_asked_for(name, said):
    with pytest.raises(UntoldError, match=said):
        identify(unnamed(name))


def test_settings_and_a_hubs_configuration_are_evidence(tmp_path, capsys):
    state = timm.create_model("resnetblur18", num_classes=2).state_dict()
    torch.save({"state_dict": state, "arch": "resnetblur18"}, tmp_path / "checkpoint.pth.tar")
    assert inspected(capsys, tmp_path / "checkpoint.pth.tar")["model"] == "resnetblur18"
    torch.save(state, tmp_path / "pytorch_model.bin")
    said = inspected(capsys, tmp_path / "pytorch_model.bin")
    assert said["model"] is None and "resnet18 and of resnetblur18" in said["problem"]
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnetblur18", "num_classes": 2}))
    assert inspected(capsys, tmp_path / "pytorch_model.bin")["model"] == "resnetblur18"


def test_a_model_that_was_named_keeps_its_heads(tmp_path):
    """Its name says them, and shapes do not."""
    torch.save(timm.create_model("vit_so150m2_patch16_reg1_gap_256", depth=1).state_dict(), tmp_path / "net.pth")
    name, arguments, _ = fitted("vit_so150m2_patch16_reg1_gap_256", read(tmp_path / "net.pth"))
    assert name == "vit_so150m2_patch16_reg1_gap_256" and "num_heads" not in arguments


def test_a_model_of_no_known_family_is_told_by_its_name(tmp_path, capsys):
    state = timm.create_model("test_efficientnet", num_classes=7).state_dict()
    torch.save(state, tmp_path / "test_efficientnet-abc123.pth")
    said = inspected(capsys, tmp_path / "test_efficientnet-abc123.pth")
    assert (said["model"], said["arguments"], said["fits"]) == ("test_efficientnet", {"num_classes": 7}, True)
    torch.save(state, tmp_path / "net.pth")
    said = inspected(capsys, tmp_path / "net.pth")
    assert (said["model"], said["fits"]) == (None, False)
    said = inspected(capsys, tmp_path / "net.pth", "--model", "test_efficientnet")
    assert not said["fits"] and "7×" in said["problem"]


def test_what_does_not_fit_is_listed(tmp_path, capsys):
    state = randomise(ViT()).float().state_dict()
    del state["blocks.1.norm2.bias"]
    state["blocks.0.strange"] = torch.zeros(1)
    torch.save(state, tmp_path / "net.pth")
    said = inspected(capsys, tmp_path / "net.pth")
    assert (said["fits"], said["missing"], said["unexpected"]) == (False, ["blocks.1.norm2.bias"], ["blocks.0.strange"])


@pytest.mark.parametrize("content", [{"a": 1}, [], {"model": {}}])
def test_what_is_no_checkpoint_is_one_sentence(tmp_path, capsys, content):
    torch.save(content, tmp_path / "net.pth")
    assert main(["inspect", str(tmp_path / "net.pth")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["inspect", str(tmp_path / "nothing.pth")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.slow
def test_the_published_lite0_is_profiled_without_its_name(lite0, tmp_path):
    if not PHOTOGRAPHS.exists():
        pytest.skip("the ImageNet photographs are not beside the repository")
    options = "--image-size 32 --grid 4 --radius 1 --ratios 0.0 0.5 1.0 --design pairwise --budget 60 --images 1"
    options += " --unit-images 1 --batch-size 32 --device cpu --keep images"
    where = ["--weights", str(lite0), "--data", str(PHOTOGRAPHS), "--out", str(tmp_path / "run")]
    assert main(["profile", "auto", *where, *options.split()]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["images"]) == 1 and record["passes"] > 100


# --- convert


def test_a_converted_file_is_the_network_and_knows_its_model(tmp_path, capsys):
    net = randomise(Beit(shared=True, mean=False, classes=0)).float()
    torch.save({"model": layouts.SimMIM(net, 32).float().state_dict()}, tmp_path / "simmim.pth")
    out = tmp_path / "backbone.safetensors"
    assert main(["convert", str(tmp_path / "simmim.pth"), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()[1].strip()
    model = eval(said, {"timm": timm}).eval()  # what it says works as it stands
    torch.testing.assert_close(model.forward_features(IMAGES), net.tokens(IMAGES), rtol=1e-3, atol=1e-4)
    again, _ = create_model("auto", out)
    torch.testing.assert_close(again.eval()(IMAGES), model(IMAGES))
    assert inspected(capsys, out)["fits"]


def test_a_converted_file_keeps_the_epsilons(tmp_path, capsys):
    net = randomise(Named(vit=HFViT(), classifier=nn.Linear(128, 9))).float()
    hf_save(net, tmp_path / "model.safetensors")
    assert main(["convert", str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "vit.safetensors")]) == 0
    assert "epsilon of its layer norms to 1e-12" in capsys.readouterr().out
    model, _ = create_model("auto", tmp_path / "vit.safetensors")
    assert model.blocks[0].norm1.eps == 1e-12
    direct, _ = create_model("auto", tmp_path / "model.safetensors")
    assert torch.equal(model.eval()(IMAGES), direct.eval()(IMAGES))


def test_a_file_that_does_not_fit_is_not_converted(tmp_path, capsys):
    state = randomise(ViT()).float().state_dict()
    del state["norm.bias"]
    torch.save(state, tmp_path / "net.pth")
    assert main(["convert", str(tmp_path / "net.pth"), "--out", str(tmp_path / "out.safetensors")]) == 2
    assert "1 missing key (norm.bias)" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()
    assert main(["convert", str(tmp_path / "net.pth"), "--out", str(tmp_path / "out.pth")]) == 2
    assert "out.safetensors" in capsys.readouterr().err


def test_the_folder_of_a_run_stands_for_the_network_that_it_left(tmp_path, capsys, own):
    run = tmp_path / "run"
    run.mkdir()
    assert main(["inspect", str(run)]) == 2
    assert "holds no backbone.safetensors: a training run writes it" in capsys.readouterr().err
    (run / "backbone.safetensors").write_bytes(own[2].read_bytes())
    assert inspected(capsys, run) == inspected(capsys, run / "backbone.safetensors")
    assert main(["convert", str(run), "--out", str(tmp_path / "out.safetensors")]) == 0
    (tmp_path / "file").touch()
    capsys.readouterr()
    assert main(["convert", str(run), "--out", str(tmp_path / "file" / "out.safetensors")]) == 2
    assert f"{tmp_path / 'file'} is a file" in capsys.readouterr().err


# --- what the other commands get


def test_a_named_model_gets_what_its_name_leaves_open(tmp_path):
    """Pooling and the number of heads come from the file; sizes come from the name."""
    net = randomise(ViT(mean=True, head=nn.Linear(128, 9))).float()
    torch.save({"model": net.state_dict()}, tmp_path / "tuned.pth")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}
    model, _ = create_model("vit_base_patch16_224", tmp_path / "tuned.pth", num_classes=9, **sizes)
    torch.testing.assert_close(model.eval()(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no known model fits"):
        torch.save({"a.weight": torch.zeros(2)}, tmp_path / "odd.pth")
        create_model("auto", tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="read off a weights file"):
        create_model("auto", "random")


@pytest.fixture
def own(tmp_path):
    """A network of 6 heads that pools the mean, where its name says 3 and the class token; sizes; its own export."""
    sizes = {"img_size": 32, "patch_size": 8, "depth": 2, "num_classes": 0}
    form = {"num_heads": 6, "global_pool": "avg", "fc_norm": False}
    net = randomise(timm.create_model("vit_tiny_patch16_224", **sizes, **form)).float().eval()
    file = tmp_path / "own.safetensors"
    export_backbone(net, file, {"architecture": "vit_tiny_patch16_224", **sizes, **form})
    return net, sizes, file


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "auto"])
def test_an_own_export_keeps_heads_and_pooling_by_any_name_of_its_family(name, own):
    net, sizes, file = own
    model, _ = create_model(name, file, **({} if name == "auto" else sizes))
    torch.testing.assert_close(model.eval()(IMAGES), net(IMAGES))


def test_what_is_said_of_a_network_wins_over_its_file_but_for_its_heads(own):
    _, sizes, file = own
    model, _ = create_model("vit_tiny_patch16_224", file, **sizes, global_pool="token")
    assert model.global_pool == "token" and model.blocks[0].attn.num_heads == 6
    with pytest.raises(ValueError, match=r"6 attention heads, .* has 3, .* make the model with num_heads=6"):
        create_model("vit_tiny_patch16_224", file, **sizes, num_heads=3)
    shared = {key: value for key, value in sizes.items() if key != "num_classes"}
    with pytest.raises(ValueError, match="6 attention heads"):  # of one's own code, too
        create_model("tests.experiments.test_inspect:of_three_heads", file, **shared)


def of_three_heads(**sizes):
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, **sizes)


@pytest.mark.parametrize("named", [False, True], ids=["auto", "named"])
def test_a_converted_file_keeps_its_heads(named, tmp_path, capsys):
    """MoCo v3's ViT-S has 12, timm's 6, of the same shapes."""
    net = ViT(dim=384, heads=12, depth=1)
    net.pos_embed.data = sin_cos(384, 4, row_first=True)
    net = randomise(net).float()
    net.pos_embed.data = sin_cos(384, 4, row_first=True).float()
    file, out = tmp_path / "moco.pth", tmp_path / "out.safetensors"
    torch.save({"state_dict": {f"module.base_encoder.{key}": x for key, x in net.state_dict().items()}}, file)
    sizes = {"img_size": 32, "patch_size": 8, "depth": 1, "num_classes": 0}
    words = ["--model", "vit_small_patch16_224", "--model-args", *(f"{key}={x}" for key, x in sizes.items())]
    assert main(["convert", str(file), "--out", str(out), *(words if named else [])]) == 0
    for name, arguments in (("auto", {}), ("vit_small_patch16_224", sizes)):
        model, _ = create_model(name, out, **arguments)
        torch.testing.assert_close(model.eval()(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"12 attention heads, .* has 6"):
        create_model("vit_small_patch16_224", out, num_heads=6, **sizes)
    capsys.readouterr()
    assert main(["convert", str(file), "--out", str(tmp_path / "6.safetensors"), *words, "num_heads=6"]) == 2
    assert "12 attention heads" in capsys.readouterr().err and not (tmp_path / "6.safetensors").exists()


def test_a_converted_file_resizes_its_positions_as_its_source_does(tmp_path):
    """DINO's rule shifts the samples, timm's blurs: under timm's names nothing tells them apart."""
    net = randomise(ViT()).float()
    net.pos_embed.data = torch.randn(net.pos_embed.shape, generator=torch.Generator().manual_seed(3))
    dino = Named(backbone=net, head=layouts.DINOHead(128)).float()
    file, out = tmp_path / "dino.pth", tmp_path / "out.safetensors"
    torch.save({"teacher": dino.state_dict()}, file)
    assert main(["convert", str(file), "--out", str(out)]) == 0
    models = [create_model("auto", each, img_size=16)[0] for each in (file, out)]
    torch.testing.assert_close(models[1].pos_embed, models[0].pos_embed, rtol=0, atol=0)
    grid = net.pos_embed.data[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    shifted = nn.functional.interpolate(grid, scale_factor=(2.1 / 4, 2.1 / 4), mode="bicubic")  # vision_transformer.py
    torch.testing.assert_close(models[1].pos_embed[:, 1:], shifted.flatten(2).transpose(1, 2))
    save(read(out).tensors, tmp_path / "odd.safetensors", {"positions": "nearest"})
    with pytest.raises(ValueError, match=r"the metadata 'positions' .* is none of bicubic, antialiased"):
        read(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("named", [False, True], ids=["auto", "named"])
def test_an_own_export_is_converted_as_it_is(named, own, tmp_path):
    net, sizes, file = own
    words = ["--model", "vit_tiny_patch16_224", "--model-args", *(f"{key}={x}" for key, x in sizes.items())]
    assert main(["convert", str(file), "--out", str(tmp_path / "out.safetensors"), *(words if named else [])]) == 0
    model, _ = create_model("auto", tmp_path / "out.safetensors")
    torch.testing.assert_close(model.eval()(IMAGES), net(IMAGES))


def test_heads_that_are_assumed_are_not_stated_by_a_converted_file(tmp_path):
    net = randomise(ViT(dim=384, heads=12, depth=1)).float()
    torch.save({"model": net.state_dict()}, tmp_path / "net.pth")
    assert main(["convert", str(tmp_path / "net.pth"), "--out", str(tmp_path / "out.safetensors")]) == 0
    assert read(tmp_path / "out.safetensors").heads is None
    model, _ = create_model("auto", tmp_path / "out.safetensors", num_heads=12)
    torch.testing.assert_close(model.eval()(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-5)


def test_one_of_several_copies_by_the_name_of_the_file(tmp_path):
    nets = {
        name: randomise(Named(backbone=ViT(), head=layouts.DINOHead(128)), n).float()
        for n, name in enumerate(("teacher", "student"))
    }
    torch.save({name: net.state_dict() for name, net in nets.items()}, tmp_path / "dino.pth")
    for name, net in nets.items():
        model, _ = create_model("auto", f"{tmp_path / 'dino.pth'}#{name}")
        torch.testing.assert_close(model.eval()(IMAGES), net.backbone(IMAGES), rtol=1e-4, atol=1e-5)


def test_a_file_whose_name_has_a_hash_is_read(tmp_path):
    net = timm.create_model("test_resnet", num_classes=3)
    torch.save(net.state_dict(), tmp_path / "run#3.pth")
    assert read(tmp_path / "run#3.pth").copies == ()
    assert load_into(timm.create_model("test_resnet", num_classes=3), tmp_path / "run#3.pth").complete
