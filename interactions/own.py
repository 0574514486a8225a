"""Values and baselines of one's own: functions, known by their name and source.

A function given where a name is wanted joins the known ones as `module:function@digest`, and that name goes into every
record. So a run is not gone on with, nor compared, after its function has changed. Nothing is imported from a record:
who goes on gives the function again. (The digest is of the function's own source; what it reads or calls is not seen.)
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from interactions.baselines import BASELINES
from interactions.values import VALUES

KNOWN: dict[str, dict[str, Any]] = {"value": VALUES, "baseline": BASELINES}


def named(kind: str, given: str | Callable[..., Any]) -> str:
    """The name of a value or baseline, and of a function from now on.

    Args:
        kind: value or baseline.

    Raises:
        ValueError: what is no function, or one whose source is nowhere, so that a change would not be seen.
    """
    if isinstance(given, str):
        return given
    if not inspect.isfunction(given):
        raise ValueError(f"a {kind} is a name or a function, not {given!r}: write a function that calls it")
    try:
        source = inspect.getsource(given)
    except (OSError, TypeError) as error:
        raise ValueError(f"the source of the {kind} {given.__qualname__} is not there: keep it in a file") from error
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    name = f"{given.__module__}:{given.__qualname__}@{digest}"
    KNOWN[kind][name] = given
    return name


def with_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which functions have become names.

    Raises:
        ValueError: as `named`.
    """
    return {key: named(key, given) if key in KNOWN else given for key, given in settings.items()}
