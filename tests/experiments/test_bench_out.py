"""Where `a2mim bench` writes when nobody says where: among the runs, never over the results that are committed."""

import importlib
from dataclasses import fields
from pathlib import Path

import pytest

from experiments import cli


@pytest.mark.parametrize("name", cli.COMMANDS["bench"])
def test_results_lie_in_a_folder_of_runs(name):
    module = importlib.import_module(cli.COMMANDS["bench"][name])
    (out,) = (field.default for field in fields(module.Settings) if field.name == "out")
    out = out or module.completed(module.Settings(), "cpu").out
    assert out == Path("runs/bench") / name
