"""Reading a file safely: what comes out of good ones, and what is said about bad ones."""

import argparse
import os
import pickle

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2mim.checkpoints import CheckpointError, read
from a2mim.checkpoints.contents import CONTAINERS

TENSORS = {"stem.weight": torch.arange(12.0).reshape(3, 4), "stem.bias": torch.tensor([1.5, -2.0, 0.25])}


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_reads_a_flat_pickle(tmp_path, save, suffix):
    save(TENSORS, tmp_path / f"net{suffix}")
    checkpoint = read(tmp_path / f"net{suffix}")
    assert_same(checkpoint.tensors, TENSORS)
    assert (checkpoint.container, checkpoint.prefix, checkpoint.source) == ("", "", "timm")


def test_reads_safetensors(tmp_path):
    safetensors.torch.save_file(TENSORS, tmp_path / "net.safetensors")
    assert_same(read(tmp_path / "net.safetensors").tensors, TENSORS)


@pytest.mark.parametrize("container", CONTAINERS)
def test_unwraps_a_training_checkpoint(tmp_path, container):
    content = {"epoch": 7, "args": argparse.Namespace(lr=0.1), container: TENSORS, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "net.pth")
    checkpoint = read(tmp_path / "net.pth")
    assert_same(checkpoint.tensors, TENSORS)
    assert checkpoint.container == container


def test_takes_the_averaged_weights_and_says_so(tmp_path):
    averaged = {key: tensor + 1 for key, tensor in TENSORS.items()}
    torch.save({"state_dict": TENSORS, "state_dict_ema": averaged}, tmp_path / "net.pth")
    checkpoint = read(tmp_path / "net.pth")
    assert_same(checkpoint.tensors, averaged)
    assert checkpoint.container == "state_dict_ema"


def test_an_empty_average_is_no_container(tmp_path):
    torch.save({"state_dict": TENSORS, "state_dict_ema": None, "model_ema": {}}, tmp_path / "net.pth")
    assert read(tmp_path / "net.pth").container == "state_dict"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_strips_the_prefix_of_wrappers(tmp_path, prefix):
    torch.save({prefix + key: tensor for key, tensor in TENSORS.items()}, tmp_path / "net.pth")
    checkpoint = read(tmp_path / "net.pth")
    assert_same(checkpoint.tensors, TENSORS)
    assert checkpoint.prefix == prefix


def test_keeps_a_prefix_that_not_every_key_has(tmp_path):
    mixed = {"module.stem.weight": TENSORS["stem.weight"], "stem.bias": TENSORS["stem.bias"]}
    torch.save(mixed, tmp_path / "net.pth")
    assert_same(read(tmp_path / "net.pth").tensors, mixed)


class Malicious:
    """Unpickling this makes the folder that it names."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def save_bare(protocol):
    """Save by Python's own pickle, without torch."""
    return lambda content, path: path.write_bytes(pickle.dumps(content, protocol))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_bare(2), save_bare(4), save_bare(5)])
def test_a_malicious_pickle_does_nothing_and_is_refused(tmp_path, save):
    marker, path = tmp_path / "ran", tmp_path / "net.pth"
    save({"stem.weight": [0.0, 0.0], "evil": Malicious(marker)}, path)
    with pytest.raises(CheckpointError) as refused:
        read(path)
    assert not marker.exists()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_bare(2)])
def test_the_code_that_a_pickle_would_run_is_named(tmp_path, save):
    save({"evil": Malicious(tmp_path / "ran")}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"holds (posix|nt)\.mkdir, not only .* loading that could run code"):
        read(tmp_path / "net.pth")


def test_the_malicious_pickle_would_run_in_an_unsafe_reader(tmp_path):
    torch.save(Malicious(tmp_path / "ran"), tmp_path / "net.pth")
    torch.load(tmp_path / "net.pth", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_whole_pickled_module_is_refused_and_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\) alone"):
        read(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds nothing"),
        ([torch.zeros(2)], "holds a list"),
        (torch.zeros(2), "holds a Tensor"),
        ({"weights": TENSORS}, r"1 things at its top level that are not tensors by name \(weights\)"),
        ({"state_dict": {**TENSORS, "epoch": 3}}, r"under 'state_dict' that are not tensors by name \(epoch\)"),
        ({0: torch.zeros(2)}, r"not tensors by name \(0\)"),
        ({f"n{k}": k for k in range(9)}, r"9 things .*\(n0, n1, n2, n3, n4 and 4 more\)"),
    ],
)
def test_other_contents_are_refused_and_named(tmp_path, content, said):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=said):
        read(tmp_path / "net.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth' does not exist"):
        read(tmp_path / "nothing.pth")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"<html>not found</html>", b"version https://git-lfs.github.com/spec"]
)
def test_what_is_no_checkpoint_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged, cut short, or something else"):
        read(tmp_path / name)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    """The bytes of a good file of each format, and a folder to write damaged ones to."""
    folder = tmp_path_factory.mktemp("files")
    save_zip(TENSORS, folder / "zip.pth")
    save_legacy(TENSORS, folder / "legacy.pth")
    safetensors.torch.save_file(TENSORS, folder / "safe.safetensors")
    return {path: path.read_bytes() for path in sorted(folder.iterdir())}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_always_refused(whole_files, data):
    path = data.draw(st.sampled_from(list(whole_files)))
    whole = whole_files[path]
    cut = path.with_stem("cut")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError):
        read(cut)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_sentence_or_tensors_and_nothing_else(whole_files, data):
    path = data.draw(st.sampled_from(list(whole_files)))
    damaged = bytearray(whole_files[path])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    bad = path.with_stem("bad")
    bad.write_bytes(damaged)
    try:
        tensors = read(bad).tensors
    except CheckpointError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
