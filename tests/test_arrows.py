"""The arrows of the house: experiments → {interactions, a2mim, figures}, and none back or across."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"interactions", "a2mim", "figures", "experiments", "tests"}


def imported(path):
    """The top-level packages that a Python file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ["interactions", "a2mim", "figures"])
def test_imports_no_other_package_of_ours(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    others = OURS - {package}
    wrong = [f"{path.relative_to(ROOT)} imports {name}" for path in files for name in imported(path) if name in others]
    assert not wrong


def test_figures_reads_tables_and_never_a_model():
    models = {"torch", "torchvision", "timm"}
    assert not {str(path) for path in (ROOT / "figures").rglob("*.py") if models & set(imported(path))}
