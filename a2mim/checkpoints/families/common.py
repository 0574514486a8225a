"""A timm model in words, and what shapes tell of any: counts of layers, of classes, what differs from a name's own."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """A timm model: timm.create_model(name, **arguments)."""

    family: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    """Only what differs from the name's own."""
    form: tuple[str, ...] = ()
    """Those of the arguments that are the source's choice and no size: pooling, heads, biases."""
    sized: bool = False
    """Whether shapes told it, and no name."""
    assumed: Mapping[str, str] = field(default_factory=dict)
    """Argument that neither shapes nor the file tell → what was taken, in words."""


def count(tensors: Tensors, pattern: str) -> int:
    """How many numbers stand at that place of the keys: one more than the largest.

    A number that the file has not as many tensors for is none of its network's: its keys find no place, and are told.
    """
    found = {match[1] for key in tensors if (match := re.match(pattern, key))}
    most = len(tensors)
    return 1 + max((int(each) for each in found if len(each) <= len(str(most)) and int(each) < most), default=-1)


def class_count(tensors: Tensors, classifier: str) -> int:
    """Classes of a classifier; 0 without one."""
    return tensors[classifier].shape[0] if classifier in tensors else 0


def next_known(*names: str) -> str:
    """The first name that timm has."""
    return next(name for name in names if timm.is_model(name))


def unusual(wanted: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from those that the name stands for."""

    def same(key: str) -> bool:
        a, b = wanted[key], usual.get(key, ...)
        return math.isclose(a, b) if isinstance(a, float) and isinstance(b, float) else a == b

    return {key: wanted[key] for key in wanted if not same(key)}
