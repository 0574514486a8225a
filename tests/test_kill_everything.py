"""A small part of `python -m tests.kill_everything`, and that it sees what is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kill_everything import COMMANDS, contents, masked

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_killed_anywhere_and_started_again_a_command_leaves_what_it_leaves_alone():
    command = [sys.executable, "-m", "tests.kill_everything", "convert", "spectrum", "--every", "12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("all") and last.endswith("lost 0") and int(last.split()[2]) >= 6


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


def test_it_knows_every_command_that_writes():
    asked = {words.split()[0] for words in COMMANDS.values()}
    assert {"profile", "occlusion", "spectrum", "map", "pretrain", "finetune", "linear", "knn", "convert", "compare",
            "figure", "report", "bench", "reproduce"} <= asked  # fmt: skip
