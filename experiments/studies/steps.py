"""A study: `a2mim` commands that are run one after the other, skipped where they are done, and gone on with.

Every command fills a folder (or writes a file) of its own and can be gone on with by itself: what is done is what lies
on the disk. All that a study remembers is which command made what (commands.json), so that the results of one are never
taken for those of another.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.folders import is_complete, read_json, read_record
from experiments.studies.recorded import can_grow, refuse_other_recipe, refuse_other_settings
from interactions.forecast import duration

NOT_YET = 3
"""Exit code of a study whose time ran out."""

CAN_STOP = ("pretrain", "finetune", "segment", "detect")
"""Commands that take --minutes; the others are brought to their end."""
PICTURES = {
    "pretrain": {"loss.png": "log.jsonl"},
    "finetune": {"loss.png": "log.jsonl"},
    "segment": {"loss.png": "log.jsonl"},
    "detect": {"loss.png": "log.jsonl"},
    "profile": {"strength.png": "strength.csv", "course.png": "course.csv"},
    "occlusion": {"occlusion.png": "occlusion.csv"},
    "spectrum": {"spectrum.png": "spectrum.csv", "variance.png": "variance.csv"},
}
"""What a command draws into its run's folder when all else is there, and the table that it is drawn from."""
DRAWN_WITHIN = 2.0
"""Seconds by which a figure that was copied together with its table may be older."""
COMMANDS = "commands.json"
CONTENTS = " sha256:"
"""Stands before the digest of weights."""
ELSEWHERE = ("--out", "--device", "--data-root", "--workers")
"""Options that say where a command works, and not what it does."""


@dataclass(frozen=True)
class Step:
    """One command of a study."""

    words: tuple[str, ...]
    """What stands behind `a2mim`."""
    out: Path
    """The folder of its run, or the file that it writes."""
    guess: float = 60.0
    """Seconds that it may take, from which the time that is left is told until others of its kind are done."""


def finished(step: Step) -> bool:
    """Whether the command came to its end: what it writes last is there.

    A command draws behind its record: one that was killed in between is run again, and only draws.
    """
    from experiments.outputs import tables_beside

    if step.words[0] == "compare":
        return all(path.is_file() for path in (step.out, *tables_beside(step.out))) and is_of_all(step)
    return step.out.is_file() or (is_complete(step.out) and is_of_as_many(step) and is_drawn(step.out, step.words[0]))


def is_of_as_many(step: Step) -> bool:
    """Whether a profile holds as many images as are asked for, or all that there are."""
    if not can_grow(step.words):
        return True
    record = read_record(step.out)
    asked, there = int(step.words[step.words.index("--images") + 1]), len(record["images"])
    return there >= asked or record.get("tried", 0) >= record["data"]["images"]


def is_of_all(step: Step) -> bool:
    """Whether the table of a comparison is of the very runs that it names: of another choice it is made anew."""
    from experiments.outputs import tables_beside
    from figures.tables import read_table

    if "--names" not in step.words:
        return True
    names = step.words[step.words.index("--names") + 1 : step.words.index("--out")]
    table = read_table(tables_beside(step.out)[0], [], ["run"], "the table of the comparison", empty=True)
    return set(table["run"]) == set(names)


def is_drawn(folder: Path, command: str) -> bool:
    """Whether a complete run has its figures, drawn from the tables as they are; of a table without rows there is
    none."""
    from figures.tables import has_rows

    for name, table in PICTURES.get(command, {}).items():
        figure, rows = folder / name, folder / table
        stale = figure.is_file() and rows.is_file() and figure.stat().st_mtime < rows.stat().st_mtime - DRAWN_WITHIN
        if stale or (not figure.is_file() and has_rows(rows)):
            return False
    return True


def seconds_left(steps: Sequence[Step]) -> float:
    """Of all steps that are not done: their guesses, scaled by how far off those of the same command were so far."""
    ratios: dict[str, list[float]] = {}
    for step in filter(finished, steps):
        if took := read_record(step.out).get("seconds"):
            ratios.setdefault(step.words[0], []).append(took / step.guess)
    known = {command: statistics.median(found) for command, found in ratios.items()}
    usual = statistics.median(known.values()) if known else 1.0
    return sum(step.guess * known.get(step.words[0], usual) for step in steps if not finished(step))


def typed(step: Step) -> str:
    """The command as it is typed."""
    return f"a2mim {shlex.join(step.words)}"


def run_steps(
    steps: Sequence[Step],
    minutes: float = 0.0,
    command: Callable[[list[str]], int] | None = None,
    folder: Path | None = None,
) -> int:
    """Run what is missing, in order; the exit code: 0 when all is done, NOT_YET when the minutes were over before, that
    of a command that failed.

    minutes: 0 for as long as it takes. At least one command is run, or begun.
    command: runs the words of one; in this process where it is None.
    folder: of the study, where it remembers its commands.
    """
    from experiments import cli
    from interactions.runs.files import write_json

    deadline = time.monotonic() + 60 * minutes
    for number, step in enumerate(steps, 1):
        if finished(step):
            continue
        words = list(step.words)
        if minutes and words[0] in CAN_STOP:
            words += ["--minutes", f"{max((deadline - time.monotonic()) / 60, 1e-4):.4f}"]
        print(
            f"\n[{number}/{len(steps)}, about {duration(seconds_left(steps))} left] a2mim {shlex.join(words)}",
            flush=True,
        )
        step.out.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            write_json(folder / COMMANDS, remembered(folder) | {place(step, folder): essence(step, folder)})
        if code := (command or cli.main)(words):
            return code
        if folder:
            refuse_changed_weights(steps, folder)
        # Looked at behind the first command, so that however little time there is, something is done.
        if not finished(step) or (minutes and time.monotonic() > deadline):
            break
    return 0 if all(map(finished, steps)) else NOT_YET


def pursue(
    settings: Any, steps: Sequence[Step], show: Callable[[], int], ready: Callable[[], object] | None = None
) -> int:
    """Print a study's plan, or run what is missing of it and show what is there; the exit code: that of `run_steps`, or
    of what failed to be shown.

    settings: a study's own, with `plan`, `out` and `budget`.
    ready: raises for what the missing commands would lack, before a folder is made.
    """
    from interactions.runs.lock import held

    refuse_other_commands(steps, settings.out)
    if settings.plan:
        print(report_plan(steps))
        return 0
    refuse_results_of_another(settings)
    if ready and not all(map(finished, steps)):
        ready()
    with held(settings.out):
        code = run_steps(steps, settings.budget, folder=settings.out)
        return (show() or code) if code in (0, NOT_YET) else code


def refuse_results_of_another(settings: Any) -> None:
    """Raise ValueError where a study that has not begun would write into results that are there: it has nothing yet to
    put in their place, and would take away what it lacks."""
    kept = settings.kept
    there = any(found for name in ("study.json", "figures") for found in (*kept.glob(name), *kept.glob(f"*/{name}")))
    if there and not (settings.out / COMMANDS).exists():
        raise ValueError(
            f"{kept} holds results, and {settings.out} is not begun: give another --results, or that --out"
        )


def refuse_absent(steps: Sequence[Step], places: Iterable[str]) -> None:
    """Raise FileNotFoundError or ValueError where one of these folders and files is not there, or is no .tar of images,
    and a command that is not done yet names it."""
    from a2mim.images import is_named
    from a2mim.trees import open_tree

    named = {word for step in steps if not finished(step) for word in step.words}
    for place in places:
        if place in named and not is_named(place):
            open_tree(Path(place).resolve())


def refuse_other_commands(steps: Sequence[Step], folder: Path) -> None:
    """Raise ValueError where what is done in a study's folder was made by other commands than these."""
    refuse_changed_weights(steps, folder)
    known = remembered(folder)
    for step in filter(finished, steps):
        refuse_other_recipe(step)
        there, now = known.get(place(step, folder)), essence(step, folder)
        if there is None:
            refuse_other_settings(step)
        if there and can_grow(step.words):  # of more images than are asked for now, or as many
            there, now = without(there, "--images"), without(now, "--images")
        if there is not None and not (len(there) == len(now) and all(map(alike, there, now))):
            was = ", ".join(f"'{one}'" for one in there if not any(alike(one, two) for two in now)) or "fewer words"
            new = ", ".join(f"'{two}'" for two in now if not any(alike(one, two) for one in there)) or "fewer words"
            raise ValueError(
                f"{step.out} was made by another command ({was} there, {new} now): give the study's own settings, or "
                "another --out"
            )


def refuse_changed_weights(steps: Sequence[Step], folder: Path) -> None:
    """Raise ValueError where what lies in a study's folder was made from weights there that are others now: they were
    trained anew, and tables would set old and new networks beside each other."""
    from a2mim.checkpoints.read import split_copy

    known = remembered(folder)
    changed: dict[str, list[Path]] = {}
    for step in steps:
        if (there := known.get(place(step, folder))) and step.out.exists():
            was = dict(word.split(CONTENTS) for word in there if CONTENTS in word)
            for word in essence(step, folder):
                weights, _, digest = word.partition(CONTENTS)
                if digest and was.get(weights, digest) != digest and split_copy(folder / weights)[0].exists():
                    changed.setdefault(weights, []).append(step.out)
    if changed:
        made = "; ".join(f"{', '.join(map(str, outs))} from {weights}" for weights, outs in changed.items())
        raise ValueError(
            f"weights in {folder} are not those that others were made from ({made}): move what was made away, so that "
            "the study makes it anew, or put the weights back"
        )


def without(words: Sequence[str], option: str) -> list[str]:
    """The words without an option and its value."""
    return [word for before, word in pairwise(("", *words)) if option not in (before, word)]


def remembered(folder: Path) -> dict[str, list[str]]:
    """The commands that made what lies in a study's folder; empty for one from before they were written down."""
    return read_json(folder / COMMANDS)


def place(step: Step, folder: Path) -> str:
    """Where in the study's folder a step writes."""
    return str(step.out.relative_to(folder)) if step.out.is_relative_to(folder) else str(step.out)


def essence(step: Step, folder: Path) -> list[str]:
    """The words of a step without where it works; files by their names and sizes, wherever they lie, and weights by
    their contents, too: those of two runs often have one name and size, and the study's own may be trained anew."""
    kept = [(before, word) for before, word in pairwise(("", *step.words)) if not {before, word} & set(ELSEWHERE)]
    return [
        _portable(word, folder) + (_contents(word) if before in ("--weights", "profile") else "")
        for before, word in kept
    ]


def alike(there: str, now: str) -> bool:
    """Whether a remembered word is that of now. What was remembered before there were digests has none, nor have
    weights that are not there (yet, or any more); a file or a folder that has gone is known by its name alone."""
    said, _, digest = there.partition(CONTENTS)
    word, _, known = now.partition(CONTENTS)
    if said in (word, word.partition(" (files ")[0]) and (digest == known or not (digest and known)):
        return True
    return not Path(now).exists() and Path(now).name == said.partition(" (")[0]


def _contents(weights: str) -> str:
    """What is remembered of weights, or of those of a training run."""
    from a2mim.checkpoints.read import split_copy
    from experiments.models import BACKBONE

    file = split_copy(weights)[0]
    file = file / BACKBONE if file.is_dir() else file
    if not file.is_file():
        return ""
    about = file.stat()
    return CONTENTS + _digest(file, about.st_size, about.st_mtime_ns)


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    """Of a file that had this size and was changed then: it is read once, and may be large."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:12]


def _portable(word: str, folder: Path) -> str:
    path = Path(word)
    if path.is_relative_to(folder):
        return str(path.relative_to(folder))
    if path.is_file():
        return f"{path.name} ({path.stat().st_size} bytes)"
    return f"{path.name} ({_listed(path)})" if path.is_dir() else word


@cache
def _listed(folder: Path) -> str:
    """A digest by which folders of other images are told apart, although they have one name: of what lies in it, and in
    the first and the last folder there, the names and the sizes of files. (A data set may have millions of them.)"""

    def listed(place: Path) -> list[str]:
        with os.scandir(place) as entries:
            return sorted(f"{one.name}/" if one.is_dir() else f"{one.name} {one.stat().st_size}" for one in entries)

    found = listed(folder)
    below = [name for name in found if name.endswith("/")]
    found += [name for each in (*below[:1], *below[-1:]) for name in listed(folder / each)]
    return "files " + hashlib.sha256("\n".join(found).encode(errors="surrogateescape")).hexdigest()[:12]


def report_plan(steps: Sequence[Step]) -> str:
    """Every command, whether it is done, and the time that is left."""
    lines = [f"{'done' if finished(step) else '    '}  {typed(step)}" for step in steps]
    left = sum(not finished(step) for step in steps)
    return "\n".join([*lines, f"{left} of {len(steps)} commands are left, about {duration(seconds_left(steps))}"])
