"""The two commands of the README set everything up: what `make` would do, and what it says when it cannot."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path):
    """A fresh folder with what `make` looks at, and no environment."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder, *arguments):
    # Not the variables of a `make test` that runs this.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = ["make", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def pretend_installed(folder):
    pip = folder / ".venv/bin/pip"
    pip.parent.mkdir(parents=True)
    pip.touch()
    os.utime(folder / "pyproject.toml", (1000, 1000))
    (folder / ".venv/.installed").touch()


@pytest.mark.parametrize("target", ["test", "demo"])
def test_a_fresh_checkout_gets_an_environment_first(checkout, target):
    planned = make(checkout, "-n", f"PYTHON={sys.executable}", target).stdout
    steps = [
        planned.index(step)
        for step in ("-m venv .venv", "pip install", "-m pytest" if target == "test" else "-m experiments.studies.demo")
    ]
    assert steps == sorted(steps)


def test_an_environment_that_is_up_to_date_is_left_alone(checkout):
    pretend_installed(checkout)
    assert "pip install" not in make(checkout, "-n", "test").stdout


def test_an_environment_older_than_pyproject_is_brought_up_to_date(checkout):
    pretend_installed(checkout)
    os.utime(checkout / ".venv/.installed", (500, 500))
    planned = make(checkout, "-n", "test").stdout
    assert "pip install" in planned
    assert "-m venv" not in planned


def test_tests_come_after_every_check(checkout):
    planned = make(checkout, "-n", "test").stdout
    steps = [planned.index(step) for step in ("ruff check", "ruff format --check", "bin/mypy", "-m pytest")]
    assert steps == sorted(steps)


@pytest.mark.parametrize("python", ["/no/such/python", "false"])
def test_a_python_that_will_not_do_is_one_sentence(checkout, python):
    done = make(checkout, f"PYTHON={python}", "test")
    assert done.returncode == 2
    assert f"this needs Python 3.11 or newer, and '{python}' is older or does not run" in done.stderr
    assert not (checkout / ".venv").exists()


def test_every_package_is_found_by_the_build():
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {f"{name}*" for name in folders} == set(include)
    without = [
        str(path)
        for name in folders
        for path in (ROOT / name).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert not without
