"""What the record of a run may bring about, and what somebody has to name again.

run.json says how to go on with a run, and may have come from anywhere. It names models of timm with plain arguments,
folders of images and files of weights; code (a factory `module:function`) and whatever has to be fetched come from the
command line alone.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a2mim.checkpoints.stated import NotPlainError, is_plain, plain_arguments, plain_network, shown
from a2mim.detect.settings import Coco
from a2mim.images import is_named
from a2mim.plain import pairs
from a2mim.segment.settings import Scenes
from a2mim.settings import Data, Network
from experiments.models import AUTO

# Data sets by name whose files torchvision compares with known digests before it opens them.
VERIFIED = ("torch/cifar10", "torch/cifar100")


def check_network(stored: Network, given: Network, where: Path, trust: bool) -> None:
    """Refuse a network of a record that is no model of timm with plain arguments, unless it was typed again.

    trust: --trust-factory; then what will be run is said, and it is allowed.

    Raises:
        ValueError: which name or argument, and the way out.
    """
    typed = pairs(given.model_args)
    try:
        args = {key: x for key, x in pairs(stored.model_args).items() if key not in typed or typed[key] != x}
        if stored.model not in ("", AUTO, given.model):
            plain_network({"architecture": stored.model}, str(where))
        plain_arguments(args, str(where))
    except NotPlainError as error:
        allow(stored.model, stored.model_args, where, trust, error)


def check_method(stored: str, given: str, where: Path, trust: bool) -> None:
    """Refuse a method of a record that is somebody's own class, unless it was typed again. Raises as `check_network`
    does."""
    if ":" in stored and stored != given:
        error = NotPlainError(f"{where} names the method {shown(stored)}, which is code: name it again with --method")
        allow(stored, (), where, trust, error)


def check_architecture(said: Mapping[str, Any], where: Path, trust: bool) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the network that a record says was trained. Raises as `check_network` does."""
    try:
        return plain_network(said, str(where))
    except NotPlainError as error:
        arguments = {str(key): value for key, value in said.items() if key != "architecture"}
        allow(said.get("architecture"), arguments, where, trust and isinstance(said.get("architecture"), str), error)
        return said["architecture"], arguments


def allow(name: Any, arguments: Any, where: Path, trust: bool, error: NotPlainError) -> None:
    """With --trust-factory say what will be run; without it raise."""
    if not trust:
        raise ValueError(f"{error}, or use --trust-factory if you know what it is") from error
    kind = "timm's model" if isinstance(name, str) and is_plain(name) else "the code of"
    given = f" with {shown(arguments)}" if arguments else ""
    print(f"note: runs {kind} {shown(name)}{given}, because {where} says so", file=sys.stderr, flush=True)


def check_data(stored: Data | Scenes | Coco, given: Data | Scenes | Coco, where: Path) -> None:
    """Refuse a data set that has to be fetched, or read by another library, unless it was typed again.

    Raises:
        ValueError: what has to be typed.
    """
    names = [name for name in (stored.data, stored.val) if is_named(name) and name.lower() not in VERIFIED]
    usual = type(stored)()
    missing = [
        f"--{field.name.replace('_', '-')} {shown(value)}"
        for field in dataclasses.fields(stored)
        if isinstance(value := getattr(stored, field.name), str)
        and value not in (getattr(usual, field.name), getattr(given, field.name))
    ]
    if names and missing:
        raise ValueError(
            f"{where} names the data set {shown(names[0])}, which is not a folder or a .tar here: type its words again "
            f"({' '.join(missing)})"
        )
