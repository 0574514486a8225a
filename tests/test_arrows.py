"""The arrows of the house: experiments → {interactions, a2mim, figures}, none back or across, no circle in any, and no
file too long for one sitting."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["interactions", "a2mim", "figures", "experiments"]
OURS = {*PACKAGES, "tests"}


def imports(node: ast.AST, types: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every module that is imported anywhere below a node, in functions too, and the names that are taken from it; what
    is for type checkers alone only with `types`."""
    if not types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, ()) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are written with the whole name"
        yield node.module, tuple(alias.name for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child, types)


def imported(path: Path) -> set[str]:
    """The top-level packages that a Python file imports, for type checkers too."""
    return {module.split(".")[0] for module, _ in imports(ast.parse(path.read_text(encoding="utf-8")), types=True)}


def needs_of(package: Path) -> dict[str, set[str]]:
    """Of every module of a package the others of it that it imports.

    A face, such as a2mim.checkpoints, may hand on a name that is also that of one of its modules (read): from the face
    comes what it takes from a module, and else the module itself.
    """
    files = {module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    written = {
        name: list(imports(ast.parse(path.read_text(encoding="utf-8")), types=False)) for name, path in files.items()
    }
    handed_on = {
        f"{name}.{each}" for name in files for module, names in written[name] if module != name for each in names
    }
    needs = {}
    for name in files:
        found = {module for module, names in written[name] if not names}
        for module, names in written[name]:
            inner = {f"{module}.{each}" for each in names}
            modules = (inner & set(files)) - handed_on
            found |= modules | ({module} if inner - modules else set())
        needs[name] = found & set(files) - {name}
    return needs


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", ["interactions", "a2mim", "figures"])
def test_imports_no_other_package_of_ours(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    others = OURS - {package}
    wrong = [f"{path.relative_to(ROOT)} imports {name}" for path in files for name in imported(path) & others]
    assert not wrong


def test_figures_reads_tables_and_never_a_model():
    models = {"torch", "torchvision", "timm"}
    assert not {str(path) for path in (ROOT / "figures").rglob("*.py") if models & imported(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_in_no_circle(package):
    try:
        TopologicalSorter(needs_of(ROOT / package)).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


@pytest.mark.parametrize("late", ["", "def f():\n    "])
def test_a_circle_is_seen(late, tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("from house.read import read\nfrom house import door\n")
    (package / "door.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.read\n")
    (package / "read.py").write_text("from house import door\n")
    assert needs_of(package) == {
        "house": {"house.read", "house.door"},
        "house.door": set(),
        "house.read": {"house.door"},
    }
    (package / "door.py").write_text(f"{late}from house import read\n")
    assert needs_of(package)["house.door"] == {"house"}
    with pytest.raises(CycleError):
        TopologicalSorter(needs_of(package)).prepare()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_file_is_read_in_one_sitting(package):
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert not {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > 400}
