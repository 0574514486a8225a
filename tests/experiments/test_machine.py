"""The commit that a result is marked with, in repositories made for the purpose."""

import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from a2mim.runs import open_run
from experiments import machine
from experiments.commands.version import Settings as Nothing
from experiments.machine import commit, provenance
from interactions.runs.record import place_of


def git(folder, *words):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, check=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path):
    """A tracked file in a folder of a fresh repository."""
    file = tmp_path / "package" / "machine.py"
    file.parent.mkdir()
    file.write_text("first")
    (tmp_path / "other.py").write_text("first")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return file


def test_the_commit_is_that_of_the_tree_and_says_whether_tracked_files_differ(source):
    root = source.parents[1]
    head = git(root, "rev-parse", "HEAD")[:7]
    assert commit(source) == head
    (root / "note.txt").write_text("not kept by git")
    assert commit(source) == head
    (root / "other.py").write_text("second")
    assert commit(source) == f"{head}+changes"
    git(root, "commit", "-am", "second")
    assert commit(source) == git(root, "rev-parse", "HEAD")[:7] != head


def test_a_file_that_git_does_not_keep_has_no_commit(source, tmp_path_factory, monkeypatch):
    installed = source.parents[1] / "site-packages" / "machine.py"  # as in an environment that lies in a repository
    installed.parent.mkdir()
    installed.write_text("first")
    assert commit(installed) is None
    alone = tmp_path_factory.mktemp("alone") / "machine.py"
    alone.write_text("first")
    assert commit(alone) is None
    monkeypatch.setenv("PATH", "")
    assert commit(source) is None


def test_provenance_names_no_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")

    @dataclass
    class Settings:
        out: Path = tmp_path / "results"
        data: Path = tmp_path / "photos.tar"
        seed: int = 3

    about = provenance(Settings(), torch.device("cpu"))
    assert about["settings"] == {"data": "photos.tar", "seed": 3}
    assert about["commit"] == "abc1234" and about["machine"]["threads"] == torch.get_num_threads()


def test_records_of_both_halves_name_the_same_libraries_and_tell_time_alike(tmp_path):
    measured, trained = place_of(torch.nn.Linear(1, 1)), open_run(tmp_path / "run", "pretrain", {})
    assert measured["versions"] == trained["versions"] == provenance(Nothing(), torch.device("cpu"))["versions"]
    assert trained["versions"]["torch"] == version("torch") and trained["versions"]["python"]
    for started in (measured["started"], trained["started"]):
        assert datetime.fromisoformat(started).utcoffset() == timedelta(0) and "T" in started
