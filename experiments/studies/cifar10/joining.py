"""Networks of an earlier study beside those of this one: what a study keeps for that, and how it is taken.

An archive holds of every measuring run run.json, its tables, and the rows of all images, in folders as those of --out;
losses are taken from the copies that were kept of them. Nothing else of an archive is read, whatever it holds.
"""

import io
import lzma
import re
import tarfile
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from experiments.folders import is_complete, read_json
from experiments.measuring.comparison import as_runs, differences_of
from experiments.studies.cifar10.earlier import (
    ACCURACY,
    MASSES,
    NAMED,
    ROWS,
    joined_networks,
    networks_in,
    refuse_unasked,
    taken,
)
from experiments.studies.cifar10.plan import (
    FAMILIES,
    Settings,
    backbone_of,
    everyone,
    folder_of,
    setups,
)
from experiments.studies.cifar10.tables import copies
from experiments.studies.kept import COMMANDS, STUDY, keep_copy
from experiments.studies.methods import NAMES, UNTRAINED
from figures.game import photograph_words, shown_words
from interactions.profile import load_profile
from interactions.runs.files import write_atomically

PLACE = re.compile(f"({'|'.join(FAMILIES)})-({'|'.join(NAMES)})-[0-9]{{1,9}}(-pretrain)?")
"""The folder of a network."""
PART = re.compile(r"[a-z0-9-]+/(run\.json|[a-z_]+\.csv|(images|saliency)/unit-[0-9]{5}\.parquet)")
"""Of a measuring run, in the folder of its network; by the saliency of one network others lose their patches."""
RECORD = "run.json"
LARGEST = 10**8
"""Bytes of a file in an archive."""


def places_of(settings: Settings) -> list[Path]:
    """The folders of every network, before and behind fine-tuning, whether they are there or not."""
    return sorted({of(settings, *network) for network in everyone(settings) for of in (folder_of, backbone_of)})


def keep_rows(settings: Settings) -> None:
    """The archive of every finished measuring run; the same bytes for the same runs."""
    runs = [run for place in places_of(settings) for run in sorted(place.glob("*")) if is_complete(run)]
    parts = [
        path for run in runs for path in sorted(run.rglob("*")) if PART.fullmatch(str(path.relative_to(run.parent)))
    ]
    if parts:
        write_atomically(settings.kept / ROWS, partial(_pack, parts, settings.out))


def _pack(parts: list[Path], root: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:xz") as tar:
        for part in parts:
            content = part.read_bytes()
            about = tarfile.TarInfo(str(part.relative_to(root)))
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))


def join(settings: Settings) -> None:
    """Take the earlier study's networks into the folder of all runs, where none of them is there yet.

    Raises:
        FileNotFoundError: no results there.
        ValueError: an archive that is damaged, or none of such a study; networks that were also trained here; other
            results than those that the study was begun with.
    """
    kept, networks = settings.joined, joined_networks(settings)
    if kept is None or taken(settings, ACCURACY).is_file():
        return
    places = {of(settings, *network) for network in networks for of in (folder_of, backbone_of)}
    if trained := sorted(str(place) for place in places if (place / RECORD).exists()):
        raise ValueError(f"{trained[0]} was trained here, and {kept} has it, too: join it in another --out")
    _unpack(kept / ROWS, settings.out, {place.name for place in places})
    for place in sorted(places):
        for target, source in copies(place):
            if (kept / source).is_file() and not target.exists():
                keep_copy(kept / source, target)
    # The accuracies last: what is written before is taken once more where this was cut short.
    for name in (COMMANDS, STUDY, MASSES, ACCURACY):
        if (kept / name).is_file():
            keep_copy(kept / name, taken(settings, name))


def earlier_commands(settings: Settings) -> str:
    """Those of the study that was joined; empty without one."""
    path = taken(settings, COMMANDS)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def earlier_study(settings: Settings) -> dict[str, Any]:
    """What the study that was joined said of itself; empty without one. Raises ValueError for a damaged file."""
    return read_json(taken(settings, STUDY))


def _unpack(archive: Path, out: Path, places: Collection[str]) -> None:
    """Every measuring run of the networks in these places; what there is of others, this study may have itself. A run's
    record, which makes it one that counts, is written behind its rows."""
    records: dict[Path, bytes] = {}
    try:
        with tarfile.open(archive, "r:xz") as tar:
            for member in tar:
                place, _, part = member.name.partition("/")
                file = tar.extractfile(member) if member.isfile() else None
                if not PLACE.fullmatch(place) or not PART.fullmatch(part) or member.size > LARGEST or file is None:
                    raise ValueError(f"it holds {member.name[:NAMED]!r}")
                if place not in places:
                    continue
                target, content = out / place / part, file.read()
                if target.name == RECORD:
                    records[target] = content
                else:
                    write_atomically(target, partial(_write, content))
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise ValueError(f"{archive} is damaged or not what a CIFAR-10 study kept ({error}): take it anew") from error
    for target, content in records.items():
        write_atomically(target, partial(_write, content))


def _write(content: bytes, file: Path) -> None:
    file.write_bytes(content)


def refuse_foreign_results(settings: Settings) -> None:
    """Raise ValueError where --results holds networks that this study has not: theirs would be lost, or stay among
    these."""
    tables = [settings.kept / name for name in (ACCURACY, MASSES)]
    if not all(table.is_file() for table in tables):
        return
    refuse_unasked(settings, networks_in(*tables), settings.kept / ACCURACY)
    joined = joined_networks(settings)
    for network in sorted(networks_in(*tables) - joined):
        if not any((of(settings, *network)).exists() for of in (folder_of, backbone_of)) and network[1] != UNTRAINED:
            raise ValueError(
                f"{settings.kept} holds the results of another study ({'-'.join(map(str, network))}, which is not in "
                f"{settings.out}): give another --results, or join them (--joined)"
            )


def refuse_unlike(settings: Settings) -> None:
    """Raise ValueError where profiles of one set-up, which tables compare, are not of the same images and orders, or
    show them to the same network by another mean and deviation, or are of other photographs of the same names."""
    for family in settings.families:
        for setup in setups(family):
            folders = [setup.of(settings, *network) for network in everyone(settings) if network[0] == family]
            runs = as_runs({str(folder): load_profile(folder).record for folder in folders if is_complete(folder)})
            if words := shown_words(runs) or photograph_words(runs):
                raise ValueError(f"{words} They are to be measured alike: leave out, or measure again, what was not")
            if joined_networks(settings) and len(runs) > 1 and (phrases := differences_of(runs)):
                raise ValueError(
                    f"the networks of the joined study were measured otherwise than those of this one ({phrases[0]}): "
                    "join results of the same size"
                )
