"""Runs side by side: one figure of their curves, their middle masses, and the paired differences of these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.measuring.inputs import spaced
from experiments.outputs import claim, tables_beside
from experiments.records import distinct_names
from figures.comparison import draw_comparison
from figures.curves import PRIMARY
from figures.runs import grid_words, ground_words, pair_words, refuse_empty
from figures.style import check_suffix
from figures.tables import read_table
from figures.words import baseline_in_words, value_in_words
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
            parts.insert(0, f"These runs differ in {'; in '.join(self.unlike)}.")
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
            an `out` that is a run's own file, or runs that differ in images, target, value, baseline, grid, pairs or
            orders.
    """
    out = check_suffix(out)
    if measure not in MASS_MEASURES:
        raise ValueError(f"there is no relative strength {measure!r}: choose one of {', '.join(MASS_MEASURES)}")
    beside = tables_beside(out)
    claim((out, *beside))
    runs = named([Path(folder) for folder in folders], names)
    records = {name: run.record for name, run in runs.items()}
    unlike, pixels = tuple(differences_of(records)), pixel_words(records)
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
        unit=value_in_words(first["settings"]["value"]),
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
    """`paired_mass` of every two runs that share images, or of the first with each of the others."""
    images = {name: by_identity(run) for name, run in runs.items()}
    names = list(images)
    pairs = product(names[:1], names[1:]) if to_first else combinations(names, 2)
    columns = ["run_a", "run_b", "measure", "difference", "low", "high", "images"]
    parts = [
        paired_mass({a: images[a], b: images[b]}) for a, b in pairs if set(images[a]["image"]) & set(images[b]["image"])
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def by_identity(run: Profile) -> pd.DataFrame:
    """The images table with names for numbers, which mean nothing in another data set."""
    number_to_name = {one["image"]: name for name, one in identities(run.record).items()}
    return run.images().assign(image=lambda rows: rows["image"].map(number_to_name))


def identities(record: Record) -> dict[str, Record]:
    """What the run noted of each image, by what tells the image apart: its name, where the names are the data set's
    own and no two are alike, else the data set and the number."""
    images, data = record["images"], record["data"]
    if data["digest"] is not None and len({one["name"] for one in images}) == len(images):
        return {one["name"]: one for one in images}
    return {f"{data['name']} {one['image']}": one for one in images}


def differences_of(records: Mapping[str, Record]) -> list[str]:
    """What the runs did not do alike of all that a comparison of M needs alike, one phrase each; empty if nothing."""
    images = {run: identities(record) for run, record in records.items()}
    phrases = []
    by_size = sorted((set(of_run) for of_run in images.values()), key=len)
    # Runs to a precision take one random order of the images, some more of it than others: that is no difference.
    if not all(fewer <= more for fewer, more in pairwise(by_size)):
        shared = set.intersection(*(set(of_run) for of_run in images.values()))
        counts = ", ".join(f"{len(of_run)} in {run}" for run, of_run in images.items())
        phrases.append(f"images ({counts}; {len(shared)} in all)")
    phrases += target_phrases(list(images.values()))
    one_grid = len({record["settings"]["grid"] for record in records.values()}) == 1
    facets: dict[str, Callable[[Record], str]] = {
        "value": lambda record: record["settings"]["value"],
        "baseline": lambda record: record["settings"]["baseline"],
        "grid": grid_words,
        "pairs": pair_words,
        "orders": lambda record: ", ".join(f"{one['order' if one_grid else 'ratio']:g}" for one in record["orders"]),
        "orders of M": lambda record: ", ".join(
            f"{one['order']:g}" for one in record["orders"] if in_middle(one["ratio"])
        ),
        "filter": lambda record: "correct ones alone" if record["settings"].get("only_correct") else "all images",
    }
    for facet, of in facets.items():
        runs_of: dict[str, list[str]] = {}
        for run, record in records.items():
            runs_of.setdefault(of(record), []).append(run)
        if len(runs_of) > 1:
            listed = "; ".join(f"{what}: {', '.join(runs)}" for what, runs in runs_of.items())
            phrases.append(f"{facet} ({listed})")
    return phrases


def pixel_words(records: Mapping[str, Record]) -> str:
    """Which runs show images of other mean and deviation to what seems to be one network; empty where none do."""
    runs_of: dict[tuple[str, int], dict[str, list[str]]] = {}
    for run, record in records.items():
        model, shown = record["model"], record["settings"]["normalisation"]
        words = f"mean {spaced(shown['mean'])} and deviation {spaced(shown['std'])}"
        runs_of.setdefault((model["class"], model["parameters"]), {}).setdefault(words, []).append(run)
    return " ".join(
        f"Networks of one kind ({kind}, {parameters:,} parameters) are shown images of "
        f"{'; of '.join(f'{words}: ' + ', '.join(runs) for words, runs in of.items())}; was each trained so?"
        for (kind, parameters), of in runs_of.items()
        if len(of) > 1
    )


def target_phrases(images: Sequence[Mapping[str, Record]]) -> list[str]:
    """A phrase if the runs explain different classes in images that all of them hold."""
    shared = set.intersection(*(set(of_run) for of_run in images))
    other = sum(len({of_run[name]["target"] for of_run in images}) > 1 for name in shared)
    return [f"target class (of {other} of {len(shared)} shared images)"] if other else []


def common_ground(record: Record) -> str:
    """What runs that may be compared have in common."""
    settings = record["settings"]
    of, baseline = value_in_words(settings["value"]), baseline_in_words(settings["baseline"])
    return f"{ground_words(record)}, {of}, baseline {baseline}."
