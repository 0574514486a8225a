"""Runs side by side: one figure of their curves, their middle masses, and the paired differences of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.outputs import claim, tables_beside
from experiments.records import distinct_names
from figures.comparison import draw_comparison
from figures.curves import PRIMARY
from figures.game import FILTER, RAW, UNUSUAL, identities, image_phrases, pixel_words
from figures.runs import (
    Facets,
    Run,
    alike,
    differ_in,
    grid_words,
    ground_words,
    output_words,
    pair_words,
    phrases_of,
    refuse_empty,
    unit_words,
)
from figures.style import check_suffix
from figures.tables import read_table
from figures.words import baseline_in_words
from interactions.masses import MASS_MEASURES, in_middle, paired_mass
from interactions.profile import Profile, load_profile
from interactions.runs.files import write_csv

Record = Mapping[str, Any]
MASS = ["M", "M_low", "M_high", "images"]
"""Numbers of middle_mass.csv."""


@dataclass(frozen=True)
class Comparison:
    """masses: run, measure, M, M_low, M_high, images, baseline. differences: run_a, run_b, measure, difference (M of a
    − M of b), low, high, images, over the images that both runs hold. unlike: what else sets the runs apart, one phrase
    each. note: what may be as it should, or not."""

    masses: pd.DataFrame
    differences: pd.DataFrame
    unlike: tuple[str, ...]
    files: tuple[Path, ...]
    note: str = ""

    def report(self, measure: str) -> str:
        """Both tables for one measure, and the files, as lines to print."""
        tables = [
            table[table["measure"] == measure].drop(columns="measure") for table in (self.masses, self.differences)
        ]
        parts = [table.to_string(index=False, float_format="{:.3f}".format) for table in tables if len(table)]
        if self.unlike:
            parts.insert(0, differ_in(self.unlike))
        if self.note:
            parts.insert(0, f"Note: {self.note}")
        return "\n\n".join([*parts, "wrote " + ", ".join(map(str, self.files))])


def compare_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    names: Sequence[str] = (),
    measure: str = PRIMARY,
    anyway: bool = False,
    title: str = "",
    caption: str = "",
) -> Comparison:
    """Draw the curves of two or more profiles, and write the tables of M beside the figure.

    Args:
        folders: of finished profiles.
        out: the figure: .png, .pdf or .svg. The tables get its name: NAME.csv with M of each run, and
            NAME-differences.csv with the paired differences.
        names: of the runs in the legend and the tables; their folders' names when empty.
        measure: the measure that is drawn: J (as published), J_corrected or J_rms. The tables hold all three.
        anyway: compare runs that differ in what was measured; the figure then says so.

    Raises:
        FileNotFoundError: a folder without a profile.
        ValueError: fewer than two runs, an unfinished run, names that do not fit, an unknown measure, another suffix,
            an `out` that is a run's own file, or runs that differ in images, target, value, baseline, grid, pairs,
            orders or filter; where J is drawn, which noise lifts, in passes, design or reduced precision.
    """
    out = check_suffix(out)
    if measure not in MASS_MEASURES:
        raise ValueError(f"there is no relative strength {measure!r}: choose one of {', '.join(MASS_MEASURES)}")
    beside = tables_beside(out)
    claim((out, *beside))
    runs = named([Path(folder) for folder in folders], names)
    records = as_runs({name: run.record for name, run in runs.items()})
    raw = phrases_of(records, RAW)
    unlike = (*differences_of(records), *(raw if measure == "J" else []))
    apart = "; in ".join(raw)
    aside = f"Noise lifts the raw J of the tables, and these runs differ in {apart}." if raw and measure != "J" else ""
    pixels = " ".join(filter(None, [pixel_words(records), aside]))
    if unlike and not anyway:
        raise ValueError(
            f"these runs did not measure the same thing, they differ in {'; in '.join(unlike)}: measure them alike, "
            "or compare them --anyway, and the figure says so"
        )
    read_masses = {name: read(run, "middle_mass.csv", MASS, ["measure"]) for name, run in runs.items()}
    parts = [table.assign(run=name, baseline=runs[name].settings["baseline"]) for name, table in read_masses.items()]
    masses = pd.concat(parts)[["run", "measure", "M", "M_low", "M_high", "images", "baseline"]].reset_index(drop=True)
    paired = paired_differences({name: run for name, run in runs.items() if name in set(masses["run"])})
    first = next(iter(runs.values())).record
    draw_comparison(
        {name: read(run, "strength.csv") for name, run in runs.items()},
        out,
        measure,
        masses=masses if set(masses["run"]) == set(runs) else None,
        differences=paired if len(paired) else None,
        note=" ".join(
            filter(None, [f"Compared in spite of differences in {'; in '.join(unlike)}." if unlike else "", pixels])
        ),
        title=title,
        caption=" ".join(filter(None, [caption, "" if unlike else common_ground(first)])),
        unit=unit_words(first),
    )
    write_csv(beside[0], masses)
    write_csv(beside[1], paired)
    return Comparison(masses, paired, unlike, (out, *beside), pixels)


def named(folders: Sequence[Path], names: Sequence[str]) -> dict[str, Profile]:
    """The finished profiles by the names to show."""
    if len(folders) < 2:
        raise ValueError("there is nothing to compare: name two runs or more")
    if names and len(names) != len(folders):
        raise ValueError(f"{len(names)} names for {len(folders)} runs: give one for each, or none")
    refuse_empty(names)
    names = names or distinct_names(folders)
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"several runs are called {', '.join(twice)}: give each run once, and --names that differ")
    return {name: finished(folder) for name, folder in zip(names, folders, strict=True)}


def finished(folder: Path) -> Profile:
    """The profile in a folder; ValueError while it is not complete."""
    profile = load_profile(folder)
    if profile.record.get("status") != "complete":
        wanted, rows = len(profile.record["images"]), profile.images()
        measured = rows["image"].nunique() if len(rows) else 0
        raise ValueError(
            f"{folder} is unfinished, {measured} of {wanted} images are measured: start its command again, "
            "it goes on where it was"
        )
    return profile


def read(run: Profile, table: str, numbers: Sequence[str] = (), texts: Sequence[str] = ()) -> pd.DataFrame:
    """One of the summary tables that a finished profile wrote, with or without rows. Raises as `read_table` does."""
    path = run.folder / table
    if not path.is_file():
        raise FileNotFoundError(f"{run.folder} lacks {table}: start its command again, which writes it")
    return read_table(path, numbers, texts, "the table", empty=True)


def paired_differences(runs: Mapping[str, Profile], to_first: bool = False) -> pd.DataFrame:
    """`paired_mass` of every two runs that share images and list the same orders, or of the first with each of the
    others."""
    images = {name: by_identity(run) for name, run in runs.items()}
    names = list(images)
    pairs = product(names[:1], names[1:]) if to_first else combinations(names, 2)
    columns = ["run_a", "run_b", "measure", "difference", "low", "high", "images"]
    held, listed = ({name: set(table[column]) for name, table in images.items()} for column in ("image", "ratio"))
    comparable = [(a, b) for a, b in pairs if held[a] & held[b] and listed[a] == listed[b]]
    parts = [paired_mass({a: images[a], b: images[b]}) for a, b in comparable]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def by_identity(run: Profile) -> pd.DataFrame:
    """The images table with names for numbers, which mean nothing in another data set."""
    number_to_name = {one["image"]: name for name, one in identities(run.record).items()}
    return run.images().assign(image=lambda rows: rows["image"].map(number_to_name))


def as_runs(records: Mapping[str, Record]) -> list[Run]:
    """As `figures` takes them, where only the records are looked at."""
    return [Run(Path(name), name, "", record) for name, record in records.items()]


def differences_of(runs: Sequence[Run]) -> list[str]:
    """What the runs did not do alike of all that a comparison of M needs alike, one phrase each; empty if nothing."""
    one_grid = len({run.record["settings"]["grid"] for run in runs}) == 1
    facets: Facets = {
        "value": output_words,
        "baseline": lambda record: record["settings"]["baseline"],
        "grid": grid_words,
        "pairs": pair_words,
        "orders": lambda record: ", ".join(f"{one['order' if one_grid else 'ratio']:g}" for one in record["orders"]),
        "orders of M": lambda record: ", ".join(
            f"{one['order']:g}" for one in record["orders"] if in_middle(one["ratio"])
        ),
        **FILTER,
    }
    return [*image_phrases(runs), *phrases_of(runs, facets)]


def common_ground(record: Record) -> str:
    """What runs that may be compared have in common."""
    settings = record["settings"]
    of, baseline = output_words(record), baseline_in_words(settings["baseline"])
    unusual = alike([Run(Path(), "", "", record)], UNUSUAL)
    return f"{ground_words(record)}, {of}, baseline {baseline}. {unusual}".strip()
