"""What only a GPU can show: that its numbers are the processor's, and that a run on it goes on as it would have.

Skipped without CUDA. `A2MIM_GPU_TESTS=cpu` runs the same tests on the processor, where they tell whether they are sound
themselves. (tests/experiments/test_device.py and others find on a CPU what would meet on two devices, or wait.)
"""

import os
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from a2mim.methods import METHODS
from a2mim.runs import newest_state, read_log, read_run
from experiments.cli import main
from interactions.profile import profile_model
from tests.a2mim.tiny import gap, write_images
from tests.commands import WORKS, commands, done
from tests.interactions.tiny import ASKED, Photos, network

PLACE = os.environ.get("A2MIM_GPU_TESTS", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(PLACE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def strengths(folder):
    """J, J_rms and the count of pairs of every order."""
    table = pd.read_csv(folder / "strength.csv").set_index("order")
    return table[["J", "J_rms", "pairs"]]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"design": "shared"},
        {"design": "pooled", "budget": 900},
        {"design": "exact", "grid": 3, "budget": None},
        {"baseline": "blur"},
        {"value": "cosine"},
        {"speed": "channels-last"},
        {"speed": "folded"},
    ],
    ids=lambda change: "-".join(map(str, change.values())) or "pairwise",
)
def test_a_profile_has_the_numbers_of_the_processor(tmp_path, change):
    for place in ("cpu", PLACE):
        asked = {**ASKED, **change}
        profile_model(network().to(place), Photos(7), out=tmp_path / place, progress=False, **asked)
    ours, theirs = strengths(tmp_path / PLACE), strengths(tmp_path / "cpu")
    assert (ours["pairs"] == theirs["pairs"]).all()
    for name in ("J", "J_rms"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-3, atol=2e-3 * theirs[name].max())


def test_a_profile_of_more_images_goes_on_to_the_same_numbers(tmp_path):
    measure = partial(profile_model, network().to(PLACE), Photos(7), progress=False)
    measure(out=tmp_path / "whole", **ASKED)
    for images in (4, 7):
        measure(out=tmp_path / "parts", **{**ASKED, "images": images})
    whole, parts = strengths(tmp_path / "whole"), strengths(tmp_path / "parts")
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)


def test_bfloat16_corrected_by_float32_tells_what_float32_does(tmp_path):
    model = network().to(PLACE)
    asked = {**ASKED, "images": 24, "budget": 900, "design": "pooled"}
    for name, amp in (("full", None), ("mixed", "bfloat16")):
        profile_model(model, Photos(24), out=tmp_path / name, amp=amp, progress=False, **asked)
    full, mixed = (pd.read_csv(tmp_path / name / "strength.csv") for name in ("full", "mixed"))
    apart = (mixed["J_rms"] - full["J_rms"]).abs()
    assert (apart <= (mixed["J_rms_high"] - mixed["J_rms_low"]) + (full["J_rms_high"] - full["J_rms_low"])).all()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "train", per_class=6, size=64)
    write_images(folder / "val", per_class=2, size=64)
    return folder


def trained(images, out, method, place, *more):
    model = "test_vit" if method == "mae" else "test_resnet"
    words = f"pretrain --method {method} --model {model} --data {images} --image-size 64 --workers 0 --batch 8"
    words += f" --lr-batch 8 --epochs 2 --warmup-epochs 0 --log-every 1 --device {place} --out {out}"
    words += " --mask-cell 16" if method in ("a2mim", "simmim") else ""
    assert main([*words.split(), *more]) == 0
    return out


@pytest.mark.parametrize("method", METHODS)
def test_a_training_has_the_losses_of_the_processor_at_first(images, tmp_path, method):
    """TF32 and other orders of adding move them apart later."""
    losses = []
    for place in ("cpu", PLACE):
        log = read_log(trained(images, tmp_path / place, method, place))
        losses.append([line["loss"] for line in log if line["kind"] == "train"])
    assert len(losses[0]) == len(losses[1]) == 6
    assert losses[1][0] == pytest.approx(losses[0][0], rel=2e-2)
    assert np.isfinite(losses[1]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_training_in_bf16_goes_on_where_it_was_stopped(images, tmp_path, method):
    words = ("--precision", "bf16", "--deterministic", "--channels-last", "True", "--ema", "0.9")
    out = trained(images, tmp_path / "parts", method, PLACE, *words, "--minutes", "1e-9")
    assert not read_run(out)["finished"]
    assert main(["pretrain", "--resume", str(out), "--device", PLACE]) == 0
    assert read_run(out)["finished"]
    whole, parts = (newest_state(path) for path in (trained(images, tmp_path / "whole", method, PLACE, *words), out))
    for name in ("method", "ema"):
        floats = [key for key, x in whole[name].items() if x.is_floating_point()]
        assert gap(*({key: each[name][key] for key in floats} for each in (whole, parts))) < 1e-4, name


def test_every_command_runs_on_it(tmp_path, monkeypatch):
    def placed(text):
        return [[PLACE if word == "cpu" else word for word in words] for words in commands(text)]

    monkeypatch.setattr("tests.commands.commands", placed)
    _, codes, said = done.__wrapped__(tmp_path)
    assert {words: codes[words] for words in map(" ".join, placed(WORKS)) if codes[words]} == {}, said
