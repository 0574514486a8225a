"""A small part of `python -m tests.kill_everything`, and that it sees what is lost."""

import re
from pathlib import Path

import pytest

from figures.page.blocks import Card, Section
from figures.page.document import write_page
from tests.kill_everything import COMMANDS, States, attempt, contents, empty, kill, load, make_inputs, masked


@pytest.mark.slow
@pytest.mark.parametrize(("name", "every"), [("convert", 0), ("spectrum", 40)])
def test_killed_anywhere_and_started_again_a_command_leaves_what_it_leaves_alone(name, every, tmp_path):
    """In children of this process, which has paid for the imports."""
    load()
    count = kill(name, tmp_path, make_inputs(tmp_path, runs=False), every)
    assert count.tried >= 2 and count.identical == count.tried and not count.lost


def test_the_folder_that_is_set_aside_is_what_a_killed_process_leaves(tmp_path):
    """Names of unfinished files hold the number of the process, and the lock its time."""
    load()
    inputs, out, store = make_inputs(tmp_path, runs=False), tmp_path / "out", tmp_path / "states"
    words = COMMANDS["convert"].format(**inputs, out=out).split()

    def left():
        return [(re.sub(r"[.][0-9]+@", "@", path.name), path.read_bytes()) for path in sorted(out.rglob("*"))]

    empty(out)
    _, operations, _ = attempt(words, out, None, store)
    states = (store / "operations").read_text().split()
    assert len(states) == operations > 2
    for number, state in enumerate(states):
        empty(out)
        attempt(words, out, number)
        killed = left()
        empty(out)
        States(store).restore(state, out)
        assert left() == killed


def test_it_compares_every_file_and_leaves_out_times_alone(tmp_path):
    (tmp_path / "run.json").write_text(
        '{"seconds": 1.5, "status": "complete", "resumed": [], "images": [{"image": 3}]}'
    )
    (tmp_path / "log.jsonl").write_text('{"loss": 1.0, "images_per_second": 3.0}\n')
    (tmp_path / "units").mkdir()
    before = contents(tmp_path)
    assert before == {
        Path("run.json"): {"status": "complete", "images": [{"image": 3}]},
        Path("log.jsonl"): [{"loss": 1.0}],
        Path("units"): None,
    }
    (tmp_path / ".run.json.7@host.tmp").write_text("half")
    assert contents(tmp_path) != before
    assert masked([{"started": "now", "a": 1}]) == [{"a": 1}]


def test_on_a_page_it_leaves_out_the_times_of_runs_alone(tmp_path):
    def page(seconds, images="4", a="<b>"):
        card = Card("run", {"seconds": seconds, "images": images}, {"seconds": float(seconds), "a": a})
        write_page(tmp_path / "page.html", [Section("Runs", [card])], "Study")
        return contents(tmp_path)

    assert page("1") == page("2")
    assert page("1") != page("1", images="5") and page("1") != page("1", a="<i>")


def test_it_knows_every_command_that_writes():
    asked = {words.split()[0] for words in COMMANDS.values()}
    assert {"profile", "occlusion", "spectrum", "map", "pretrain", "finetune", "linear", "knn", "convert", "compare",
            "figure", "report", "bench", "reproduce"} <= asked  # fmt: skip
