"""Recipes of one's own: a function in a .py file, which is run, or plain settings in a .yaml, which are read."""

import importlib.util
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml

from a2mim.bounds import complaint
from a2mim.checkpoints.archive import read_text
from a2mim.checkpoints.errors import short
from a2mim.errors import one_line
from experiments.help import parse, with_typed
from experiments.models import did_you_mean, failure
from experiments.recipes import recipes_of

S = TypeVar("S")
PLAIN = (".yaml", ".yml", ".json")
"""Endings of files of plain settings. (JSON is YAML.)"""
LONGEST = 100_000
"""Bytes of such a file."""


class WrittenOut(yaml.SafeLoader):
    """YAML without aliases, of which a few hundred bytes are written out as megabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="an alias stands for a value, write it out", problem_mark=mark)
        return super().compose_node(parent, index)


def function_in(path: Path, name: str) -> Callable[[], Any]:
    """The function of that name in a Python file. The file is run: it is code that the user names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that fails, or that has no such function.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe file '{path}'")
    spec = importlib.util.spec_from_file_location(f"recipe_file_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # of a name that ends in .py
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # behind all others: what lies there takes no other module's place
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's file may do anything when it is run
        raise ValueError(f"the recipe file '{path}' fails: {failure(error)}") from error
    return recipe_in(module, name, f"the recipe file '{path}' has no function")


def recipe_in(module: ModuleType, name: str, lacks: str) -> Callable[[], Any]:
    """The recipe of that name in a module. Raises ValueError, which begins with `lacks`, where there is none."""
    recipes = recipes_of(module)
    if name not in recipes:
        near = did_you_mean(name, list(recipes)) or f", it has {', '.join(recipes) or 'none'}"
        raise ValueError(f"{lacks} '{name}'{near}")
    return recipes[name]


def read_settings(path: Path, kind: type[S], elsewhere: typing.Collection[str] = ()) -> S:
    """Settings from a file that has, by its name, the value of each option that is to be another than usual; and
    `typed`, the names of those that hold for a method's own views although they are the usual ones.

    elsewhere: options that are no part of a recipe.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is no YAML, too long, or with aliases, an option that does not exist, a value that an option
            cannot have.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of settings '{path}'")
    try:
        plain = yaml.load(read_text(path, LONGEST), WrittenOut)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {one_line(error)}") from error
    if not isinstance(plain, dict):
        raise ValueError(f"{path} holds no settings: write an option a line, such as `lr: 0.001`")
    known, words = dict(options_of(kind)), dict[str, list[str]]()
    typed = plain.pop("typed", []) if "typed" in known else []
    if wrong := complaint(typed, list[str]):
        raise ValueError(f"{path}: typed {wrong}: name settings of the views, such as [blur]")
    for key, value in plain.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ValueError(f"{path}: there is no setting '{key}'{did_you_mean(name, list(known))}")
        if name in elsewhere:
            raise ValueError(f"{path}: '{key}' is no part of a recipe, type --{name.replace('_', '-')}")
        words[str(key)] = words_of(name, value, known[name])
    settings = parsed(kind, [word for each in words.values() for word in each])
    if settings is None:
        wrong = next((key for key in words if parsed(kind, words[key]) is None), next(iter(words)))
        raise ValueError(f"{path}: {wrong} cannot be {short(repr(plain[wrong]))}")
    return with_typed(settings, typed)


def options_of(kind: Any) -> Iterator[tuple[str, Any]]:
    """Name and type of every option of a settings dataclass and of those inside of it."""
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from options_of(hints[field.name])
        else:
            yield field.name, hints[field.name]


def words_of(name: str, value: Any, hint: Any) -> list[str]:
    """An option as it would be typed; nothing where it is left as it is."""
    option = name.replace("_", "-")
    if value is None:
        return []
    if hint is bool and isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", *(map(str, value) if isinstance(value, list) else [str(value)])]


def parsed(kind: type[S], words: list[str]) -> S | None:
    """Settings as they would be typed; None where they cannot be, of which nothing is told here."""
    with redirect_stderr(StringIO()):
        try:
            return typing.cast(S, parse(kind, args=words, console_outputs=False))
        except SystemExit:
            return None
