"""Which networks an earlier study has, that stand beside those of this one."""

import lzma
import tarfile
from collections.abc import Callable, Collection
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pandas as pd

from experiments.folders import read_json
from experiments.studies.kept import STUDY
from experiments.studies.methods import NAMES
from experiments.studies.trainings import Family

if TYPE_CHECKING:
    from experiments.studies.cifar10.plan import Settings

Network = tuple[str, str, int]
"""(network, method, seed)"""

ACCURACY, MASSES, ROWS = "accuracy.csv", "masses.csv", "images.tar.xz"
"""What a study keeps for others to join: its networks, and all that was measured of each image."""
ALIKE = ("size", "times", "quick")
"""Settings that one name in tables and figures stands for: networks of others are other networks."""
NAMED = 50
"""Letters of what a refusal repeats of a file."""


def taken(settings: "Settings", name: str) -> Path:
    """Where in the folder of all runs a file lies that the joined study kept."""
    return settings.out / f"joined-{name}"


def joined_networks(settings: "Settings") -> set[Network]:
    """The networks of the study that was joined when this one was begun, or that is to be.

    Raises:
        FileNotFoundError: --joined is no folder of results.
        ValueError: a table that is none of such a study; networks that cannot stand beside those of this one; other
            results than those that this one was begun with.
    """
    kept, begun = settings.joined, taken(settings, ACCURACY).is_file()
    there = comparable_networks(settings, partial(taken, settings)) if begun else set()
    if kept is None:
        return there
    for name in (ACCURACY, MASSES, ROWS, STUDY):
        if not (kept / name).is_file():
            raise FileNotFoundError(f"{kept} holds no {name}: give the folder of results that a CIFAR-10 study kept")
    found = comparable_networks(settings, kept.joinpath)
    if not there <= found:
        raise ValueError(f"{settings.out} was begun with other results than {kept}: give these, or another --out")
    return there if begun else found


def is_salient_to(settings: "Settings", place: Path) -> bool:
    """Whether a joined study kept what is salient to a network: that of its occlusion in this folder of all runs."""
    if taken(settings, ACCURACY).is_file() or settings.joined is None:
        return (settings.out / place / "saliency").is_dir()
    archive = settings.joined / ROWS
    return any(name.startswith(f"{place}/saliency/") for name in _names_in(archive, archive.stat().st_mtime_ns))


@cache
def _names_in(archive: Path, changed: int) -> tuple[str, ...]:
    """What an archive that was changed then holds; nothing where it is damaged, which is told when it is unpacked."""
    try:
        with tarfile.open(archive, "r:xz") as tar:
            return tuple(tar.getnames())
    except (tarfile.TarError, lzma.LZMAError, EOFError):
        return ()


def joined_accuracies(settings: "Settings") -> pd.DataFrame:
    """accuracy.csv of the networks that were joined; without rows where none were."""
    path, networks = taken(settings, ACCURACY), joined_networks(settings)
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    return table.loc[[network in networks for network in networks_of(table)]]


def comparable_networks(settings: "Settings", place: Callable[[str], Path]) -> set[Network]:
    """Those of the study whose files lie there. Raises ValueError where this study's would not be compared with them
    or would leave some of them out."""
    refuse_other_scale(settings, place(STUDY))
    found = networks_in(place(ACCURACY), place(MASSES))
    refuse_unasked(settings, found, place(ACCURACY))
    return found


def refuse_other_scale(settings: "Settings", study: Path) -> None:
    """Raise ValueError where that study's networks were trained or measured with other settings than this one's."""
    told = read_json(study).get("settings")
    there = told if isinstance(told, dict) else {}
    pairs = [(name, there.get(name, "unknown"), getattr(settings, name)) for name in ALIKE]
    if other := [f"{name} {was} there, {now} here" for name, was, now in pairs if was != now]:
        raise ValueError(
            f"the networks of {study} cannot stand beside those of this study ({'; '.join(other)}): give this one the "
            "same, or join other results"
        )


def other_images(settings: "Settings") -> str:
    """A note where the joined networks were trained, or measured, on what is called otherwise than the images of this
    study; empty where they were not, or nothing tells."""
    told = read_json(taken(settings, STUDY)).get("settings")
    there = told if isinstance(told, dict) else {}
    pairs = [(name, str(there.get(name, "")), getattr(settings, name)) for name in ("train", "test")]
    other = [
        f"--{name} {was} there, {now} here" for name, was, now in pairs if was and Path(was).name != Path(now).name
    ]
    return f"the joined networks are of images of other names ({'; '.join(other)}): are they the same?" if other else ""


def refuse_unasked(settings: "Settings", networks: Collection[Network], table: Path) -> None:
    """Raise ValueError for networks of seeds or families that this study has not: no figure would show them."""
    for option, column, asked in (("families", 0, settings.families), ("seeds", 2, settings.all_seeds)):
        has = dict.fromkeys(network[column] for network in sorted(networks))
        if set(has) - set(asked):
            raise ValueError(
                f"{table} has networks of --{option} {' '.join(map(str, has))}, and asked for are "
                f"{' '.join(map(str, asked))}: name all of them, or other results"
            )


def networks_in(accuracy: Path, masses: Path) -> set[Network]:
    """The networks that a study brought to the end of their training, or measured: of one that was only pre-trained, or
    not trained at all, accuracy.csv has a row, too."""
    trained = read_networks(accuracy)
    trained = trained[trained["top1"].notna()] if "top1" in trained else trained[:0]
    return {*networks_of(trained), *networks_of(read_networks(masses))}


def read_networks(path: Path) -> pd.DataFrame:
    """A table of a study. Raises ValueError for one that is none, and for networks that there are not."""
    from figures.tables import read_table

    table = read_table(path, ["seed"], ["network", "method"], "a table of a study", empty=True)
    for column, known, what in (("network", get_args(Family), "networks"), ("method", NAMES.values(), "methods")):
        if unknown := sorted({str(name) for name in table[column]} - {*known}):
            raise ValueError(f"{path} names {what} that there are not ({', '.join(unknown)[:NAMED]})")
    seeds = table["seed"]
    if len(unusual := seeds[~(seeds >= 0) | (seeds % 1 != 0)]):
        raise ValueError(f"{path} has a seed that is none ({unusual.iloc[0]}): seeds are whole numbers from 0 on")
    return table


def networks_of(table: pd.DataFrame) -> list[Network]:
    """The network of each row."""
    methods = {name: method for method, name in NAMES.items()}
    return [(row["network"], methods[row["method"]], int(row["seed"])) for row in table.to_dict("records")]
