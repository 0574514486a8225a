"""From other projects' names to timm's.

A source is recognised by marker keys and converted by a rule that says where each of its names goes; what only
pre-training needs is dropped by a named rule. No rule guesses by position or shape: a key that none knows keeps its
name, and shows up as unexpected when the tensors are fitted to a model.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from a2mim.checkpoints.errors import CheckpointError, listed
from a2mim.checkpoints.resize import PositionRule

Tensors = dict[str, Tensor]
Pixels = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of each channel, of values from 0 to 1
Dropped = dict[str, tuple[str, ...]]  # why → which keys


def unchanged(tensors: Tensors) -> Tensors:
    """The last step of a conversion that is one of names alone."""
    return tensors


@dataclass(frozen=True)
class Source:
    """Whose names a checkpoint uses, as data: how to tell, what to leave out, and how to rename the rest.

    Regular expressions are of whole keys. A wrapper (`inner`) takes its own prefix off and leaves the names behind it
    to the sources that come after it.
    """

    name: str
    where: str = ""
    """The public code that writes these names."""
    marks: tuple[str, ...] = ()
    """Each is the name of a tensor that such a file has."""
    unless: tuple[str, ...] = ()
    """None is the name of a tensor that such a file has."""
    when: Callable[[Tensors], bool] | None = None
    """What else tells it, where names do not."""
    beside: tuple[str, ...] = ()
    """Each is a key of the file's top level."""
    prefix: str = ""
    """Taken off the front of the names that begin so, before `names` are looked up."""
    inner: bool = False
    """Whether the names behind the prefix are those of another source."""
    drops: Mapping[str, str] = field(default_factory=dict)
    """Whole keys, as the source writes them → why they are left out."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Whole keys behind the prefix → timm's."""
    finish: Callable[[Tensors], Tensors] = unchanged
    """What is done with the renamed tensors: joined, turned, cut."""
    fresh: Mapping[str, str] = field(default_factory=dict)
    """Whole keys of the model that such a file lacks and that stay as they are made → why."""
    norm_eps: Mapping[str, float] = field(default_factory=dict)
    """Beginning of timm's module names → epsilon of the layer norms there, as the source's code has it."""
    config_eps: str = ""
    """Beginning of the names whose epsilon a Hugging Face configuration states."""
    positions: PositionRule | None = None
    """How the source's code resizes its position embeddings."""
    pixels: Pixels | None = None
    """Mean and deviation that the source normalises its images with; None where that is not one for all its models."""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """timm's names of the models that the source has, and the arguments that make each the source's; the one whose keys
    and shapes are the file's is taken."""
    tensors: Mapping[str, int] = field(default_factory=dict)
    """How many tensors some of those models have: the nearest to the file is tried first, which saves seconds of making
    the others. Nothing but time depends on it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of timm.create_model, where the source's code fixes what no shape tells."""
    untold: Mapping[str, str] = field(default_factory=dict)
    """Such arguments that the source leaves to settings outside of the file → what is taken without them, in words."""
    unread: str = ""
    """Why files of this kind are not read, and what to do instead: a part of a sentence."""

    def is_this(self, tensors: Tensors, beside: Collection[str] = ()) -> bool:
        return (
            all(has(tensors, mark) for mark in self.marks)
            and not any(has(tensors, mark) for mark in self.unless)
            and all(key in beside for key in self.beside)
            and (self.when is None or self.when(tensors))
        )

    def convert(self, tensors: Tensors) -> Tensors:
        """Renamed and finished; of a wrapper's file only the prefix is taken off."""
        stripped = substitute(tensors, {f"{self.prefix}(.*)": r"\1"}) if self.prefix else tensors
        return self.finish(substitute(stripped, self.names))


def has(tensors: Tensors, mark: str) -> bool:
    """Whether the whole of a key is a match of the regular expression."""
    matches = re.compile(mark).fullmatch
    return any(matches(key) for key in tensors)


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
