"""`a2mim detect`: it learns, goes on to the same bits, and refuses what cannot be before it begins."""

import csv
import json
import sys

import numpy as np
import pytest
from safetensors.torch import load_file

from a2mim.bounds import check
from experiments.cli import main
from experiments.training.asked import find_recipe
from tests.a2mim.instances import annotation, stated, write, write_instances
from tests.a2mim.tiny import same
from tests.test_docs import told

pycocotools = pytest.importorskip("pycocotools.coco")

QUICK = "--detector faster_rcnn --predictions 0"


def words_of(data, out, more=""):
    words = f"detect --data {data} --out {out} --workers 0 --device cpu --warmup-epochs 0 --batch 4 --lr-batch 4"
    return f"{words} --short-side 32 --long-side 48 --anchors 8 16 32 64 128 --regions 8 --width 32 {more}".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_instances(tmp_path_factory.mktemp("things"), (("train2017", 4), ("val2017", 4)), size=(48, 48))


def learnt_by_heart(folder, network, steps):
    """The run and its pictures: those that validate are those that train, a thing of each class and a picture without.
    (A step: a tenth of a second at an eighth of the usual width. By hand, four seeds of each learnt it.)"""
    parts = (("train2017", 3), ("val2017", 3))
    data, run = write_instances(folder / "things", parts, size=(32, 32)), folder / "run"
    rows = stated(data)["annotations"]
    assert {row["category_id"] for row in rows} == {5, 7, 9} and {row["image_id"] for row in rows} == {0, 2}
    once = f"--epochs {steps} --evaluate-every {steps} --save-every {steps} --batch 3 --lr-batch 3"
    more = f"--flip 0 {once} --lr 1e-3 --regions 16 --predictions 2"
    assert main(words_of(data, run, f"--model {network} {more}")) == 0
    return data, run


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    return learnt_by_heart(tmp_path_factory.mktemp("vit"), "test_vit --model-args patch_size=8 --ema 0.5", 110)


def refuse_a_poor(run):
    last = json.loads((run / "run.json").read_text())["last"]
    assert last["box_ap50"] > 90 and last["mask_ap50"] > 90


@pytest.mark.slow
def test_a_batch_is_learnt_by_heart_by_a_transformer(learnt):
    refuse_a_poor(learnt[1])


@pytest.mark.slow
def test_a_batch_is_learnt_by_heart_by_a_cnn(tmp_path):
    refuse_a_poor(learnt_by_heart(tmp_path, "test_resnet --no-frozen-norms", 150)[1])


def test_a_run_writes_what_the_tables_page_tells(learnt):
    data, run = learnt
    with (run / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["red", "green", "blue"]
    truth = stated(data, "val2017")
    assert sum(int(row["instances"]) for row in rows) == len(truth["annotations"])
    assert set(rows[0]) <= told("detect")
    kinds = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    of_boxes = {name.replace("mask_ap", "box_ap") for line in kinds for name in line}
    assert of_boxes <= told("detect") | told("pretrain")
    with np.load(run / "matches.npz") as arrays:
        assert arrays["box_right"].shape == (4, 10, len(arrays["box_score"])) and "mask_there" in arrays
        found = len(arrays["box_score"])
    detections = json.loads((run / "detections.json").read_text())
    assert len(detections) == found > 0 and {row["category_id"] for row in detections} <= {5, 7, 9}
    assert set(detections[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}
    # another reader takes them
    table = pycocotools.COCO(str(data / "annotations" / "instances_val2017.json"))
    assert len(table.loadRes(str(run / "detections.json")).anns) == found
    assert (run / "predictions.png").is_file() and "neck.levels.0.1.weight" in load_file(run / "detector.safetensors")
    assert not any(name.startswith("backbone") for name in load_file(run / "detector.safetensors"))


def test_a_stopped_run_goes_on_to_the_same_bits_and_a_frozen_backbone_stays(data, tmp_path):
    few = "--evaluate-every 2 --save-every 9 --optimizer momentum --layer-decay 0.7"
    network = "--model test_vit --model-args patch_size=8 --window 3"
    more = f"{network} --epochs 2 --batch 2 --short-side 24 32 {few} {QUICK}"
    for frozen in ("", " --frozen"):
        whole, parts = (tmp_path / f"{name}{frozen.strip()}" for name in ("whole", "parts"))
        assert main(words_of(data, whole, more + frozen)) == 0
        assert main(words_of(data, parts, f"{more}{frozen} --minutes 1e-9")) == 0
        assert not json.loads((parts / "run.json").read_text())["finished"]
        assert main(["detect", "--resume", str(parts), "--minutes", "0", "--device", "cpu"]) == 0
        for name in ("backbone.safetensors", "detector.safetensors"):
            assert same(load_file(whole / name), load_file(parts / name))
        for name in ("per_class.csv", "detections.json"):
            assert (whole / name).read_bytes() == (parts / name).read_bytes()
        one, other = (json.loads((path / "run.json").read_text())["last"] for path in (whole, parts))
        assert one == other and one["val_images"] == 4 and "mask_ap" not in one
    thawed, frozen = (load_file(tmp_path / name / "backbone.safetensors") for name in ("whole", "whole--frozen"))
    assert not same(thawed, frozen)
    again = f"{more.replace('--epochs 2', '--epochs 1')} --frozen --weights {tmp_path / 'whole'}"
    assert main(words_of(data, tmp_path / "again", again)) == 0
    assert same(thawed, load_file(tmp_path / "again" / "backbone.safetensors"))


def no_picture(folder):
    (folder / "images" / "val2017" / "0.png").unlink()


def no_file(folder):
    (folder / "annotations" / "instances_val2017.json").unlink()


def spoilt(**values):
    def spoil(folder):
        rows = stated(folder)
        rows["annotations"].append(annotation(77, 0, 5, (3, 3, 9, 9)) | values)
        write(folder, "train2017", rows)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_picture, "instances_val2017.json names 1 pictures that are not in {data}/images/val2017 (0.png)"),
        (no_file, "'{data}' has no annotations/instances_val2017.json"),
        (spoilt(image_id=99), "annotation 77 in {data}/annotations/instances_train2017.json is of the picture 99"),
        (spoilt(category_id=1), "is of the category 1, which the file does not list"),
        (spoilt(bbox=[3, 3, 0, 9]), "has the empty box [3, 3, 0, 9]"),
        (spoilt(segmentation=None), "has no mask"),
    ],
)
def test_pictures_and_instances_that_do_not_fit_are_refused(tmp_path, capsys, spoil, sentence):
    folder = write_instances(tmp_path / "data", (("train2017", 2), ("val2017", 2)))
    spoil(folder)
    assert main(words_of(folder, tmp_path / "run", "--model test_resnet")) == 2
    assert sentence.format(data=folder) in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("--model test_resnet --pictures-every 1", "a detection draws with --predictions"),
        ("--model test_resnet --pad --crop 32 32", "--long-side 48 does not fit into --crop 32 32"),
        ("--model test_resnet --scale 2 1", "--scale 2 1 ends before it begins"),
        ("--model test_resnet --crop 32 0", "--crop 32 0 has no area"),
        ("--model test_resnet --long-side 24", "--long-side 24 is shorter than --short-side 32"),
        ("--model test_resnet --model-args output_stride=8", "none of 16, which a detector needs"),
        ("--model test_vit --model-args patch_size=14 img_size=56", "patches of 14 px give no levels"),
        ("--model test_resnet --window 14", "ResNet has no row of blocks with an attention each: leave out --window"),
        ("--model test_resnet --data nowhere", "does not exist"),
        ("--model test_resnet --val-split train2017", "would be the training pictures"),
        ("--model test_resnet --batch 9", "a batch of 9 is larger than the data set"),
    ],
)
def test_settings_that_do_not_fit_are_refused(data, tmp_path, capsys, more, sentence):
    assert main(words_of(data, tmp_path / "run", more)) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_what_is_not_installed_is_named(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert main(words_of(data, tmp_path / "run", "--model test_resnet")) == 2
    assert "pip install 'a2mim[detect]'" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["small", "resnet50_1x", "resnet50_2x", "vit_base_1x", "vitdet_base_1x"])
def test_the_recipes_of_coco_are_settings_of_this_command(name):
    recipe = find_recipe(f"coco:{name}")()
    check(recipe)
    assert recipe.optim.milestones == tuple(sorted(recipe.optim.milestones))
    if name.startswith("resnet"):
        rates = [step * (117_266 // 16) for step in recipe.optim.milestones]
        assert rates == pytest.approx([60_000, 80_000] if name.endswith("1x") else [120_000, 160_000])
        assert recipe.detecting.frozen_norms == name.endswith("1x")
    assert recipe.detecting.window == (14 if name == "vitdet_base_1x" else 0)


def test_a_dry_run_says_what_it_takes(data, tmp_path, capsys):
    assert main(words_of(data, tmp_path / "run", f"--model test_resnet --epochs 5 {QUICK} --dry-run")) == 0
    assert "5 steps of 4 images, 20 passes of evaluation" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
