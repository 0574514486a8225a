"""`a2mim reconstruct`: its pictures are those of the method with the saved weights, and it refuses in one sentence."""

import json
import re
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from a2mim.methods import A2MIM, MAE, A2MIMSettings, MAESettings, SimMIM, SimMIMSettings, SparK, SparKSettings
from a2mim.seeds import seed_of
from experiments.cli import main
from experiments.training.reconstruction import begin_as, chosen
from tests.a2mim.checkpoints import layouts, newer_layouts
from tests.a2mim.checkpoints.layouts import Named, ViT, randomise
from tests.a2mim.tiny import write_images

VIT_NAME = "vit_tiny_patch16_224"
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
CNN = {"layers": (1, 1), "channels": (8, 16)}
DECODER = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
LOOP = [
    "--image-size",
    "32",
    "--workers",
    "0",
    "--warmup-epochs",
    "0",
    "--lr-batch",
    "8",
    "--batch",
    "8",
    "--device",
    "cpu",
    "--save-every",
    "2",
]

# name -> (method, its settings, network, its arguments, how the method is made again)
RUNS = {
    "a2mim": ("a2mim", {"mask_cell": 8, "gamma_init": 0.1}, "resnetv2_18d", CNN, A2MIM, A2MIMSettings),
    "simmim": ("simmim", {"mask_cell": 8, "mask_strategy": "blockwise"}, VIT_NAME, VIT, SimMIM, SimMIMSettings),
    "mae": ("mae", DECODER, VIT_NAME, VIT, MAE, MAESettings),
    "spark": ("spark", {"decoder_width": 16}, "resnetv2_18d", CNN, SparK, SparKSettings),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), per_class=4, size=32)


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """Folder of a run by its name in RUNS, trained for a few steps the first time that it is asked for."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name):
        if not (folder / name).exists():
            method, settings, model, arguments, *_ = RUNS[name]
            words = ["pretrain", "--method", method, "--model", model, "--data", str(images), "--epochs", "3", *LOOP]
            words += ["--lr", "1e-2", "--out", str(folder / name), "--pictures-every", "3"]
            words += ["--model-args", *(f"{key}={value}" for key, value in arguments.items())]
            words += ["--set", *(f"{key}={value}" for key, value in settings.items())]
            words += ["--ema", "0.9"] if name == "a2mim" else []
            assert main(words) == 0
        return folder / name

    return run


def trained(run, name, state="step-00000006.pt", **changes):
    """The method of a run, made and loaded by hand."""
    _, settings, model, arguments, kind, settings_of = RUNS[name]
    given = settings_of(**{"image_size": 32, **settings, **changes})
    method = kind(timm.create_model(model, num_classes=0, **arguments), given)
    saved = torch.load(run / "state" / state, weights_only=True)
    method.load_state_dict(saved["ema"] or saved["method"])
    return method.eval()


def batch_of(paths):
    """Images of 32 px as the networks get them, which are normalised by 0.5 (ViT) or ImageNet's mean."""
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2) / 255
    return torch.from_numpy(pixels).float()


def normalisation(model):
    config = timm.get_pretrained_cfg(model)
    return (torch.tensor(getattr(config, key)).view(1, 3, 1, 1) for key in ("mean", "std"))


def drawn(out, *words):
    """The pictures and the record that the command writes."""
    assert main(["reconstruct", *(str(word) for word in words), "--out", str(out)]) == 0
    with np.load(out.with_suffix(".npz")) as file:
        pictures = {name: file[name] for name in file.files}
    return pictures, json.loads(out.with_suffix(".json").read_text())


def at_pixels(mask, side=32):
    """(B, cells) or (B, rows, columns) → (B, 1, side, side), by NumPy."""
    rows = int(np.sqrt(mask[0].numel()))
    return np.kron(mask.reshape(-1, rows, rows).numpy(), np.ones((side // rows, side // rows)))[:, None] > 0


@pytest.mark.parametrize("name", RUNS)
def test_the_pictures_are_the_methods_own(name, runs, images, tmp_path):
    run, files = runs(name), sorted(images.rglob("*.png"))
    found, record = drawn(tmp_path / "new" / "r.svg", run, "--data", images, "--count", "5", "--seed", "11")
    paths = [files[n] for n in (0, 4, 8, 11, 15)]
    assert [each["name"] for each in record["data"]["images"]] == [str(path.relative_to(images)) for path in paths]
    (mean, std), method = normalisation(RUNS[name][2]), trained(run, name)
    image = (batch_of(paths) - mean) / std
    shown = method.pictures({"image": image}, torch.Generator().manual_seed(11))
    assert set(found) == {"original", "masked", "predicted", "composite"}
    for key, x in shown.items():
        assert found[key].dtype == np.float32 and found[key].shape == (5, 3, 32, 32)
        np.testing.assert_allclose(found[key], (x * std + mean).clamp(0, 1), atol=1e-6)
    mask = at_pixels(method.draw_mask(image, torch.Generator().manual_seed(11)))
    hidden = np.broadcast_to(mask, found["original"].shape)
    np.testing.assert_allclose(found["original"], batch_of(paths), atol=1e-6)
    assert np.array_equal(found["composite"][~hidden], found["original"][~hidden])
    assert np.array_equal(found["composite"][hidden], found["predicted"][hidden])
    assert np.array_equal(found["masked"][~hidden], found["original"][~hidden])
    colour = batch_of(paths).mean((2, 3), keepdim=True) if name == "a2mim" else mean
    np.testing.assert_allclose(found["masked"][hidden], colour.expand(image.shape).numpy()[hidden], atol=1e-5)
    assert record["network"]["weights"] == ("moving average" if name == "a2mim" else "as trained")
    assert record["network"]["step"] == 6 and record["network"]["loaded"] == len(method.state_dict()) + (name == "mae")
    drawing = (tmp_path / "new" / "r.svg").read_text()
    assert "step 6" in drawing and ("those of hidden pixels are known here" in drawing) is (name in ("mae", "spark"))
    assert str(tmp_path) not in json.dumps(record) and str(run.parent) not in json.dumps(record)


def test_the_trainers_own_pictures_come_out_again(runs, images, tmp_path, monkeypatch):
    """Of the same images with the seed that the training draws its masks by: read, loaded and masked alike."""
    run = runs("mae")
    monkeypatch.chdir(run)
    found, record = drawn(tmp_path / "r.png", ".", "--data", images, "--seed", seed_of(0, "pictures"))
    assert record["network"]["path"] == run.name
    with np.load(run / "pictures" / "step-00000006.npz") as file:
        for key in file.files:
            np.testing.assert_allclose(found[key], file[key], atol=2e-5)


def test_the_best_state_is_another_than_the_latest(runs, images, tmp_path):
    run = shutil.copytree(runs("simmim"), tmp_path / "run")
    best = torch.load(run / "state" / "step-00000004.pt", weights_only=True)
    (run / "state" / "best.pt").unlink()
    torch.save(best, run / "state" / "best.pt")
    latest, _ = drawn(tmp_path / "latest.png", run, "--data", images, "--count", "2")
    found, record = drawn(tmp_path / "best.png", run, "--data", images, "--count", "2", "--best")
    assert record["network"]["step"] == 4 and record["network"]["state"] == "best"
    image = (batch_of(sorted(images.rglob("*.png"))[::15]) - 0.5) / 0.5
    shown = trained(run, "simmim", "best.pt").pictures({"image": image}, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(found["predicted"], (shown["predicted"] * 0.5 + 0.5).clamp(0, 1), atol=1e-6)
    assert np.abs(found["predicted"] - latest["predicted"]).max() > 1e-3


def test_masking_can_be_another_than_in_training(runs, images, tmp_path):
    run = runs("simmim")

    def hidden(*words):
        found, record = drawn(tmp_path / "r.png", run, "--data", images, "--count", "2", *words)
        return (np.abs(found["masked"] - 0.5) < 1e-6).all(1), record

    usual, record = hidden()
    assert usual.mean() == 10 / 16 and "60% masked in cells of 8 px (blockwise, seed 0)" in record["caption"]
    other, record = hidden("--mask-ratio", "0.25", "--mask-cell", "16", "--strategy", "random", "--seed", "2")
    assert other.mean() == 0.25 and "25% masked in cells of 16 px (random, seed 2)" in record["caption"]
    assert all(block.all() or not block.any() for block in (other[0, :16, :16], other[0, :16, 16:]))
    assert record["network"]["method_settings"]["mask_ratio"] == 0.25
    assert not np.array_equal(hidden("--seed", "1")[0], usual)


def test_another_image_size(runs, images, tmp_path):
    found, record = drawn(tmp_path / "r.png", runs("mae"), "--data", images, "--count", "2", "--image-size", "64")
    assert found["predicted"].shape == (2, 3, 64, 64)
    assert any("positions_ND was resized from 17 to 65" in note for note in record["network"]["adapted"])


def test_normalised_patches_can_be_drawn_as_they_are(runs, images, tmp_path):
    run = runs("mae")
    usual, _ = drawn(tmp_path / "r.png", run, "--data", images, "--count", "2")
    found, record = drawn(tmp_path / "r.png", run, "--data", images, "--count", "2", "--norm-pix", "no")
    shown = trained(run, "mae", normalised_target=False).pictures(
        {"image": (batch_of(sorted(images.rglob("*.png"))[::15]) - 0.5) / 0.5}, torch.Generator().manual_seed(0)
    )
    np.testing.assert_allclose(found["predicted"], (shown["predicted"] * 0.5 + 0.5).clamp(0, 1), atol=1e-6)
    assert "their mean says nothing" in record["note"] and not np.allclose(found["predicted"], usual["predicted"])


# --- released files


def save_mae(path):
    net = randomise(layouts.MAE()).float()
    torch.save({"model": net.state_dict()}, path)
    return net


def test_a_released_file(images, tmp_path):
    net = save_mae(tmp_path / "mae_visualize.pth")
    words = (tmp_path / "mae_visualize.pth", "--data", images, "--count", "2", "--mask-ratio", "0.5")
    found, record = drawn(tmp_path / "r.png", *words, "--norm-pix", "no")
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image = (batch_of(sorted(images.rglob("*.png"))[::15]) - mean) / std
    mask = torch.from_numpy((np.abs(found["masked"] - mean.numpy()) < 1e-6).all(1)[:, ::8, ::8]).flatten(1).double()
    assert mask.sum(1).tolist() == [8.0, 8.0]
    rows = net.reconstruct(image, mask).detach()
    wanted = rows.reshape(2, 4, 4, 8, 8, 3).permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 32, 32) * std + mean
    np.testing.assert_allclose(found["predicted"], wanted.clamp(0, 1), atol=1e-4)
    assert record["network"]["source"] == "mae" and record["network"]["loaded"] == len(net.state_dict())
    assert record["note"] == ""
    _, record = drawn(tmp_path / "r.png", *words, "--norm-pix", "yes")
    assert "those of hidden pixels are known here" in record["note"]


@pytest.mark.parametrize("name", ["FCMAE on convnextv2_tiny", "MAE on hiera_tiny_224"])
def test_released_files_whose_targets_are_always_normalised(name, images, tmp_path):
    net = randomise(newer_layouts.FCMAE() if "FCMAE" in name else newer_layouts.Hiera()).float()
    content = {"model": net.official()} if "FCMAE" in name else {"model_state": net.state_dict()}
    torch.save(content, tmp_path / "net.pth")
    words = (tmp_path / "net.pth", "--data", images, "--count", "2", "--image-size", "64", "--mask-ratio", "0.5")
    found, record = drawn(tmp_path / "r.svg", *words)
    assert found["predicted"].shape == (2, 3, 64, 64) and "those of hidden pixels are known here" in record["note"]
    assert "50% masked in cells of 32 px" in record["caption"] and name in (tmp_path / "r.svg").read_text()
    _, record = drawn(tmp_path / "r.svg", *words, "--norm-pix", "no")
    assert "drawn as they are" in record["note"]


def test_a_network_that_leaks_says_so(images, tmp_path):
    cnn = timm.create_model("resnet26", num_classes=0)
    cnn.mask_token = layouts.vector(1, 64, 1, 1)
    net = randomise(Named(backbone=cnn, neck=Named(decoder=nn.Sequential(nn.Conv2d(2048, 3072, 1))))).float()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "full_simmim.pth")
    words = (
        tmp_path / "full_simmim.pth",
        "--data",
        images,
        "--count",
        "1",
        "--image-size",
        "64",
        "--mask-ratio",
        "0.5",
    )
    _, record = drawn(tmp_path / "r.svg", *words, "--mask-ratio", "0.5")
    assert "Masked pixels leak" in record["note"] and "Masked pixels leak" in (tmp_path / "r.svg").read_text()


# --- what cannot be drawn


def edited(run, to, edit):
    """A copy of a run with another run.json."""
    shutil.copytree(run, to)
    record = json.loads((to / "run.json").read_text())
    edit(record)
    (to / "run.json").write_text(json.dumps(record))
    return to


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda r: r.update(command="finetune"), "holds a run of `a2mim finetune`, which predicts no picture"),
        (lambda r: r["settings"].update(method="simclr", set=[]), "trained by SimCLR, which predicts no pixels"),
        (
            lambda r: r["settings"].update(method="maskfeat", set=["mask_cell=8"]),
            "oriented gradients .MaskFeat.,",
        ),
        (
            lambda r: r["settings"].update(set=["fill=purple"]),
            "fill of simmim purple is not known: choose image_mean",
        ),
        (lambda r: r["settings"].update(colour="red"), "written by another version"),
        (
            lambda r: r["settings"].update(method="a2mim", set=["mask_cell=8", "gamma_init=0.1"]),
            "missing key .mask_token.gamma",
        ),
        (lambda r: r["architecture"].update(depth=3), "does not fit vit_tiny_patch16_224: 12 missing keys"),
        (lambda r: r.update(architecture=None), "a part architecture that is no dictionary"),
    ],
)
def test_a_run_that_cannot_be_drawn(edit, said, runs, images, tmp_path, capsys):
    run = edited(runs("simmim"), tmp_path / "run", edit)
    refused(capsys, tmp_path, said, run, "--data", images)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--best", "--count", "0"], "--count 0 is too small"),
        (["--mask-cell", "7"], "mask cell of 7 px does not divide"),
        (["--mask-ratio", "1"], "mask_ratio of simmim 1.0 is too large"),
        (["--norm-pix", "yes"], "--norm-pix is no setting of simmim"),
        (["--data", "nowhere"], "there are no images at 'nowhere'"),
        (["--set", "beauty=3"], "simmim has no setting 'beauty'"),
        (["--out", "r.jpg"], "end its name in .png, .pdf or .svg"),
    ],
)
def test_bad_input(words, said, runs, images, tmp_path, capsys):
    refused(capsys, tmp_path, said, runs("simmim"), "--data", images, *words)


def test_spark_masks_the_patches_that_it_predicts(runs, images, tmp_path, capsys):
    refused(capsys, tmp_path, "leave out --mask-cell", runs("spark"), "--data", images, "--mask-cell", "16")
    refused(
        capsys, tmp_path, "--strategy is no setting of spark", runs("spark"), "--data", images, "--strategy", "random"
    )


def test_a_run_without_states(runs, images, tmp_path, capsys):
    run = shutil.copytree(runs("simmim"), tmp_path / "run", ignore=shutil.ignore_patterns("state"))
    for words, which in (([], "saved"), (["--best"], "best")):
        said = f"holds no {which} state .state/., and backbone.safetensors has no decoder"
        refused(capsys, tmp_path, said, run, "--data", images, *words)


def test_files_that_cannot_be_drawn(runs, images, tmp_path, capsys):
    save_mae(tmp_path / "mae.pth")
    torch.save({"model": ViT().state_dict()}, tmp_path / "encoder.pth")
    moco = Named(base_encoder=ViT(), momentum_encoder=ViT(), predictor=layouts.moco_mlp(2, 6, 12, 6))
    torch.save({"state_dict": Named(module=moco).state_dict()}, tmp_path / "moco.pth")
    for path, words, said in [
        (tmp_path / "mae.pth", [], "--norm-pix no. or patches .* --norm-pix yes.: say which"),
        (tmp_path / "mae.pth", ["--norm-pix", "yes", "--best"], "is a file and holds one state"),
        (tmp_path / "mae.pth", ["--norm-pix", "yes", "--strategy", "random"], "--strategy is no setting of mae"),
        (tmp_path / "encoder.pth", [], "no decoder that predicts pixels"),
        (tmp_path / "moco.pth", [], "no decoder that predicts pixels .method: MoCo v3."),
        (runs("simmim") / "backbone.safetensors", [], "or the folder of a pre-training run"),
        (tmp_path / "nothing.pth", [], "does not exist"),
    ]:
        refused(capsys, tmp_path, said, path, "--data", images, *words)


def refused(capsys, tmp_path, said, *words):
    """Exit code 2, one sentence, and nothing written."""
    capsys.readouterr()
    assert main(["reconstruct", "--out", str(tmp_path / "new" / "r.png"), *(str(word) for word in words)]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and re.search(said, error), error
    assert not (tmp_path / "new").exists()


# --- parts


def test_a_run_that_began_with_a_file_is_normalised_as_that_file_says(tmp_path):
    save_mae(tmp_path / "mae.pth")
    backbone = timm.create_model("vit_tiny_patch16_224", **VIT)
    assert backbone.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    begin_as(backbone, {"path": str(tmp_path / "mae.pth"), "adapted": ["pos_embed was resized"]})
    assert backbone.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    loaded = {"path": str(tmp_path / "mae.pth"), "adapted": ["images are normalised with mean …"]}
    begin_as(backbone, loaded)
    assert backbone.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)
    (tmp_path / "mae.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"began with the weights .* not there any more: put it back"):
        begin_as(backbone, loaded)


def test_images_are_evenly_spaced():
    class Data:
        streamed = False

        def __len__(self):
            return 10

    data = Data()
    assert chosen(data, 4) == [0, 3, 6, 9] and chosen(data, 1) == [0] and chosen(data, 99) == list(range(10))
    data.streamed = True
    assert chosen(data, 4) == [0, 1, 2, 3]
