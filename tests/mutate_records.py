"""Damage the record of a run in one place, and start every command that reads such records.

    python -m tests.mutate_records                          # every place, every damage
    python -m tests.mutate_records profile --every 20       # of profiles, one case in twenty

Small runs are made: a profile, an occlusion and a spectrum run, a pre-training and a fine-tuning, each finished and
interrupted. In their run.json each value (a whole list or dictionary, and what is in it) is removed, or gives place to
one of another type. Then come the commands: the run's own again, compare, figure, report, reconstruct. Each must end
with a result, or with exit code 2 and one sentence that names the run's folder; never with a traceback.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kill_everything import COMMANDS, attempt, load, make_inputs
from tests.sketches import sketched

GONE = "(removed)"
OTHERS: tuple[Any, ...] = (GONE, None, True, 7, 2.5, "text", [], [7, "text"], {}, {"text": 7})
"""What takes the place of a value, where it is of another type, or of the same with other parts."""

READERS: dict[str, tuple[str, ...]] = {
    "profile": ("figure fig5 {run} {one} --out {out}/f", "compare {run} {one} --out {out}/c.png"),
    "occlusion": ("figure fig1 {run} --out {out}/f",),
    "spectrum": ("figure figA3 {run} --out {out}/f", "figure figA4 {run} --out {out}/f"),
    "pretrain": (
        "figure fig4 {run} --out {out}/f",
        "reconstruct {run} --data {images} --count 1 --device cpu --out {out}/r.png",
    ),
    "finetune": (),
}
"""Of what a command wrote; report and the command itself read all."""
UNFINISHED = ("compare {run} {one} --out {out}/c.png", "reconstruct {run} --data {images} --count 1 --out {out}/r.png")
"""Commands that read something of an interrupted run."""

Place = tuple[str | int, ...]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Where there is something in a record: every key, and of a list its first and its last part."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*path, key))
    elif isinstance(value, list) and value:
        for number in sorted({0, len(value) - 1}):
            yield from places(value[number], (*path, number))


def damaged(record: Any, path: Place, other: Any) -> Any:
    """A copy of the record with `other` in that place."""
    copy = place = json.loads(json.dumps(record))
    for key in path[:-1]:
        place = place[key]
    if other is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = other
    return copy


def cases(record: Any) -> Iterator[tuple[Place, Any]]:
    """Every place with everything that may stand there instead."""
    for path in places(record):
        there = record
        for key in path:
            there = there[key]
        for other in OTHERS:
            if other is GONE or type(other) is not type(there) or (isinstance(other, list | dict) and other != there):
                yield path, other


def make_runs(folder: Path, inputs: dict[str, str], kind: str) -> dict[Path, list[str]]:
    """A finished and an interrupted run, with the commands that read each."""
    own = COMMANDS[kind].replace("{out}/run", "{run}")
    words = own.format(**inputs, run=folder / f"{kind}-whole").split()
    code, _, said = attempt(words, folder / "nowhere", None)
    assert code == 0, said
    whole, part = folder / f"{kind}-whole", folder / f"{kind}-part"
    shutil.copytree(whole, part)
    record = json.loads((part / "run.json").read_text())
    if kind in ("pretrain", "finetune"):
        own = f"{kind} --resume {{run}} --device cpu"
        record["finished"] = False
        (part / "state" / "best.pt").unlink()
    else:
        record["status"] = "running"
        (part / "units" / "unit-00001.json").unlink()
    (part / "run.json").write_text(json.dumps(record))
    readers = [*READERS[kind], "report {run} --out {out}/page.html"]
    return {whole: [own, *readers], part: [own, *(words for words in readers if words in UNFINISHED)]}


def started(words: list[str]) -> tuple[int | str, str]:
    """The exit code of a command, or the exception that it ended with; and what it said."""
    from experiments.cli import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            code: int | str = main(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except Exception as error:
            import traceback

            frame = traceback.extract_tb(error.__traceback__)[-1]
            code = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
    return code, said.getvalue()


def wrong(run: Path, words: list[str]) -> tuple[str, str]:
    """What became of a command: ("result" or "sentence" or "anything else", more of it)."""
    code, said = started(words)
    if code == 0:
        return "result", ""
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if code == 2 and last.startswith("a2mim ") and (str(run) in last or "another folder" in last):
        return "sentence", last
    return "anything else", f"{code} {last}"


def try_run(original: Path, commands: list[str], inputs: dict[str, str], every: int, folder: Path) -> Counter[str]:
    """Each case of a run by each command that reads it."""
    counts: Counter[str] = Counter()
    record = json.loads((original / "run.json").read_text())
    run, out = folder / "run", folder / "out"
    for number, (path, other) in enumerate(cases(record)):
        for column, command in enumerate(commands):
            if (number + column) % every:
                continue
            shutil.rmtree(run, ignore_errors=True)
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            shutil.copytree(original, run)
            (run / "run.json").write_text(json.dumps(damaged(record, path, other)))
            what, more = wrong(run, command.format(**inputs, run=run, out=out).split())
            counts[what] += 1
            if what == "anything else":
                where = ".".join(map(str, path))
                print(f"  {original.name}, {where} = {other!r}, {command.split()[0]}: {more}", flush=True)
    return counts


def main() -> int:
    """Print a line for each run; 0 where every case ended with a result or a sentence."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate_records", description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(READERS)}; all without")
    parser.add_argument("--every", type=int, default=1, help="one case in so many")
    asked = parser.parse_args()
    if unknown := set(asked.kinds) - set(READERS):
        parser.error(f"no kind {', '.join(sorted(unknown))}: there are {', '.join(READERS)}")
    os.environ["TQDM_DISABLE"] = "1"
    load()
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place, sketched():
        folder = Path(place)
        inputs = make_inputs(folder)
        for kind in asked.kinds or READERS:
            for original, commands in make_runs(folder, inputs, kind).items():
                start = time.perf_counter()
                counts = try_run(original, commands, inputs, asked.every, folder)
                total += counts
                print(f"{told(original.name, counts)}, {time.perf_counter() - start:.0f} s", flush=True)
    print(told("all", total))
    return 1 if total["anything else"] or not total else 0


def told(name: str, counts: Counter[str]) -> str:
    parts = ", ".join(f"{counts[what]} {what}" for what in ("result", "sentence", "anything else"))
    return f"{name:16} {counts.total()} cases: {parts}"


if __name__ == "__main__":
    sys.exit(main())
