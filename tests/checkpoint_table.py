"""The table of docs/checkpoints.md: which formats were read, from which container, how exactly, tried on what.

    python -m tests.checkpoint_table docs/checkpoints.md

Runs the tests that compare what the reader makes of a file with an independent forward pass, writes down what each
compares, and puts the table between the two marks of that file.
"""

import importlib
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import a2mim.methods.restore as restorer

# The package has a function of that name.
reader: Any = importlib.import_module("a2mim.checkpoints.read")

BEGIN, END = "<!-- table: python -m tests.checkpoint_table -->", "<!-- end of the table -->"
FOLDER = "tests/a2mim/checkpoints/"
KINDS = ("sources", "newer_sources", "script", "pretraining", "official")
FILES = [f"{FOLDER}test_{kind}.py" for kind in KINDS]


class Notes:
    """What each test read and compared: a plugin of pytest."""

    def __init__(self) -> None:
        self.sources: list[Any] = []
        self.containers: list[str] = []
        self.errors: list[float] = []
        self.restored = False
        self.rows: dict[tuple[str, str], dict[str, Any]] = defaultdict(
            lambda: {"containers": set(), "read": None, "restored": None, "official": False}
        )

    def pytest_runtest_setup(self, item: Any) -> None:
        self.sources, self.containers, self.errors, self.restored = [], [], [], False

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" or not report.passed or not self.errors or not self.sources:
            return
        found = self.sources[0]
        name = " + ".join(dict.fromkeys(each.name for each in found.sources if each.name))
        row = self.rows[name, next(each.where for each in found.sources if each.name)]
        row["containers"] |= set(self.containers)
        row["official"] |= "test_official" in report.nodeid
        if self.restored:
            row["restored"] = max([*self.errors, row["restored"] or 0.0])
        else:
            row["read"] = max([*self.errors, row["read"] or 0.0])


def watched(notes: Notes) -> Callable[[], None]:
    """Write down what is read, restored and compared; returns what undoes it."""
    recognise, understood, restore = reader.recognise, reader.understood, restorer.restore
    close = torch.testing.assert_close

    def noting_recognise(*given: Any) -> Any:
        notes.sources.append(recognise(*given))
        return notes.sources[-1]

    def noting_understood(content: Any, metadata: Any, path: Path, copy: str) -> Any:
        found = understood(content, metadata, path, copy)
        suffix = "".join(path.suffixes[-2:]) if path.suffix in (".json", ".tar") else path.suffix
        notes.containers.append(f"{suffix} {found.container}".strip())
        return found

    def noting_restore(*given: Any) -> Any:
        notes.restored = True
        return restore(*given)

    def noting_close(found: Any, wanted: Any, **how: Any) -> None:
        close(found, wanted, **how)
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64 and found.numel():
            notes.errors.append(float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-300)))

    reader.recognise, reader.understood, restorer.restore = noting_recognise, noting_understood, noting_restore
    torch.testing.assert_close = noting_close

    def undo() -> None:
        reader.recognise, reader.understood, restorer.restore = recognise, understood, restore
        torch.testing.assert_close = close

    return undo


def table(rows: dict[tuple[str, str], dict[str, Any]]) -> str:
    lines = [
        "| format | container | encoder: largest error | with decoder | tried on | public source |",
        "|" + "---|" * 6,
    ]
    for (name, where), row in sorted(rows.items()):
        containers = ", ".join(sorted(f"`{each}`" for each in row["containers"]))
        tried = "files that official code wrote, layout" if row["official"] else "layout"
        read, restored = (
            "–" if row[kind] is None else f"{row[kind]:.0e}" if row[kind] else "0" for kind in ("read", "restored")
        )
        lines.append(f"| {name} | {containers} | {read} | {restored} | {tried} | {where} |")
    return "\n".join(lines)


def main() -> int:
    notes = Notes()
    undo = watched(notes)
    try:
        code = int(pytest.main(["-q", "-p", "no:cacheprovider", *FILES], plugins=[notes]))
    finally:
        undo()
    made = table(dict(notes.rows))
    if code or len(sys.argv) < 2:
        print(made)
        return code
    file = Path(sys.argv[1])
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    file.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
