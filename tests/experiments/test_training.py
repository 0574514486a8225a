"""The training commands end to end: a folder of images goes in, runs, figures, results and sentences come out."""

import json
import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from a2mim.images import Images
from a2mim.methods import A2MIM
from a2mim.plain import pairs, to_plain
from a2mim.runs import newest_state, read_run
from a2mim.settings import Loop, Network
from experiments import machine
from experiments.cli import main
from experiments.commands.pretrain import Settings
from experiments.training import forecasting, frozen, running
from experiments.training.asked import find_recipe, resolved
from experiments.training.assembly import make_network, own_size, settings_of
from tests.a2mim.tiny import log_of, same, write_images

SMALL = [
    "--image-size",
    "32",
    "--workers",
    "0",
    "--warmup-epochs",
    "1",
    "--lr-batch",
    "8",
    "--batch",
    "8",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def pretrained(images, tmp_path_factory):
    """A finished A²MIM run that was stopped once on the way."""
    run = tmp_path_factory.mktemp("runs") / "a2mim"
    words = ["pretrain", "--model", "test_vit", "--data", str(images), "--epochs", "2", "--mask-cell", "16", *SMALL]
    words += ["--pictures-every", "1", "--out", str(run), "--set", "fourier_weight=0.5"]
    assert main([*words, "--minutes", "1e-9"]) == 0
    assert not json.loads((run / "run.json").read_text())["finished"]
    assert main(["pretrain", "--resume", str(run), "--device", "cpu"]) == 0
    return run


def sentence(capsys, *words):
    """What the command says on stderr when it refuses."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in error
    return error


def test_a_run_leaves_weights_log_and_figures(pretrained):
    run = json.loads((pretrained / "run.json").read_text())
    assert run["finished"] and run["step"] == run["steps"] == 6 and run["images"] == 24
    assert run["settings"]["set"] == ["fourier_weight=0.5"] and run["settings"]["out"] == ""
    assert run["architecture"]["architecture"] == "test_vit" and run["architecture"]["img_size"] == 32
    assert {"loss.png", "backbone.safetensors", "log.jsonl"} <= {path.name for path in pretrained.iterdir()}
    assert len(list((pretrained / "pictures").glob("*.png"))) == 2
    assert {"spatial", "fourier"} <= set(log_of(pretrained)[0])
    arguments = {key: value for key, value in run["architecture"].items() if key != "architecture"}
    timm.create_model("test_vit", checkpoint_path=str(pretrained / "backbone.safetensors"), **arguments)


def test_every_commit_that_took_part_in_a_run_is_recorded(images, tmp_path, monkeypatch):
    run = tmp_path / "run"
    words = ["pretrain", "--model", "test_vit", "--data", str(images), "--mask-cell", "16", "--epochs", "2", *SMALL]
    for commit, minutes in (("aaaaaaa", "1e-9"), ("bbbbbbb+changes", "1e-9"), (None, "0"), ("ccccccc", "0")):
        monkeypatch.setattr(running, "commit", lambda commit=commit: commit)
        assert main([*words, "--out", str(run), "--minutes", minutes]) == 0
    record = json.loads((run / "run.json").read_text())
    assert record["finished"] and record["commit"] == "aaaaaaa"
    assert [each["commit"] for each in record["resumed"]] == ["bbbbbbb+changes", None]  # the last found nothing to do


def test_finetuning_knn_and_linear_take_the_weights(pretrained, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "aaaaaaa")
    run = tmp_path / "ft"
    words = ["finetune", "--weights", pretrained, "--data", images, "--out", run, "--epochs", "2", *SMALL]
    assert main([str(word) for word in words]) == 0
    told = json.loads((run / "run.json").read_text())
    assert set(told["last"]) == {"loss", "accuracy", "top1", "top5", "val_loss", "val_images"}
    assert told["last"]["val_images"] == 8 and told["loaded"]["missing"] == [] and told["best"]["top1"] >= 0
    assert told["architecture"]["num_classes"] == 4
    for command in ("knn", "linear"):
        out = tmp_path / f"{command}.json"
        words = [command, "--weights", run, "--data", images, "--out", out, "--image-size", 32, "--workers", 0]
        assert main([str(word) for word in (*words, *(["--k", 3] if command == "knn" else []))]) == 0
        found = json.loads(out.read_text())
        assert found["command"] == command and 0 <= found["top1"] <= 100
        assert (found["train_images"], found["test_images"]) == (24, 8)
        assert found["settings"]["network"]["weights"] == str(run) and "timm" in found["versions"]
        assert found["commit"] == "aaaaaaa"
    assert "top-1" in capsys.readouterr().out


def test_frozen_features_are_of_images_of_the_runs_own_size(pretrained, images, tmp_path, capsys):
    """A network of small images was shown them at 224 px, its positions resized, without a word."""
    words = ["knn", "--weights", pretrained, "--data", images, "--workers", 0, "--k", 3, "--out"]
    assert main([str(word) for word in (*words, tmp_path / "own.json")]) == 0
    assert "note:" not in capsys.readouterr().out
    assert json.loads((tmp_path / "own.json").read_text())["settings"]["image_size"] == 32
    assert own_size(Network("test_vit", weights=str(pretrained / "backbone.safetensors"))) == 32
    (pretrained / "course").mkdir(exist_ok=True)
    assert own_size(Network("resnet18", weights=str(pretrained / "course" / "step-00000001.safetensors"))) == 32
    assert main([str(word) for word in (*words, tmp_path / "other.json", "--image-size", 64)]) == 0
    assert "note: the weights are of images of 32 px, and these have 64" in capsys.readouterr().out
    assert json.loads((tmp_path / "other.json").read_text())["settings"]["image_size"] == 64


def test_what_a_partial_load_leaves_out_is_told(images, tmp_path, capsys):
    """A recipe that leaves a norm behind took a file of half the blocks without a word."""
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    half = {name: x for name, x in state.items() if not name.startswith("blocks.3.")}
    torch.save(half, tmp_path / "half.pth")
    make_network(Network("test_vit", weights=str(tmp_path / "half.pth"), partial=True), 4, 160, 0)
    said = capsys.readouterr().out
    assert (
        f"note: of {tmp_path / 'half.pth'} {len(half)} keys were loaded, {len(state) - len(half)} missing keys" in said
    )
    torch.save(state, tmp_path / "whole.pth")
    make_network(Network("test_vit", weights=str(tmp_path / "whole.pth"), partial=True), 4, 160, 0)
    assert "keys were loaded" not in capsys.readouterr().out


def test_images_in_memory_have_the_same_neighbours(images, tmp_path, monkeypatch):
    held = []
    made = frozen.make_gallery
    monkeypatch.setattr(frozen, "make_gallery", lambda *args, **how: held.append(made(*args, **how)) or held[-1])
    words = ["knn", "--model", "test_vit", "--data", images, "--image-size", 32, "--workers", 0, "--k", 3]
    found = []
    for name, more in (("one", []), ("two", ["--in-memory"])):
        out = tmp_path / f"{name}.json"
        assert main([str(word) for word in (*words, "--device", "cpu", "--out", out, *more)]) == 0
        found.append(json.loads(out.read_text())["top1"])
    assert found[0] == found[1] and [gallery.memory is not None for gallery in held] == [False, False, True, True]


class Dealt(torch.utils.data.IterableDataset):
    """A stream whose images one worker has all of, as of one shard."""

    def __iter__(self):
        if torch.utils.data.get_worker_info().id == 0:
            yield from ((Image.new("RGB", (32, 32), (20 * k, 0, 0)), k % 2) for k in range(12))


def test_all_features_of_a_stream_count_however_workers_share_it(tmp_path, monkeypatch):
    streamed = Images(Dealt(), "wds/photos", 12, {"a": 0, "b": 1}, streamed=True)
    monkeypatch.setattr(frozen, "open_images", lambda *_, **how: streamed)
    monkeypatch.setattr(frozen, "open_held_out", lambda *_: streamed)
    words = f"knn --model test_vit --weights random --data wds/photos --workers 2 --k 3 --out {tmp_path / 'knn.json'}"
    assert main([*words.split(), "--image-size", "32", "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "knn.json").read_text())["train_images"] == 12


def test_supervised_from_scratch_in_memory(images, tmp_path):
    run = tmp_path / "run"
    words = ["pretrain", "--method", "supervised", "--model", "test_resnet", "--data", images, "--out", run, *SMALL]
    words += ["--epochs", 1, "--in-memory", "--set", "loss=bce", "--mixup", 0.1, "--ema", 0.9, "--crop-pct", 1]
    assert main([str(word) for word in words]) == 0
    assert json.loads((run / "run.json").read_text())["last"]["val_images"] == 8
    assert (run / "backbone_without_ema.safetensors").exists()


# ------------------------------------------------------------------------------------------- what is refused


def test_settings_that_differ_on_resume_are_named(pretrained, images, capsys):
    told = sentence(capsys, "pretrain", "--resume", pretrained, "--lr", 0.5, "--workers", 1)
    assert "(optim.lr was 0.001, is 0.5)" in told and "leave them out" in told
    words = ["pretrain", "--out", pretrained, "--model", "test_vit", "--data", images, "--mask-cell", 16, *SMALL]
    told = sentence(capsys, *words)
    assert "holds a run with other settings" in told and "optim.epochs was 2, is 100" in told
    told = sentence(capsys, "finetune", "--resume", pretrained)
    assert "holds a run of `a2mim pretrain`" in told


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_run_from_before_a_setting_existed_goes_on(command, images, tmp_path, capsys):
    run = tmp_path / "run"
    given = [command, "--model", "test_vit", "--data", images, "--out", run, *SMALL, "--epochs", 2, "--minutes", 1e-9]
    given = [str(word) for word in (*given, *(["--mask-cell", 16] if command == "pretrain" else []))]
    assert main(given) == 0
    record = json.loads((run / "run.json").read_text())
    for group, name in (("augment", "hue"), ("network", "partial"), ("loop", "ema"), ("optim", "min_lr_scaled")):
        del record["settings"][group][name]
    del record["settings"]["mixing"]
    (run / "run.json").write_text(json.dumps(record))
    assert main(given) == 0
    assert "augment.hue was 0.0, is 0.1" in sentence(capsys, *given, "--hue", 0.1)
    assert main([command, "--resume", str(run), "--device", "cpu"]) == 0
    assert json.loads((run / "run.json").read_text())["finished"]


def test_a_run_from_before_a_method_s_setting_existed_goes_on_as_it_began(images, tmp_path):
    """MaskFeat had other histograms and masks; a run from then says nothing of either."""
    old, now = settings_of("maskfeat", {}, 32, run={}), settings_of("maskfeat", {}, 32)
    assert (old.mask_strategy, old.hog, now.mask_strategy, now.hog) == ("blockwise", "central", "whole_blocks", "sobel")
    assert settings_of("maskfeat", {"hog": "sobel"}, 32, run={}).hog == "sobel"
    given = ["pretrain", "--method", "maskfeat", "--model", "test_vit", "--data", str(images), *SMALL, "--epochs", "2"]
    given += ["--mask-cell", "16", "--set", "mask_strategy=blockwise", "hog=central"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main([*given, "--out", str(whole)]) == 0
    assert main([*given, "--out", str(run), "--minutes", "1e-9"]) == 0
    record = json.loads((run / "run.json").read_text())
    assert record.pop("method_settings") == to_plain(
        settings_of("maskfeat", {"mask_cell": 16, "mask_strategy": "blockwise", "hog": "central"}, 32)
    )
    record["settings"]["set"] = []
    (run / "run.json").write_text(json.dumps(record))
    assert main(["pretrain", "--resume", str(run), "--device", "cpu"]) == 0
    assert same(newest_state(run)["method"], newest_state(whole)["method"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--model test_vit", "no images were named: use --data"),
        ("--data {images}", "no network was named: use --model"),
        ("--model test_vitt --data {images}", "timm has no model 'test_vitt', did you mean test_vit"),
        ("--model test_vit --data {images}/nowhere", "does not exist"),
        ("--model test_vit --data {images} --method a3mim", "there is no method 'a3mim': choose a2mim"),
        ("--model test_vit --data {images} --set mask_rato=0.5", "no setting 'mask_rato', did you mean mask_ratio"),
        ("--model test_vit --data {images} --set fill=pink", "fill of a2mim pink is not known: choose"),
        ("--model test_vit --data {images} --set fill", "'fill' is not of the form name=value"),
        (
            "--model test_vit --data {images} --mask-cell 12",
            "12 px does not divide an image of 32×32 px: choose",
        ),
        (
            "--model test_vit --data {images} --mask-at 99",
            "no place 99 for a mask token. It has 0: output of",
        ),
        ("--model test_resnet --data {images} --mask-at layer9", "no place 'layer9' for a mask token. It has 0:"),
        (
            "--model test_vit --data {images} --batch 64",
            "a batch of 64 is larger than the data set of 24 images: use --batch 24 or less; with --batch 24 the peak "
            "learning rate is 1.17e-05 (0.001 scaled linear from batch 2048)",
        ),
        (
            "--model test_vit --data {images} --batch 64 --accumulate 5 --lr-scaling sqrt --lr-batch 20 --lr 0.1",
            "with --batch 20 the peak learning rate is 0.1 (0.1 scaled sqrt from batch 20)",
        ),
        ("--model test_vit --data {images} --mixup 0.5", "need labelled images"),
        ("--model test_vit --data {images} --weights nowhere.pth", "nowhere.pth"),
        ("--model test_vit --data {images} --recipe imagenet:a2mim_resnet5", "has no recipe 'a2mim_resnet5'"),
        ("--model test_vit --data {images} --optimizer adamww", "adamww"),
        ("--model test_vit --data {images} --log-every 0", "--log-every 0 is too small: use 1 or more"),
        ("--model test_vit --data {images} --epochs 0", "--epochs 0 is too small: use 1 or more"),
        ("--model test_vit --data {images} --workers -1", "--workers -1 is too small: use 0"),
        ("--model test_vit --data {images} --limit -5", "--limit -5 is too small: use 0"),
        ("--model test_vit --data {images} --warmup-epochs 200", "200 epochs of warm-up do not fit"),
        ("--model test_vit --data {images} --mask-cell 32", "covers the whole image: use a smaller --mask-cell"),
        ("--model test_vit --data {images} --auto-augment nope", "--auto-augment nope): Unknown AA policy nope"),
        ("--model test_vit --data {images} --sync-bn", "need CUDA: use --no-sync-bn, or leave"),
        ("--model test_vit --data {images} --device meta", "the device meta computes nothing"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(words, told, images, tmp_path, capsys):
    out = tmp_path / "run"
    given = words.format(images=images).split()
    defaults = {"--image-size": 32, "--workers": 0, "--device": "cpu", "--batch": 8, "--mask-cell": 16}
    missing = [word for pair in defaults.items() if pair[0] not in given for word in pair]
    assert told in sentence(capsys, "pretrain", "--out", out, *missing, *given)
    assert not out.exists()


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_run_among_the_images_is_refused(command, images, capsys):
    """Its figures would be images of the next run."""
    given = ["--model", "test_vit", "--data", images, "--image-size", 32, "--workers", 0, "--device", "cpu"]
    assert "lies among the images in" in sentence(capsys, command, *given, "--batch", 8, "--out", images / "train/run")
    assert not (images / "train/run").exists()


def test_a_loss_that_becomes_nan_names_the_step_and_leaves_a_state_to_go_on_from(images, tmp_path, capsys):
    words = ["pretrain", "--model", "test_vit", "--data", images, "--mask-cell", 16, *SMALL, "--out", tmp_path / "run"]
    words += ["--epochs", 2, "--warmup-epochs", 0, "--lr", 1e6, "--lr-batch", 1, "--weight-decay", 1e6]
    told = sentence(capsys, *words)
    assert "became NaN or infinite at step 1 (epoch 0); the state before it (step 1) is saved in" in told
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["step-00000001.pt"]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["seconds"] >= 0 and record["skipped"] == []  # whoever goes on counts from there
    assert not (tmp_path / "run" / "backbone.safetensors").exists()


def test_a_killed_image_process_is_one_sentence_and_the_run_ends_with_the_same_bits(
    images, tmp_path, capsys, monkeypatch
):
    words = ["pretrain", "--model", "test_vit", "--data", images, "--mask-cell", 16, *SMALL, "--epochs", 4]
    # The same bits from a process that decodes images as from none.
    assert main([str(word) for word in (*words, "--out", tmp_path / "whole")]) == 0
    words += ["--workers", 1, "--out"]
    steps = []

    def kill(self, begun, progress):
        steps.append(progress)
        if len(steps) == 4:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(A2MIM, "after_step", kill)
        told = sentence(capsys, *words, tmp_path / "run")
    step = len(steps)
    assert 4 <= step < 12 and f"a process that decodes images died at step {step} (" in told
    assert f"the state before it (step {step}) is saved in {tmp_path / 'run'}; go on with --resume" in told
    assert newest_state(tmp_path / "run")["step"] == step
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--device", "cpu"]) == 0
    whole, resumed = newest_state(tmp_path / "whole"), newest_state(tmp_path / "run")
    assert whole["step"] == resumed["step"] == 12 and same(whole["method"], resumed["method"])
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "run")


def test_labels_are_needed_where_classes_are_learnt(images, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(images.rglob("*.png")):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    told = sentence(capsys, "finetune", "--model", "test_vit", "--data", flat, "--out", tmp_path / "run", *SMALL)
    assert "has no labels to learn from" in told
    told = sentence(
        capsys, "finetune", "--model", "test_vit", "--data", images / "train", "--out", tmp_path / "run", *SMALL
    )
    assert "the validation images would be the training images" in told
    told = sentence(capsys, "knn", "--model", "test_vit", "--data", images, "--image-size", 32, "--workers", 0)
    assert "use --out" in told
    words = ["finetune", "--model", "test_vit", "--data", images / "train", "--val", flat, "--out", tmp_path / "run"]
    told = sentence(capsys, *words, *SMALL)
    assert "flat lie in no class folders" in told and "(class0, class1, class2, class3)" in told
    assert not (tmp_path / "run").exists()


def test_a_missing_part_is_an_error_that_names_what_is_there(images, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(images / "train")
    (tmp_path / "data" / "test").symlink_to(images / "val")
    words = ["knn", "--model", "test_vit", "--data", tmp_path / "data", "--image-size", 32, "--workers", 0, "--k", 3]
    told = sentence(capsys, *words, "--out", tmp_path / "knn.json")
    assert "no part 'validation': it holds test, train: choose one, as --val-split test" in told
    assert main([str(word) for word in (*words, "--out", tmp_path / "knn.json", "--val-split", "test")]) == 0
    assert json.loads((tmp_path / "knn.json").read_text())["test_images"] == 8


def test_a_run_goes_on_with_its_own_images_alone(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    write_images(data, per_class=4, size=32)
    words = ["pretrain", "--model", "test_vit", "--data", data, "--mask-cell", 16, "--epochs", 2, *SMALL, "--out", run]
    assert main([str(word) for word in (*words, "--minutes", 1e-9)]) == 0
    before = (run / "run.json").read_text()
    (data / "class0" / "0.png").rename(data / "class0" / "9.png")
    (data / "class1" / "9.png").write_bytes((data / "class1" / "1.png").read_bytes())
    (data / "class2" / "2.png").write_bytes(b"cut short")
    for again in (["pretrain", "--resume", run, "--device", "cpu"], words):
        told = sentence(capsys, *again)
        assert "on other images (train: 16 images then, 17 now, 2 added (class0/9.png, class1/9.png), 1 gone" in told
        assert "1 of another size or label (class2/2.png)" in told and "begin a new run with another --out" in told
    assert (run / "run.json").read_text() == before
    old = {key: value for key, value in json.loads(before).items() if key != "data"}  # from before there were lists
    (run / "run.json").write_text(json.dumps(old))
    (run / "images.txt.gz").unlink()
    assert main(["pretrain", "--resume", str(run), "--device", "cpu"]) == 0
    record = json.loads((run / "run.json").read_text())
    assert record["finished"] and record["data"]["train"]["images"] == 17
    assert [row["name"] for row in record["skipped"]] == ["class2/2.png"]


def test_a_run_that_is_not_finished_has_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no backbone.safetensors: a training run writes it"):
        make_network(Network(weights=str(tmp_path)), 0, 32, 0)


def test_values_of_settings():
    assert pairs(("depth=6", "name=norm", "eps=1e-6", "scale=(1, 2)", "a-b=True")) == {
        "depth": 6,
        "name": "norm",
        "eps": 1e-6,
        "scale": (1, 2),
        "a_b": True,
    }


def test_what_is_typed_beside_a_recipe_wins():
    recipe = find_recipe("imagenet:a2mim_resnet50")()
    default = Settings()
    given = replace(default, recipe="imagenet:a2mim_resnet50", out="x", optim=replace(default.optim, lr=7e-4))
    merged = resolved(given, "pretrain")
    assert merged.optim.lr == 7e-4 and merged.optim.epochs == recipe.optim.epochs != default.optim.epochs
    assert merged.network == recipe.network and merged.out == "x"
    assert json.loads(json.dumps(to_plain(merged)))["optim"]["lr"] == 7e-4


def test_recipes_of_another_command_are_refused():
    with pytest.raises(ValueError, match=r"imagenet:finetune_resnet50 is not one of `a2mim pretrain`"):
        resolved(Settings(recipe="imagenet:finetune_resnet50", out="x"), "pretrain")
    with pytest.raises(ValueError, match=r"there is no imaginenet in experiments/recipes"):
        find_recipe("imaginenet:x")


def test_a_batch_that_makes_the_learning_rate_tiny_is_told(images, tmp_path, capsys):
    words = ["pretrain", "--model", "test_vit", "--data", str(images), "--mask-cell", "16", "--epochs", "2", *SMALL]
    words += ["--dry-run", "--out", str(tmp_path / "run")]
    assert main(words) == 0 and "note" not in capsys.readouterr().err  # SMALL states its rate for its batch
    assert main([*words, "--lr-batch", "128"]) == 0 and "note" not in capsys.readouterr().err
    assert main([*words, "--lr-batch", "2048"]) == 0
    said = "note: with --batch 8 the peak learning rate is 3.91e-06 (0.001 scaled linear from batch 2048), 256 times"
    assert said in capsys.readouterr().err
    assert main([*words, "--lr-batch", "2048", "--lr-scaling", "sqrt"]) == 0 and "note" not in capsys.readouterr().err


def test_a_warm_up_of_all_epochs_is_told_and_refused_to_no_run(images, tmp_path, capsys):
    words = ["pretrain", "--model", "test_vit", "--data", str(images), "--mask-cell", "16", "--epochs", "1", *SMALL]
    words += ["--out", str(tmp_path / "run")]
    assert main([*words, "--minutes", "1e-9"]) == 0
    said = "note: the 1 epochs of warm-up are all of --epochs 1: the learning rate climbs to the last step"
    assert said in capsys.readouterr().err
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("more", "images_of_one"),
    [
        (("--set", "fourier=released"), 8),
        (("--set", "fourier=released", "--accumulate", "2"), 4),
        (("--set", "fourier=released", "fourier_weight=0"), 0),
        (("--set", "fourier=released_plain"), 0),
        ((), 0),
    ],
)
def test_a_training_tells_over_how_many_images_spectra_are_averaged(more, images_of_one, images, tmp_path, capsys):
    words = ["pretrain", "--model", "test_vit", "--data", str(images), "--mask-cell", "16", "--epochs", "2", *SMALL]
    assert main([*words, *more, "--minutes", "1e-9", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert (f"averages spectra over {images_of_one} images, those of a micro-batch" in said) == bool(images_of_one)
    assert ("averages spectra" in said) == bool(images_of_one)


def test_fine_tuning_of_random_weights_says_that_lower_layers_hardly_learn(pretrained, images, tmp_path, capsys):
    words = ["finetune", "--model", "test_vit", "--data", str(images), *SMALL, "--epochs", "2", "--dry-run"]
    words += ["--out", str(tmp_path / "run")]
    said = "note: --layer-decay 0.65 keeps lower layers near what they were trained to, and no --weights are given"
    assert main(words) == 0 and said in capsys.readouterr().err
    assert main([*words, "--layer-decay", "1"]) == 0 and "note" not in capsys.readouterr().err
    assert main([*words, "--weights", str(pretrained)]) == 0 and "note" not in capsys.readouterr().err


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["pretrain", "--method", "byol"],
            r"^6 steps of 8 images; .* on cpu at .* images a second( \(.*\))?; .* MB in .*run$",
        ),
        (
            ["finetune"],
            r"^6 steps of 8 images, 16 passes of evaluation; .* on cpu at .* images a second( \(.*\))?; .* MB in .*$",
        ),
    ],
)
def test_a_dry_run_says_what_training_takes_and_writes_nothing(images, tmp_path, capsys, words, said):
    words = [*words, "--model", "test_resnet", "--data", str(images), "--epochs", "2", *SMALL]
    assert main([*words, "--out", str(tmp_path / "a" / "run"), "--dry-run"]) == 0
    assert re.match(said, capsys.readouterr().out.strip().splitlines()[-1])
    assert not list(tmp_path.iterdir())


def prefer_channels_last(monkeypatch, seconds, long=0):
    """Have a step take a second, and so many in channels-last; runs are tried from `long` steps on."""
    tried = []

    def trial(method, source, evaluates, settings, world, *, channels_last):
        tried.append(channels_last)
        return forecasting.Trial(seconds if channels_last else 1.0, 0.0, 1e6)

    monkeypatch.setattr(forecasting, "LONG", long)
    monkeypatch.setattr(forecasting, "measured", trial)
    return tried


@pytest.mark.parametrize(
    ("quick", "said"), [(0.5, "at 16 images a second, channels-last;"), (0.99, "at 8 images a second;")]
)
def test_a_dry_run_names_the_layout_that_is_quicker(images, tmp_path, capsys, monkeypatch, quick, said):
    prefer_channels_last(monkeypatch, quick)
    words = ["pretrain", "--model", "test_resnet", "--data", str(images), "--epochs", "2", "--mask-cell", "16", *SMALL]
    assert main([*words, "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    assert re.search(said, capsys.readouterr().out)


LAYOUT = ["pretrain", "--model", "test_resnet", "--mask-cell", "16", *SMALL, "--pictures-every", "0"]


@pytest.mark.parametrize("quick", [0.5, 0.99])
def test_a_long_run_takes_the_layout_that_is_quicker_and_keeps_to_it(images, tmp_path, monkeypatch, quick):
    tried, taken = prefer_channels_last(monkeypatch, quick), quick < 0.95
    words = [*LAYOUT, "--data", str(images), "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "auto")]) == 0
    assert tried == [False, True]
    assert main([*words, "--channels-last", str(taken), "--out", str(tmp_path / "told")]) == 0
    runs = [read_run(tmp_path / name) for name in ("auto", "told")]
    assert [run["channels_last"] for run in runs] == [taken, taken]
    assert [run["settings"]["loop"]["channels_last"] for run in runs] == ["auto", taken]
    auto, told = (newest_state(tmp_path / name)["method"] for name in ("auto", "told"))
    assert same(auto, told)
    layouts = {x.is_contiguous() for name, x in auto.items() if name.endswith("conv2.weight")}
    assert layouts == {not taken}

    tried = prefer_channels_last(monkeypatch, 1.5 - quick)  # what is faster now does not count any more
    for name in ("auto", "told"):
        assert main(["pretrain", "--resume", str(tmp_path / name), "--epochs", "2", "--device", "cpu"]) == 0
    assert tried == [taken, taken]
    auto, told = (newest_state(tmp_path / name)["method"] for name in ("auto", "told"))
    assert same(auto, told)
    assert {x.is_contiguous() for name, x in auto.items() if name.endswith("conv2.weight")} == {not taken}


@pytest.mark.parametrize("laid_out", [False, True])
def test_a_run_from_before_there_was_a_choice_goes_on_by_the_same_words(images, tmp_path, laid_out):
    words = [*LAYOUT, "--data", str(images), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main([*words, "--channels-last", str(laid_out), "--minutes", "1e-9"]) == 0
    record = {key: x for key, x in read_run(tmp_path / "run").items() if key != "channels_last"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert main(words) == 0
    now = read_run(tmp_path / "run")
    assert now["finished"] and now["settings"]["loop"]["channels_last"] is laid_out
    assert main([*words, "--epochs", "2"]) == 0
    weights = newest_state(tmp_path / "run")["method"]
    assert {x.is_contiguous() for name, x in weights.items() if name.endswith("conv2.weight")} == {not laid_out}


def test_a_network_that_needs_the_plain_layout_trains_in_it(images, tmp_path, capsys, monkeypatch):
    plain = torch.nn.Conv2d.forward

    def views(self, x):
        return plain(self, x).view(-1).view_as(plain(self, x))  # no view of a channels-last map

    monkeypatch.setattr(torch.nn.Conv2d, "forward", views)
    monkeypatch.setattr(forecasting, "LONG", 0)
    assert main([*LAYOUT, "--data", str(images), "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert read_run(tmp_path / "run")["channels_last"] is False
    assert "note: no training in channels-last layout here (view size is not" in capsys.readouterr().err


def test_a_trial_counts_for_the_minutes(images, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(running, "foretell_training", lambda *_: time.sleep(0.3))
    monkeypatch.setattr(running, "train", lambda *given: seen.append(given[4].minutes) or {"finished": False})
    monkeypatch.setattr(running, "conclude", lambda *_: None)
    for minutes in ("1", "1e-6"):
        main([*LAYOUT, "--data", str(images), "--epochs", "1", "--minutes", minutes, "--out", str(tmp_path / minutes)])
    assert seen[0] == pytest.approx(1 - 0.3 / 60, abs=0.02) and 0 < seen[1] < 1e-6


def test_a_short_run_and_a_compiled_one_are_not_tried(images, tmp_path, monkeypatch):
    tried = prefer_channels_last(monkeypatch, 0.5, long=4)
    assert main([*LAYOUT, "--data", str(images), "--epochs", "1", "--out", str(tmp_path / "short")]) == 0
    assert not tried and read_run(tmp_path / "short")["channels_last"] is False
    assert forecasting.layout_of(None, Loop(compile=True), short=False) is False
    assert forecasting.layout_of(None, Loop(), short=False) is None
    assert forecasting.layout_of({"command": "pretrain"}, Loop(channels_last=True), short=False) is True


def test_a_trial_tells_a_step_and_an_image_of_either_layout(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(forecasting, "LONG", 0)
    words = ["finetune", "--model", "test_resnet", "--data", str(images), "--epochs", "1", *SMALL, "--dry-run"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert re.search(r"on cpu at [\d.,e+]+ images a second(, channels-last)?;", capsys.readouterr().out)


def test_a_dry_run_of_a_finished_run_has_nothing_left_and_knows_its_disk(pretrained, capsys):
    before = files_of(pretrained)
    assert main(["pretrain", "--resume", str(pretrained), "--device", "cpu", "--dry-run"]) == 0
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said.startswith("0 steps of 8 images left; 0 s on cpu")
    states = [path.stat().st_size for path in (pretrained / "state").glob("*.pt")]
    megabytes = float(re.search(r"([\d.]+) MB", said)[1])
    weights = (pretrained / "backbone.safetensors").stat().st_size
    assert megabytes * 1e6 == pytest.approx(3 * states[0] + weights, rel=0.1)
    assert files_of(pretrained) == before


def test_a_dry_run_refuses_what_the_run_would_refuse(images, pretrained, capsys):
    words = ["pretrain", "--model", "test_vit", "--data", str(images), "--epochs", "1", *SMALL, "--dry-run"]
    words += ["--mask-cell", "16"]
    assert "holds a run with other settings" in sentence(capsys, *words, "--out", pretrained)


def test_a_forecast_leaves_no_trace_in_the_training(images, tmp_path, capsys, monkeypatch):
    words = ["pretrain", "--model", "test_resnet", "--data", str(images), "--epochs", "1", "--mask-cell", "16", *SMALL]
    words += ["--pictures-every", "0"]
    with monkeypatch.context() as patch:
        patch.setattr("experiments.training.forecasting.LONG", 0)
        patch.setattr("interactions.forecast.WORTH_SAYING", 0.0)
        assert main([*words, "--out", str(tmp_path / "told")]) == 0
    assert "3 steps of 8 images; " in capsys.readouterr().err
    taken = str(read_run(tmp_path / "told")["channels_last"])
    assert main([*words, "--channels-last", taken, "--out", str(tmp_path / "silent")]) == 0
    assert "a second" not in capsys.readouterr().err
    silent, told = (newest_state(tmp_path / name) for name in ("silent", "told"))
    assert same(silent["method"], told["method"])


def test_the_last_numbers_are_told_with_their_intervals():
    numbers = {"loss": 0.51234, "miou": 39.91, "miou_low": 38.0, "miou_high": 41.25, "val_images": 10.0, "so_low": 2.0}
    assert running.in_words(numbers) == "loss 0.5123, miou 39.91 [38, 41.25], so_low 2"


def test_figures_of_a_run_in_this_folder_are_called_by_its_name(tmp_path, monkeypatch):
    titles = []
    (tmp_path / "run" / "pictures").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    kinds = ("original", "masked", "predicted", "composite")
    np.savez("pictures/step-00000012.npz", **{kind: np.zeros((1, 3, 2, 2)) for kind in kinds})
    for drawing in ("draw_loss", "draw_reconstruction"):
        monkeypatch.setattr(running, drawing, lambda *_, title, **__: titles.append(title))
    running.draw_training(Path("."))
    running.draw_pictures(Path(".") / "pictures" / "step-00000012.npz")
    assert titles == ["run", "run, step 12"]
