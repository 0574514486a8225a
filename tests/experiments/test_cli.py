"""The `a2mim` command: dispatch, help, and what the user sees when something is wrong."""

import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import types
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
import tyro
from tqdm import tqdm

from experiments import cli
from experiments.commands import profile
from experiments.help import Folding, parse


class Callback:
    """Is interrupted where Python ignores exceptions, as the callbacks of an import are."""

    def __del__(self):
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Settings:
    """Fail in the way that is asked for.

    For example:
        a2mim fail disk
    """

    how: tyro.conf.Positional[str]
    """What goes wrong."""
    times: int = 1
    """How often."""


def run(settings: Settings) -> int | None:
    errors: dict[str, BaseException] = {
        "value": ValueError("order 99 is above n − 2 = 47:\n  take one of 0 to 47"),
        "missing": FileNotFoundError(2, "No such file or directory", "photos.tar"),
        "sentence": FileNotFoundError("'photos.tar' is not there"),
        "silent": ValueError(),
        "ctrl-c": KeyboardInterrupt(),
        "bug": TypeError("a bug"),
        "memory": MemoryError(),
        "torch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 10 bytes"),
    }
    if settings.how == "ctrl-c in a callback":
        Callback()
        time.sleep(10)
    if settings.how in errors:
        raise errors[settings.how]
    print(settings.how * settings.times)
    returned: dict[str, Any] = {"code": 3, "object": settings, "true": True, "text": "done"}
    return returned.get(settings.how)


@pytest.fixture
def commands(monkeypatch):
    """A `fail` command, and the group `bench` with `fail` in it, beside the real commands."""
    module = types.ModuleType("fail_command")
    module.Settings, module.run = Settings, run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fail_command", module)
    monkeypatch.setitem(cli.COMMANDS, "fail", "fail_command")
    monkeypatch.setitem(cli.COMMANDS, "bench", {"fail": "fail_command"})
    monkeypatch.delenv("A2MIM_DEBUG", raising=False)


def test_runs_a_command_with_its_settings(commands, capsys):
    assert cli.main(["fail", "ab", "--times", "3"]) == 0
    assert capsys.readouterr().out == "ababab\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_ctrl_c_is_heard_wherever_it_falls(commands, capsys, monkeypatch):
    # A training loop that a test left in the middle still holds the signal, and an earlier test the hook.
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["fail", "ctrl-c in a callback"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "a2mim fail: interrupted\n"


def test_ctrl_c_before_the_command_begins_is_one_sentence(commands, capsys, monkeypatch):
    monkeypatch.setattr(cli, "dispatch", lambda argv: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert cli.main(["fail", "ab"]) == 130
    assert capsys.readouterr().err == "a2mim: interrupted\n"


def test_runs_a_command_of_a_group(commands, capsys):
    assert cli.main(["bench", "fail", "ab"]) == 0
    assert capsys.readouterr().out == "ab\n"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("value", "a2mim fail: order 99 is above n − 2 = 47: take one of 0 to 47\n"),
        ("missing", "a2mim fail: No such file or directory: photos.tar\n"),
        ("sentence", "a2mim fail: 'photos.tar' is not there\n"),
        ("silent", "a2mim fail: ValueError\n"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(commands, capsys, how, said):
    assert cli.main(["fail", how]) == 2
    assert capsys.readouterr().err == said


def test_a_bar_is_closed_before_an_error_is_told(commands, capsys, monkeypatch):
    def run_with_bar(settings):
        bars.append(tqdm(total=2, desc="half"))
        bars[0].update()
        raise ValueError("too few")

    bars = []
    monkeypatch.setattr(sys.modules["fail_command"], "run", run_with_bar)
    assert cli.main(["fail", "value"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "a2mim fail: too few" and bars[0].disable


@pytest.mark.parametrize("command", ["profile net --data x", "transfer run", "reproduce lite0"])
@pytest.mark.parametrize("given", [["--out", ""], ["--out", " "], ["--out="]])
def test_an_empty_out_is_refused(tmp_path, monkeypatch, capsys, command, given):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command.split(), *given]) == 2
    said = capsys.readouterr().err
    assert "--out is empty: give it a name" in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_an_exit_code_of_its_own_is_handed_on(commands):
    assert cli.main(["fail", "code"]) == 3


@pytest.mark.parametrize("how", ["object", "true", "text"])
def test_only_an_integer_is_an_exit_code(commands, how):
    with pytest.raises(TypeError, match=r"a2mim fail returned a .*, it must return an exit code or None"):
        cli.main(["fail", how])


@pytest.mark.parametrize("how", ["memory", "torch"])
def test_memory_that_runs_out_is_one_sentence(commands, capsys, how):
    assert cli.main(["fail", how]) == 2
    said = capsys.readouterr().err
    assert said.startswith("a2mim fail: memory ran out") and said.count("\n") == 1


def test_ctrl_c_is_exit_code_130(commands, capsys):
    assert cli.main(["fail", "ctrl-c"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_warning_is_a_sentence_without_its_place_in_the_source(commands, monkeypatch):
    """pytest keeps warnings from being shown, so what shows them is asked."""
    told = []
    monkeypatch.setattr(
        sys.modules["fail_command"],
        "run",
        lambda _: told.append(warnings.formatwarning("no\n  letter", UserWarning, "style.py", 7, "warnings.warn(")),
    )
    before = warnings.formatwarning
    assert cli.main(["fail", "x"]) == 0 and told == ["a2mim fail: no letter\n"]
    assert warnings.formatwarning is before


def test_a_bug_keeps_its_traceback(commands):
    with pytest.raises(TypeError, match="a bug"):
        cli.main(["fail", "bug"])


@pytest.mark.parametrize(("value", "raises"), [("1", True), ("0", False), ("", False)])
def test_debug_shows_the_traceback(commands, monkeypatch, value, raises):
    monkeypatch.setenv("A2MIM_DEBUG", value)
    if raises:
        with pytest.raises(ValueError, match="order 99"):
            cli.main(["fail", "value"])
    else:
        assert cli.main(["fail", "value"]) == 2


def test_misspelt_command_names_the_near_one(commands, capsys):
    assert cli.main(["versoin"]) == 2
    assert capsys.readouterr().err == "a2mim: no command 'versoin', did you mean 'version'?\n"


def test_unknown_command_of_a_group_lists_what_there_is(commands, capsys):
    assert cli.main(["bench", "zzz"]) == 2
    assert capsys.readouterr().err == "a2mim bench: no command 'zzz', there are fail\n"


def test_no_command_shows_the_overview_and_fails(commands, capsys):
    assert cli.main([]) == 2
    assert "usage: a2mim COMMAND" in capsys.readouterr().err


def test_help_lists_every_command_with_its_first_line(commands, capsys):
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name} " in page
    assert "Fail in the way that is asked for." in page
    assert "bench        one of fail" in page


def test_command_help_shows_the_example_and_the_settings(commands, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["fail", "--help"])
    assert stop.value.code == 0
    page = capsys.readouterr().out
    assert "a2mim fail disk" in page
    assert "How often." in page


def test_unknown_option_is_exit_code_2(commands):
    with pytest.raises(SystemExit) as stop:
        cli.main(["fail", "value", "--no-such-option"])
    assert stop.value.code == 2


def real_commands(commands=cli.COMMANDS, words=()):
    """Every command of the product, as its words."""
    for name, target in commands.items():
        yield from [(*words, name)] if isinstance(target, str) else real_commands(target, (*words, name))


@pytest.mark.parametrize("command", list(real_commands()), ids=" ".join)
def test_every_command_explains_itself_by_example(command, capsys, monkeypatch):
    """Example first, then words; what an option takes says what it is, and lines keep to the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    page = capsys.readouterr().out
    assert re.match(rf".+?\n\nFor example:\n    a2mim {' '.join(command)}", page, re.DOTALL)
    assert not re.findall(r"^[│|] \S.*?(?:STR|PATH|\{None\b).*", page, re.MULTILINE)
    assert not [line for line in page.split("\n") if len(line) > 80]
    assert all(line.rstrip(" │|") for line in page.split("\n") if line.startswith(("│", "|")))


def test_a_line_of_usage_is_folded_in_colours_too(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    plain = "usage: a2mim convert [-h] FILE --out FILE [--model MODEL] [--set [NAME=VALUE ...]]"
    folded = "usage: a2mim convert [-h] FILE\n        --out FILE [--model MODEL]\n        [--set [NAME=VALUE ...]]"
    coloured = re.sub(r"(\S+)", "\x1b[1m\\1\x1b[0m\x1b[m", plain)
    for line in (plain, coloured):
        out = io.StringIO()
        Folding(out).write(f"{line}\n\nthe usage: as it is\n")
        assert out.getvalue() == f"{folded}\n\nthe usage: as it is\n"


@pytest.mark.parametrize("command", list(real_commands()), ids=" ".join)
def test_settings_in_groups_are_read_as_tyro_reads_them_by_itself(command):
    kind = importlib.import_module(cli.look_up(command, cli.COMMANDS)).Settings
    examples = re.findall(r"^ +a2mim ((?:.*\\\n)*.*)$", kind.__doc__.partition("For example:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example.replace("\\\n", " "))[len(command) :]
        assert parse(kind, args=words) == tyro.cli(kind, args=words, config=(tyro.conf.OmitArgPrefixes,))


def test_defaults_that_follow_from_what_is_typed_reach_inherited_options():
    words = ["resnet50", "--data", "x", "--out", "y", "--design", "published", "--seed", "3"]
    settings = parse(profile.Settings, args=words, default=profile.usual(parse(profile.Settings, args=words)))
    assert (settings.measure.images, settings.measure.seed, settings.input.image_size) == (500, 3, 224)
    assert (settings.data, settings.weights, settings.device) == ("x", "pretrained", "auto")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["profile", "--help"], ["--help"], ["bench", "game", "--help"]], ids=" ".join)
def test_whoever_stops_reading_ends_the_command_in_silence(words, unbuffered):
    """As in `a2mim profile --help | head`: no traceback, and the exit code of a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "experiments.cli", *words]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_does_not_import_torch():
    script = "import sys; from experiments import cli; cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


def test_version_names_the_installed_torch(capsys):
    assert cli.main(["version"]) == 0
    assert f"torch        {version('torch')}\n" in capsys.readouterr().out
