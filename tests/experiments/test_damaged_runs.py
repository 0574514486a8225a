"""A run whose record, state or log is damaged: one sentence that names the file and what to do, and nothing lost."""

import errno
import json
import shutil

import pytest
import timm
import torch

from a2mim import runs
from a2mim.checkpoints.errors import CheckpointError, sound
from a2mim.errors import out_of_memory
from a2mim.methods import A2MIM
from experiments.cli import main
from interactions.outputs import is_out_of_memory
from tests.a2mim.tiny import write_images

CPU = "--device cpu"
TRAIN = (
    "pretrain --model test_vit --mask-cell 16 --data {photos} --image-size 32 --batch 8 --lr-batch 8 --epochs 2 "
    f"--warmup-epochs 0 --workers 0 {CPU} --out {{out}}"
)
PROFILE = (
    "profile test_resnet --weights random --data {photos} --target 1 --image-size 32 --images 2 --grid 2 --radius 1 "
    f"--ratios 0.3 --budget 200 {CPU} --out {{out}}"
)


def write(folder, record):
    (folder / "run.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photographs, a training that was stopped after a step, and a profile."""
    folder = tmp_path_factory.mktemp("made")
    for part, count in (("train", 3), ("val", 1)):
        write_images(folder / "photos" / part, per_class=count, size=32)
    for name, words in (("train", f"{TRAIN} --minutes 1e-9"), ("profile", PROFILE)):
        assert main(words.format(photos=folder / "photos", out=folder / name).split()) == 0
    return folder


@pytest.fixture
def refused(made, tmp_path, capsys):
    """A function that damages a copy of a run, starts a command on it and returns what is said."""

    def start(kind, damage, words):
        run = tmp_path / "run"
        shutil.copytree(made / kind, run)
        damage(run)
        before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
        capsys.readouterr()
        command = words.format(photos=made / "photos", out=run, run=run, other=tmp_path / "other")
        assert main(command.split()) == 2
        assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == before
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith("a2mim")
        return told.replace(f"{run}/", "")

    return start


RESUME = f"pretrain --resume {{run}} {CPU}"
REPORT = "report {run} --out {other}/page.html"
COMPARE = "compare {run} {run}/../run --names one other --out {other}/c.png"
DAMAGE = {
    "a list": lambda record: [],
    "without settings": lambda record: {key: value for key, value in record.items() if key != "settings"},
    "settings a list": lambda record: record | {"settings": []},
    "resumed a number": lambda record: record | {"resumed": 7},
    "data a text": lambda record: record | {"data": "photos"},
    "an order a text": lambda record: record | {"orders": ["first"]},
    "no ratio": lambda record: record | {"orders": [{**record["orders"][0], "ratio": None}]},
    "a list of images": lambda record: record | {"images": [[1, 2]]},
    "rounds a number": lambda record: record | {"rounds": 3},
    "grid a list": lambda record: record | {"settings": record["settings"] | {"grid": [2]}},
    "a digest": lambda record: record | {"data": {"train": {"images": 6, "digest": 7}}},
    "a class a text": lambda record: record | {"classes": {"cat": "dog"}},
}


@pytest.mark.parametrize(
    ("kind", "damage", "words", "said"),
    [
        (
            "train",
            "a list",
            RESUME,
            "(it is no dictionary): put back the file",
        ),
        ("train", "without settings", RESUME, "(it lacks settings)"),
        (
            "train",
            "settings a list",
            RESUME,
            "(it has a part settings that is no dictionary)",
        ),
        (
            "train",
            "resumed a number",
            TRAIN,
            "(it has a part resumed that is no list)",
        ),
        (
            "train",
            "data a text",
            TRAIN,
            "(it has a part data that is no dictionary)",
        ),
        ("profile", "a list", PROFILE, "run.json is not the record of a profile run: give another output folder"),
        ("profile", "without settings", PROFILE, "run.json is damaged (settings is missing): put back the file"),
        ("profile", "settings a list", PROFILE, "run.json is damaged (settings is a list of 0): put back the file"),
        ("profile", "resumed a number", PROFILE, "run.json is damaged (resumed is 7)"),
        ("profile", "data a text", PROFILE, "run.json is damaged (data is 'photos')"),
        ("profile", "an order a text", PROFILE, "run.json is damaged (orders.0 is 'first'): put back the file"),
        ("profile", "no ratio", REPORT, "run.json is damaged (orders.0.ratio is null): put back the file"),
        ("profile", "a list of images", COMPARE, "run.json is damaged (images.0 is a list of 2)"),
        ("profile", "rounds a number", PROFILE, "run.json is damaged (rounds is 3)"),
        ("profile", "grid a list", COMPARE, "run.json is damaged (settings.grid is a list of 1)"),
        (
            "train",
            "a digest",
            TRAIN,
            "has a part train that has a part digest that is no text",
        ),
        ("train", "a class a text", RESUME, "(it has a part classes that has a part cat that is no whole number)"),
        ("profile", "a list", REPORT, "run.json is not the record of a run"),
        ("profile", "settings a list", REPORT, "run.json is damaged (settings is a list)"),
    ],
)
def test_a_damaged_record(kind, damage, words, said, refused):
    told = refused(kind, lambda run: write(run, DAMAGE[damage](json.loads((run / "run.json").read_text()))), words)
    assert said in told


@pytest.mark.parametrize(
    ("group", "name", "value", "said"),
    [
        ("loop", "batch", "many", "batch many is no whole number"),
        ("optim", "lr", [], "is no number"),
        ("loop", None, 7, "a int stands where Loop belong"),
        ("set", None, 7, "7 is no list"),
        ("loop", None, None, "settings.loop is missing"),
    ],
)
def test_settings_of_wrong_types_in_a_record(group, name, value, said, refused):
    def damage(run):
        record = json.loads((run / "run.json").read_text())
        if name is None and value is None:
            del record["settings"][group]
        elif name is None:
            record["settings"][group] = value
        else:
            record["settings"][group][name] = value
        write(run, record)

    told = refused("train", damage, RESUME)
    assert "the settings in run.json cannot be used (" in told and said in told and "put back the file" in told


def reshape(run):
    path = next((run / "state").glob("step-*.pt"))
    state = torch.load(path, weights_only=True)
    state["method"] = {name: tensor.flatten()[:1] for name, tensor in state["method"].items()}
    torch.save(state, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (reshape, "step-00000001.pt does not fit this run (Error(s) in loading state_dict"),
        (lambda run: torch.save([1], next((run / "state").glob("step-*.pt"))), "is not a state of a run: remove it"),
        (lambda run: torch.save({"step": 1}, next((run / "state").glob("step-*.pt"))), "is not a state of a run"),
        (lambda run: (run / "log.jsonl").write_text("[1]\n"), "line 1 of log.jsonl is none of a training log"),
        (lambda run: (run / "log.jsonl").write_text('{"kind": "train"}\n'), "line 1 of log.jsonl is none of a"),
    ],
)
def test_a_state_or_a_log_that_does_not_fit(damage, said, made, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(made / "train", run)
    damage(run)
    state = {path.name: path.read_bytes() for path in (run / "state").iterdir()}
    capsys.readouterr()
    assert main(RESUME.format(run=run).split()) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in told.replace(f"{run}/", "") and "remove it" in told
    assert {path.name: path.read_bytes() for path in (run / "state").iterdir()} == state


# ------------------------------------------------------------------------------------------- disks and memory


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def torn(*_, **__):
    raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0: file write failed")


@pytest.mark.parametrize(("writer", "said"), [(full, "No space left on device: "), (torn, "cannot be written")])
def test_a_disk_that_is_full_in_training(writer, said, made, tmp_path, monkeypatch, capsys):
    run, words = tmp_path / "run", TRAIN.format(photos=made / "photos", out=tmp_path / "run").split()
    with monkeypatch.context() as patch:
        patch.setattr(runs.torch, "save", writer)
        assert main(words) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("a2mim pretrain: ") and said in told and "state/step-" in told
    assert not list(run.rglob("*.tmp")) and not list(run.rglob("*.pt"))
    assert main(["pretrain", "--resume", str(run), "--device", "cpu"]) == 0


def test_a_disk_that_is_full_in_convert(tmp_path, monkeypatch, capsys):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "net.pth")
    monkeypatch.setattr("a2mim.export.save_file", torn)
    out = tmp_path / "net.safetensors"
    assert main(["convert", str(tmp_path / "net.pth"), "--model", "test_vit", "--out", str(out)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def no_memory(*_, **__):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes")


def test_memory_that_runs_out_in_training(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(A2MIM, "forward", no_memory)
    assert main(TRAIN.format(photos=made / "photos", out=tmp_path / "run").split()) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("a2mim pretrain: memory ran out: ") and "memory: 9 bytes; 8 images are in one pass" in told
    assert "--accumulate 2 (the same batch in parts), --grad-checkpointing, or a smaller" in told
    assert "with --batch 4 the peak learning rate is 0.0005" in told


@pytest.mark.parametrize("part", ["a2mim.runs.torch.load", "a2mim.trainer.Trainer.load"])
def test_memory_that_runs_out_for_a_saved_state(part, made, tmp_path, monkeypatch, capsys):
    """It is as good as before: nobody is told to remove it."""
    run = shutil.copytree(made / "train", tmp_path / "run")
    monkeypatch.setattr(part, no_memory)
    assert main(RESUME.format(run=run).split()) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("a2mim pretrain: memory ran out: ") and "remove" not in told


@pytest.mark.parametrize("known", [out_of_memory, is_out_of_memory], ids=["a2mim", "interactions"])
def test_both_halves_know_memory_that_ran_out(known):
    for error in (torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("MPS backend out of memory")):
        assert known(error)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert known(caught.value)
    for other in (RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory"), KeyError("x")):
        assert not known(other)


def test_memory_that_runs_out_is_no_fault_of_a_checkpoint():
    with pytest.raises(RuntimeError, match="out of memory"), sound("weights.pth"):
        raise RuntimeError("MPS backend out of memory")
    with pytest.raises(CheckpointError, match=r"weights\.pth.*damaged"), sound("weights.pth"):
        raise RuntimeError("mat1 and mat2 shapes")


def test_memory_that_runs_out_for_a_single_image(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("timm.models.resnet.ResNet.forward", no_memory)
    assert main(PROFILE.format(photos=made / "photos", out=tmp_path / "run").split()) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("a2mim profile: memory ran out: ")
    assert not (tmp_path / "run" / "run.json").exists()
