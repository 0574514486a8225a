"""Defaults of a command line that names a recipe, or a run to resume. Imports nothing heavy."""

from collections.abc import Callable
from typing import TypeVar

from experiments.options import Start

S = TypeVar("S", bound=Start)


def usual_of(command: str) -> Callable[[S], S | None]:
    """What --recipe or --resume stand for, which what is typed beside them changes (`usual` of experiments.cli)."""

    def usual(settings: S) -> S | None:
        from experiments.training.asked import stands_for

        return stands_for(settings, command)

    return usual
