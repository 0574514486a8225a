"""`a2mim profile`, end to end on a small network."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from experiments import cli, machine
from experiments.commands.profile import Settings, draw, reached
from experiments.measuring.pairs import apart
from experiments.records import pairs_measured, sampled
from interactions.planning import Planning
from interactions.published import INPUT, changed_from_published
from interactions.settings import ProfileSettings
from tests.figures import made_up
from tests.interactions.tiny import CLASSES, SIZE, network

MODEL = "tests.interactions.tiny:network"
FEW = [
    "--image-size",
    str(SIZE),
    "--grid",
    "4",
    "--radius",
    "1",
    "--ratios",
    "0.0",
    "0.5",
    "1.0",
    "--design",
    "pairwise",
]
FEW += ["--budget", "300", "--images", "4", "--unit-images", "2", "--device", "cpu", "--batch-size", "64"]


def broken_network():
    """A factory whose model is not a number."""
    return nn.Sequential(network(), nn.Softplus(beta=float("nan")))


def profile(photos, out, *options, model=MODEL, weights="random"):
    return cli.main(["profile", model, "--weights", weights, "--data", str(photos), "--out", str(out), *FEW, *options])


def test_writes_the_tables_the_figure_and_the_record(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")
    out = tmp_path / "run"
    assert profile(photos, out) == 0
    assert {path.name for path in out.iterdir()} == {
        "run.json", "units", "images", "pairs", "strength.csv", "middle_mass.csv", "strength.png"
    }  # fmt: skip
    assert (out / "strength.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list(pd.read_csv(out / "strength.csv")["order"]) == [0, 7, 14]
    record = json.loads((out / "run.json").read_text())
    assert record["commit"] == "abc1234"
    assert record["status"] == "complete" and record["model"]["name"] == f"{MODEL} (random)"
    assert record["data"]["name"] == str(photos) and record["image_shape"] == [3, SIZE, SIZE]
    assert record["settings"]["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    for one in record["images"]:
        assert one["name"].startswith(f"class-{one['label']}/") and one["target"] == one["label"]
    said = capsys.readouterr()
    assert f"wrote {out / 'strength.png'}, and strength.csv, middle_mass.csv and run.json beside it" in said.out
    assert "4 images" in said.out and "of 42 pairs of an image at 1 of 3 orders" in said.out
    assert re.search(r"^M of J_rms [\d.]+ \[no interval: fewer than eight images\]$", said.out, re.M)


def test_the_same_command_again_changes_nothing(photos, tmp_path):
    assert profile(photos, tmp_path / "run") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert profile(photos, tmp_path / "run") == 0
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_weights_from_a_file(photos, tmp_path):
    torch.save(network(seed=1).state_dict(), tmp_path / "weights.pth")
    assert profile(photos, tmp_path / "file", weights=str(tmp_path / "weights.pth")) == 0
    assert profile(photos, tmp_path / "random") == 0
    ours, others = (pd.read_csv(tmp_path / name / "strength.csv") for name in ("file", "random"))
    assert not np.allclose(ours["A"], others["A"])


def test_unlabelled_folder_with_the_models_own_class(photos, tmp_path, capsys):
    assert profile(photos / "class-1", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert said.count("have no labels") == 1 and "--target predicted" in said and not (tmp_path / "run").exists()
    assert profile(photos / "class-1", tmp_path / "run", "--target", "predicted") == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert all(one["label"] is None and 0 <= one["target"] < CLASSES for one in record["images"])


def test_corrupt_image_is_skipped_named_and_counted(photos, tmp_path, capsys):
    (photos / "class-3" / "1.png").write_bytes(b"no image")
    assert profile(photos, tmp_path / "run", "--images", "None") == 0
    assert "skipped class-3/1.png: cannot identify image file" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [one["name"] for one in record["skipped"]] == ["class-3/1.png"] and len(record["images"]) == 9


def test_other_settings_are_refused(photos, tmp_path, capsys):
    assert profile(photos, tmp_path / "run") == 0
    assert profile(photos, tmp_path / "run", "--budget", "400", "--target", "1") == 2
    said = capsys.readouterr().err
    assert "holds a run with other settings (target label there, 1 now; budget 300 there, 400 now)" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--grid", "13"], "a 13×13 grid does not fit an image of 12×12"),
        (["--radius", "9"], "radius 9 is not possible"),
        (["--ratios", "1.5"], "ratios 1.5 is too large: use at most 1"),
        (["--budget", "3"], "a budget of 3 passes is too small"),
        (["--target", "77"], "is outside the model's 5 classes"),
        (["--images", "0"], "images 0 is too small: use 1 or more"),
        (["--value", "loss"], "unknown value 'loss'"),
        (["--amp", "int4"], "unknown precision 'int4'"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(photos, tmp_path, capsys, options, said):
    budget = [] if "--budget" in options else ["--budget", "3000"]
    assert profile(photos, tmp_path / "run", *budget, *options) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not (tmp_path / "run").exists()


def test_bad_images_and_models_are_one_sentence_and_leave_nothing(photos, tmp_path, capsys):
    out = tmp_path / "run"
    (tmp_path / "empty").mkdir()
    for place, model, said in (
        (tmp_path / "empty", MODEL, "holds no images that can be read"),
        (tmp_path / "nowhere", MODEL, "it does not exist"),
        (photos, "resnett50", "did you mean resnet50"),
    ):
        assert profile(place, out, model=model) == 2
        assert said in capsys.readouterr().err and not out.exists()
    assert profile(photos, photos / "runs/mine") == 2
    assert "lies among the images in" in capsys.readouterr().err and not (photos / "runs").exists()


def test_labels_outside_the_models_classes(photos, tmp_path, capsys):
    for label in range(5, 8):
        (photos / f"class-{label}").mkdir()
        Image.new("RGB", (16, 16)).save(photos / f"class-{label}" / "0.png")
    assert profile(photos, tmp_path / "run", "--images", "None") == 2
    assert "is outside the model's 5 classes" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_nan_names_the_image(photos, tmp_path, capsys):
    assert profile(photos, tmp_path / "run", model="tests.experiments.test_profile:broken_network") == 2
    said = capsys.readouterr().err
    assert "the model returned NaN or infinity for class-" in said and not (tmp_path / "run").exists()


def settings_of(monkeypatch, *words):
    """What the command line makes of its words."""
    seen = []
    monkeypatch.setattr(cli, "guarded", lambda module, settings, prog: seen.append(settings) or 0)
    assert cli.main(["profile", "resnet50", "--data", "photos", "--out", "run", *words]) == 0
    return seen[0]


def test_the_published_design_is_the_published_protocol(monkeypatch):
    settings = settings_of(monkeypatch, "--design", "published")
    measure, given = settings.measure, settings.input
    # 500 images, 50 pairs, 50 contexts of 4 passes each, seed 1; Resize int(224/.875) and CenterCrop 224.
    assert (measure.images, measure.published_pairs, measure.budget, measure.seed) == (500, 50, 50 * 50 * 4, 1)
    assert (measure.grid, measure.radius, measure.value, measure.baseline) == (14, 2, "log_odds", "mean")
    assert (given.image_size, int(given.image_size / given.crop_pct), given.interpolation) == (224, 256, "bilinear")
    assert given.mean == (0.485, 0.456, 0.406) and given.std == (0.229, 0.224, 0.225)
    assert changed_from_published(measure, 500, given.mean, given.std) == []
    in_tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in INPUT.items()}  # as timm's
    assert changed_from_published(measure, 500, given.mean, given.std, in_tuples) == []


def test_what_is_typed_beside_the_published_design_counts(monkeypatch):
    typed = ("--published-pairs", "10", "--images", "100", "--seed", "0", "--image-size", "112", "--mean", "None")
    settings = settings_of(monkeypatch, *typed, "--design", "published")
    measure, given = settings.measure, settings.input
    assert (measure.images, measure.published_pairs, measure.budget, measure.seed) == (100, 10, 4 * 10 * 50, 0)
    assert (given.image_size, given.crop_pct, given.mean) == (112, 0.875, None)
    assert changed_from_published(measure, measure.images, INPUT["mean"], INPUT["std"], INPUT | {"resize": 128}) == [
        "images 100 (published: 500)",
        "pairs 10 (published: 50)",
        "seed 0 (published: 1)",
        "resize 128 (published: 256)",
    ]
    assert settings_of(monkeypatch, "--images", "None").measure == ProfileSettings(images=None)


def test_changes_of_the_published_protocol_are_named(photos, tmp_path, monkeypatch, capsys):
    captions = []
    monkeypatch.setattr("figures.curves.draw_strength", lambda *_, caption, **__: captions.append(caption))
    typed = ("--published-pairs", "6", "--budget", "72", "--images", "3", "--interpolation", "bicubic")
    assert profile(photos, tmp_path / "run", "--design", "published", *typed) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    changed = ["images 3 (published: 500)", "pairs 6 (published: 50)", "contexts 3 (published: 50)"]
    assert record["changed_from_published"][:3] == changed and record["settings"]["seed"] == 1
    assert "interpolation bicubic (published: bilinear)" in record["changed_from_published"]
    assert not any(phrase.startswith(("mean", "std", "seed")) for phrase in record["changed_from_published"])
    sentence = f"Published protocol, changed: {'; '.join(record['changed_from_published'])}."
    assert capsys.readouterr().out.count(sentence) == 2 and captions[0].endswith(sentence)


@pytest.mark.parametrize(
    ("design", "budget", "said"),
    [
        ("auto", 95, "a budget of 95 passes is too small for auto at order 7: give at least 96"),
        ("pairwise", 31, "give at least 32"),
        ("pooled", 79, "give at least 80"),
        ("shared", 40, "a budget of 40 passes is too small for shared at order 7: give at least"),
        ("published", 399, "fewer than 2 contexts of 50 pairs: give 400 or more"),
    ],
)
def test_too_small_a_budget_is_told_before_anything_is_opened(tmp_path, capsys, design, budget, said):
    options = ["--design", design, "--budget", str(budget)]
    assert profile(tmp_path / "nowhere", tmp_path / "run", *options, model="no_such_module:net") == 2
    assert said in capsys.readouterr().err


def test_of_how_many_pairs_is_told(photos, tmp_path, monkeypatch, capsys):
    captions = []
    monkeypatch.setattr("figures.curves.draw_strength", lambda *_, caption, **__: captions.append(caption))
    assert profile(photos, tmp_path / "run", "--images", "2", "--budget", "64") == 0
    record, table = json.loads((tmp_path / "run" / "run.json").read_text()), pd.read_csv(tmp_path / "run/strength.csv")
    # 64 passes are 8 contexts of 4 passes for 2 of 42 pairs; the two end orders are exact.
    assert record["pairs"] == 42 and [one["pairs_measured"] for one in record["orders"]] == [42, 2, 42]
    assert list(table.pairs) == [42, 2, 42]
    said = "Sampled: 2 of 42 pairs of an image at 1 of 3 orders."
    assert said in captions[0] and said in capsys.readouterr().out


def test_the_closing_table_says_how_narrow_every_order_is(photos, tmp_path, capsys):
    assert profile(photos, tmp_path / "run", "--images", "8") == 0
    lines, table = capsys.readouterr().out.splitlines(), pd.read_csv(tmp_path / "run" / "strength.csv")
    (head,) = [k for k, line in enumerate(lines) if line.split()[:2] == ["order", "ratio"]]
    assert lines[head].split()[-2:] == ["J_rms", "±J_rms"] and max(map(len, lines[head : head + 4])) <= 100
    row, known = lines[head + 2].split(), table.iloc[1]
    half = (known.J_rms_high - known.J_rms_low) / 2
    assert row[0] == "7" and [float(word) for word in row[-2:]] == pytest.approx([known.J_rms, half], rel=0.01)


def test_the_end_says_how_often_images_were_measured(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Planning, "first_budget", lambda *_: 100)
    at = FEW.index("--design")
    few = [*FEW[:at], "--device", "cpu", "--batch-size", "64", "--images", "8", "--precision", "0.11"]
    where = ["--weights", "random", "--data", str(photos), "--out", str(tmp_path / "run")]
    assert cli.main(["profile", MODEL, *where, *few]) == 0
    said = capsys.readouterr()
    assert "measuring 8 again, about" in said.err
    assert re.search(r"8 images \(measured up to [2-9] times\), [\d,]+ passes", said.out)
    assert "Sampled: " not in said.out or "Sampled: at least" in said.out


def ended(widest, images, ended="images", asked=None, alone=None):
    found = {"measure": "J_rms", "widest": widest, "images_alone": alone}
    settings = {"precision": 0.1, "images": asked}
    return reached({"reached": found, "ended": ended, "images": [{}] * images, "settings": settings})


def test_the_end_says_why_it_is_no_narrower():
    assert ended(None, 5) == "J_rms has no intervals: fewer than 8 images (asked for ±0.1): there are no more images"
    assert ended(0.2, 60, asked=60).endswith("(asked for ±0.1): the 60 images asked for are measured")
    assert ended(0.2, 40, asked=60).endswith("(asked for ±0.1): there are no more images")
    assert ended(0.2, 40, alone=0.15).endswith("; however many passes, these images leave about ±0.15")
    noisy = ended(0.2, 40, alone=0.05)  # looks at them were not worth it, or would be of too many passes
    assert "there are no more images; without the noise of their passes these images leave about ±0.05" in noisy
    assert noisy.endswith(": more images would bring it, more passes hardly")
    assert "leave" not in ended(0.2, 40, "minutes", alone=0.05)
    assert ended(0.09, 40, "precision") == "J_rms known to ±0.09 at the widest order (asked for ±0.1): as asked"


def test_that_all_pairs_were_measured_is_told_too():
    record = {"pairs": 42, "orders": [{"order": 0, "pairs_measured": 42.0}, {"order": 7, "pairs_measured": 42.0}]}
    assert pairs_measured(record) == "Measured all 42 pairs of an image at every order."
    record["orders"][1]["pairs_measured"] = 9.5
    assert pairs_measured(record) == sampled(record) == "Sampled: 9.5 of 42 pairs of an image at 1 of 2 orders."


def second_network():
    """Another model for the same images."""
    return network(3)


def test_two_models_in_one_run(photos, tmp_path, capsys):
    out, other = tmp_path / "pair", "tests.experiments.test_profile:second_network"
    few = [*FEW[:-10], "--radius", "1", "--unit-images", "4", "--device", "cpu", "--batch-size", "64"]
    few = [word for word in few if word not in ("--design", "pairwise")]
    asked = ["profile", MODEL, other, "--weights", "random", "--data", str(photos), "--out", str(out)]
    few += ["--precision", "5", "--of", "difference", "--target", "predicted"]
    assert cli.main([*asked, *few, "--dry-run"]) == 0 and not out.exists()
    lines = capsys.readouterr().out.splitlines()[-3:]
    passes = [int(re.search(r"([\d,]+) passes", line).group(1).replace(",", "")) for line in lines]
    assert passes[0] == passes[1] + passes[2] > 0 and lines[0].startswith("both models, ") and str(out) in lines[0]
    assert cli.main([*asked, *few]) == 0
    said = capsys.readouterr().out
    assert "difference of M known to ±" in said and "(asked for ±5): as asked" in said
    assert len(re.findall(r" passes, \d+ s; (Measured all|Sampled: .* of) 42 pairs of an image", said)) == 2
    folders = ["tests.interactions.tiny-network", "tests.experiments.test_profile-second_network"]
    one, two = (json.loads((out / folder / "run.json").read_text()) for folder in folders)
    assert [image["target"] for image in one["images"]] == [image["target"] for image in two["images"]]
    assert len(one["images"]) == 2 * CLASSES and (out / folders[1] / "strength.png").exists()
    differences = pd.read_csv(out / "comparison-differences.csv").set_index("measure")
    assert differences.loc["J_rms", "images"] == 2 * CLASSES
    assert (out / "comparison.png").exists()
    assert (
        cli.main(
            ["profile", MODEL, "--weights", "random", "--data", str(photos), "--out", str(out), "--of", "difference"]
        )
        == 2
    )
    assert "name a second one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "other", "names"),
    [
        ("random", "pretrained", ["resnet18-random", "resnet18-pretrained"]),
        ("w/a/backbone.safetensors", "w/b/backbone.safetensors", ["resnet18-a", "resnet18-b"]),
        ("w/x.pth#student", "w/x.pth#teacher", ["resnet18-x-student", "resnet18-x-teacher"]),
        ("w/a/x.pth", "v/a/x.pth", ["resnet18-x-1", "resnet18-x-2"]),
    ],
)
def test_two_weights_of_one_model_have_folders_of_their_own(weights, other, names):
    both = {"model": "resnet18", "other": "resnet18", "weights": weights, "other_weights": other}
    settings = Settings(**both, data="x", out=Path("both"))
    assert {name: (one.out, one.weights) for name, one in apart(settings).items()} == {
        name: (Path("both") / name, each) for name, each in zip(names, (weights, other), strict=True)
    }
    with pytest.raises(ValueError, match="both models are resnet18"):
        apart(replace(settings, other_weights=f"./{weights}"))


def test_the_figure_has_the_words_of_every_figure_and_own_functions_by_their_names(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("figures.curves.draw_strength", lambda *_, **words: said.append(words))
    about = {"image_shape": [3, 8, 8], "passes": 9, "pairs": 1, "orders": [], "data": {"name": "photos"}}
    for value, baseline in (("log_prob", "mean"), ("my_models:log_it", "my_models:grey_it")):
        settings = {"value": value, "baseline": baseline, "grid": 4, "radius": 1, "pairs": "near", "target": "label"}
        record = made_up.record() | about | {"settings": settings}
        draw(SimpleNamespace(record=record, settings=settings, folder=tmp_path))
    assert [words["unit"] for words in said] == ["log-probability", "my_models:log_it"]
    assert "baseline mean colour, " in said[0]["caption"] and "baseline my_models:grey_it, " in said[1]["caption"]
