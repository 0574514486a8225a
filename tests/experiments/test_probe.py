"""Checkpoints without a classifier: profiled by the cosine, or behind a linear probe that is kept beside the run."""

import json
import os
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from a2mim.checkpoints import load_into
from a2mim.evaluate.linear import Probe, fit_best
from experiments.cli import main
from experiments.datasets import evaluation_transform
from experiments.measuring.inputs import Input, adjusted
from experiments.measuring.probe import FILE, add_probe, attach, read_probe
from experiments.models import create_model
from interactions.fingerprint import model_digest
from tests.a2mim.checkpoints import layouts
from tests.a2mim.checkpoints.layouts import randomise

SIZE = 32
COLOURS = {"blue": (30, 40, 200), "green": (30, 190, 60), "red": (210, 40, 30)}
OPTIONS = (
    "--image-size 32 --grid 4 --radius 1 --ratios 0.0 0.5 1.0 --design pairwise --budget 200 --images 3 "
    "--unit-images 3 --batch-size 32 --device cpu --keep images"
)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Three classes that differ in their colour: 12 images of each to fit, 2 to look at."""
    root = tmp_path_factory.mktemp("coloured")
    generator = np.random.default_rng(0)
    for part, count in (("train", 12), ("validation", 2)):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = np.clip(np.array(colour) + generator.normal(0, 20, (40, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def headless(tmp_path_factory):
    """A MAE pre-training checkpoint."""
    path = tmp_path_factory.mktemp("mae") / "mae.pth"
    net = randomise(layouts.MAE()).float()
    net.patch_embed.proj.weight.data *= 300
    torch.save({"model": net.state_dict(), "epoch": 1}, path)
    return path


def profile(file, data, out, *more):
    where = ["--weights", str(file), "--data", str(data), "--out", str(out)]
    return main(["profile", "auto", *where, *OPTIONS.split(), *more])


def test_without_a_classifier_the_way_out_is_named(headless, coloured, tmp_path, capsys):
    assert profile(headless, coloured, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "has no classifier" in said and "--value cosine, or --probe" in said
    assert profile(headless, coloured, tmp_path / "run", "--value", "cosine", "--only-correct") == 2
    assert "has no classifier, which --only-correct needs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_cosine_needs_no_classifier(headless, coloured, tmp_path):
    assert profile(headless, coloured, tmp_path / "run", "--value", "cosine") == 0
    assert np.isfinite(pd.read_csv(tmp_path / "run" / "strength.csv")["A"]).all()


def test_a_probe_is_fitted_once_and_kept_beside_the_run(headless, coloured, tmp_path, capsys):
    out, more = tmp_path / "run", ("--probe", str(coloured), "--probe-epochs", "30")
    assert profile(headless, coloured, out, *more) == 0
    assert "probe: 3 classes from 36 images" in capsys.readouterr().out
    assert np.isfinite(pd.read_csv(out / "strength.csv")["A"]).all()
    written = (out / "probe.safetensors").stat().st_mtime_ns
    with safe_open(out / "probe.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["probe"])
    assert about["classes"] == {"blue": 0, "green": 1, "red": 2}
    assert about["train_top1"] == 100.0
    assert profile(headless, coloured, out, *more) == 0
    assert (out / "probe.safetensors").stat().st_mtime_ns == written
    assert profile(headless, coloured, out, "--probe", str(coloured / "train")) == 2
    assert "was fitted to" in capsys.readouterr().err


def test_a_refused_command_leaves_no_probe_for_the_next_one(headless, coloured, tmp_path):
    """It did, and a command with other weights measured with the classifier of these."""
    out, more = tmp_path / "run", ("--probe", str(coloured), "--probe-epochs", "1")
    assert profile(headless, coloured, out, *more, "--target", "9") == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": 1}, "weights"),
        ({"probe": Probe(epochs=2)}, "epochs 1, not 2"),
        ({"data": "train"}, "data .*not .*train"),
        ({"act": "relu"}, "structure"),
        ({"given": Input(std=(0.5,))}, r"std \[0.229, .*not \[0.5, 0.5, 0.5\]"),
        ({"given": Input(crop_pct=1.0, interpolation="nearest")}, "bicubic, not nearest; crop_pct .*, not 1.0"),
    ],
)
def test_a_probe_is_its_weights_its_data_and_its_settings(headless, coloured, tmp_path, change, said):
    def add(folder, weights=0, probe=Probe(epochs=1), data="", given=Input(), act="gelu"):  # noqa: B008
        model, config = create_model("auto", headless, act_layer=act)
        with torch.no_grad():
            next(model.parameters()).add_(weights)
        add_probe(model, str(coloured / data), adjusted(config, given), folder, torch.device("cpu"), probe)[1](folder)
        return model.get_classifier().weight

    add(tmp_path)
    written = (tmp_path / "probe.safetensors").read_bytes()
    add(tmp_path, **change)  # without a run, that of another command is nothing
    assert (tmp_path / "probe.safetensors").read_bytes() != written
    add(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=f"probe.safetensors was fitted to .*{said}"):
        add(tmp_path, **change)


def test_a_damaged_probe_is_one_sentence(tmp_path):
    file, other = tmp_path / FILE, tmp_path / "other"
    about = {"data": "x", "images": 3, "classes": {"a": 0, "b": 1}, "held_out_top1": {"0.1": 50.0}}
    sound = {"weight": torch.zeros(2, 5), "bias": torch.zeros(2)}

    def write(to, tensors, about):
        save_file(tensors, to, metadata={"probe": json.dumps(about)} if about is not None else None)

    write(file, sound, about)
    assert read_probe(file)[0] == about  # type: ignore[index]
    os.mkfifo(other)
    whole = file.read_bytes()
    for spoil in (
        lambda: file.write_bytes(whole[:40]),
        lambda: write(file, sound, None),
        lambda: write(file, sound, [1]),
        lambda: write(file, sound, about | {"classes": 2}),
        lambda: write(file, sound, {"data": "x"}),
        lambda: write(file, {"weight": torch.zeros(2, 5)}, about),
        lambda: write(file, {"weight": torch.zeros(5), "bias": torch.zeros(2)}, about),
        lambda: other.rename(file),
    ):
        spoil()
        with pytest.raises(ValueError, match=rf"^{file} .*: remove it, and it is fitted again"):
            read_probe(file)


def test_the_probe_is_fitted_to_the_pixels_that_are_measured(headless, coloured, tmp_path):
    """It was fitted to a crop of 0.875 in the model's own normalisation, whatever the measurement showed."""
    shown = ("--crop-pct", "0.6", "--interpolation", "nearest", "--mean", "0.5", "--std", "0.25")
    assert profile(headless, coloured, tmp_path, "--probe", str(coloured), "--probe-epochs", "5", *shown) == 0
    kept = read_probe(tmp_path / FILE)
    model, config = create_model("auto", headless)
    given = Input(crop_pct=0.6, interpolation="nearest", mean=(0.5,), std=(0.25,))
    view = evaluation_transform(adjusted(config, given))
    files = [(file, label) for label, name in enumerate(COLOURS) for file in (coloured / "train" / name).glob("*.png")]
    target_N = torch.tensor([label for _, label in sorted(files)])
    with torch.no_grad():
        x_ND = torch.cat([model.eval().forward_features(view(Image.open(file))[None]) for file, _ in sorted(files)])
        x_ND = model.forward_head(x_ND, pre_logits=True)
    deviation_D = x_ND.std(0).clamp(min=1e-6)
    head, _, _ = fit_best((x_ND - x_ND.mean(0)) / deviation_D, target_N, 3, Probe(epochs=5))
    torch.testing.assert_close(kept[1]["weight"], head.weight.detach() / deviation_D, rtol=1e-3, atol=1e-3)


def test_a_probe_from_before_pixels_were_noted_is_taken_for_what_it_saw(headless, coloured, tmp_path, capsys):
    """A crop of 0.875, normalised as the model says: there, a run goes on; elsewhere it is told and fitted again."""
    model, _ = create_model("auto", headless)
    probe, about = Probe(epochs=1), {"data": str(coloured), "images": 36, "classes": dict.fromkeys(COLOURS, 0)}
    settings = {"weights": model_digest(model), "data": str(coloured), "image_size": SIZE, **asdict(probe)}
    content = {"weight": torch.zeros(3, model.num_features), "bias": torch.zeros(3)}
    about |= {"held_out_top1": {"0.1": 50.0}, "settings": settings}
    save_file(content, tmp_path / FILE, metadata={"probe": json.dumps(about)})

    def add(given):
        model, config = create_model("auto", headless)
        add_probe(model, str(coloured), adjusted(config, given), tmp_path, torch.device("cpu"), probe)
        return bool(model.get_classifier().weight.any())

    assert not add(Input(crop_pct=0.875)) and not capsys.readouterr().err
    assert add(Input(crop_pct=1.0))
    said = capsys.readouterr().err
    assert f"note: {tmp_path / FILE} was fitted to crop_pct 0.875, not 1.0, and is fitted again" in said
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=r"fitted to crop_pct 0.875, not 1.0: name another folder"):
        add(Input(crop_pct=1.0))


def test_the_probe_is_right_on_images_that_it_has_not_seen(headless, coloured, tmp_path):
    model, config = create_model("auto", headless)
    assert config["input_size"] == (3, SIZE, SIZE)
    assert config["mean"] == timm.data.IMAGENET_DEFAULT_MEAN
    add_probe(model, str(coloured), config, tmp_path, torch.device("cpu"), Probe(epochs=30))
    transform = timm.data.create_transform((3, SIZE, SIZE), mean=config["mean"], std=config["std"], crop_pct=0.875)
    for label, name in enumerate(COLOURS):
        with Image.open(coloured / "validation" / name / "0.png") as picture:
            assert int(model.eval()(transform(picture)[None]).argmax()) == label


def test_a_model_with_a_classifier_is_refused(tmp_path):
    model = timm.create_model("test_vit", num_classes=3)
    with pytest.raises(ValueError, match="has its own"):
        add_probe(model, "anything", {}, tmp_path, torch.device("cpu"), Probe())


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_the_classifier_is_linear_in_the_pooled_features(name):
    model = timm.create_model(name, num_classes=0).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    if name == "test_vit":
        images = torch.nn.functional.interpolate(images, model.patch_embed.img_size)
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    weight, bias = torch.randn(4, features.shape[1]), torch.randn(4)
    attach(model, weight, bias)
    torch.testing.assert_close(model.eval()(images), features @ weight.T + bias, rtol=1e-4, atol=1e-4)


def test_the_source_normalises_the_images(tmp_path):
    """timm's plain ViT asks for a mean of 0.5; MAE's weights were trained with ImageNet's."""
    net = randomise(layouts.MAE()).float()
    torch.save({"model": net.state_dict()}, tmp_path / "mae.pth")
    model = timm.create_model(
        "vit_base_patch16_224", img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, num_classes=0
    )
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    report = load_into(model, tmp_path / "mae.pth")
    assert model.pretrained_cfg["mean"] == timm.data.IMAGENET_DEFAULT_MEAN
    assert "normalised with mean (0.485" in report.adapted[-1]
