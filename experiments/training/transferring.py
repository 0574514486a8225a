"""What networks reach on tasks that they were not trained for, in one table: a row for each run and measure, with the
paired difference from the first run, the middle mass M beside it, and how both rank the runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, rankdata

from a2mim.checkpoints.archive import read_text
from a2mim.detect import scores as detected
from a2mim.detect.scores import Matches
from a2mim.redraws import ends_of
from a2mim.runs import LONGEST_RECORD, read_run
from a2mim.segment import scores as segmented
from experiments.records import check_records
from experiments.training.frozen import wilson_interval
from experiments.training.setups import data_of, few_of, how_of, how_probed, neighbours_of
from figures.files import read_arrays
from figures.game import GAME, RAW, image_phrases, pixel_words
from figures.runs import Run, differ_in, open_runs, phrases_of
from figures.tables import read_table

TASKS = ("segment", "detect", "finetune")
"""Commands whose folders are runs of transfer."""
PROBES = ("linear", "knn")
"""Commands whose results are one file."""
KEY = ["task", "data", "setup", "measure"]
COLUMNS = [
    *("run", *KEY, "value", "low", "high", "difference", "difference_low", "difference_high", "images"),
    *("M", "M_low", "M_high", "M_measure", "M_note"),
]
FEWEST = 4
"""Runs of a rank correlation."""
DRAWS = 10_000


@dataclass(frozen=True)
class Found:
    """One measure of one run.

    task, data, setup: what was done, on which pictures, and with what (decoder or head, frozen or fine-tuned, how few
        training images).
    pictures: what a paired difference is taken of, None where nothing of each picture is kept.
    asked: images of the evaluation with those that could not be read, where nothing of each is kept in any measure.
    digest: what these images are known by, empty where a record from before that was kept does not say.
    how: of the rest of how it came about, what runs of one set-up may differ in, a phrase each.
    """

    task: str
    data: str
    setup: str
    measure: str
    value: float
    low: float
    high: float
    images: int
    pictures: Any = None
    asked: int = 0
    digest: str = ""
    how: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A run of the table: its name there, its folder or file, and the profile of its backbone, if there is one."""

    name: str
    path: Path
    profile: Path | None = None


def transfer_table(entries: Sequence[Entry], mass: str = "J_rms", across: bool = False) -> pd.DataFrame:
    """The columns COLUMNS; a difference is that from the first run of the same task, data, set-up and measure.

    mass: the measure of M, over one game and the same images for all. across: the set-up may be another one.

    Raises FileNotFoundError and ValueError for what is no finished run of transfer, a run on other pictures than the
    first, and a profile without that M.
    """
    profiles = profiles_of(entries)
    refuse_unlike(profiles, mass)
    about_mass = {"M_measure": mass, "M_note": pixel_words(profiles)}
    first: dict[tuple[str, ...], tuple[Entry, Found]] = {}
    counted: dict[str, tuple[Path, int]] = {}
    known: dict[str, tuple[Path, str]] = {}
    rows = []
    masses = {entry: mass_in(entry.profile, mass) | about_mass if entry.profile else {} for entry in entries}
    everything = [(entry, found) for entry in entries for found in found_in(entry.path)]
    for entry, found in told_apart(everything):
        if found.asked:
            refuse_other_number(*counted.setdefault(found.data, (entry.path, found.asked)), entry.path, found)
        if found.digest:
            refuse_other_pictures(*known.setdefault(found.data, (entry.path, found.digest)), entry.path, found)
        key = (found.task, found.data, found.measure, *(() if across else (found.setup,)))
        leader, start = first.setdefault(key, (entry, found))
        about = {name: getattr(found, name) for name in (*KEY, "value", "low", "high", "images")}
        apart = {} if leader is entry else difference(start, found, leader.path, entry.path)
        rows.append({"run": entry.name, **about, **apart, **masses[entry]})
    return pd.DataFrame(rows, columns=COLUMNS)


def told_apart(everything: Sequence[tuple[Entry, Found]]) -> list[tuple[Entry, Found]]:
    """The same with what runs of one set-up differ in as a part of its name: of other epochs or other sizes of images
    they are two."""
    of_setup: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for _, found in everything:
        of_setup.setdefault((found.task, found.data, found.setup), []).append(found.how)
    named = []
    for entry, found in everything:
        others = of_setup[found.task, found.data, found.setup]
        differing = [phrase for phrase in found.how if any(phrase not in how for how in others)]
        named.append((entry, replace(found, setup=", ".join([found.setup, *differing]))))
    return named


# ------------------------------------------------------------------------------------------- what a run reached


def found_in(path: Path) -> Iterator[Found]:
    """Every measure of a run. Raises as `transfer_table` does."""
    if path.suffix == ".json":
        yield from probed(path)
        return
    run = read_run(path)
    if (task := run["command"]) not in TASKS:
        raise ValueError(
            f"{path} is a run of a2mim {task}: give folders of {', '.join(TASKS)}, or results of {' and '.join(PROBES)}"
        )
    if not run["finished"] or not run.get("last"):
        raise ValueError(f"{path} is not finished, or was never evaluated: go on with a2mim {task} --resume {path}")
    last, settings = run["last"], run["settings"]
    how = how_of(task, settings)
    images, data, few = int(last["val_images"]), data_of(settings), few_of(settings)
    if task == "finetune":
        between = ends(last, "top1", images)
        yield Found(
            task, data, f"fine-tuned{few}", "top1", last["top1"], *between, images, **evaluated(run, images), how=how
        )
        return
    state = "frozen" if settings["decoding" if task == "segment" else "detecting"]["frozen"] else "fine-tuned"
    if task == "segment":
        counts = counts_in(path)
        for measure in ("miou", "mean_accuracy", "pixel_accuracy"):
            setup = f"{settings['decoding']['decoder']}, {state}{few}"
            kept = counts if measure == "miou" else None
            yield Found(task, data, setup, measure, last[measure], *ends(last, measure), images, kept, how=how)
        return
    window = settings["detecting"].get("window", 0)  # older runs had none
    setup = f"{settings['detecting']['detector']}, {state}" + f", windows of {window}" * bool(window) + few
    for kind in ("box", "mask"):
        for measure in (f"{kind}_ap", f"{kind}_ap50", f"{kind}_ap75"):
            if measure in last:
                matches = matches_in(path, kind) if measure == f"{kind}_ap" else None
                yield Found(task, data, setup, measure, last[measure], *ends(last, measure), images, matches, how=how)


def probed(path: Path) -> Iterator[Found]:
    """Of a result of `a2mim linear` each head, of `a2mim knn` its accuracy."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the result of a2mim linear or a2mim knn")
    try:
        result = json.loads(read_text(path, LONGEST_RECORD))
        task, images, settings = result["command"], int(result["test_images"]), result["settings"]
        data, few = data_of(settings), few_of(settings)
        heads = result["heads"] if task == "linear" else {f"nearest neighbours{neighbours_of(settings)}": result}
        seeds = int(settings.get("seeds", 1))
        for head, one in heads.items():
            setup = head + few + (f", mean of {seeds} seeds" if seeds > 1 else "")  # whose interval is over the seeds
            between = ends(one, "top1", images)
            about = evaluated(result, images) | {"how": how_probed(head, result)}
            yield Found(task, data, setup, "top1", float(one["top1"]), *between, images, **about)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no result of a2mim linear or a2mim knn: give the file that they wrote") from error


def unread(record: Mapping[str, Any]) -> int:
    """Validation images that could not be read."""
    rows = record.get("skipped") or []
    return sum(isinstance(row, dict) and row.get("part") == "validation" for row in rows)


def refuse_other_number(leader: Path, images: int, path: Path, found: Found) -> None:
    """Raises ValueError where two runs of the same data cannot have been evaluated on the same images."""
    if found.asked != images:
        raise ValueError(
            f"{path} was evaluated on {found.asked:,} images and {leader} on {images:,}, both of {found.data}: compare "
            "runs on the same"
        )


def evaluated(record: Mapping[str, Any], images: int) -> dict[str, Any]:
    """How many validation images were asked for, of which so many could be read, and what all are known by."""
    digest = record.get("data", {}).get("validation", {}).get("digest", "")
    return {"asked": images + unread(record), "digest": str(digest)}


def refuse_other_pictures(leader: Path, digest: str, path: Path, found: Found) -> None:
    """Raises ValueError where two runs were evaluated on other images of one name."""
    if found.digest != digest:
        raise ValueError(
            f"{path} and {leader} were evaluated on other images, although both are called {found.data}: compare runs "
            "on the same"
        )


def ends(numbers: Mapping[str, Any], measure: str, images: int = 0) -> tuple[float, float]:
    """The interval that a record holds; of an accuracy without one Wilson's over images; NaN where there is none."""
    if f"{measure}_low" in numbers:
        return numbers[f"{measure}_low"], numbers[f"{measure}_high"]
    between = wilson_interval(numbers[measure], images) if images else {}
    return between.get("top1_low", np.nan), between.get("top1_high", np.nan)


def counts_in(folder: Path) -> np.ndarray:
    """Of the last evaluation (N, 3, K). Raises ValueError where the run holds none."""
    counts = arrays_in(folder / "counts.npz", ["counts"], "segment")["counts"]
    if counts.ndim != 3 or counts.shape[1] != 3 or counts.dtype.kind not in "iu":
        raise ValueError(f"{folder}/counts.npz is damaged: start a2mim segment again")
    return counts


def matches_in(folder: Path, kind: str = "box") -> Matches:
    """Of the boxes, or masks, of the last evaluation. Raises ValueError where the run holds none."""
    names = {each.name: f"{kind}_{each.name}" for each in fields(Matches)}
    arrays = arrays_in(folder / "matches.npz", list(names.values()), "detect")
    return Matches(**{name: arrays[held] for name, held in names.items()})


def arrays_in(path: Path, names: Sequence[str], command: str) -> dict[str, np.ndarray]:
    """What a run keeps of each picture. Raises ValueError where it holds no such file, or another."""
    try:
        arrays = read_arrays(path, names)
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}: start a2mim {command} again") from error
    if len(arrays) < len(names):
        raise ValueError(f"{path} lacks {', '.join(sorted({*names} - {*arrays}))}: start a2mim {command} again")
    return arrays


def difference(first: Found, second: Found, leader: Path, path: Path) -> dict[str, float]:
    """By how much the second is higher, with its interval over the same pictures; empty where nothing of each picture
    is kept. Raises ValueError for other pictures or classes."""
    one, other = first.pictures, second.pictures
    if one is None or other is None:
        return {}
    same: Callable[[Any], Any] = (lambda x: x.there) if isinstance(one, Matches) else (lambda x: x[:, 1])
    if not np.array_equal(same(one), same(other)):
        raise ValueError(f"{path} was evaluated on other pictures than {leader}: compare runs on the same")
    if isinstance(one, Matches):
        return detected.difference(one, other, second.measure.partition("_")[0])
    return segmented.difference(one, other)


# ------------------------------------------------------------------------------------------- the middle mass beside it


def profiles_of(entries: Sequence[Entry]) -> list[Run]:
    """The profile of every backbone, by the name of the first of its entries."""
    names: dict[Path, str] = {}
    for entry in entries:
        if entry.profile:
            names.setdefault(entry.profile, entry.name)
    runs = open_runs(list(names), list(names.values())) if names else []
    check_records(runs)
    return runs


def refuse_unlike(profiles: Sequence[Run], measure: str) -> None:
    """Raises ValueError where M of these profiles is not of one game, and says nothing of their networks together."""
    if words := unlike_masses(profiles, measure):
        raise ValueError(
            f"of the profiles, {words[0].lower()}{words[1:-1]}, and their M are not of one game: give profiles that "
            "were made alike, or - for a run without one"
        )


def unlike_masses(profiles: Sequence[Run], measure: str) -> str:
    """A sentence on what M of these profiles is not alike in, as `a2mim compare` refuses it; empty where all is: M of
    the raw J is of one noise, too."""
    facets = GAME | RAW if measure == "J" else GAME
    return differ_in([*phrases_of(profiles, facets), *image_phrases(profiles)])


def mass_in(profile: Path, measure: str) -> dict[str, float]:
    """M, M_low and M_high of a profile. Raises ValueError where it has none by that measure."""
    rows = read_table(profile / "middle_mass.csv", ["M", "M_low", "M_high"], ["measure"], "the middle mass")
    rows = rows[rows["measure"] == measure]
    if len(rows) != 1 or rows["M"].isna().any():
        raise ValueError(f"{profile} has no middle mass M by {measure}: measure it at order ratios from 0.3 to 0.7")
    return {name: float(rows[name].iloc[0]) for name in ("M", "M_low", "M_high")}


def correlations(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Of every task, data, set-up and measure with M of four runs or more: Spearman's rank correlation (rho, low, high,
    p) of M with the value, and the number of runs.

    The interval is that of runs drawn with replacement. Of few runs it is wide, and that M and value have intervals of
    their own is not in it.
    """
    rows = []
    for key, some in table.dropna(subset=["M", "value"]).groupby(KEY, sort=False):
        if len(some) >= FEWEST:
            found = rank_correlation(some["M"].to_numpy(), some["value"].to_numpy(), seed)
            rows.append({**dict(zip(KEY, key, strict=True)), **found, "runs": len(some)})
    return pd.DataFrame(rows, columns=[*KEY, "rho", "low", "high", "p", "runs"])


def rank_correlation(x_N: np.ndarray, y_N: np.ndarray, seed: int = 0) -> dict[str, float]:
    """rho; low and high: percentiles 2.5 and 97.5 over draws of the pairs with replacement, without those draws that
    have no ranks; p: two-sided, of all permutations (of 9,999 where there are more). NaN for values that are all alike,
    and no ends for rho of 1 or −1, whose draws all are that, too."""
    drawn_WN = np.random.default_rng(seed).integers(0, len(x_N), (DRAWS, len(x_N)))
    rho_W = spearman(x_N[drawn_WN], y_N[drawn_WN])
    rho_W = rho_W[~np.isnan(rho_W)]
    whole = float(spearman(x_N[None], y_N[None])[0])
    if not abs(whole) < 1 - 1e-9:
        between = {"rho_low": np.nan, "rho_high": np.nan}
    else:
        between = ends_of({"rho": rho_W})
    p = permuted(x_N, y_N, seed) if np.isfinite(whole) else np.nan
    return {"rho": whole, "low": between["rho_low"], "high": between["rho_high"], "p": p}


def permuted(x_N: np.ndarray, y_N: np.ndarray, seed: int) -> float:
    """The share of the orders of x whose correlation is as far from 0 as that found, twice the smaller tail."""

    def statistic(x: np.ndarray, axis: int = -1) -> np.ndarray:
        x_WN = np.atleast_2d(x)
        found = spearman(x_WN, np.broadcast_to(y_N, x_WN.shape))
        return found if x.ndim > 1 else found[0]

    test = permutation_test(
        (x_N,), statistic, permutation_type="pairings", vectorized=True, rng=np.random.default_rng(seed)
    )
    return float(test.pvalue)


def spearman(x_WN: np.ndarray, y_WN: np.ndarray) -> np.ndarray:
    """The correlation of the ranks of each row (W,), ties sharing theirs; NaN for a row of one value."""
    x_WN, y_WN = (rankdata(each, axis=1) for each in (x_WN, y_WN))
    x_WN, y_WN = (each - each.mean(1, keepdims=True) for each in (x_WN, y_WN))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x_WN * y_WN).sum(1) / np.sqrt((x_WN**2).sum(1) * (y_WN**2).sum(1))
