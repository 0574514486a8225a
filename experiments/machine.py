"""What a number depends on besides its settings: the device, the machine, and the commit of the source tree."""

import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from a2mim.versions import versions
from interactions.runs.machine import machine


def pick_device(name: str) -> torch.device:
    """The named device; for `auto` the accelerator when there is one, else the CPU.

    Raises:
        ValueError: a device that is not there.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if name == "meta":
        raise ValueError("the device meta computes nothing: give cpu, or auto for an accelerator if any")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"there is no device {name!r} here: give cpu, or auto for an accelerator if any") from error


def is_first() -> bool:
    """Whether this process is the one that prints and draws, of those that torchrun started."""
    return int(os.environ.get("RANK", 0)) == 0


def provenance(settings: Any, device: torch.device) -> dict[str, Any]:
    """Settings, commit, machine and versions, ready for JSON.

    settings: a dataclass; its `out` is left out, and paths keep their last part: results are for everybody, folders
    belong to one machine.
    """

    def shown(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [shown(each) for each in value]
        return value.name if isinstance(value, Path) else value

    given = {key: shown(value) for key, value in asdict(settings).items()}
    given.pop("out", None)
    return {"settings": given, "commit": commit(), "machine": machine(device), "versions": versions()}


def commit(file: Path = Path(__file__)) -> str | None:
    """The git commit of the source tree that `file` belongs to: its first seven digits, with +changes where tracked
    files differ from it. None where git does not keep the file, as in an installed package, or is not there itself."""
    # Without the lock that a status usually takes, to write down what it saw: others may be at work in the tree.
    git = ("git", "--no-optional-locks", "-C", str(file.parent))
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", file.name], capture_output=True, check=True)
        status = [*git, "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
        lines = subprocess.run(status, capture_output=True, check=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    head = next(line.split()[-1] for line in lines if line.startswith("# branch.oid "))
    return head[:7] + "+changes" * any(not line.startswith("#") for line in lines)
