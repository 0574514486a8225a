"""A small part of `python -m tests.bad_commands`, and that it sees what is not refused."""

import sys
from pathlib import Path

from tests.bad_commands import FIRST, LINES, all_lines, fault, make_places

NAMES = ("images", "scenes", "things", "weights", "trained", "profile", "other", "out")
PLACES = dict(zip(NAMES, "ishwtpo.", strict=True))


def test_it_knows_every_command_and_types_hundreds_of_lines():
    lines = all_lines(PLACES)
    assert len(lines) > 300 and len({tuple(words) for words in lines}) == len(lines)
    assert all(any(" ".join(words).startswith(command) for words in lines) for command in LINES)
    assert set(FIRST) <= set(LINES)


def test_bad_lines_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_places(tmp_path, with_runs=False)
    there = {"images": "images", "scenes": "scenes", "things": "things", "weights": "weights.pth", "out": "out"}
    quick = [words for words in all_lines(PLACES | there)
             if words[0] in ("inspect", "convert", "compare", "figure", "report", "knn")]  # fmt: skip
    for words in quick[::12]:
        assert not fault(words, tmp_path), words


def test_what_is_not_refused_is_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "ended with 0" in fault(["version"], tmp_path)

    def leaves_a_file(words):
        Path("left").touch()
        print("a2mim: no", file=sys.stderr)
        return 2

    monkeypatch.setattr("experiments.cli.main", leaves_a_file)
    assert "left" in fault(["version"], tmp_path)
