"""What a setting may be is said where it is declared, and looked at in one place before anything is opened.

    epochs: Count = 100          # a whole number from 1
    flip: Share = 0.5            # 0 to 1

Imports nothing heavy: `--help` reads the files that use it.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

HIDDEN = "hidden"
"""Marks the type of a setting that is no option of a command line: the program itself writes it down."""

LARGEST = 2**63 - 1
"""What torch and NumPy can count; a larger whole number is no setting of anything."""


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both among them unless `above` or `below` says otherwise."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """Only what is larger than `low`."""
    below: bool = False
    """Only what is smaller than `high`."""

    def complaint(self, value: float) -> str:
        """What is wrong with a value; nothing where it lies inside."""
        if value < self.low or (self.above and value == self.low):
            return f"is too small: use {f'more than {self.low:g}' if self.above else f'{self.low:g} or more'}"
        if value > self.high or (self.below and value == self.high):
            return f"is too large: use {'less than' if self.below else 'at most'} {self.high:.12g}"
        return ""


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Pixels = Annotated[int, Range(1, 65536)]
"""A side of an image or of a part of it."""
Share = Annotated[float, Range(0, 1)]
Part = Annotated[float, Range(0, 1, above=True, below=True)]
"""A share that leaves something on either side, such as of masked and of visible cells."""
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Rate = Annotated[float, Range(0, 1e6)]
"""What weights are moved or decayed by: beyond it no training stays finite."""
Peak = Annotated[float, Range(0, 1e6, above=True)]
"""A learning rate of something that has to learn."""
Decay = Annotated[float, Range(0, 1, below=True)]
"""What an average keeps of itself from step to step."""
Mean = Annotated[float, Range(-10, 10)]
"""What is subtracted from pixels in 0 to 1."""
Deviation = Annotated[float, Range(1e-6, 1e3)]
"""What they are divided by: far beyond it no network sees an image."""

Grid = Annotated[int, Range(2, 1024)]
"""Cells along a side of an image."""
Budget = Annotated[int, Range(1, 10_000_000)]
"""Forward passes for an image and an order: the coalitions of all of them are held in memory."""
Threads = Annotated[int, Range(1, 4096)]


def option(name: str) -> str:
    """A setting as it is typed."""
    return f"--{name.replace('_', '-')}"


def check(settings: Any, called: Callable[[str], str] = option) -> None:
    """Look at every value of a settings dataclass and of those inside of it.

    A number must be finite and within 64 bits, and lie in the Range of its type, if that has one; a value must be of
    its type. What depends on several settings is for the dataclass's own `check`, where it has one.

    called: how a setting is named to the user.

    Raises ValueError with the first value that cannot be, and what it can be.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check(value, called)
        elif wrong := complaint(value, hints[field.name]):
            raise ValueError(f"{called(field.name)} {shown(value)} {wrong}")
    if own := getattr(settings, "check", None):
        own()


def complaint(value: Any, kind: Any) -> str:
    """What is wrong with a value of that type, Ranges and all; nothing where it is sound."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        ranges = [each for each in kind.__metadata__ if isinstance(each, Range)]
        return complaint(value, inner[0]) or next(filter(None, (each.complaint(value) for each in ranges)), "")
    if origin in (typing.Union, types.UnionType):
        said = [complaint(value, each) for each in inner if each is not types.NoneType]
        return "" if (value is None and types.NoneType in inner) or "" in said else said[-1]
    if origin is typing.Literal:
        return "" if value in inner else f"is not known: choose {', '.join(map(str, inner))}"
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return "is no list"
        open_ended = len(inner) == 2 and inner[1] is Ellipsis
        if not open_ended and len(value) != len(inner):
            return f"has {len(value)} parts: give {len(inner)}"
        kinds = [inner[0]] * len(value) if open_ended else inner
        return next(filter(None, map(complaint, value, kinds)), "")
    if typing.is_typeddict(kind) or origin in (dict, list):
        return part_complaint(value, kind)
    return plain_complaint(value, kind)


def part_complaint(value: Any, kind: Any) -> str:
    """The same for what was read from JSON: a list, or a dictionary of any names or of the names of a TypedDict."""
    is_list = typing.get_origin(kind) is list
    if not isinstance(value, list if is_list else dict):
        return "is no list" if is_list else "is no dictionary"
    parts: dict[Any, Any] = dict(enumerate(value)) if isinstance(value, list) else value
    if typing.is_typeddict(kind):
        kinds = typing.get_type_hints(kind)
        if missing := sorted(kind.__required_keys__ - parts.keys()):  # type: ignore[attr-defined]
            return f"lacks {missing[0]}"
    else:
        kinds = dict.fromkeys(parts, typing.get_args(kind)[-1])
    wrong = ((key, complaint(part, kinds[key])) for key, part in parts.items() if key in kinds)
    return next((f"has a part {key} that {said}" for key, said in wrong if said), "")


def plain_complaint(value: Any, kind: Any) -> str:
    """The same for a type without parts."""
    whole, number = isinstance(value, int) and not isinstance(value, bool), isinstance(value, int | float)
    if kind is int:
        if not whole:
            return "is no whole number"
        return "" if abs(value) <= LARGEST else f"is too large: use at most {LARGEST}"
    if kind is float:
        if not number or isinstance(value, bool):
            return "is no number"
        return "" if abs(value) < math.inf else "is not a finite number"
    words = {bool: "is neither true nor false", str: "is no text", Path: "is no path"}
    kinds: dict[Any, Any] = {bool: bool, str: str, Path: (str, Path)}
    return words[kind] if kind in words and not isinstance(value, kinds[kind]) else ""


def shown(value: Any) -> str:
    """A value as it is typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
