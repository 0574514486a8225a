"""What the shell sees of every command: exit code 0 when it did its work, 2 when it was asked for what cannot be."""

import subprocess
from pathlib import Path

import pytest

from experiments import cli
from experiments.outputs import owner
from experiments.studies.steps import PICTURES, Step, finished
from tests.commands import REFUSALS, SCRIPT, SLOW, WORKS, commands, done
from tests.experiments.test_cli import real_commands

pytestmark = pytest.mark.xdist_group("commands")


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """The folder, the exit code of every command, and what was said."""
    return done(tmp_path_factory.getbasetemp())


@pytest.mark.slow
def test_a_command_that_did_its_work_ends_with_0(codes):
    _, found, said = codes
    failed = [line for line in map(" ".join, commands(WORKS)) if found[line] != 0]
    assert not failed, said


@pytest.mark.slow
def test_a_study_takes_what_is_done_for_done(codes, monkeypatch):
    monkeypatch.chdir(codes[0])
    tried = [words for words in commands(WORKS) if words[0] in (*PICTURES, "compare")]
    steps = [Step(tuple(words), Path(words[words.index("--out") + 1])) for words in tried]
    assert {step.words[0] for step in steps} == {*PICTURES, "compare"} and all(map(finished, steps))
    drawn = [
        (step.out / name).is_file()
        for step in steps
        for name, table in PICTURES.get(step.words[0], {}).items()
        if (step.out / table).is_file()
    ]
    assert len(drawn) >= len(PICTURES) and all(drawn)


@pytest.mark.slow
def test_a_command_that_is_refused_ends_with_2_and_leaves_nothing(codes):
    folder, found, said = codes
    assert [found[line] for line in map(" ".join, commands(REFUSALS))] == [2] * len(commands(REFUSALS)), said
    assert "Traceback" not in said
    left = ("work", "estimators", "comparison2.png", "converted2.safetensors", "tuned2", "three", "page2.html")
    assert not [name for name in left if (folder / name).exists()]


def test_no_command_is_left_out():
    tried = {tuple(words) for line in commands(WORKS) for words in (line[:1], line[:2])}
    assert set(real_commands()) - tried == SLOW


def test_the_script_hands_its_exit_code_to_the_shell():
    for words, code in ((["version"], 0), (["versoin"], cli.BAD_INPUT), ([], cli.BAD_INPUT)):
        assert subprocess.run([str(SCRIPT), *words], capture_output=True).returncode == code


@pytest.mark.slow
def test_every_file_that_a_command_leaves_in_its_run_is_known_as_one(codes):
    """No other result may replace it."""
    runs = {path.parent for path in codes[0].rglob("run.json")}
    assert {run.name for run in runs} >= {"pre", "tuned", "det", "seg", "one", "through", "occlusion", "spectrum"}
    left = {path for run in runs for path in run.rglob("*") if path.is_file()}
    assert not {str(path) for path in left if owner(path) not in runs}
