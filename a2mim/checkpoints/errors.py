"""What goes wrong with a checkpoint."""

from collections.abc import Iterable

from a2mim.plain import printable

SHOWN = 5


class CheckpointError(ValueError):
    """A file that is not a checkpoint, or one that does not fit the model. The message is one sentence for the user."""


def listed(names: Iterable[str], shown: int = SHOWN) -> str:
    """The first few names, and how many more there are. Names come from files, and so are made fit to print."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(printable(name) for name in names[:shown]) + more
