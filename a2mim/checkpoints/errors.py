"""What goes wrong with a checkpoint."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from a2mim.errors import one_line, out_of_memory
from a2mim.plain import printable

SHOWN = 5


class CheckpointError(ValueError):
    """A file that is not a checkpoint, or one that does not fit the model. The message is one sentence for the user."""


def listed(names: Iterable[str], shown: int = SHOWN) -> str:
    """The first few names, and how many more there are. Names come from files, and so are made fit to print."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(short(printable(name)) for name in names[:shown]) + more


def short(text: str) -> str:
    """The beginning of a text that is too long to show."""
    return text if len(text) <= 120 else f"{text[:119]}…"


@contextmanager
def sound(path: str | Path) -> Iterator[None]:
    """What is done with the tensors of a file: whatever goes wrong with their shapes and kinds is the file's fault.

    Raises CheckpointError in its place.
    """
    try:
        yield
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(DAMAGED.format(path, told(error))) from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        if out_of_memory(error):
            raise  # of the machine, not of the file
        raise CheckpointError(DAMAGED.format(path, told(error))) from error


DAMAGED = (
    "checkpoint '{}' has tensors or settings of a form that none of the known networks has, it may be damaged ({})"
)


def told(error: Exception) -> str:
    """What an error of a library says, its first sentence on one line."""
    return short(one_line(error))
