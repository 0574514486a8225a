"""What `--help` shows: examples first, options in groups, words that say what an option takes, lines that fill.

A group of options is the settings dataclass in which they are declared: one that is a field of the command's own, or
one that this inherits. Its docstring is the group's, and each option's the string that follows it.
"""

import ast
import dataclasses
import inspect
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from itertools import chain, pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TextIO, Union, cast, get_args, get_origin

import tyro
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from a2mim.bounds import HIDDEN

# What an option takes, where its type alone does not say: text that is anything else is a NAME, a path a FILE.
WORDS = {
    **dict.fromkeys(("model", "other"), "MODEL"),
    **dict.fromkeys(("weights", "other_weights"), "WEIGHTS"),
    **dict.fromkeys(("data", "val", "probe", "train", "test"), "DATA"),
    **dict.fromkeys(("out", "data_root", "resume", "results", "work"), "FOLDER"),
    **dict.fromkeys(("checkpoint", "class_map", "class_names", "file"), "FILE"),
    **dict.fromkeys(("model_args", "set"), "NAME=VALUE"),
    **dict.fromkeys(("split", "val_split"), "PART"),
    **dict.fromkeys(("runs", "ours", "published"), "RUN"),
    **dict.fromkeys(("title", "lead"), "TEXT"),
    "auto_augment": "POLICY",
    "checkpoints": "all|STEP",
    "device": "DEVICE",
    "grid": "FILE",
    "method": "METHOD",
    "pairs": "NAME|FILE",
    "recipe": "RECIPE",
    "saliency": "NAME|RUN",
    "target": "RUN",
}
COMPOUND = (Union, UnionType)
POSITIONAL = get_args(tyro.conf.Positional[str])[1]
FILE = tyro.conf.arg(metavar="FILE")
"""Of an option that takes a file, where others of its name take a folder."""

COLOURS = r"(?:\x1b\[[0-9;]*m)*"
registry = ConstructorRegistry()


def parse(kind: type, **options: Any) -> Any:
    """Settings from a command line, as tyro reads it. Raises SystemExit for --help and for what cannot be read."""
    config = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
    with redirect_stdout(cast(TextIO, Folding(sys.stdout))):
        return tyro.cli(kind, description="", config=config, registry=registry, **options)


def named_in(words: Sequence[str]) -> set[str]:
    """The settings that a command line names."""
    return {word.partition("=")[0].strip("-").replace("-", "_") for word in words if word.startswith("--")}


def with_typed(settings: Any, names: Collection[str]) -> Any:
    """Settings of which each part that has `typed` says which of its own these names are: of a value that is the
    default nothing else would tell that it was asked for."""
    changes = {
        name: dataclasses.replace(part, typed=tuple(each for each in vars(part) if each in names))
        for name, part in vars(settings).items()
        if hasattr(part, "typed")
    }
    return dataclasses.replace(settings, **changes)


class Folding:
    """Standard output on which a line of usage, which tyro leaves as long as it is, fills the terminal's lines."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def write(self, text: str) -> int:
        return self.out.write(re.sub(rf"^{COLOURS}usage:.*$", lambda line: usage(line[0]), text, flags=re.MULTILINE))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.out, name)


def usage(line: str) -> str:
    """A line of usage in lines of the terminal's width, without colours; an option stays with its value."""
    parts = re.split(r" (?=\[?--)", re.sub(COLOURS, "", line))
    kept = " ".join(part.replace(" ", "\0") for part in parts)
    lines = textwrap.wrap(
        kept, terminal_width(), subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def terminal_width() -> int:
    """Columns of text: as many as the terminal has, and no more than one reads with ease."""
    return max(40, min(shutil.get_terminal_size().columns, 120))


def introduction(kind: type, width: int) -> str:
    """A command's docstring for a terminal: its first line, its examples, then the rest."""
    first, *others = (inspect.getdoc(kind) or "").split("\n\n")
    examples = [part for part in others if part.startswith("For example:")]
    parts = [first, *examples, *(part for part in others if part not in examples)]
    return "\n\n".join(filled(part, width) for part in parts)


def filled(paragraph: str, width: int) -> str:
    """A paragraph in lines of that width; an indented line, such as a command or a row of a table, begins a new one."""
    lines = re.sub(r" *\\?\n {8,}(?=--)|\n(?! )", " ", paragraph).split("\n")
    return "\n".join((folded if re.match(" +(a2mim|torchrun)", line) else wrapped)(line, width) for line in lines)


def wrapped(line: str, width: int) -> str:
    """A line in lines of that width; those that follow begin where a row of a table has its second column."""
    column = re.match(r" +\S.*?  +| *", line)
    indent = " " * len(column[0]) if column else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def folded(command: str, width: int) -> str:
    """A command in lines that a shell joins again; an option stays with its value."""
    first, *options = re.split(r" +(?=--)", command)
    lines = [first]
    for option in options:
        if len(lines[-1]) + 1 + len(option) <= width - 2:
            lines[-1] += f" {option}"
        else:
            lines.append(f"{' ' * 8}{option}")
    pieces = [textwrap.wrap(line, width - 2, subsequent_indent=" " * 8, break_on_hyphens=False) for line in lines]
    return " \\\n".join(chain.from_iterable(pieces))


@registry.struct_rule
def settings_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """How tyro reads a settings dataclass: its own options, and a group for each that it inherits."""
    if not dataclasses.is_dataclass(info.type):
        return None
    owners = {field.name: owner(info.type, field.name) for field in dataclasses.fields(info.type)}
    # In the order of their fields; an option may be called as a group is.
    groups = {f"of_{each.__name__}": each for each in dict.fromkeys(owners.values()) if each is not info.type}
    hints = typing.get_type_hints(info.type, include_extras=True)
    default = None if info.default in (MISSING_NONPROP, tyro.MISSING) else info.default
    options = [
        StructFieldSpec(
            name=field.name,
            type=with_word(field.name, hints[field.name], (usual := default_of(field, default)) is not MISSING_NONPROP),
            default=usual,
            helptext=partial(text_of, info.type, field.name),
        )
        for field in dataclasses.fields(info.type)
        if owners[field.name] is info.type
    ]
    parts = [
        StructFieldSpec(
            name=name,
            type=Annotated[each, tyro.conf.arg(name=each.__name__.lower())],  # type: ignore[arg-type]
            default=MISSING_NONPROP if default is None else part(each, default),
        )
        for name, each in groups.items()
    ]

    def made(**given: Any) -> Any:
        inherited = {key: value for name in groups for key, value in vars(given.pop(name)).items()}
        return info.type(**inherited, **given)

    made.__doc__ = info.type.__doc__
    return StructConstructorSpec(instantiate=made, fields=(*parts, *options))


def owner(kind: type, name: str) -> type:
    """The class that declares a field."""
    return next(each for each in kind.__mro__ if name in inspect.get_annotations(each))


def part(kind: type, whole: Any) -> Any:
    """What a settings object holds of a class that it inherits."""
    return kind(**{field.name: getattr(whole, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def default_of(field: dataclasses.Field[Any], whole: Any) -> Any:
    if whole is not None:
        return getattr(whole, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    return MISSING_NONPROP if field.default_factory is dataclasses.MISSING else field.default_factory()


def with_word(name: str, hint: Any, optional: bool) -> Any:
    """The type of an option, with the word for what it takes and its default as it is told."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if HIDDEN in getattr(hint, "__metadata__", ()):
        return tyro.conf.Suppress[tyro.conf.Fixed[hint]]  # type: ignore[misc]
    if bare is bool or dataclasses.is_dataclass(bare):
        return hint
    extras = getattr(hint, "__metadata__", ())
    takes = next((extra.metavar for extra in extras if hasattr(extra, "metavar")), None) or word(name, hint)
    if optional and POSITIONAL in extras and not takes.startswith("["):
        takes = f"[{takes}]"
    return Annotated[hint, tyro.conf.arg(metavar=takes, help_behavior_hint=shown)]


def shown(default: str) -> str:
    """A default as it is told: none where there is nothing, and no more digits than one reads."""
    brief = re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.4g}", default)
    return f"(default: {'none' if default in ('', repr(''), 'None') else brief})"


def word(name: str, hint: Any) -> str:
    """What an option of that name and type takes, such as FOLDER, INT or {ce,bce}."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return word(name, inner[0])
    if origin is Literal:
        return f"{{{','.join(map(str, inner))}}}"
    if origin in COMPOUND:
        return "|".join(word(name, each) for each in inner if each is not NoneType)
    if origin is tuple:
        each = [word(name, one) for one in inner if one is not Ellipsis]
        return f"[{each[0]} ...]" if Ellipsis in inner else " ".join(each)
    if hint in (str, Path):
        return WORDS.get(name, "NAME" if hint is str else "FILE")
    return hint.__name__.upper()


def text_of(kind: type, name: str) -> str | None:
    return texts(owner(kind, name)).get(name)


@cache
def texts(kind: type) -> dict[str, str]:
    """The string behind each field of a dataclass, on one line. (tyro keeps the breaks of indented lines.)"""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(tree.body)  # type: ignore[attr-defined]
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
