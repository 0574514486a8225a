"""What to train: `--recipe imagenet:a2mim_resnet50` is a function of recipes/imagenet/, which returns settings."""

from collections.abc import Callable
from types import ModuleType
from typing import Any


def recipes_of(module: ModuleType) -> dict[str, Callable[[], Any]]:
    """The public functions of a module, and of the modules in its PARTS, by name."""
    parts: tuple[ModuleType, ...] = getattr(module, "PARTS", (module,))
    named = [(part, name, each) for part in parts for name, each in vars(part).items() if not name.startswith("_")]
    own = [(name, each) for part, name, each in named if getattr(each, "__module__", "") == part.__name__]
    return {name: each for name, each in own if callable(each)}
