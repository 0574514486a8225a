"""The faces of both halves: every name is there, and costs nothing before it is asked for."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("package", ["interactions", "a2mim"])
def test_every_name_is_there(package):
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    homes = {name for names in module._HOMES.values() for name in names}
    assert homes | {"__version__"} == set(module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_importing_the_packages_imports_nothing_heavy():
    """From another folder, as a program that uses them does."""
    code = "import sys, interactions, a2mim; print(*({'torch', 'timm', 'pandas', 'numpy'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr


def test_types_are_shipped():
    assert all((ROOT / package / "py.typed").is_file() for package in ("interactions", "a2mim"))
