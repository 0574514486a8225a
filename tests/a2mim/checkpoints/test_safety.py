"""What a hostile or foreign file may do: nothing. And what a large one costs: no second copy."""

import argparse
import os
import sys
import types
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from a2mim.checkpoints import CheckpointError, read
from a2mim.checkpoints.contents import read_file
from a2mim.checkpoints.inert import INERT, Inert, InertDict
from a2mim.checkpoints.read import Checkpoint

BARE = Checkpoint({}, Path("net"), "", "", "timm")
TENSORS = {"stem.weight": torch.arange(12.0).reshape(3, 4), "stem.bias": torch.tensor([1.5, -2.0, 0.25])}


@contextmanager
def library(module, name, base=dict):
    """A class of a library that is not installed, importable while a file is written."""
    parts = module.split(".")
    made = [".".join(parts[: n + 1]) for n in range(len(parts))]
    made = [each for each in made if each not in sys.modules]
    for each in made:
        sys.modules[each] = types.ModuleType(each)
    kind = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, kind)
    try:
        yield kind
    finally:
        for each in made:
            del sys.modules[each]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("module", "name", "base"),
    [
        ("yacs.config", "CfgNode", dict),
        ("mmcv.utils.config", "ConfigDict", dict),
        ("mmengine.logging.history_buffer", "HistoryBuffer", object),
        ("omegaconf.dictconfig", "DictConfig", object),
    ],
)
def test_settings_of_a_library_that_is_not_installed_are_read_as_nothing(tmp_path, zipped, module, name, base):
    with library(module, name, base) as kind:
        config = kind()
        if base is dict:
            config["MODEL"] = kind()
        config.__dict__["__immutable__"] = True
        content = {"model": TENSORS, "config": config, "epoch": 9}
        torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    content, _ = read_file(tmp_path / "net.pth")
    if base is dict:
        assert type(content["config"]) is OrderedDict
        assert type(content["config"]["MODEL"]) is OrderedDict
    else:
        assert isinstance(content["config"], Inert)
        assert not vars(content["config"])
    assert read(tmp_path / "net.pth").beside == ("config", "epoch")
    assert module.split(".")[0] not in sys.modules or module.startswith("omegaconf")


def test_numbers_paths_and_arrays_of_a_log_are_read_as_nothing(tmp_path):
    log = {
        "best": np.float64(78.2),
        "history": np.arange(5.0),
        "where": PurePosixPath("/data"),
        "args": argparse.Namespace(lr=np.float32(0.1), out=Path("runs"), device=torch.device("cuda")),
        "order": OrderedDict(a=1),
    }
    torch.save({"state_dict": TENSORS, **log}, tmp_path / "net.pth")
    checkpoint = read(tmp_path / "net.pth")
    assert checkpoint.tensors.keys() == TENSORS.keys()
    content, _ = read_file(tmp_path / "net.pth")
    assert isinstance(content["best"], Inert) and isinstance(content["history"], Inert)


def test_the_list_holds_stand_ins_and_no_real_type():
    assert all(issubclass(kind, Inert | InertDict) for kind in INERT)
    record = Inert("rm", x=1)
    record.__setstate__({"attribute": 1})
    assert vars(record) == {}
    assert InertDict({"a": 1}) == {}


class Malicious:
    def __init__(self, marker, kind):
        self.marker, self.kind = marker, kind

    def __reduce__(self):
        marker = str(self.marker)
        return {
            "exec": (exec, (f"open({marker!r}, 'w').close()",)),
            "open": (open, (marker, "w")),
            "system": (os.system, (f"touch {marker}",)),
            "getattr": (getattr, ("os", "upper")),
            "import": (__import__, ("this_would_be_imported",)),
        }[self.kind]


@pytest.mark.parametrize("kind", ["exec", "open", "system", "import"])
@pytest.mark.parametrize("place", ["beside", "in the tensors", "in the settings"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_any_place_is_refused_and_does_not_run(tmp_path, kind, place, zipped):
    evil = Malicious(tmp_path / "ran", kind)
    content = {"model": dict(TENSORS), "args": argparse.Namespace(lr=1)}
    if place == "beside":
        content["optimizer"] = {"state": [evil]}
    elif place == "in the tensors":
        content["model"]["evil"] = evil
    else:
        content["args"].evil = evil
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="loading that could run code") as refused:
        read(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["beside", "in the tensors"])
def test_a_method_of_a_log_is_read_as_nothing(tmp_path, place):
    """Logs pickle methods as getattr(owner, name): it is a stand-in here, which keeps nothing and calls nothing."""
    content = {"model": dict(TENSORS), "optimizer": {}}
    content["optimizer" if place == "beside" else "model"]["evil"] = Malicious(tmp_path / "ran", "getattr")
    torch.save(content, tmp_path / "net.pth")
    if place == "beside":
        assert isinstance(read_file(tmp_path / "net.pth")[0]["optimizer"]["evil"], Inert)
        assert read(tmp_path / "net.pth").tensors.keys() == TENSORS.keys()
    else:
        with pytest.raises(CheckpointError, match="not tensors by name"):
            read(tmp_path / "net.pth")


def test_a_listed_type_cannot_carry_code(tmp_path):
    """A settings object whose state is an attack is still an attack."""
    with library("yacs.config", "CfgNode") as kind:
        config = kind()
        config["evil"] = Malicious(tmp_path / "ran", "exec")
        torch.save({"model": TENSORS, "config": config}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        read(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(30_000_000))
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    with pytest.raises(CheckpointError, match=r"would unpack to 30,000,000"):
        read(tmp_path / "bomb.pth")


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    """Many names for one stretch of the file state more than the file holds."""
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w") as archive:
        archive.writestr("archive/data/0", bytes(10_000))
        first = archive.filelist[0]
        for n in range(1, 50):
            copy = zipfile.ZipInfo(f"archive/data/{n}")
            copy.header_offset, copy.file_size, copy.compress_size = 0, first.file_size, first.compress_size
            copy.CRC, copy.compress_type = first.CRC, zipfile.ZIP_STORED
            archive.filelist.append(copy)
        archive._didModify = True
    with pytest.raises(CheckpointError, match="would unpack to 500,000"):
        read(tmp_path / "bomb.pth")


def test_a_tensor_that_states_more_than_it_stores_is_refused(tmp_path):
    torch.save({"model": {"a.weight": torch.zeros(1).expand(10**6, 10**6)}}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"more elements than it stores \(a\.weight\)"):
        read(tmp_path / "net.pth")
    torch.save({"a.weight": torch.empty(3, device="meta")}, tmp_path / "meta.pth")
    with pytest.raises(CheckpointError, match=r"more elements than it stores \(a\.weight\)"):
        read(tmp_path / "meta.pth")


def anonymous_bytes():
    """Memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_large_file_is_mapped_and_not_copied(tmp_path, name):
    state = {f"layers.{n}.weight": torch.full((1024, 2048), float(n)) for n in range(12)}  # 96 MB
    size = sum(x.nbytes for x in state.values())
    if name.endswith(".pth"):
        torch.save({"model": state}, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    del state
    before = anonymous_bytes()
    checkpoint = read(tmp_path / name)
    assert anonymous_bytes() - before < size / 8
    assert str(tmp_path / name) in Path("/proc/self/maps").read_text()
    assert float(checkpoint.tensors["layers.7.weight"].sum()) == 7.0 * 1024 * 2048
    assert anonymous_bytes() - before < size / 8


@pytest.mark.parametrize(
    "said",
    [
        "[1, 2",
        "[1, 2]",
        '"abc"',
        "3",
        '{"a": "x"}',
        '{"a": 1.5}',
        '{"a": -1}',
        '{"a": NaN}',
        '{"a": 1000000}',
        '{"a": true}',
    ],
)
def test_a_list_of_classes_that_is_none_is_refused_by_the_name_of_its_file(tmp_path, said):
    save_file(TENSORS, tmp_path / "net.safetensors", {"classes": said})
    with pytest.raises(CheckpointError, match=r"the metadata 'classes' of checkpoint '.*net\.safetensors'"):
        _ = read(tmp_path / "net.safetensors").classes


@pytest.mark.parametrize(
    "said", [["a"], "abc", {"x": "a"}, {"0": ["a"]}, {"1000000": "a"}, {"9" * 5000: "a"}, {"-1": "a"}]
)
def test_labels_of_a_configuration_that_are_none_are_refused(said):
    with pytest.raises(CheckpointError, match=r"the list of classes in config\.json beside 'net'"):
        _ = replace(BARE, settings={"id2label": said}).classes


def test_classes_of_a_configuration_and_of_a_file():
    assert replace(BARE, settings={"id2label": {"1": "cat", 0: "dog"}}).classes == {"cat": 1, "dog": 0}
    unnamed = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}  # what Hugging Face calls those without names
    assert replace(BARE, settings=unnamed).classes == {}
    assert replace(BARE, settings=unnamed, metadata={"classes": '{"cat": 3}'}).classes == {"cat": 3}
