"""What a training run is asked to do: from what was typed, a recipe or a run's record to whole settings."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from a2mim.bounds import check
from a2mim.plain import differences, overlay, to_plain
from a2mim.runs import extends, known_run, read_run, stored_settings
from a2mim.settings import FREE, OWN_VIEWS, Augmentation
from experiments.models import failure
from experiments.options import Start
from experiments.training.recipe_files import PLAIN, function_in, read_settings, recipe_in
from experiments.training.trust import check_data, check_method, check_network

S = TypeVar("S")

# Where a run lies, and what it runs on, is no part of what it is.
ELSEWHERE: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Start)}


def resolved(settings: S, command: str) -> S:
    """Settings with what --recipe or --resume stand for filled in; what was typed beside a recipe wins over it.

    Raises ValueError for a recipe that is not there or belongs to another command, and for settings typed beside
    --resume that differ from the run's (which ones), and for what a record may not bring about by itself (see
    experiments.training.trust); FileNotFoundError where there is no run to resume.
    """
    given: Any = settings
    if given.resume:
        return _resumed(given, command)
    if given.recipe:
        given = laid_over(given.filled or made_by(given, command), given)
    given = in_known_layout(with_needed(dataclasses.replace(given, filled=None)))
    if not given.out:
        raise ValueError("no folder was named for the run: use --out")
    check(given)
    return given


def stands_for(settings: S, command: str) -> S | None:
    """The settings that --recipe or --resume stand for, as defaults of a command line; None without either.

    Raises as `resolved`.
    """
    given: Any = settings
    if not given.resume and not given.recipe:
        return None
    if given.resume:
        _resumed(given, command)  # what it refuses depends on what was typed, and not on what will be filled in
    base: Any = stored_by(given, command)[0] if given.resume else made_by(given, command)
    return dataclasses.replace(base, **ELSEWHERE | {"filled": base})


def laid_over(base: Any, given: Any) -> Any:
    """The base with what was typed: what is neither the base's nor, where it was not filled in, the usual value."""
    return overlay(base, given, given.filled or type(given)())


def with_needed(settings: S) -> S:
    """Settings that call typed only what would not hold for the method's own views otherwise: elsewhere the value says
    it all, and a run is the same whether it was typed or not."""
    given: Any = settings
    if not hasattr(given, "augment") or not given.augment.typed:
        return settings
    typed = [name for name in OWN_VIEWS if name in given.augment.typed and has_own_views(given)]
    needed = tuple(name for name in typed if getattr(given.augment, name) == getattr(Augmentation, name))
    return dataclasses.replace(given, augment=dataclasses.replace(given.augment, typed=needed))


def in_known_layout(settings: S) -> S:
    """Settings whose memory layout is to be found, with that which the run in their folder was asked for: one from
    before there was a choice goes on by the same words as ever."""
    given: Any = settings
    if given.loop.channels_last != "auto" or not given.out:
        return settings
    stored = (known_run(Path(given.out)) or {}).get("settings", {}).get("loop")
    asked = stored.get("channels_last") if isinstance(stored, dict) else None
    if not isinstance(asked, bool):
        return settings
    return dataclasses.replace(given, loop=dataclasses.replace(given.loop, channels_last=asked))


def has_own_views(settings: Any) -> bool:
    """Whether settings are of a method that may make views of its own: one of the user's may."""
    from a2mim.methods import METHODS, Method  # heavy, and needed for few settings

    if not hasattr(settings, "method"):
        return False
    return settings.method not in METHODS or METHODS[settings.method].views is not Method.views


def stored_by(given: Any, command: str) -> tuple[Any, dict[str, Any]]:
    """The settings of the run to resume, and its record."""
    run = read_run(Path(given.resume))
    if run["command"] != command:
        raise ValueError(f"{given.resume} holds a run of `a2mim {run['command']}`")
    return stored_settings(type(given), Path(given.resume), run), run


def _resumed(given: Any, command: str) -> Any:
    """Raises ValueError for what is typed beside --resume and has no effect, or another one than the run's."""
    if given.recipe or given.out not in ("", given.resume):
        raise ValueError(
            f"--resume {given.resume} goes on in that folder, with its own settings: leave out --out and --recipe"
        )
    stored, run = stored_by(given, command)
    wanted = with_needed(laid_over(stored, given))
    parts = differences(to_plain(identity(stored)), to_plain(identity(wanted)))
    changed = [part for part in parts if part.split(" was ")[0] not in FREE]
    if changed and not extends(run, changed, wanted):
        unfinished = "" if run["finished"] else " (only a finished run can be extended by more --epochs)"
        raise ValueError(
            f"{given.resume} goes on with its own settings only, others were given ({'; '.join(changed)}): "
            f"leave them out, or begin a new run with --out{unfinished}"
        )
    if not given.filled:  # else it was looked at before
        check_stored(stored, given, Path(given.resume) / "run.json")
    here = {"out": given.resume, "device": given.device, "dry_run": given.dry_run}
    return dataclasses.replace(wanted, **ELSEWHERE | here)


def check_stored(stored: Any, given: Any, where: Path) -> None:
    """Raises ValueError for what plain settings, in the file `where`, may not bring about by themselves."""
    check_network(stored.network, given.network, where, given.trust_factory)
    check_data(stored.data, given.data, where)
    if hasattr(stored, "method"):
        check_method(stored.method, given.method, where, given.trust_factory)


def identity(settings: S) -> S:
    """What makes a run the run it is: settings without where it lies and what it runs on."""
    given: Any = settings
    return dataclasses.replace(given, loop=dataclasses.replace(given.loop, minutes=0.0, anyway=False), **ELSEWHERE)


def made_by(given: S, command: str) -> S:
    """The settings of the recipe that is asked for.

    Raises ValueError for a recipe that is not there, fails, or belongs to another command, and for what a file of plain
    settings may not bring about by itself (see experiments.training.trust); FileNotFoundError.
    """
    asked: Any = given
    if asked.recipe.endswith(PLAIN):
        path = Path(asked.recipe)
        recipe: Any = read_settings(path, type(given), ELSEWHERE)
        check_stored(recipe, asked, path)
        return recipe
    make = find_recipe(asked.recipe)
    try:
        recipe = make()
    except Exception as error:  # one's own may do anything
        raise ValueError(f"the recipe {asked.recipe} fails: {failure(error)}") from error
    if type(recipe) is not type(given):
        raise ValueError(f"the recipe {asked.recipe} is not one of `a2mim {command}`")
    return recipe


def find_recipe(name: str) -> Callable[[], Any]:
    """The function of experiments/recipes/ that `imagenet:a2mim_resnet50` names, or that of a file of one's own,
    `path/to/file.py:function`. Raises ValueError for others, FileNotFoundError."""
    path, _, function = name.rpartition(":")
    if path.endswith(".py"):
        return function_in(Path(path), function)
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(f"experiments.recipes.{module_name}")
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no {module_name} in experiments/recipes: try imagenet or cifar10") from error
    return recipe_in(module, function, f"experiments/recipes/{module_name} has no recipe")
