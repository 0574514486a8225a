"""Segmentation and detection on two processes, and in bf16: the runs of one process, and of float32."""

import json

import pytest
import torch
from safetensors.torch import load_file

from experiments.cli import main
from experiments.training import forecasting
from tests.a2mim.instances import write_instances
from tests.a2mim.scenes import VOID, write_scenes
from tests.a2mim.tiny import gap
from tests.children import exit_codes_of_two

pytestmark = pytest.mark.xdist_group("children")
pytest.importorskip("pycocotools")

COMMON = "--model test_resnet --workers 0 --device cpu --lr-batch 4 --warmup-epochs 0 --predictions 0"
WORDS = {
    "segment": f"segment --data {{data}} --ignore {VOID} --crop 32 64 {COMMON}",
    "detect": f"detect --data {{data}} --detector faster_rcnn --short-side 32 --long-side 48 --anchors 8 16 32 64 128 "
    f"--regions 8 {COMMON}",
}
TWO_STEPS = "--batch 4 --epochs 2 --evaluate-every 2 --save-every 2"
NARROW = {"segment": "", "detect": "--width 32"}  # a state is small
HEADS = {"segment": "decoder.safetensors", "detect": "detector.safetensors"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    scenes = write_scenes(folder / "scenes", {"train": 4, "val": 3})
    return {"segment": scenes, "detect": write_instances(folder / "things", (("train2017", 4), ("val2017", 3)))}


def words_of(command, data, out, more=""):
    return [*WORDS[command].format(data=data[command]).split(), "--out", str(out), *more.split()]


def one_of_two(command, data, folder):
    """What each of two processes does, which find one layout by the clocks of two."""
    forecasting.LONG = 0
    assert main(words_of(command, data, folder / "pair", f"{TWO_STEPS} {NARROW[command]}")) == 0


@pytest.mark.parametrize("command", WORDS)
def test_two_processes_train_and_evaluate_what_one_does_in_two_parts(data, tmp_path, command):
    assert exit_codes_of_two(one_of_two, command, data, tmp_path) == (0, 0)
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    taken = json.loads((pair / "run.json").read_text())["channels_last"]
    told = f"{TWO_STEPS} {NARROW[command]} --accumulate 2 --channels-last {taken}"
    assert main(words_of(command, data, alone, told)) == 0
    for name in ("backbone.safetensors", HEADS[command]):
        ours, theirs = load_file(pair / name), load_file(alone / name)
        trained = {key for key, x in theirs.items() if x.is_floating_point() and "running" not in key}
        assert gap({k: ours[k] for k in trained}, {k: theirs[k] for k in trained}) < 2e-5, name
    one, two = (json.loads((path / "run.json").read_text()) for path in (alone, pair))
    assert two["processes"] == 2 and one["processes"] == 1
    assert two["last"]["val_images"] == 3  # each once, whichever process saw it
    assert two["last"]["loss"] == pytest.approx(one["last"]["loss"], rel=1e-4)


@pytest.mark.parametrize("command", WORDS)
def test_bf16_is_float32_with_rounding(data, tmp_path, command):
    """All parts of the loss but that of the boxes, which hangs on the few regions that rounding picks."""
    losses = {}
    for precision in ("float32", "bf16"):
        out = tmp_path / precision
        words = f"--precision {precision} --batch 4 --epochs 1 {NARROW[command]}"
        assert main(words_of(command, data, out, words)) == 0
        last = json.loads((out / "run.json").read_text())["last"]
        parts = {name: last[name] for name in last if name.startswith("loss_") and name != "loss_box_reg"}
        losses[precision] = parts or {"loss": last["loss"]}
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.03) and losses["bf16"] != losses["float32"]
    weights = load_file(tmp_path / "bf16" / HEADS[command])
    assert all(x.dtype == torch.float32 for x in weights.values() if x.is_floating_point())
