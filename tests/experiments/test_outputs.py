"""Results of one command never replace the files of a run, nor what the command reads."""

import os
import platform
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2mim import runs as training
from experiments.cli import main
from experiments.outputs import FILES, FOLDERS, claim, owner
from figures import files as drawing
from interactions.runs import files as measuring
from tests.experiments.test_unread_checkpoints import shards
from tests.figures import made_up_runs

GONE = 2**22 + 1


@pytest.fixture
def run(tmp_path):
    """A finished profile, with a picture beside it."""
    folder = made_up_runs.kept_pairs(tmp_path / "run")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "cat.png")
    return folder


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("compare {run} {run} --names a b --out {run}/strength.png", "strength.png"),
        ("compare {run} {run} --names a b --out {run}/strength.pdf", "strength.csv"),
        ("map test_vit --weights random --image {run}/../cat.png --out {run}/run.png", "run.json"),
        ("knn --weights random --model test_vit --data nowhere --out {run}/run.json", "run.json"),
        ("linear --weights random --model test_vit --data nowhere --out {run}/strength.csv", "strength.csv"),
        ("figure fig5 {run} --out {run}/run", "run.json"),
        ("figure fig5 {run} --out {run}/strength", "strength.png"),
        ("report {run} --out {run}/pairs/page.html", "page.html"),
        ("convert weights.pth --out {run}/backbone.safetensors", "backbone.safetensors"),
        ("convert weights.pth --out {run}/detector-12-epochs.safetensors", "detector-12-epochs.safetensors"),
        ("reconstruct {run} --data nowhere --out {run}/run.png", "run.json"),
    ],
)
def test_a_runs_own_files_are_not_overwritten(run, capsys, command, name):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(command.format(run=run).split()) == 2
    assert f"{name} is a file of the run in" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_beside_a_run_and_elsewhere_a_result_may_be_written(run):
    for place in (
        run / "knn.json",
        run / "backbone-new.safetensors",
        run / "fig5-9-epochs.png",
        run / "fig5.png",
        run.parent / "strength.png",
        run.parent / "state" / "x.png",
    ):
        claim([place])


def test_what_is_read_is_not_overwritten(run, capsys):
    before = (run.parent / "cat.png").read_bytes()
    link = run.parent / "link.png"
    link.symlink_to(run.parent / "cat.png")
    for out in ("cat.png", "link.png"):
        words = ["--weights", "random", "--image", str(run.parent / "cat.png"), "--out", str(run.parent / out)]
        assert main(["map", "test_vit", *words]) == 2
        assert "is read, and would be overwritten" in capsys.readouterr().err
    assert (run.parent / "cat.png").read_bytes() == before


def test_a_conversion_takes_no_place_of_what_it_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shards(tmp_path)
    Path("data#1").mkdir()
    Path("data#1/x.safetensors").write_text("as it was")
    part = "model-00002-of-00002.safetensors"
    before = Path(part).read_bytes()
    for file, out in (("model.safetensors.index.json", part), *[("data#1/x.safetensors",) * 2]):
        assert main(["convert", file, "--out", out]) == 2
        assert f"{out} is read, and would be overwritten" in capsys.readouterr().err
    assert Path(part).read_bytes() == before


@pytest.mark.parametrize("name", ["accuracy", "masses", "differences", "declared", "published", "token_position"])
def test_a_studys_own_tables_are_not_overwritten(run, tmp_path, capsys, name):
    study = tmp_path / "results"
    study.mkdir()
    (study / "study.json").write_text("{}")
    (study / f"{name}.csv").write_text("as it was")
    assert main(["compare", str(run), str(run), "--names", "a", "b", "--out", str(study / f"{name}.png")]) == 2
    assert f"{name}.csv is a file of the run in" in capsys.readouterr().err
    assert (study / f"{name}.csv").read_text() == "as it was"
    claim([study / "transfer.csv"])
    assert owner(study / "report.html") == study and owner(run / "report.html") is None


@pytest.mark.parametrize("command", ["knn", "linear"])
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("w.pth", "is read, and would be overwritten"),
        ("photos/val/cat/0.png", "end its name in .json"),
        ("new.csv", "end its name in .json"),
    ],
)
def test_an_accuracy_takes_no_place_of_weights_or_pictures(tmp_path, monkeypatch, capsys, command, out, said):
    monkeypatch.chdir(tmp_path)
    Path("photos/val/cat").mkdir(parents=True)
    for name in ("w.pth", "photos/val/cat/0.png"):
        Path(name).write_text("as it was")
    assert main([command, *f"--weights w.pth#student --data photos --out {out} --device cpu".split()]) == 2
    assert said in capsys.readouterr().err and not Path("new.csv").exists()
    assert {Path(name).read_text() for name in ("w.pth", "photos/val/cat/0.png")} == {"as it was"}


def test_a_reconstruction_takes_no_place_of_a_picture_or_of_the_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("photos/val/cat").mkdir(parents=True)
    for name in ("photos/val/cat/1.png", "weights.npz"):
        Path(name).write_text("as it was")
    Path("link").symlink_to("photos/val")
    for checkpoint, out, said in (
        ("run", "photos/val/cat/1.png", "photos/val/cat/1.png lies in --data, and would be overwritten"),
        ("run", "link/cat/1.png", "link/cat/1.png lies in --data"),
        ("weights.npz#ema", "weights.png", "weights.npz is read, and would be overwritten"),
    ):
        assert main(["reconstruct", checkpoint, "--data", "photos", "--out", out, "--device", "cpu"]) == 2
        assert said in capsys.readouterr().err


def test_every_file_that_lies_in_a_run_here_is_known_as_one(run):
    for path in run.rglob("*"):
        if path.is_file():
            assert owner(path) == run, path


@pytest.mark.parametrize("writer", [training, drawing, measuring], ids=["a2mim", "figures", "interactions"])
def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path, writer):
    """All three write under names that the one remover knows."""
    seen = []
    target = tmp_path / "a picture.png"

    def write(beside):
        seen.append(beside.name)
        beside.write_text("x")

    writer.write_atomically(target, write)
    left = seen[0].replace(f".{os.getpid()}@{platform.node()}", f".{GONE}@{platform.node()}")
    assert left != seen[0]
    for name in (left, "notes.tmp", left.replace("picture", "photo")):
        (tmp_path / name).write_text("half")
    claim([target])
    assert {path.name for path in tmp_path.iterdir()} == {
        target.name,
        "notes.tmp",
        left.replace("picture", "photo"),
    }


ARRAYS = {"a": np.arange(500), "b": np.zeros((2, 30_000))}


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


DAMAGE = {
    "empty": lambda whole: b"",
    "no archive": lambda whole: b"a,b\n1,2\n",
    "cut short": lambda whole: whole[: len(whole) // 2],
    "cut in its list": lambda whole: whole[:-30],
    "a flipped bit": lambda whole: flipped(whole, 100),
    "taken for bzip2": lambda whole: flipped(whole, whole.index(b"PK\x01\x02") + 10),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reader", [drawing, measuring], ids=["figures", "interactions"])
def test_arrays_come_back_or_are_one_sentence(tmp_path, reader, damage):
    """Python's and numpy's readers raise another error for each."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **ARRAYS)
    found = reader.read_arrays(path)
    assert found.keys() == ARRAYS.keys() and all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
    assert reader.read_arrays(path, ["a", "c"]).keys() == {"a"}
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as \.npz \("):
        reader.read_arrays(path)


@pytest.mark.parametrize("reader", [drawing, measuring], ids=["figures", "interactions"])
def test_arrays_are_no_larger_inside_than_is_read_and_run_no_code(tmp_path, reader, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **ARRAYS, code=np.array([None], object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        reader.read_arrays(path)
    monkeypatch.setattr(reader, "LARGEST", 100_000)
    assert reader.read_arrays(path, ["a"]).keys() == {"a"}
    with pytest.raises(ValueError, match=r"would unpack to 484,256 bytes, and 100,000 are read"):
        reader.read_arrays(path, ["a", "b"])
    with pytest.raises(FileNotFoundError):
        reader.read_arrays(tmp_path)


@pytest.mark.parametrize(
    "words", ["estimators --data {0} --work {0}/work", "coverage {0}/run", "curve {0}/run {0}/run"]
)
def test_the_results_of_another_command_are_not_replaced_by_a_benchmark(run, capsys, tmp_path, words):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["bench", *words.format(tmp_path).split(), "--out", str(run)]) == 2
    assert "holds a run of another command" in capsys.readouterr().err and not (tmp_path / "work").exists()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_names_are_plain():
    assert all(Path(name).name == name for name in FILES | FOLDERS)
