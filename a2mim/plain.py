"""Settings are frozen dataclasses; a run keeps them as plain JSON in run.json and reads them back from there."""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Container, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def to_plain(settings: Any) -> Any:
    """The JSON form of a settings dataclass: nested dicts, lists, numbers, strings, None."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {field.name: to_plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    if isinstance(settings, tuple | list):
        return [to_plain(item) for item in settings]
    if isinstance(settings, dict):
        return {str(key): to_plain(value) for key, value in settings.items()}
    return str(settings) if isinstance(settings, Path) else settings


def from_plain(kind: type[T], plain: Any) -> T:
    """The inverse of `to_plain` for the dataclass `kind`. Fields that `plain` lacks, since it was written before there
    were such settings, get what was done then (`before` in the field's metadata), or their defaults.

    Raises ValueError for a field that `kind` does not have (settings of another version).
    """
    return typing.cast(T, _read(kind, plain))


def before(kind: Any, known: Container[str]) -> dict[str, Any]:
    """Of the settings that a record does not know, since it was written before there were any: what was done then."""
    return {
        field.name: field.metadata["before"]
        for field in dataclasses.fields(kind)
        if "before" in field.metadata and field.name not in known
    }


def _read(kind: Any, plain: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(plain, dict):
            raise ValueError(f"a {type(plain).__name__} stands where {getattr(kind, '__name__', 'settings')} belong")
        hints = typing.get_type_hints(kind)
        known = dataclasses.fields(kind)
        unknown = sorted(set(plain) - {field.name for field in known})
        if unknown:
            name = getattr(kind, "__name__", "settings")
            raise ValueError(f"{name} has no setting called {', '.join(unknown)}: it was written by another version")
        given = {name: _read(hints[name], value) for name, value in plain.items()}
        return kind(**{**before(kind, plain), **given})  # type: ignore[operator]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        choices = [choice for choice in inner if choice is not type(None)]
        return plain if plain is None or len(choices) != 1 else _read(choices[0], plain)
    if origin is tuple:
        if not isinstance(plain, tuple | list):
            raise ValueError(f"{plain!r} is no list")
        kinds = [inner[0]] * len(plain) if len(inner) == 2 and inner[1] is Ellipsis else inner
        return tuple(_read(each, item) for each, item in zip(kinds, plain, strict=True))
    return Path(plain) if kind is Path else plain


def pairs(texts: Sequence[str]) -> dict[str, Any]:
    """('depth=6', 'norm=layer') -> {'depth': 6, 'norm': 'layer'}; values are Python literals or words."""
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ValueError(f"'{text}' is not of the form name=value")
        try:
            found[name.replace("-", "_")] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested without end
            found[name.replace("-", "_")] = value
    return found


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, None for those that JSON has no word for: NaN and infinities."""
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in values.items()}


def printable(text: str) -> str:
    """Text of a file as a terminal may show it: what would steer it (escape codes, line ends, turned writing) spelt
    out as in Python."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def differences(before: Any, after: Any, name: str = "") -> list[str]:
    """Where two plain settings differ, one sentence part each: 'batch was 256, is 512'."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        parts = [differences(before.get(key), after.get(key), f"{name}.{key}" if name else str(key)) for key in keys]
        return [part for each in parts for part in each]
    return [] if before == after else [f"{name} was {before!r}, is {after!r}"]


def overlay(base: T, given: T, default: T) -> T:
    """`base` with every setting of `given` that is not `default`'s: what was typed wins over a recipe.

    Of texts such as ("momentum=0.99", "hidden=512") those of the same name are replaced and the others stay; words
    without a value, and none at all, take the place of all (but for `typed`, names of what was ever typed).
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(base):  # type: ignore[arg-type]
        ours, theirs, usual = (getattr(each, field.name) for each in (base, given, default))
        if dataclasses.is_dataclass(theirs) and type(theirs) is type(ours) is type(usual):
            changes[field.name] = overlay(ours, theirs, usual)
        elif theirs != usual:
            added = field.name == "typed" or (_have_values(ours) and _have_values(theirs))
            changes[field.name] = _by_name(ours, theirs) if added else theirs
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


def _have_values(texts: Any) -> bool:
    return isinstance(texts, tuple) and bool(texts) and all(isinstance(each, str) and "=" in each for each in texts)


def _by_name(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    """Both, of a name the last one, at the place of the first."""
    return tuple({text.partition("=")[0].replace("-", "_"): text for text in (*ours, *theirs)}.values())
