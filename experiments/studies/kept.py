"""What every study keeps beside its tables: commands.sh, and study.json."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.studies.recorded import as_held, remarks
from experiments.studies.steps import Step, finished, typed
from interactions.runs.files import write_atomically, write_json

COMMANDS, STUDY = "commands.sh", "study.json"


def keep_copy(source: Path, place: Path) -> None:
    """A file of a run in the folder of results, byte for byte."""
    write_atomically(place, partial(shutil.copyfile, source))


def write_commands(kept: Path, steps: Sequence[Step], earlier: str = "") -> None:
    """commands.sh in the folder of results.

    earlier: that of a study whose networks stand beside these.
    """
    whole = f"# a2mim {shlex.join(sys.argv[1:])}"
    lines = [line for step in steps for line in lines_of(step)]
    text = "\n".join([whole, *lines]) + "\n" + earlier
    write_atomically(kept / COMMANDS, lambda beside: beside.write_text(text, encoding="utf-8"))


def lines_of(step: Step) -> list[str]:
    """The command with as many images as were measured, and above it in what the run that is there is not its own."""
    return [*(f"# not made by this command: {phrase}" for phrase in remarks(step)), typed(as_held(step))]


def write_study(kept: Path, settings: Any, steps: Sequence[Step], earlier: Mapping[str, Any] | None = None) -> None:
    """study.json: settings, machine, versions, commit, and how far the study is.

    earlier: that of a study whose networks stand beside these.
    """
    from a2mim.plain import to_plain
    from a2mim.versions import versions
    from experiments.machine import commit, machine, pick_device

    asked = {name: value for name, value in to_plain(settings).items() if name not in ("budget", "plan")}
    left = [typed(step) for step in steps if not finished(step)]
    about = {"commit": commit(), "machine": machine(pick_device(settings.device)), "versions": versions()}
    found = {**about, "settings": asked, "commands": len(steps), "left": left}
    write_json(kept / STUDY, found | ({"joined": dict(earlier)} if earlier else {}))
