"""The device that a command runs on, and the machine that it ran on."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from experiments.commands.version import PACKAGES, installed


def pick_device(name: str) -> torch.device:
    """The named device; for `auto` the accelerator when there is one, else the CPU.

    Raises:
        ValueError: a device that is not there.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"there is no device {name!r} here: give cpu, or auto for an accelerator if any") from error


def machine(device: torch.device) -> dict[str, Any]:
    """What a timing was taken on, ready for JSON."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
    }


def processor() -> str:
    """The processor's name, which Linux keeps in a file of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
