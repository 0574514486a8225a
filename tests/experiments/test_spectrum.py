"""`a2mim spectrum`, end to end on small networks."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from experiments import cli, machine
from experiments.models import efficientnet_lite0_file

IMAGENET = Path(__file__).resolve().parents[2] / ".." / "shared/data/imagenet-1-per-class.tar"
VIT = "tests.experiments.test_spectrum:headless"
SIZE = 24


def headless(depth=2):
    """A small ViT without a classifier."""
    import timm

    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        img_size=SIZE, patch_size=4, embed_dim=16, num_heads=2, depth=depth, num_classes=0
    )


def mlp():
    """A model without maps."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4))


@pytest.fixture
def photos(tmp_path):
    """Pictures of noise in one folder, without labels."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for k in range(5):
        pixels = generator.integers(0, 256, (SIZE + 4, SIZE + 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    return tmp_path / "photos"


def spectrum(data, out, *options, model=VIT, weights="random", size=SIZE):
    words = ["spectrum", model, "--weights", weights, "--data", str(data), "--out", str(out), "--device", "cpu"]
    return cli.main([*words, *(["--image-size", str(size)] if size else []), *options])


def test_positions_that_were_resized_are_told_and_recorded(photos, tmp_path, capsys):
    """As every measuring command does: they open models in one way."""
    net = timm.create_model("test_vit", img_size=32)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert spectrum(photos, tmp_path / "run", model="test_vit", weights=str(tmp_path / "net.pth"), size=64) == 0
    note = "pos_embed was resized from 1×"
    (said,) = [each for each in capsys.readouterr().out.splitlines() if note in each]
    assert said.startswith(f"note: {note}") and said.endswith("for images of another size than the weights'")
    (told,) = json.loads((tmp_path / "run" / "run.json").read_text())["adapted"]
    assert told.startswith(note)


def test_writes_tables_figures_and_record_for_unlabelled_images_and_no_classifier(
    photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")
    (photos / "broken.png").write_bytes(b"no image")
    out = tmp_path / "run"
    assert spectrum(photos, out, "--unit-images", "2") == 0
    assert {path.name for path in out.iterdir()} == {
        "run.json", "units", "images", "amplitudes", "spectrum.csv", "variance.csv", "spectrum.png", "variance.png"
    }  # fmt: skip
    table = pd.read_csv(out / "variance.csv")
    assert list(table.name) == ["patch_embed", "blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp"]
    assert list(table.kind) == ["stem", "attention", "mlp", "attention", "mlp"] and (table.images == 5).all()
    frequencies = pd.read_csv(out / "spectrum.csv").groupby("block").frequency.apply(list)
    assert all(one == pytest.approx([0, 1 / 3, 2 / 3]) for one in frequencies)
    record = json.loads((out / "run.json").read_text())
    assert record["commit"] == "abc1234"
    assert record["command"] == "spectrum" and record["status"] == "complete"
    assert record["model"]["name"] == f"{VIT} (random)" and record["data"]["name"] == str(photos)
    said = capsys.readouterr().out
    assert "skipped broken.png: cannot identify image file" in said and "5 images" in said
    assert f"wrote spectrum.png, variance.png, spectrum.csv, variance.csv, run.json into {out}" in said


def test_the_same_command_again_changes_nothing_and_other_settings_are_refused(photos, tmp_path, capsys):
    assert spectrum(photos, tmp_path / "run") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert spectrum(photos, tmp_path / "run") == 0
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert spectrum(photos, tmp_path / "run", "--images", "3") == 2
    assert "holds a run with other settings (images 1000 there, 3 now)" in capsys.readouterr().err


def test_maps_too_small_are_told_of(photos, tmp_path, capsys):
    assert spectrum(photos, tmp_path / "run", model="resnet18", size=32) == 0
    said = capsys.readouterr().out
    assert "left out layer4.1: a map of 1×1 has no spectrum and no variance" in said
    assert "left out layer3.0: a map of 2×2 has no frequency between 0 and π" in said


@pytest.mark.parametrize(
    ("options", "model", "said"),
    [
        (["--images", "0"], VIT, "--images 0 is too small: use 1 or more"),
        (["--unit-images", "0"], VIT, "--unit-images 0 is too small: use 1 or more"),
        ([], "tests.experiments.test_spectrum:mlp", "Sequential has no sequence of blocks to follow"),
        ([], "resnett50", "did you mean resnet50"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(photos, tmp_path, capsys, options, model, said):
    assert spectrum(photos, tmp_path / "run", *options, model=model) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not (tmp_path / "run").exists()


def test_a_profiles_folder_is_refused(photos, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    record = {"command": "profile", "settings": {}, "images": [], "status": "complete"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert spectrum(photos, tmp_path / "run") == 2
    assert "is not the record of a spectrum run" in capsys.readouterr().err


@pytest.mark.skipif(not IMAGENET.is_file(), reason="the development images are not there")
def test_imagenet_weights_hold_other_frequencies_than_random_ones(tmp_path):
    try:
        weights = str(efficientnet_lite0_file())
    except FileNotFoundError as error:
        pytest.skip(str(error))
    options = {"model": "tf_efficientnet_lite0", "size": 96}
    for name, file in (("trained", weights), ("random", "random")):
        assert spectrum(IMAGENET, tmp_path / name, "--images", "3", weights=file, **options) == 0
    trained, random = (pd.read_csv(tmp_path / name / "spectrum.csv") for name in ("trained", "random"))
    assert list(trained.name) == list(random.name) and trained.block.nunique() == 18
    # photographs hold little of the high frequencies, and so do maps near them
    assert (trained.groupby("block").log_amplitude.last() < 0).all()
    first = [rows[rows.block == 0].log_amplitude.iloc[-1] for rows in (trained, random)]
    assert max(first) < -3 and not np.allclose(*first, atol=0.1)
