"""Results of one command never replace the files of a run, nor what the command reads."""

import json
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
        ("reconstruct {run} --data nowhere --out {run}/run.png", "run.json"),
    ],
)
def test_a_runs_own_files_are_not_overwritten(run, capsys, command, name):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(command.format(run=run).split()) == 2
    assert f"{name} is a file of the run in" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_beside_a_run_and_elsewhere_a_result_may_be_written(run):
    for place in (run / "knn.json", run / "fig5.png", run.parent / "strength.png", run.parent / "state" / "x.png"):
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


def test_the_results_of_another_command_are_not_replaced_by_the_benchmark(run, capsys, tmp_path):
    words = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(run)]
    assert main(["bench", "estimators", *words]) == 2
    assert "holds a run of another command" in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text()) and not (tmp_path / "work").exists()


def test_names_are_plain():
    assert all(Path(name).name == name for name in FILES | FOLDERS)
