"""`a2mim segment`: it learns, goes on to the same bits, and refuses what cannot be before it begins."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from a2mim.bounds import check
from a2mim.dist import World
from a2mim.optim import learning_rate
from a2mim.segment.settings import Decoding
from a2mim.settings import Loop
from experiments.cli import main
from experiments.commands.segment import Settings, refuse_single_pictures, segment
from experiments.training.asked import find_recipe
from tests.a2mim.scenes import VOID, save, write_scenes
from tests.a2mim.tiny import same

ONE_SIZE = "--model beit_base_patch16_224 --model-args depth=1 embed_dim=32 num_heads=2"
PLAIN = "--scale 1 1 --flip 0 --color-jitter 0"
"""Every view is the picture itself."""


def words_of(data, out, more=""):
    words = f"segment --data {data} --ignore {VOID} --crop 32 64 --out {out} --workers 0 --device cpu --warmup-epochs 0"
    return f"{words} --batch 4 --lr-batch 4 {more}".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), {"train": 4, "val": 4})


@pytest.mark.parametrize(
    "network",
    ["test_vit --model-args patch_size=8", "test_resnet --model-args output_stride=8"],
    ids=["vit", "cnn"],
)
def test_a_batch_is_learnt_by_heart(data, tmp_path, network):
    run = tmp_path / "run"
    more = (
        f"--model {network} {PLAIN} --epochs 50 --evaluate-every 50 --save-every 50 --lr 4e-3 --ema 0.5 --predictions 1"
    )
    assert main(words_of(data, run, more)) == 0
    record = json.loads((run / "run.json").read_text())
    assert record["last"]["miou"] > 95 and record["best"]["miou"] == record["last"]["miou"]
    with (run / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["0", "1", "2"]
    assert np.mean([float(row["iou"]) for row in rows]) == pytest.approx(record["last"]["miou"], abs=0.01)
    masks = [np.asarray(Image.open(path)) for path in (data / "annotations" / "val").iterdir()]
    assert [int(row["pixels"]) for row in rows] == [sum(int((mask == k).sum()) for mask in masks) for k in range(3)]
    assert (run / "predictions.png").is_file() and load_file(run / "decoder.safetensors")


def test_a_stopped_run_goes_on_to_the_same_bits_and_a_frozen_backbone_stays(data, tmp_path):
    more = "--recipe camvid:linear_finetuned --backbone-rate 1 --model test_resnet --epochs 3 --batch 2 --predictions 0"
    more += " --color-jitter 0.5 --evaluate slide"
    for frozen in ("", " --frozen"):
        whole, parts = (tmp_path / f"{name}{frozen.strip()}" for name in ("whole", "parts"))
        assert main(words_of(data, whole, more + frozen)) == 0
        assert main(words_of(data, parts, f"{more}{frozen} --minutes 1e-9")) == 0
        assert not json.loads((parts / "run.json").read_text())["finished"]
        assert main(["segment", "--resume", str(parts), "--minutes", "0", "--device", "cpu"]) == 0
        for name in ("backbone.safetensors", "decoder.safetensors"):
            assert same(load_file(whole / name), load_file(parts / name))
        assert (whole / "per_class.csv").read_bytes() == (parts / "per_class.csv").read_bytes()
        one, other = (json.loads((path / "run.json").read_text()) for path in (whole, parts))
        assert one["last"] == other["last"] and one["last"]["val_images"] == 4
        assert one["recipe"] == other["recipe"] == "camvid:linear_finetuned"
    thawed, frozen = (load_file(tmp_path / name / "backbone.safetensors") for name in ("whole", "whole--frozen"))
    assert not same(thawed, frozen)
    again = f"{more.replace('--epochs 3', '--epochs 1')} --frozen --weights {tmp_path / 'whole'}"
    assert main(words_of(data, tmp_path / "again", again)) == 0
    assert same(thawed, load_file(tmp_path / "again" / "backbone.safetensors"))


def without_picture(folder):
    (folder / "images" / "val" / "1.png").unlink()


def without_annotation(folder):
    (folder / "annotations" / "train" / "1.png").unlink()


def other_size(folder):
    save(folder / "annotations" / "train" / "1.png", np.zeros((32, 60)))


def coloured(folder):
    save(folder / "annotations" / "train" / "1.png", np.zeros((32, 64, 3)))


def beyond(folder):
    save(folder / "annotations" / "val" / "1.png", np.full((32, 64), 7))


def of_nothing(folder):
    for path in (folder / "annotations" / "val").iterdir():
        save(path, np.full((32, 64), VOID))


def no_folder(folder):
    (folder / "annotations").rename(folder / "masks")


def flat(folder):
    for kind in ("images", "annotations"):
        for part in ("train", "val"):
            for path in (folder / kind / part).iterdir():
                path.rename(folder / kind / path.name)
            (folder / kind / part).rmdir()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without_picture, "the annotation 1 in {data}/annotations/val has no picture in {data}/images/val"),
        (without_annotation, "the picture 1 in {data}/images/train has no annotation in {data}/annotations/train"),
        (other_size, "the annotation 1.png is 60×32 px and its picture 1.png 64×32"),
        (coloured, "the annotation 1.png is not what it should be: it is a picture in RGB, no map of class numbers"),
        (beyond, "the annotation 1.png holds the value 7, which is none of the 3 classes (0 to 2) and not ignored"),
        (of_nothing, "no pixel of {data}/images/val has a class: all are ignored"),
        (no_folder, "holds no folder 'annotations' (it holds images, masks)"),
        (flat, "the validation pictures would be the training pictures"),
    ],
)
def test_pictures_and_annotations_that_do_not_fit_are_refused(tmp_path, capsys, spoil, sentence):
    folder = write_scenes(tmp_path / "data", {"train": 2, "val": 2})
    spoil(folder)
    assert main(words_of(folder, tmp_path / "run", "--model test_resnet")) == 2
    assert sentence.format(data=folder) in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("--model test_resnet --pictures-every 1", "a segmentation draws with --predictions"),
        ("--model test_resnet --decoder upernet --batch 1", "upernet normalises over the batch"),
        ("--model test_resnet --scale 2 1", "--scale 2 1 ends before it begins"),
        ("--model test_resnet --first-class 11", "say with --first-class"),
        ("--model test_resnet --output-stride 8", "output-stride"),
        ("--model test_resnet --model-args output_stride=8 --decoder fpn", "none of 16, which fpn needs"),
        ("--model test_vit --crop 30 64", "patches of 16 px do not divide an image of 30 px"),
        (f"--crop 32 32 {ONE_SIZE}", "or evaluate by windows of the crop's size with --evaluate slide"),
        ("--model test_resnet --data nowhere", "does not exist"),
        ("--model test_resnet --class-names nowhere.txt", "there is no class map at 'nowhere.txt'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(data, tmp_path, capsys, more, sentence):
    try:
        code = main(words_of(data, tmp_path / "run", more))
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and sentence in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_upernet_counts_the_pictures_of_one_process_and_micro_batch():
    """Its batch norm sees a pooled map of one place: two pictures are two numbers, one is none."""
    upernet = Settings(decoding=Decoding(decoder="upernet"))
    for processes, more in ((2, {"accumulate": 2}), (4, {}), (4, {"accumulate": 4, "sync_bn": True})):
        with pytest.raises(ValueError, match="upernet normalises over the batch"):
            segment(replace(upernet, loop=Loop(batch=4, **more)), World(size=processes))
    refuse_single_pictures(replace(upernet, loop=Loop(batch=4, sync_bn=True)), 4)
    refuse_single_pictures(replace(upernet, loop=Loop(batch=8, accumulate=2)), 2)
    refuse_single_pictures(Settings(loop=Loop(batch=4)), 4)


def test_a_network_of_one_size_sees_pictures_of_that_size(data, tmp_path):
    assert main(words_of(data, tmp_path / "run", f"{ONE_SIZE} --epochs 1 --predictions 0")) == 0


def test_a_decoder_that_is_not_installed_is_named(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch.decoders.fpn.decoder", None)
    assert main(words_of(data, tmp_path / "run", "--model test_resnet --decoder fpn")) == 2
    assert "pip install 'a2mim[segment]'" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["linear", "linear_finetuned", "fpn"])
def test_the_recipes_of_camvid_are_settings_of_this_command(name):
    recipe = find_recipe(f"camvid:{name}")()
    check(recipe)
    assert recipe.decoding.frozen == (name == "linear") and recipe.data.ignore == (VOID,)


@pytest.mark.parametrize("name", ["upernet_vit_base", "linear_vit_base"])
def test_the_recipes_of_ade20k_are_settings_of_this_command(name):
    recipe = find_recipe(f"ade20k:{name}")()
    check(recipe)
    assert recipe.data.first_class == 1 and recipe.data.ignore == (0,) and recipe.decoding.frozen == ("linear" in name)
    steps = recipe.optim.epochs * (20_210 // 16)
    assert steps == pytest.approx(80_000 if recipe.decoding.frozen else 160_000, rel=0.006)
    # mmcv 1.x, PolyLrUpdaterHook with a linear warm-up of 1,500 steps
    peak = 1e-3 if recipe.decoding.frozen else 1e-4
    for step in (0, 700, 1499, 1500, 50_000, steps - 1):
        line = peak * (1 - step / steps)
        expected = line * (1 - (1 - step / 1500) * (1 - 1e-6)) if step < 1500 else line
        assert learning_rate(recipe.optim, peak, step, 20_210 // 16) == pytest.approx(expected, rel=1e-6)


def test_a_dry_run_says_what_it_takes(data, tmp_path, capsys):
    assert main(words_of(data, tmp_path / "run", "--model test_resnet --epochs 5 --dry-run")) == 0
    assert "5 steps of 4 images, 20 passes of evaluation" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
