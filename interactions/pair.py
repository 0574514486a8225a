"""Two models measured on the same images until the difference of their M is as narrow as asked.

    pair = profile_pair(
        Subject("resnet50", resnet50, images), Subject("vit", vit, images_of_vit), out="runs/pair", precision=0.1
    )
    pair.difference()           # M of the first minus M of the second, with its paired interval over images

Each model's folder, OUT/NAME, is a usual run. Images are the same, in the same order; between two rounds the number of
images and the passes of both models' orders are chosen from what both measured (`interactions.precision`). What one
folder lacks of a round that the other one has, it gets when the same call goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor, nn

from interactions.ahead import read_ahead
from interactions.baselines import Normalisation
from interactions.grid import PatchGrid
from interactions.intervals import RESAMPLES
from interactions.levels import in_full_passes
from interactions.looks import looks_of, merged
from interactions.masses import paired_mass
from interactions.measured import Profile, load_profile
from interactions.own import with_names
from interactions.planning import learnt
from interactions.precision import (
    Curve,
    Round,
    curve_of,
    difference_curve,
    is_reached,
    next_pair,
    reached,
    tell_difference,
)
from interactions.profiling import Run
from interactions.rounds import begun, cut_to_measured, last_look, rest_of_look
from interactions.runs.files import write_json
from interactions.runs.lock import held
from interactions.runs.ranks import join
from interactions.runs.record import NOTHING, Material
from interactions.seen import comparable, seen_by
from interactions.segments import Segments
from interactions.selection import Images
from interactions.settings import PRECISION, ProfileSettings, settled

Record = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One of the models: `name` is that of its folder; the others are arguments of `profile_model`."""

    name: str
    model: nn.Module
    dataset: Images
    normalisation: Normalisation | None = None
    model_name: str = ""
    transform: Mapping[str, Any] = field(default_factory=dict)
    accompany: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class Pair:
    """The two runs, by name."""

    profiles: Mapping[str, Profile]

    def difference(self, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
        """As `paired_mass`: run_a, run_b, measure, difference, low, high, images."""
        tables = {name: profile.images() for name, profile in self.profiles.items()}
        return paired_mass(tables, resamples=resamples, seed=seed)


def profile_pair(
    first: Subject,
    second: Subject,
    *,
    out: str | Path,
    grid: PatchGrid | Segments | int = 14,
    pairs: str | ArrayLike | Tensor = "near",
    orders: Sequence[int] | None = None,
    precision: float = PRECISION,
    names: Sequence[str] | None = None,
    data_name: str = "",
    about: Mapping[str, Any] = NOTHING,
    num_workers: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Pair:
    """Measure two models over the same images; go on with the measurement if `out` holds it unfinished.

    With target predicted, both are measured on the classes that the first predicts.

    Args:
        first, second: the models, each with the images as it takes them.
        out: folder of the two folders.
        grid, pairs, orders: the players, which pairs of them are measured, and at which orders, as of `profile_model`.
        precision: half width of the 95 % interval of M(first) − M(second), of J_rms.
        num_workers: threads that read the next images of each meanwhile.
        settings: the fields of `ProfileSettings`, but for a budget and the filter for correct images.

    Raises:
        ValueError: as `profile_model`; a budget, a filter, names or data sets that cannot be those of two runs over the
            same images.
    """
    settings = with_names({"grid": grid, "pairs": pairs, **settings}, orders)
    wanted = settled(ProfileSettings(**settings | {"precision": precision, "of": "difference"}))
    refuse_unpaired(first, second, wanted, names)
    folders = [Path(out) / subject.name for subject in (first, second)]
    runs: list[Run] = []
    records: list[Record] = []
    with ExitStack() as stack:
        ranks = stack.enter_context(join())
        for folder in folders:
            stack.enter_context(held(folder, ranks))
        for subject, folder in zip((first, second), folders, strict=True):
            its = with_classes_of(folders[0], wanted) if runs else wanted
            called = (subject.model_name or subject.name, data_name, subject.transform)
            material = Material.of(subject.model, subject.dataset, names, *called)
            images = stack.enter_context(read_ahead(subject.dataset, wanted, num_workers))
            of_run = (replace(material, dataset=images), folder, its, subject.normalisation or Normalisation())
            run = Run(*of_run, progress)
            runs.append(run)
            records.append(ranks.from_first(partial(run.begin, about, subject.accompany)))
        refuse_other_pictures((first, second), records)
        while any(record["status"] != "complete" for record in records):
            for run, record in zip(runs, records, strict=True):
                if record["status"] != "complete":
                    run.measure_units(record, ranks)
            records = ranks.from_first(partial(proceed, runs, records, progress))
    return Pair({subject.name: load_profile(folder) for subject, folder in zip((first, second), folders, strict=True)})


def with_classes_of(folder: Path, settings: ProfileSettings) -> ProfileSettings:
    """The settings of the second run, which has the classes of the first where these are predictions."""
    if settings.target != "predicted" or settings.value == "cosine":
        return settings
    return replace(settings, target=str(folder))


def refuse_unpaired(first: Subject, second: Subject, settings: ProfileSettings, names: Sequence[str] | None) -> None:
    """Raises ValueError for what cannot be measured as a pair."""
    if first.name == second.name:
        raise ValueError(f"two runs are called {first.name}: give them names that differ")
    if len(first.dataset) != len(second.dataset):
        raise ValueError(
            f"{len(first.dataset)} images for {first.name} and {len(second.dataset)} for {second.name}: give both the "
            "same images"
        )
    if settings.only_correct:
        raise ValueError(
            "two models classify other images correctly: measure both on all images, or each by itself with the filter"
        )
    settings.check()


def refuse_other_pictures(subjects: Sequence[Subject], records: Sequence[Record]) -> None:
    """Raises ValueError where images of one number have other pixels, and both make their images in one way."""
    if not comparable(*map(seen_by, records)):
        return
    ours, theirs = ({one["image"]: one for one in record["images"]} for record in records)
    for number in sorted(ours.keys() & theirs.keys()):
        if ours[number]["digest"] != theirs[number]["digest"]:
            one, other = ours[number]["name"], theirs[number]["name"]
            raise ValueError(
                f"{one} of {subjects[0].name} is another image than {other} of {subjects[1].name}: give both the same "
                "images, in the same order"
            )


def proceed(runs: Sequence[Run], records: Sequence[Record], progress: bool) -> list[Record]:
    """What follows when the units that were planned are measured: another round of both, or the end."""
    late = any(run.out_of_time(record) for run, record in zip(runs, records, strict=True))
    if late:
        for run, record in zip(runs, records, strict=True):
            cut_to_measured(run.folder, record, run.settings.unit_images)
    a, b = tables = shared_rows(runs, records)
    count = a.image.nunique()
    curve, precision = difference_curve(a, b), runs[0].settings.precision
    assert precision is not None
    most = runs[0].most(records[0])
    for record, rows in zip(records, tables, strict=True):
        record["orders"] = learnt(record["orders"], merged(rows))
    turns = [run.planning.turns(record["orders"]) for run, record in zip(runs, records, strict=True)]
    plan = partial(next_pair, a, b, curve, precision, unit_images=runs[0].settings.unit_images, turns=turns)
    following, added, most = begun(plan, partial(add_rounds, runs, records), count, most, late)
    if progress:
        spent, seconds = sum(float(rows.passes.sum()) for rows in tables), sum(one["seconds"] for one in records)
        tell_difference(curve, precision, count, added, spent / max(seconds, 1e-3))
    if added:
        return list(records)
    more = following is not None and (
        following[0].again or any(len(one["images"]) < run.most(one) for run, one in zip(runs, records, strict=True))
    )
    enough = "precision" if is_reached(count, most, curve.widest, precision) else "images"
    ended = "minutes" if late and more else enough
    for run, record, other, rows in zip(runs, records, reversed(records), tables, strict=True):
        record["reached"] = reached(curve_of(rows), rows)
        record["difference"] = difference_reached(curve, precision, other)
        run.end(record, ended)
    return list(records)


def shared_rows(runs: Sequence[Run], records: Sequence[Record]) -> list[pd.DataFrame]:
    """The rows of each run, of the images that both hold: one of them may have left out what it cannot read. Of looks
    that only one was given yet there are none, so that the other one's is planned as it would have been."""
    a, b = (in_full_passes(Profile(run.folder, each).looks(), each) for run, each in zip(runs, records, strict=True))
    shared, look = np.intersect1d(a.image, b.image), min(map(last_look, records))
    return [rows[rows.image.isin(shared) & (looks_of(rows) <= look)] for rows in (a, b)]


def add_rounds(runs: Sequence[Run], records: Sequence[Record], following: Sequence[Round]) -> list[Round]:
    """Give each run its round, where it does not have it yet; nothing where there are no more images."""
    added: list[Round] = []
    look, cut = min(map(last_look, records)), any(map(rest_of_look, records))
    for run, record, of_run in zip(runs, records, following, strict=True):
        # One of them may hold more images than both do, or have had its look already, or have the rest of one to come.
        own = replace(of_run, first=0 if of_run.again else len(record["images"]))
        lacks_look = rest_of_look(record) is not None if cut else last_look(record) == look
        missing = lacks_look if own.again else own.first < own.last
        if missing and (round_now := run.add_round(record, own)) is not None:
            record["status"] = "running"
            added.append(round_now)
            write_json(run.folder / "run.json", record)
    return added


def difference_reached(curve: Curve, precision: float, other: Record) -> dict[str, Any]:
    """How narrow the difference got, for the record: null where nothing can be said."""
    width = curve.widest if curve.widest < float("inf") else None
    return {"measure": "M of J_rms", "to": other["model"]["name"], "half_width": width, "asked": precision}
