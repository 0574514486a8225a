"""Which networks an earlier study has, that stand beside those of this one."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.studies.methods import NAMES

if TYPE_CHECKING:
    from experiments.studies.cifar10.plan import Settings

ACCURACY, MASSES, ROWS = "accuracy.csv", "masses.csv", "images.tar.xz"
"""What a study keeps for others to join: its networks, and all that was measured of each image."""
NAMED = 50
"""Letters of what a refusal repeats of a file."""


def taken(settings: "Settings", name: str) -> Path:
    """Where in the folder of all runs a file lies that the joined study kept."""
    return settings.out / f"joined-{name}"


def joined_networks(settings: "Settings") -> set[tuple[str, str, int]]:
    """(network, method, seed) of the study that was joined when this one was begun, or that is to be.

    Raises:
        FileNotFoundError: --joined is no folder of results.
        ValueError: a table that is none of such a study; other results than those that this one was begun with.
    """
    kept, begun = settings.joined, taken(settings, ACCURACY).is_file()
    there = networks_in(taken(settings, name) for name in (ACCURACY, MASSES)) if begun else set()
    if kept is None:
        return there
    for name in (ACCURACY, MASSES, ROWS):
        if not (kept / name).is_file():
            raise FileNotFoundError(f"{kept} holds no {name}: give the folder of results that a CIFAR-10 study kept")
    found = networks_in(kept / name for name in (ACCURACY, MASSES))
    if not there <= found:
        raise ValueError(f"{settings.out} was begun with other results than {kept}: give these, or another --out")
    return there if begun else found


def networks_in(tables: Iterable[Path]) -> set[tuple[str, str, int]]:
    """(network, method, seed) of a study's tables: what was trained, and what was measured."""
    from figures.tables import read_table

    methods, found = {name: method for method, name in NAMES.items()}, set()
    for path in filter(Path.is_file, tables):
        table = read_table(path, ["seed"], ["network", "method"], "a table of a study", empty=True)
        if unknown := sorted({str(name) for name in table["method"]} - set(methods)):
            raise ValueError(f"{path} names methods that there are not ({', '.join(unknown)[:NAMED]})")
        found |= {(row["network"], methods[row["method"]], int(row["seed"])) for row in table.to_dict("records")}
    return found
