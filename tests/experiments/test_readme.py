"""README and docs keep their word: their Python runs, and their commands exist with the options that they name."""

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from interactions.baselines import BASELINES
from interactions.estimators import DESIGN_NAMES
from interactions.strength import MEASURES
from interactions.tokens import DROP
from interactions.values import VALUES

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
README, MEASURING = PAGES["README.md"], PAGES["docs/measuring.md"]
JOINED = re.sub(r"\\\n\s+", "", "\n".join(PAGES.values()))  # a command may go on in the next line
COMMANDS = sorted(set(re.findall(r"^    (a2mim .+?)(?:\s+#.*)?$", JOINED, re.MULTILINE)))


def photograph(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


SMALL = "resolve_model_data_config(model) | {'input_size': (3, 32, 32)}"


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", MEASURING, re.DOTALL)
    photograph(tmp_path / "cat.jpg", 0)
    for k in range(8):
        photograph(tmp_path / "photos" / f"class{k % 2}" / f"{k}.jpg", k)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for whole, less in (("budget=400", "budget=100"), ("resolve_model_data_config(model)", SMALL)):
        assert whole in example
        example = example.replace(whole, less)
    exec(example, names)
    assert len(names["measured"].mean) == 42
    assert names["measured"].mean.isfinite().sum() > 10
    strength = names["profile"].strength()
    assert strength["order"].tolist() == [0, 4, 7, 9, 14] and strength["J_corrected_low"].notna().all()
    assert (tmp_path / "runs" / "test_resnet" / "strength.csv").is_file()
    assert "J_corrected_low" in capsys.readouterr().out


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_commands_are_shown():
    assert {"profile", "compare", "map", "bench"} <= {command.split()[1] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_is_understood(command, monkeypatch):
    """Each line is parsed by the real command line, up to the call of the command itself."""
    called: list[str] = []

    def note(module, settings, prog):
        called.append(prog)
        return 0

    monkeypatch.setattr(cli, "guarded", note)
    assert cli.main(shlex.split(command)[1:]) == 0
    assert command.startswith(called[0])


@pytest.fixture(scope="module")
def options():
    """Every option of every command, as its own --help names it."""
    found: set[str] = set()
    for command in commands(cli.COMMANDS):
        with redirect_stdout(io.StringIO()) as help_text, pytest.raises(SystemExit, match="0"):
            cli.main([*command, "--help"])
        found |= set(re.findall(r"--[a-z][a-z0-9-]*", help_text.getvalue()))
    return found


def commands(group, above=()):
    """The words of every command of a group and of those in it."""
    for name, module in group.items():
        yield from commands(module, (*above, name)) if isinstance(module, dict) else [(*above, name)]


@pytest.mark.parametrize("page", PAGES)
def test_options_and_links_lead_somewhere(page, options):
    text = PAGES[page]
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or ((ROOT / page).parent / link).exists(), link
    unknown = {option for option in re.findall(r"`(--[a-z-]+)", text) if option not in options}
    assert not unknown


def test_every_page_is_reached_from_the_readme():
    for path in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{path.name})" in README, path.name


def test_every_value_baseline_and_design_is_named():
    for name in (*VALUES, *BASELINES, DROP, *DESIGN_NAMES):
        assert f"`{name}`" in MEASURING


def test_every_measure_is_explained():
    row = next(line for line in MEASURING.splitlines() if line.startswith("| strength.csv"))
    assert all(measure in row for measure in MEASURES)
