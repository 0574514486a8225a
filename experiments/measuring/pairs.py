"""Two models over the same images: two runs in one folder, and their comparison beside them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2mim.checkpoints.read import split_copy
from experiments.machine import commit, is_first
from experiments.measuring.comparison import compare_runs
from experiments.measuring.inputs import title
from experiments.measuring.opening import Opened, measured_settings, open_all
from experiments.records import ended_in_words, pairs_measured
from interactions.forecast import DryRun, duration
from interactions.pair import Subject, profile_pair, refuse_unpaired, with_classes_of
from interactions.profile import profile_model
from interactions.settings import PRECISION

if TYPE_CHECKING:
    from experiments.commands.profile import Settings
    from interactions.profile import Profile


def run_pair(settings: "Settings", draw: "Callable[[Profile], None]") -> None:
    """Measure both models, draw each curve and the comparison, and say what was written.

    Raises:
        ValueError: what cannot be measured as a pair; and as a profile does.
        DryRun: where only the forecast was asked for.
    """
    refuse(settings)
    both = apart(settings)
    opened = {name: open_all(own) for name, own in both.items()}
    first, second = [subject(name, both[name], opened[name]) for name in both]
    refuse_unpaired(first, second, settings.measure, opened[first.name].data.names)
    if list(opened[first.name].data.names or ()) != list(opened[second.name].data.names or ()):
        raise ValueError("the two models see other images of the same data: give data that both take")
    shared: dict[str, Any] = {
        "names": opened[first.name].data.names,
        "data_name": settings.data,
        "about": {"commit": commit()},
    }
    measure = measured_settings(settings, opened[first.name].data)
    if settings.measure.of == "difference":
        precision = PRECISION if settings.measure.precision is None else settings.measure.precision
        measure |= {"precision": precision}
    if settings.dry_run:
        raise foretold(settings, (first, second), shared | measure)
    if settings.measure.of == "difference":
        profiles = profile_pair(first, second, out=settings.out, **shared, **measure).profiles
    else:
        targets = (measure["target"], with_classes_of(settings.out / first.name, settings.measure).target)
        profiles = {
            one.name: profile_model(
                one.model,
                one.dataset,
                out=settings.out / one.name,
                model_name=one.model_name,
                **opened[one.name].arguments(),
                **shared,
                **measure | {"target": target},
            )
            for one, target in zip((first, second), targets, strict=True)
        }
    if is_first():
        for profile in profiles.values():
            draw(profile)
        report(settings.out, profiles)


def foretold(settings: "Settings", subjects: "Sequence[Subject]", asked: "Mapping[str, Any]") -> DryRun:
    """What both models together take, and each by itself."""
    first, said = settings.out / subjects[0].name, {}
    for one in subjects:
        # Other classes than the first model's predictions take as long: these are not there yet where nothing is.
        there = one is not subjects[0] and (first / "run.json").exists()
        target = with_classes_of(first, settings.measure).target if there else asked["target"]
        how = {name: getattr(one, name) for name in ("model_name", "normalisation", "transform")}
        try:
            profile_model(
                one.model,
                one.dataset,
                out=settings.out / one.name,
                dry_run=True,
                **how,
                **{**asked, "target": target, "of": "curve"},
            )
        except DryRun as told:
            said[one.name] = told
    passes, seconds = (sum(getattr(one, name) for one in said.values()) for name in ("passes", "seconds"))
    lines = [f"both models, {passes:,} passes, {duration(seconds)} in {settings.out}"]
    return DryRun("\n".join([*lines, *(f"{name}: {one}" for name, one in said.items())]), passes, seconds)


def refuse(settings: "Settings") -> None:
    """Raises ValueError for settings that ask for two models and name one, or for what two cannot have."""
    if not settings.other:
        raise ValueError("--of difference and --other-weights speak of two models: name a second one after the first")
    if settings.measure.of == "difference" and (
        settings.measure.budget is not None or settings.measure.design == "published"
    ):
        raise ValueError("--of difference chooses the passes of each order by itself: leave out --budget and published")


def apart(settings: "Settings") -> "dict[str, Settings]":
    """The settings of each model by itself, by the name of its folder: its model, with its weights where both are of
    one."""
    second = replace(settings, model=settings.other, weights=settings.other_weights or settings.weights)
    both = [replace(one, other="", other_weights="") for one in (settings, second)]
    names = folder_names([one.model for one in both], [one.weights for one in both])
    return {name: replace(one, out=settings.out / name) for name, one in zip(names, both, strict=True)}


def folder_names(models: Sequence[str], weights: Sequence[str]) -> list[str]:
    """Of both models: what they are called, and where that is one name what tells their weights apart: file, folder,
    copy, or a number. Raises ValueError where nothing does."""
    files = [split_copy(each) for each in weights]
    told = (
        ("", ""),
        tuple(Path(each).stem for each in weights),
        tuple(file.parent.name for file, _ in files),
        tuple(f"{file.stem}-{copy}" for file, copy in files),
        tuple(f"{file.stem}-{k}" for k, (file, _) in enumerate(files, 1)),
    )
    for words in told if Path(weights[0]) != Path(weights[1]) else told[:1]:
        names = [f"{model}-{word}" for model, word in zip(models, words, strict=True)]
        names = [re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") for name in names]
        if names[0] != names[1]:
            return names
    raise ValueError(f"both models are {models[0]} ({weights[0]}): name two, or --other-weights that differ")


def subject(name: str, settings: "Settings", opened: Opened) -> Subject:
    """A model as a pair takes it."""
    return Subject(name, opened.model, opened.data, model_name=title(settings), **opened.arguments())


def report(out: Path, profiles: Mapping[str, Any]) -> None:
    """The comparison of both, drawn, and the table of the difference for the terminal."""
    made = compare_runs(
        [profile.folder for profile in profiles.values()], out / "comparison.png", names=list(profiles), measure="J_rms"
    )
    print(made.report("J_rms"))
    for name, profile in profiles.items():
        record = profile.record
        counted = f"{name}: {len(record['images'])} images, {record['passes']:,} passes, {record['seconds']:.0f} s"
        print("; ".join(filter(None, [counted, pairs_measured(record)])))
    first = next(iter(profiles.values())).record
    told = first.get("difference")
    if told and first["settings"]["of"] == "difference":  # and not one from before the run was extended
        width = "unknown" if told["half_width"] is None else f"known to ±{told['half_width']:.3g}"
        ended = ended_in_words(first)
        print(f"difference of M {width} (asked for ±{told['asked']:g}): {ended}")
