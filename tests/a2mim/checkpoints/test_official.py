"""Files that official code wrote: every network that the reader makes of one gives what the official network gave.

The cases lie in shared/data/official-layouts.tar, whose README says how they were made; without it the test is skipped.
"""

import json
import tarfile
from pathlib import Path

import pytest
import timm
import torch

from a2mim.checkpoints import load_into, read
from a2mim.checkpoints.identify import identify
from a2mim.methods.restore import load_method

ARCHIVE = Path(__file__).resolve().parents[3] / ".." / "shared/data/official-layouts.tar"

UNTOLD = {"hf5_vit_noconfig": {"num_heads": 2}}
"""What somebody has to say of a file that tells it nowhere."""

PRECISION = {"hf5_dinov3": 1e-7}
"""Relative, where it is not double: both make the angles of rotary positions in single precision, each in its order."""

SOFTMAX = {"hiera_rel"}
"""Their official network gives probabilities where it is not in training."""


def cases():
    if not ARCHIVE.exists():
        return []
    with tarfile.open(ARCHIVE) as archive:
        return sorted({name.partition("/")[0] for name in archive.getnames()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not ARCHIVE.exists():
        pytest.skip(f"{ARCHIVE.name} is not there")
    into = tmp_path_factory.mktemp("official")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(into, filter="data")
    return into


def model_of(file, arguments):
    checkpoint = read(file)
    found = identify(checkpoint)
    model = timm.create_model(found.name, **{**found.arguments, **arguments}).double().eval()
    return model, load_into(model, checkpoint), {**checkpoint.assumed, **found.assumed}


def given_by(model, x, case):
    with torch.no_grad():
        features = model.forward_features(x)
        logits, pooled = model(x), model.forward_head(features, pre_logits=True)
    found = {
        "tokens": features,
        "map": features,
        "pre": pooled,
        "logits": logits.softmax(-1) if case in SOFTMAX else logits,
    }
    if features.ndim == 3:
        found |= {"cls": features[:, 0], "patch_tokens": features[:, getattr(model, "num_prefix_tokens", 0) :]}
    return found


def same(found, wanted, precision):
    torch.testing.assert_close(found, wanted, rtol=0, atol=precision * float(wanted.abs().max()))


@pytest.mark.parametrize("case", cases() or ["none"])
def test_the_network_is_the_official_one(folder, case):
    about = json.loads((folder / case / "meta.json").read_text())
    expected = torch.load(folder / case / "expected.pt", weights_only=True)
    arguments = {**UNTOLD.get(case, {}), **about.get("create", {})}
    model, report, assumed = model_of(folder / case / about["file"], arguments)
    assert report.complete
    assert ("num_heads" in assumed) <= (not (folder / case / "config.json").exists())
    found = given_by(model, expected["x"], case)
    for name, wanted in expected["refs"].items():
        same(found[name], wanted, PRECISION.get(case, 1e-9))
    if about.get("reconstruct"):
        reconstructed(folder / case / about["file"], expected)


def reconstructed(file, expected):
    """The prediction of the decoder, for the official mask (1: hidden)."""
    method, _ = load_method(file)
    method.double()
    mask, wanted = expected["tens"]["mask"], expected["tens"]["pred"]
    with torch.no_grad():
        if mask.ndim == 2:
            found = method.decode(method.encode(expected["x"], mask.double()), mask.double())
        else:
            found = method.reconstruct(expected["x"], mask)
    same(found, wanted, 1e-9)
