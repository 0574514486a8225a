"""From other projects' names to timm's.

A source is recognised by marker keys and converted by a rule that says where each of its names goes; what only
pre-training needs is dropped by a named rule. No rule guesses by position or shape: a key that none knows keeps its
name, and shows up as unexpected when the tensors are fitted to a model.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from a2mim.checkpoints.errors import CheckpointError, listed
from a2mim.checkpoints.resize import PositionRule

Tensors = dict[str, Tensor]
Pixels = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of each channel, of values from 0 to 1
Dropped = dict[str, tuple[str, ...]]  # why → which keys


def unchanged(tensors: Tensors) -> Tensors:
    """The conversion of a source that has timm's own names."""
    return tensors


@dataclass(frozen=True)
class Source:
    """Whose names a checkpoint uses: how to tell, what to leave out, and how to rename the rest."""

    name: str
    is_this: Callable[[Tensors], bool]
    convert: Callable[[Tensors], Tensors] = unchanged
    drops: Mapping[str, str] = field(default_factory=dict)
    """Regular expression of whole keys, as the source writes them → why they are left out."""
    norm_eps: Mapping[str, float] = field(default_factory=dict)
    """Beginning of timm's module names → epsilon of the layer norms there, as the source's code has it."""
    positions: PositionRule = "bicubic"
    """How the source's code resizes its position embeddings."""
    pixels: Pixels | None = None
    """Mean and deviation that the source normalises its images with; None where that is not one for all its models."""
    model: str = ""
    """timm's name of the model, where the source has one alone."""


def drop(tensors: Tensors, rules: Mapping[str, str]) -> tuple[Tensors, Dropped]:
    """Leave out the keys that a rule names: (the others, what was left out by each reason)."""
    reasons = {
        key: next(why for rule, why in rules.items() if re.fullmatch(rule, key))
        for key in tensors
        if any(re.fullmatch(rule, key) for rule in rules)
    }
    kept = {key: tensor for key, tensor in tensors.items() if key not in reasons}
    return kept, {why: tuple(key for key in reasons if reasons[key] == why) for why in dict.fromkeys(reasons.values())}


def rename(tensors: Tensors, new_name: Callable[[str], str]) -> Tensors:
    """Rename every key.

    Raises:
        CheckpointError: two keys would get the same name, so that one tensor would be lost.
    """
    renamed = {new_name(key): tensor for key, tensor in tensors.items()}
    if len(renamed) < len(tensors):
        counts = Counter(new_name(key) for key in tensors)
        twice = sorted(name for name, count in counts.items() if count > 1)
        raise CheckpointError(f"the checkpoint has several keys for {listed(twice)}: it mixes two layouts of names")
    return renamed


def substitute(tensors: Tensors, rules: Mapping[str, str]) -> Tensors:
    """Rename every key by the first regular expression that it matches as a whole; a key without one stays."""

    def new_name(key: str) -> str:
        for pattern, replacement in rules.items():
            if match := re.fullmatch(pattern, key):
                return match.expand(replacement)
        return key

    return rename(tensors, new_name)
