"""The work units of a measuring run: who measures which, and the end, which comes when all of them are there."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from interactions.runs import storage
from interactions.runs.files import write_csv, write_json
from interactions.runs.lock import held, is_lost
from interactions.runs.ranks import Ranks, join
from interactions.runs.unfinished import Unfinished, clear
from interactions.selection import Chosen

PACE = 0.5 if sys.stderr.isatty() else 10.0
"""Seconds between two updates of a progress bar; a log file need not have all of them."""

Parts = Mapping[storage.Part, Any]
Measure = Callable[[Sequence[Chosen], Callable[[int], object], Unfinished], tuple[Parts, Mapping[str, Any]]]
"""The images of a unit, what to call with the number of passes made, and what keeps the values of a unit that is not
done -> the unit's tables, and what to say about them."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a sentence on how far the run is and how it goes on."""


def carry_out(
    folder: Path,
    begin: Callable[[], dict[str, Any]],
    measure: Callable[[dict[str, Any], Ranks], None],
    proceed: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Measure the units of the run that `begin` begins or goes on with, until `proceed` calls it complete.

    Started by torchrun, every process calls this, and `measure` in each of them; the first one begins and proceeds.
    """
    with join() as ranks, held(folder, ranks):
        record = ranks.from_first(begin)
        while record["status"] != "complete":
            measure(record, ranks)
            record = ranks.from_first(partial(proceed, record))


def measure_units(
    folder: Path,
    record: dict[str, Any],
    unit_images: int,
    ranks: Ranks,
    measure: Measure,
    progress: bool,
    until: float = math.inf,
) -> None:
    """Measure and write this rank's share of the units that are not there yet; return when all ranks have.

    progress: show a bar, in the first process.
    until: begin no unit after this time (of time.monotonic).

    Raises:
        Interrupted: Ctrl-C; what was measured is kept.
    """
    units = units_of(record, unit_images)
    finished = ranks.from_first(lambda: storage.finished_units(folder))
    mine = [unit for unit in range(len(units)) if unit not in finished][ranks.rank :: ranks.size]
    before, start = record["seconds"], time.perf_counter()
    passes = record["passes_per_image"] * sum(len(units[unit]) for unit in mine)
    kept: Unfinished | None = None

    def count_time() -> None:
        if ranks.rank == 0:
            record["seconds"] = before + time.perf_counter() - start
            write_json(folder / "run.json", record)

    shown = progress and ranks.rank == 0
    with tqdm(total=passes, unit=" passes", unit_scale=True, mininterval=PACE, disable=not shown) as bar:
        try:
            for unit in mine:
                if time.monotonic() > until:
                    break
                kept = Unfinished(folder, unit)
                parts, about = measure(units[unit], bar.update, kept)
                storage.write_unit(folder, unit, parts, about)
                kept.clear()
                count_time()
        except KeyboardInterrupt:
            if is_lost(folder):
                raise Interrupted(
                    f"stopped, since {folder} is another process's now: nothing more is written"
                ) from None
            if kept:
                kept.keep()
            count_time()
            done = sum(len(units[unit]) for unit in storage.finished_units(folder) if unit < len(units))
            twice = ", some of them several times" * (sum(map(len, units)) > len(record["images"]))
            raise Interrupted(
                f"stopped with {done} of {sum(map(len, units))} images measured{twice}, and what is known of the next "
                f"ones kept in {folder}: the same command goes on"
            ) from None
        bar.total = bar.n  # how many passes an image takes was an estimate
    ranks.wait()


def finish(
    folder: Path, record: dict[str, Any], unit_images: int, tables: Mapping[str, Callable[[], Any]], **about: Any
) -> dict[str, Any]:
    """Write the tables, then the record that calls the run complete; returns that.

    Args:
        tables: what makes each, by the name of its file.
        about: called once every unit is known to be there, for what else the record should say.

    Raises:
        FileNotFoundError: units, or the whole run, that were measured and are not there any more.
    """
    count, missing = len(units_of(record, unit_images)), units_left(folder, record, unit_images)
    if missing or not (folder / "run.json").exists():
        what = f"{len(missing)} of {count} units ({', '.join(map(str, missing[:5]))} …)" if missing else "its run.json"
        raise FileNotFoundError(
            f"{folder} lacks {what}, which were there: were they removed, or changed? Start the command again, it "
            "measures what is missing"
        )
    clear(folder)
    for name, table in tables.items():
        write_csv(folder / name, table())
    record.update({name: value() for name, value in about.items()}, units=count, status="complete")
    write_json(folder / "run.json", record)
    return record


def units_left(folder: Path, record: Mapping[str, Any], unit_images: int) -> list[int]:
    """The numbers of the units that are not there yet."""
    return sorted(set(range(len(units_of(record, unit_images)))) - storage.finished_units(folder))


def units_of(record: Mapping[str, Any], unit_images: int) -> list[list[Chosen]]:
    """The images of each unit."""
    chosen = [Chosen(**one) for one in record["images"]]
    return [chosen[first:last] for _, first, last in places_of(record, unit_images)]


def places_of(record: Mapping[str, Any], unit_images: int) -> list[tuple[int, int, int]]:
    """Of each unit the number of its round, and the places of its first image and after its last in the run's list.
    Units do not cross the rounds of a run that has some."""
    rounds = [(each["first"], each["last"]) for each in record.get("rounds", ())] or [(0, len(record["images"]))]
    return [
        (number, start, min(start + unit_images, last))
        for number, (first, last) in enumerate(rounds)
        for start in range(first, last, unit_images)
    ]


def backed_off(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether memory made any batch smaller than the record's, in the pilot or in a unit."""
    sizes = [about["batch_size"] for about in storage.read_about(folder)]
    return record["backed_off"] or any(size < record["batch_size"] for size in sizes)
