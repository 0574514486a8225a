"""Which networks an earlier study has, that stand beside those of this one."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.studies.methods import NAMES

if TYPE_CHECKING:
    from experiments.studies.cifar10.plan import Settings

ACCURACY, MASSES, ROWS = "accuracy.csv", "masses.csv", "images.tar.xz"
"""What a study keeps for others to join: its networks, and all that was measured of each image."""
EARLIER = "joined-"
"""Begins the names of what was kept by the study that was joined, in the folder of all runs."""
NAMED = 50
"""Letters of what a refusal repeats of a file."""


def joined_networks(settings: "Settings") -> set[tuple[str, str, int]]:
    """(network, method, seed) of the study that was joined when this one was begun, or that is to be.

    Raises ValueError for a table that is none of such a study.
    """
    if (settings.out / f"{EARLIER}{ACCURACY}").is_file():
        return networks_in(settings.out, EARLIER)
    return networks_in(settings.joined) if settings.joined else set()


def networks_in(kept: Path, prefix: str = "") -> set[tuple[str, str, int]]:
    """(network, method, seed) of a study's tables: what was trained, and what was measured."""
    from figures.tables import read_table

    methods, found = {name: method for method, name in NAMES.items()}, set()
    for path in (kept / f"{prefix}{name}" for name in (ACCURACY, MASSES)):
        if not path.is_file():
            continue
        table = read_table(path, ["seed"], ["network", "method"], "a table of a study", empty=True)
        if unknown := sorted({str(name) for name in table["method"]} - set(methods)):
            raise ValueError(f"{path} names methods that there are not ({', '.join(unknown)[:NAMED]})")
        found |= {(row["network"], methods[row["method"]], int(row["seed"])) for row in table.to_dict("records")}
    return found
