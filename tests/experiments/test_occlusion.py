"""`a2mim occlusion`, end to end on small networks."""

import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from experiments import cli, machine
from experiments.commands.occlusion import shown
from tests.interactions.tiny import CLASSES, SIZE

MODEL = "tests.interactions.tiny:network"
FEW = ["--image-size", str(SIZE), "--grid", "4", "--shares", "0", "0.5", "1", "--seeds", "2"]
FEW += ["--images", "5", "--unit-images", "2", "--device", "cpu", "--batch-size", "64"]


def small_vit(num_classes=CLASSES):
    """A factory of a transformer with a class token."""
    torch.manual_seed(0)
    return timm.models.VisionTransformer(SIZE, 3, embed_dim=12, depth=2, num_heads=2, num_classes=num_classes)


def of_many():
    """A factory of one with more classes than the photographs have."""
    return small_vit(num_classes=40)


def headless():
    """A factory of a transformer without a classifier."""
    return small_vit(num_classes=0)


def occlusion(photos, out, *options, model=MODEL, weights="random"):
    command = ["occlusion", model, "--weights", weights, "--data", str(photos), "--out", str(out), *FEW, *options]
    return cli.main(command)


def test_writes_the_tables_the_figure_and_the_record(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")
    out = tmp_path / "run"
    assert occlusion(photos, out) == 0
    assert {path.name for path in out.iterdir()} == {
        "run.json", "units", "images", "saliency", "shuffling", "occlusion.csv", "shuffling.csv", "occlusion.png"
    }  # fmt: skip
    assert (out / "occlusion.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    table, cuts = pd.read_csv(out / "occlusion.csv"), pd.read_csv(out / "shuffling.csv")
    assert list(table.columns) == ["kind", "share", "dropped", "top1", "low", "high", "images", "seeds", "baseline"]
    assert list(table.kind) == ["random"] * 3 + ["salient"] * 3 + ["non_salient"] * 3
    assert list(table.share) == [0, 0.5, 1] * 3 and table.top1.between(0, 100).all()
    assert list(cuts.columns) == ["grid", "top1", "low", "high", "images", "seeds"] and list(cuts["grid"]) == [1, 2, 4]
    assert cuts.top1[0] == table.top1[0]
    record = json.loads((out / "run.json").read_text())
    assert record["command"] == "occlusion" and record["status"] == "complete"
    assert record["model"]["name"] == f"{MODEL} (random)" and record["data"]["name"] == str(photos)
    assert record["settings"]["masking"] == "after_normalisation" and record["settings"]["baseline"] == "zero"
    assert {"versions", "machine", "seconds"} <= record.keys() and record["commit"] == "abc1234"
    judged = pd.concat([pd.read_parquet(path) for path in sorted((out / "images").iterdir())])
    assert set(judged.columns) == {"image", "kind", "seed", "dropped", "correct"} and len(judged) == 5 * (2 + 1 + 1) * 3
    said = capsys.readouterr().out
    assert f"wrote occlusion.png, occlusion.csv, shuffling.csv, run.json into {out}" in said and "5 images" in said


def test_the_same_command_again_changes_nothing(photos, tmp_path):
    assert occlusion(photos, tmp_path / "run") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert occlusion(photos, tmp_path / "run") == 0
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_attention_of_one_model_says_what_another_loses(photos, tmp_path):
    vit = "tests.experiments.test_occlusion:small_vit"
    assert occlusion(photos, tmp_path / "vit", "--saliency", "class_attention", model=vit) == 0
    assert occlusion(photos, tmp_path / "cnn", "--saliency", str(tmp_path / "vit"), "--shuffle-grids") == 0
    saliency = [
        pd.concat([pd.read_parquet(path) for path in sorted((tmp_path / run / "saliency").iterdir())])
        for run in ("vit", "cnn")
    ]
    pd.testing.assert_frame_equal(*saliency)
    np.testing.assert_array_less(saliency[0].groupby("image").saliency.sum(), 1)  # the class token takes the rest
    assert len(pd.read_csv(tmp_path / "cnn" / "shuffling.csv")) == 0 and (tmp_path / "cnn/occlusion.png").exists()


def test_data_without_labels_are_told_so(photos, tmp_path, capsys):
    assert occlusion(photos / "class-1", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "have no labels, which accuracy needs" in said and not (tmp_path / "run").exists()


def test_labels_that_can_hardly_be_the_models_classes_are_told(photos, tmp_path, capsys):
    assert occlusion(photos, tmp_path / "run", model="tests.experiments.test_occlusion:of_many") == 0
    assert (
        f"the labels count {CLASSES} classes, the model 40; is label k the model's class k" in capsys.readouterr().err
    )


def test_a_model_without_a_classifier_is_told_so(photos, tmp_path, capsys):
    assert occlusion(photos, tmp_path / "run", model="tests.experiments.test_occlusion:headless") == 2
    assert "has no classifier, so it has no accuracy" in capsys.readouterr().err


def test_corrupt_image_is_skipped_and_named(photos, tmp_path, capsys):
    (photos / "class-3" / "1.png").write_bytes(b"no image")
    assert occlusion(photos, tmp_path / "run", "--images", "None") == 0
    assert "skipped class-3/1.png: cannot identify image file" in capsys.readouterr().out
    assert (pd.read_csv(tmp_path / "run" / "occlusion.csv").images == 9).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shuffle-grids", "2", "5"], "5×5 cells do not divide an image of 12×12 pixels evenly"),
        (["--grid", "13"], "a 13×13 grid does not fit an image of 12×12"),
        (["--shares", "0.5", "1.5"], "shares 1.5 is too large: use at most 1"),
        (["--baseline", "white"], "unknown baseline 'white'"),
        (["--saliency", "mean_attention"], "Sequential has no attention over the patches of the whole image"),
        (["--saliency", "nowhere"], "unknown saliency 'nowhere'"),
        (["--images", "0"], "images 0 is too small: use 1 or more"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(photos, tmp_path, capsys, options, said):
    assert occlusion(photos, tmp_path / "run", *options) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not (tmp_path / "run").exists()


def test_unknown_kind_is_refused(photos, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        occlusion(photos, tmp_path / "run", "--kinds", "random", "best")
    assert refused.value.code == 2 and "best" in capsys.readouterr().err


def test_what_dropped_cells_show_in_words():
    told = [shown(baseline, "after_normalisation") for baseline in ("image_mean", "my_models:grey_it")]
    assert told == [
        "dropped ones show mean colour of the image (after normalisation)",
        "dropped ones show my_models:grey_it (after normalisation)",
    ]
