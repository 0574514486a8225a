"""A finished training run that is extended by more epochs."""

import json
import math
import shutil

import pytest
from safetensors.torch import load_file

from a2mim.course import kept_states
from a2mim.runs import open_run
from experiments.cli import main
from experiments.training.running import refuse_other_input, refuse_other_network
from tests.a2mim.tiny import log_of, same

pytestmark = pytest.mark.usefixtures("sketches")

USUAL = "--image-size 32 --workers 0 --warmup-epochs 0 --lr-batch 8 --batch 8 --log-every 1 --device cpu"
STEPS = 3
"""Of an epoch of 24 images."""


def pretrain(images, out, epochs, *more):
    words = f"pretrain --model test_vit --method simmim --mask-cell 16 --data {images} --epochs {epochs} {USUAL}"
    return main([*words.split(), "--pictures-every", "0", *more, "--out", str(out)])


def record_of(run):
    return json.loads((run / "run.json").read_text())


def timeless(lines):
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def refused(capsys, *words):
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def short(images, tmp_path_factory):
    """A run of one epoch at a constant rate."""
    run = tmp_path_factory.mktemp("runs") / "short"
    assert not pretrain(images, run, 1, "--schedule", "constant")
    return run


@pytest.fixture
def run(short, tmp_path):
    return shutil.copytree(short, tmp_path / "run")


def test_at_a_constant_rate_it_is_the_longer_run_to_the_bit(images, short, run, tmp_path, capsys):
    assert not pretrain(images, tmp_path / "long", 3, "--schedule", "constant")
    capsys.readouterr()
    resume = ["pretrain", "--resume", str(run), "--epochs", "3", "--device", "cpu"]
    assert not main([*resume, "--minutes", "1e-9"])  # stopped on the way, and gone on with
    assert not record_of(run)["finished"] and not (run / "backbone.safetensors").exists()
    said = capsys.readouterr().out
    assert (
        "is extended from 1 to 3 epochs, each step as in a run of 3: the learning rate goes from 0.001 to 0.001;"
        in said
    )
    assert not main(["pretrain", "--resume", str(run), "--device", "cpu"])
    ours, straight = record_of(run), record_of(tmp_path / "long")
    # Tensor for tensor: safetensors writes what describes them in any order.
    assert same(load_file(run / "backbone.safetensors"), load_file(tmp_path / "long" / "backbone.safetensors"))
    assert same(load_file(run / "backbone-1-epochs.safetensors"), load_file(short / "backbone.safetensors"))
    assert timeless(log_of(run)) == timeless(log_of(tmp_path / "long"))
    assert ours["settings"] == straight["settings"] and ours["last"] == straight["last"]
    (entry,) = ours["extended"]
    assert (entry["epochs"], entry["step"], entry["last"]) == (1, STEPS, record_of(short)["last"])
    assert ours["finished"] and ours["epochs"] == 3 and ours["step"] == 3 * STEPS


def test_weights_that_were_kept_stay_and_those_of_the_longer_runs_parts_ahead_are_added(images, tmp_path, capsys):
    keep = ("--schedule", "constant", "--keep-states", "3")
    run, straight = tmp_path / "run", tmp_path / "straight"
    assert not pretrain(images, run, 1, *keep)
    there = {step: path.read_bytes() for step, path in kept_states(run).items()}
    assert list(there) == [0, 1, 2, 3]
    assert not pretrain(images, run, 3, *keep) and not pretrain(images, straight, 3, *keep)
    after = {step: path.read_bytes() for step, path in kept_states(run).items()}
    assert list(after) == [0, 1, 2, 3, 6, 9] and list(kept_states(straight)) == [0, 3, 6, 9]
    assert {
        step: after[step] for step in there
    } == there  # at a constant rate the longer run is the shorter one, longer
    assert all(after[step] == path.read_bytes() for step, path in kept_states(straight).items())
    assert "--keep-states 10 is more than the 9 steps" in refused(
        capsys, "pretrain", "--model", "test_vit", "--method", "simmim", "--mask-cell", "16", "--data", images,
        "--epochs", "3", *USUAL.split(), "--keep-states", "10", "--out", tmp_path / "more",
    )  # fmt: skip
    assert not (tmp_path / "more").exists()
    said = refused(capsys, "pretrain", "--resume", run, "--keep-states", "2", "--device", "cpu")
    assert "loop.keep_states was 3, is 2" in said


def test_a_cosine_goes_on_at_its_place_in_the_longer_one(images, tmp_path, capsys):
    """The same command with more epochs; the rate is the longer schedule's at every later step."""
    run, peak = tmp_path / "run", 1e-3
    assert not pretrain(images, run, 1) and not pretrain(images, run, 2)
    last, following = (peak / 2 * (1 + math.cos(math.pi * step / total)) for step, total in ((2, 3), (3, 6)))
    assert f"the learning rate goes from {last:.3g} to {following:.3g};" in capsys.readouterr().out
    rates = [line["lr"] for line in log_of(run) if line["kind"] == "train"]
    wanted = [peak / 2 * (1 + math.cos(math.pi * step / 3)) for step in range(3)]
    wanted += [peak / 2 * (1 + math.cos(math.pi * step / 6)) for step in range(3, 6)]
    assert rates == pytest.approx(wanted)


def test_only_a_finished_run_is_extended_and_by_epochs_alone(images, run, tmp_path, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    resume = ("pretrain", "--resume", run, "--device", "cpu")
    for more, said in (
        (("--epochs", "3", "--lr", "0.1"), "optim.epochs was 1, is 3; optim.lr was 0.001, is 0.1"),
        (("--lr", "0.1"), "goes on with its own settings only"),
    ):
        assert said in refused(capsys, *resume, *more)
    words = f"pretrain --model test_vit --method simmim --mask-cell 16 --data {images} {USUAL} --schedule constant"
    words = (*words.split(), "--pictures-every", "0", "--out", run)
    assert "other settings" in refused(capsys, *words, "--epochs", "2", "--lr", "0.1")
    assert not main([str(word) for word in (*words, "--epochs", "2", "--dry-run")])
    assert f"{STEPS} steps of 8 images left" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not main([*map(str, resume)])  # nothing is left to do
    shutil.rmtree(run / "state")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for more in ((), ("--epochs", "2")):
        assert "a finished run that has lost the state it ended with" in refused(capsys, *resume, *more)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    stopped = tmp_path / "stopped"
    assert not pretrain(images, stopped, 2, "--minutes", "1e-9")
    for more in (("--out", tmp_path / "elsewhere"), ("--recipe", "cifar10:a2mim_vit_cpu")):
        told = refused(capsys, "pretrain", "--resume", stopped, "--device", "cpu", *more)
        assert "goes on in that folder, with its own settings: leave out --out and --recipe" in told
    assert not main(["pretrain", "--resume", str(stopped), "--device", "cpu", "--log-every", "3", "--minutes", "1e-9"])
    assert record_of(stopped)["settings"]["loop"]["log_every"] == 3 and record_of(stopped)["resumed"][0]["versions"]
    said = refused(capsys, "pretrain", "--resume", stopped, "--epochs", "4", "--device", "cpu")
    assert "(only a finished run can be extended by more --epochs)" in said
    assert not pretrain(images, stopped, 2)
    assert "other settings" in refused(capsys, *words[:-1], stopped, "--epochs", "1")


def test_a_fine_tuned_run_is_extended_with_its_best(images, tmp_path):
    words = f"finetune --model test_resnet --data {images} --layer-decay 1 {USUAL} --out {tmp_path / 'run'}".split()
    assert not main([*words, "--epochs", "1"]) and not main([*words, "--epochs", "2"])
    record = record_of(tmp_path / "run")
    assert record["extended"][0]["last"]["top1"] is not None and record["finished"]
    assert record["best"]["top1"] >= record["extended"][0]["best"]["top1"]
    now, then = (load_file(tmp_path / "run" / f"backbone{name}.safetensors") for name in ("", "-1-epochs"))
    assert now.keys() == then.keys() and any((now[key] != then[key]).any() for key in now)


def test_weights_that_are_read_otherwise_than_before_are_no_way_to_go_on(tmp_path):
    """What no state keeps, how images are normalised, would change in the middle of a run."""
    mae = {"path": "mae.pth", "adapted": ["pos_embed was resized", "images are normalised with mean (0.485,)"]}
    open_run(tmp_path, "finetune", {}, about={"loaded": mae})
    refuse_other_input(tmp_path, mae)
    refuse_other_input(tmp_path, {**mae, "adapted": mae["adapted"][1:]})  # a note of something else
    refuse_other_input(tmp_path / "new", {"path": "mae.pth", "adapted": []})
    with pytest.raises(ValueError, match=r"'mae.pth' are read otherwise .*then: images .*now: as the model has it\)"):
        refuse_other_input(tmp_path, {"path": "mae.pth", "adapted": []})


def test_a_run_does_not_go_on_where_its_weights_make_another_network_now(tmp_path):
    before = {"architecture": "test_vit", "num_classes": 3, "img_size": [32, 32]}
    open_run(tmp_path, "finetune", {}, about={"architecture": before})
    refuse_other_network(tmp_path, {**before, "img_size": (32, 32)})
    refuse_other_network(tmp_path / "new", before)
    with pytest.raises(ValueError, match=r"num_classes 3 then, unsaid now; num_heads unsaid then, 6 now.*--out"):
        refuse_other_network(tmp_path, {"architecture": "test_vit", "num_heads": 6, "img_size": (32, 32)})
