"""Formats that docs/checkpoints.md calls unread: each ends in a sentence, whatever it is taken for."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from experiments import cli
from tests.a2mim.checkpoints.layouts import HFViT, Named, randomise


def shards(folder):
    """transformers' save_pretrained: parts of a network, and an index that says which tensor lies in which."""
    state = randomise(Named(vit=HFViT(), classifier=nn.Linear(128, 9))).float().state_dict()
    names = list(state)
    # the first part ends with a whole block, and so looks like a network of fewer blocks
    cut = next(n for n, name in enumerate(names) if "encoder.layer.1." in name)
    files = {1: names[:cut], 2: names[cut:]}
    for number, keys in files.items():
        part = {key: state[key].contiguous() for key in keys}
        save_file(part, folder / f"model-{number:05d}-of-00002.safetensors", metadata={"format": "pt"})
    places = {key: f"model-{number:05d}-of-00002.safetensors" for number, keys in files.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def first_shard(folder):
    shards(folder)
    return folder / "model-00001-of-00002.safetensors", "vit_base_patch16_224"


def sharded_pickle(folder):
    torch.save({"vit.embeddings.cls_token": torch.zeros(1, 1, 128)}, folder / "pytorch_model-00002-of-00002.bin")
    return folder / "pytorch_model-00002-of-00002.bin", "vit_base_patch16_224"


def tensorflow(folder):
    (folder / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    return folder / "tf_model.h5", "vit_base_patch16_224"


def flax(folder):
    (folder / "flax_model.msgpack").write_bytes(b"\x82\xa3vit\x81\xaaembeddings\x80" + bytes(50))
    return folder / "flax_model.msgpack", "vit_base_patch16_224"


PARTS = "is a part of a network: give the list of its parts"
FILES = [
    (first_shard, PARTS, PARTS),
    (sharded_pickle, PARTS, PARTS),
    (tensorflow, "cannot be read as a torch file", "cannot be read as a torch file"),
    (flax, "cannot be read as a torch file", "cannot be read as a torch file"),
]


@pytest.mark.parametrize(("make", "unnamed", "as_model"), FILES, ids=lambda each: getattr(each, "__name__", ""))
def test_an_unread_format_ends_in_a_sentence(make, unnamed, as_model, tmp_path, capsys):
    file, name = make(tmp_path)
    photo = tmp_path / "photo.png"
    commands = {
        ("convert", str(file), "--out", str(tmp_path / "new.safetensors")): unnamed,
        ("convert", str(file), "--out", str(tmp_path / "new.safetensors"), "--model", name): as_model,
        ("profile", "auto", "--weights", str(file), "--data", str(photo), "--out", str(tmp_path / "run")): "",
        ("profile", name, "--weights", str(file), "--data", str(photo), "--out", str(tmp_path / "run")): "",
    }
    before = sorted(tmp_path.iterdir())
    for words, said in commands.items():
        assert cli.main(list(words)) == 2, words
        (sentence,) = capsys.readouterr().err.strip().splitlines()
        assert said in sentence and str(file) in sentence and "Traceback" not in sentence, words
    assert sorted(tmp_path.iterdir()) == before
