"""Hostile and damaged files cost neither time nor memory, and end in one sentence."""

import json
import os
import socket
import time
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from a2mim.checkpoints import CheckpointError, read
from a2mim.checkpoints.archive import END_64, END_RECORD, ends_as_written, is_zip
from a2mim.checkpoints.describe import describe
from a2mim.checkpoints.errors import listed
from a2mim.checkpoints.families.common import count
from a2mim.checkpoints.identify import identify
from a2mim.checkpoints.load import load_into
from a2mim.checkpoints.pretraining import pretraining
from experiments.cli import main
from experiments.models import create_model
from tests import mutate_checkpoints
from tests.a2mim.checkpoints.layouts import MAE, HFViT, Named, ViT, randomise

VIT = {"img_size": 32, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 3}


@pytest.fixture(scope="module")
def vit():
    model = timm.create_model("vit_tiny_patch16_224", **VIT)
    return {key: x.contiguous() for key, x in model.state_dict().items()}


def ours(folder, state, stated, **metadata):
    """A file that states its model, as this project writes them."""
    about = {"architecture": json.dumps({"architecture": "vit_tiny_patch16_224", **stated}), **metadata}
    save_file(state, folder / "net.safetensors", metadata=about)
    return folder / "net.safetensors"


def refused(path, said):
    """One sentence, soon."""
    start = time.process_time()
    with pytest.raises((CheckpointError, ValueError), match=said) as error:
        create_model("auto", path)
    assert str(error.value).isprintable() and time.process_time() - start < 10


# --- archives


def bomb(path, size=30_000_000):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(size))
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize(
    "tail",
    [
        b"PK\x05\x06",
        b"x",
        END_RECORD.pack(b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0),
        b"PK\x05\x06" + bytes(17),
        b"PK\x06\x07" + bytes(16) + END_RECORD.pack(b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0),
    ],
)
def test_bytes_behind_an_archive_hide_nothing(tmp_path, tail):
    """Python's reader takes such a file for no archive, or for an empty one; torch's finds the list in front of it."""
    bomb(tmp_path / "bomb.pth")
    with (tmp_path / "bomb.pth").open("ab") as file:
        file.write(tail)
    assert is_zip(tmp_path / "bomb.pth")
    refused(tmp_path / "bomb.pth", "does not end as an archive that torch wrote|cannot be read as a torch file")


def test_a_list_that_lies_elsewhere_than_it_says_is_refused(tmp_path):
    """torch's reader goes where the end record points, Python's to what lies in front of it."""
    bomb(tmp_path / "bomb.pth")
    whole = (tmp_path / "bomb.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "small.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    small = (tmp_path / "small.pth").read_bytes()
    (tmp_path / "two.pth").write_bytes(whole + small)
    refused(tmp_path / "two.pth", "does not end as an archive that torch wrote|cannot be read as a torch file")


def test_the_end_of_a_large_archive_is_known():
    """Above 65,535 entries or 4 GB an end record of its own kind, with its locator, lies between list and end."""
    record = 10_000_000_000
    large = END_64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 400, record - 400, b"PK\x06\x07", 0, record, 1)
    end = END_RECORD.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    size = record + len(large) + len(end)
    assert ends_as_written(large + end, size)
    assert not ends_as_written(large + end, size + 1)
    assert not ends_as_written(end, size)


# --- what is no file


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.pth"))
        for path in (tmp_path / "pipe.pth", tmp_path / "pipe.safetensors", tmp_path / "socket.pth", Path("/dev/zero")):
            with pytest.raises(CheckpointError, match="is no file: copy what it gives into one"):
                read(path)


def test_a_configuration_that_is_no_file_is_left_alone(tmp_path):
    net = randomise(Named(vit=HFViT()))
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    os.mkfifo(tmp_path / "config.json")
    assert read(tmp_path / "pytorch_model.bin").heads is None


# --- numbers


def test_numbers_in_names_are_bounded_by_the_tensors(vit):
    names = {"blocks.999999999.norm1.weight", f"blocks.{'9' * 5000}.norm1.weight", "blocks.3.x"}
    assert count(vit, r"blocks\.(\d+)\.") == 2
    assert count(dict.fromkeys([*vit, *names], torch.zeros(1)), r"blocks\.(\d+)\.") == 4


@pytest.mark.parametrize("key", ["blocks.999999999.norm1.weight", f"blocks.{'9' * 5000}.norm1.weight"])
def test_a_block_that_cannot_be_is_unexpected(tmp_path, vit, key):
    torch.save({**vit, key: torch.zeros(64)}, tmp_path / "net.pth")
    refused(tmp_path / "net.pth", r"1 unexpected key \(blocks\.999")


def test_a_layer_that_cannot_be_is_unexpected(tmp_path):
    state = timm.create_model("resnet18", num_classes=2, channels=(8, 8, 8, 8)).state_dict()
    torch.save({**state, "layer1.99999999.conv1.weight": torch.zeros(1)}, tmp_path / "resnet18.pth")
    refused(tmp_path / "resnet18.pth", r"1 unexpected key \(layer1\.99999999")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({**VIT, "depth": 100_000_000}, "'depth' = 100000000"),
        ({**VIT, "depth": 30, "embed_dim": 16_384}, "holds .* numbers, and vit_tiny_patch16_224 with .* has"),
        ({**VIT, "img_size": 4096, "patch_size": 1}, "holds .* numbers, and vit_tiny_patch16_224 with .* has"),
        ({**VIT, "num_heads": 7}, "cannot build|does not take the arguments"),
        ({**VIT, "norm_layer": "nothing"}, "cannot build|does not take the arguments"),
    ],
)
def test_a_stated_network_is_bounded_by_its_file(tmp_path, vit, stated, said):
    refused(ours(tmp_path, vit, stated), said)


def test_a_width_that_one_tensor_alone_has_is_refused(tmp_path, vit):
    """Its blocks would have 10⁹ numbers each."""
    state = {**vit, "patch_embed.proj.weight": torch.zeros(20_480, 3, 1, 1), "pos_embed": torch.zeros(1, 5, 64)}
    torch.save(state, tmp_path / "net.pth")
    refused(tmp_path / "net.pth", "holds .* numbers, and vit_base_patch16_224 with .* has")


def test_a_decoder_that_one_tensor_alone_makes_wide_is_refused(tmp_path):
    state = randomise(MAE()).float().state_dict()
    state["decoder_pred.weight"] = torch.zeros(1, 50_000)
    torch.save({"model": state}, tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match="is not 50000 wide throughout"):
        pretraining(read(tmp_path / "mae.pth"))


# --- shapes, words


SHAPES = {
    "no width": {"patch_embed.proj.weight": torch.zeros(0, 3, 16, 16)},
    "flat positions": {"pos_embed": torch.zeros(5)},
    "scalar positions": {"pos_embed": torch.tensor(1.0)},
    "no positions": {"pos_embed": torch.zeros(0, 5, 64)},
    "scalar weight": {"blocks.0.mlp.fc1.weight": torch.tensor(1.0)},
    "empty weight": {"blocks.0.mlp.fc1.weight": torch.zeros(0)},
    "scalar head": {"head.weight": torch.tensor(1.0)},
    "no patch": {"patch_embed.proj.weight": torch.zeros(64, 3, 0, 0)},
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
def test_damaged_shapes_are_one_sentence(tmp_path, vit, shapes, capsys):
    torch.save({**vit, **shapes}, tmp_path / "net.pth")
    refused(tmp_path / "net.pth", "net.pth|does not take the arguments")
    assert main(["inspect", str(tmp_path / "net.pth")]) == 0  # what is wrong is told in its table
    assert "fits" in capsys.readouterr().out


def test_sparse_positions_are_one_sentence(tmp_path, vit):
    torch.save({**vit, "pos_embed": vit["pos_embed"].to_sparse()}, tmp_path / "net.pth")
    refused(tmp_path / "net.pth", "net.pth")
    assert describe(read(tmp_path / "net.pth"))["positions"] == ""


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"architecture": "[" * 100_000}, "'architecture' of checkpoint .* is not valid JSON"),
        ({"architecture": "[1]"}, "names no network"),
        ({"architecture": '"resnet18"'}, "names no network"),
        ({"norm_eps": '{"": "x"}'}, "'norm_eps' .* states no epsilon of layer norms"),
        ({"norm_eps": "3"}, "'norm_eps' .* states no epsilon of layer norms"),
        ({"norm_eps": '{"": NaN}'}, "'norm_eps' .* states no epsilon of layer norms"),
        ({"norm_eps": "{"}, "'norm_eps' .* is not valid JSON"),
        ({"pixels": "[[0.5], 3]"}, "'pixels' .* states no mean and deviation"),
        ({"pixels": "[[0, 0, 0], [0, 0, 0]]"}, "'pixels' .* states no mean and deviation"),
        ({"pixels": '{"a": 1}'}, "'pixels' .* states no mean and deviation"),
    ],
)
def test_metadata_of_other_kinds_is_one_sentence(tmp_path, vit, metadata, said):
    refused(ours(tmp_path, vit, VIT, **metadata), said)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_attention_heads": 10**9}, "no number of heads in num_attention_heads: 1000000000"),
        ({"num_attention_heads": "3"}, "no number of heads"),
        ({"layer_norm_eps": [1]}, "states no epsilon"),
        ({"layer_norm_eps": -1}, "states no epsilon"),
    ],
)
def test_a_configuration_of_other_kinds_is_one_sentence(tmp_path, config, said):
    torch.save(randomise(Named(vit=HFViT())).state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        read(tmp_path / "pytorch_model.bin")


def test_escape_codes_are_never_printed(tmp_path, capsys):
    key = "\x1b[2J\x1b]0;owned\x07\u202e"
    torch.save({**randomise(ViT()).float().state_dict(), key: torch.zeros(1)}, tmp_path / "net.pth")
    assert main(["inspect", str(tmp_path / "net.pth")]) == 0
    assert main(["convert", str(tmp_path / "net.pth"), "--out", str(tmp_path / "x.safetensors")]) == 2
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert r"\x1b[2J\x1b]0;owned\x07\u202e" in text
        assert all(each.isprintable() for each in text.splitlines())
    assert listed([key, "a" * 500]) == r"\x1b[2J\x1b]0;owned\x07\u202e, " + "a" * 119 + "…"


def test_a_sound_file_is_still_read(tmp_path, vit):
    checkpoint = read(ours(tmp_path, vit, VIT, norm_eps='{"": 1e-06}', pixels="[[0.5, 0.4, 0.3], [0.2, 0.2, 0.2]]"))
    assert checkpoint.norm_eps == {"": 1e-6} and checkpoint.pixels == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    found = identify(checkpoint)
    assert found.arguments == VIT and describe(checkpoint)["fits"]
    assert load_into(timm.create_model(found.name, **VIT), checkpoint).complete


def test_mutated_files_load_rightly_or_end_in_a_sentence():
    """A part of what `python -m tests.mutate_checkpoints` tries."""
    found = mutate_checkpoints.run(cases=12, seed=1)
    assert found["bad"] == [] and found["counts"]["executed"] == 0
    assert sum(found["counts"].values()) == 12
    assert found["largest"] < mutate_checkpoints.MEMORY
