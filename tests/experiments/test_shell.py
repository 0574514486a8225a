"""`a2mim` as it is typed: in a folder of the user's, whose files have names that this project uses too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.test_profile import FEW

BIN = Path(sys.executable).parent
TAKEN = ("a2mim", "experiments", "figures", "interactions", "statistics")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, photos):
    """Of the user's: a model factory, and files that must not be run."""
    for name in TAKEN:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the user was run')")
    (tmp_path / "mine.py").write_text((ROOT / "tests" / "interactions" / "tiny.py").read_text())
    return tmp_path


def typed(folder, *words):
    """The command's exit code, and the last line that it said on stderr."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


@pytest.mark.slow
@pytest.mark.skipif(not (BIN / "a2mim").exists(), reason="the command is not installed")
def test_torchrun_measures_a_factory_beside_files_with_names_of_ours(folder):
    launcher = (BIN / "torchrun", "--nproc-per-node", "2", "--no-python", BIN / "a2mim")
    few = ("profile", "mine:network", "--weights", "random", "--data", "photos", "--out", "run", *FEW)
    code, said = typed(folder, *launcher, *few)
    assert code == 0, said
    record = json.loads((folder / "run" / "run.json").read_text())
    assert record["status"] == "complete" and record["machine"]["processes"] == 2
    assert (folder / "run" / "strength.png").exists()
