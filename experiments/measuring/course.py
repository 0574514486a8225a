"""One network at several steps of its training: a usual profile of each state that the run kept, over the same images,
and beside them what they say together: course.csv, its figure, and run.json."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from a2mim.checkpoints import read
from a2mim.course import course_file, kept_states
from a2mim.runs import read_run
from experiments.drawing import draw
from experiments.machine import is_first
from experiments.measuring import comparison
from experiments.measuring.opening import profiled
from experiments.training.trust import check_architecture
from figures.course import TABLE
from figures.files import read_json
from figures.runs import open_runs
from interactions.forecast import DryRun, duration
from interactions.runs.files import remove_orphans, write_csv, write_json

if TYPE_CHECKING:
    from experiments.commands.profile import Settings
    from interactions.profile import Profile

COMMAND = "course"
"""What run.json of the folder calls it: its states' folders are those of `profile`."""
MEASURE = "J_rms"
NUMBERS = (
    "order", "ratio", "images", "passes", "near_floor", "rms", "rms_low", "rms_high",
    "J_rms", "J_rms_low", "J_rms_high",
)  # fmt: skip
COLUMNS = ("step", "epoch", *NUMBERS, "rms_note", "M", "M_low", "M_high", "baseline")
ALIKE = ("data", "settings", "image_shape", "commit", "device", "machine", "versions")
"""Of the states' records, what the record of all of them says: it is that of the first one."""


@dataclass(frozen=True)
class State:
    """The weights of a run after so many steps, and the settings that measure them."""

    step: int
    epoch: float
    settings: "Settings" = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"step {self.step:,} (epoch {self.epoch:g})"


def run_course(settings: "Settings", draw_one: "Callable[[Profile], None]") -> None:
    """Measure every state that is asked for, draw each curve and all of them together, and say what was written.

    Raises:
        ValueError: what `states_of` refuses; and as a profile does.
        DryRun: where only the forecast was asked for.
    """
    states = states_of(settings)
    if settings.dry_run:
        raise foretold(states, settings.out)
    profiles = {}
    for number, state in enumerate(states, 1):
        if is_first():
            print(f"[{number}/{len(states)}] {state}", flush=True)
        profiles[state] = profiled(state.settings)
        if is_first():
            draw_one(profiles[state])
    if is_first():
        conclude(settings, profiles)


def states_of(settings: "Settings") -> list[State]:
    """What is to be measured, step by step; nothing has been written yet.

    Raises:
        ValueError: settings that do not go with a training's states; a folder that is no finished training run with
            kept states; a step that it did not keep; a network that its record may not name; a damaged file; an --out
            that holds another run.
    """
    refuse(settings)
    folder = Path(settings.model)
    run = read_run(folder)
    if not run["finished"]:
        raise ValueError(f"{folder} is not finished: go on with it first (--resume {folder})")
    kept = kept_states(folder)
    if not kept:
        raise ValueError(f"{folder} kept no states: train with --keep-states 8, for instance")
    steps = list(kept) if settings.checkpoints == ("all",) else sorted(set(map(whole, settings.checkpoints)))
    if missing := [step for step in steps if step not in kept]:
        there = ", ".join(map(str, kept))
        raise ValueError(f"{folder} kept no state of step {missing[0]}: there are those of {there}")
    refuse_fewer(settings.out, steps)
    of_run = with_network(settings, run, folder)
    for step in steps:
        read(kept[step])
    epochs = run["settings"]["optim"]["epochs"]
    return [
        State(
            step,
            round(step * epochs / run["steps"], 4),
            replace(of_run, weights=str(kept[step]), out=settings.out / course_file(folder, step).stem),
        )
        for step in steps
    ]


def refuse(settings: "Settings") -> None:
    """Raises ValueError for settings that do not go with the states of one training."""
    if settings.other or settings.other_weights or settings.measure.of == "difference":
        raise ValueError("--checkpoints follows one training: leave the second model out, and --of difference")
    if settings.weights != "pretrained":
        raise ValueError("--checkpoints are the weights: leave --weights out")
    if settings.measure.target == "predicted" and settings.measure.value != "cosine":
        raise ValueError(
            "--target predicted would explain other classes at every state: give labels, or the folder of a profile of "
            "one state as --target"
        )
    if settings.measure.only_correct:
        raise ValueError(
            "--only-correct would choose other images for every state: leave it out, or measure one state with it and "
            "give the folder of that profile as --target"
        )
    if not (Path(settings.model) / "run.json").is_file():
        raise ValueError(
            f"--checkpoints measures what a training kept, and '{settings.model}' is no folder of one: give the --out "
            "of a2mim pretrain or finetune"
        )
    there = read_json(settings.out / "run.json") if (settings.out / "run.json").is_file() else {"command": COMMAND}
    if (command := there.get("command")) != COMMAND:
        raise ValueError(f"{settings.out} holds a run of `a2mim {command}`: name another folder with --out")
    run = there.get("run", settings.model)
    if Path(run).is_dir() and Path(run).resolve() != Path(settings.model).resolve():  # (one that was moved is no other)
        raise ValueError(f"{settings.out} follows the training in {run}: name another folder with --out")


def refuse_fewer(out: Path, steps: Sequence[int]) -> None:
    """Raises ValueError for a folder with states that are not asked for, which its table and figure would lose."""
    record = read_json(out / "run.json") if (out / "run.json").is_file() else {}
    there = [state["step"] for state in record.get("states", ())]
    if lost := [step for step in there if step not in steps]:
        raise ValueError(
            f"{out} holds the state of step {lost[0]}, too, which would be lost: ask for --checkpoints "
            f"{' '.join(map(str, sorted({*there, *steps})))}, or name another folder with --out"
        )


def whole(step: str) -> int:
    """The number of a step. Raises ValueError for another word."""
    if not step.isdecimal():
        raise ValueError(f"--checkpoints takes all, or numbers of steps: '{step}' is neither")
    return int(step)


def with_network(settings: "Settings", run: Mapping[str, Any], folder: Path) -> "Settings":
    """Settings with the network that the run trained; what was typed wins. Raises as `check_architecture` does."""
    if not isinstance(run.get("architecture"), dict):
        raise ValueError(f"{folder} does not say what its network is: its run.json has no architecture")
    name, arguments = check_architecture(run["architecture"], folder / "run.json", settings.trust_factory)
    arguments = dict(arguments)
    classes = arguments.pop("num_classes", None)
    if settings.input.image_size is not None:
        arguments.pop("img_size", None)
    said = tuple(f"{key}={value!r}" for key, value in arguments.items())
    classes = classes if settings.num_classes is None else settings.num_classes
    return replace(settings, model=name, num_classes=classes, model_args=(*said, *settings.model_args))


def foretold(states: Sequence[State], out: Path) -> DryRun:
    """What all states together take. Those that are not begun are alike: one of them is tried."""
    said: dict[State, DryRun] = {}
    fresh = [state for state in states if not (state.settings.out / "run.json").exists()]
    for state in [each for each in states if each not in fresh[1:]]:
        try:
            profiled(state.settings)
        except DryRun as one:
            said[state] = one
    lines = [f"{state}: {one}" for state, one in said.items() if state not in fresh]
    if fresh:
        lines.append(f"each of {len(fresh)} {'states' if len(fresh) > 1 else 'state'}: {said[fresh[0]]}")
    every = [said[fresh[0] if state in fresh else state] for state in states]
    passes, seconds = sum(one.passes for one in every), sum(one.seconds for one in every)
    total = f"{len(states)} states, {passes:,} passes{' left' if len(fresh) < len(states) else ''}"
    return DryRun("\n".join([f"{total}, {duration(seconds)} in {out}", *lines]), passes, seconds)


def course_table(profiles: "Mapping[State, Profile]") -> pd.DataFrame:
    """One row for each state and order, with COLUMNS: those of its strength.csv, and M of J_rms."""
    parts = []
    for state, profile in profiles.items():
        masses = comparison.read(profile, "middle_mass.csv", comparison.MASS, ["measure"]).set_index("measure")
        mass = masses.reindex([MEASURE]).iloc[0]
        strength = comparison.read(profile, "strength.csv", NUMBERS, ["rms_note", "baseline"])
        strength = strength.assign(step=state.step, epoch=state.epoch)
        parts.append(strength.assign(**{name: mass[name] for name in ("M", "M_low", "M_high")}))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def conclude(settings: "Settings", profiles: "Mapping[State, Profile]") -> None:
    """course.csv, run.json and the figure, and a line for each state on the terminal."""
    table = course_table(profiles)
    remove_orphans(settings.out)
    write_csv(settings.out / TABLE, table)
    records = [profile.record for profile in profiles.values()]
    about = {name: records[0][name] for name in ALIKE if name in records[0]}
    told = [
        {"step": state.step, "epoch": state.epoch, "folder": profile.folder.name, "digest": record["model"]["digest"]}
        | {"images": len(record["images"]), **{name: record[name] for name in ("passes", "seconds", "started")}}
        for (state, profile), record in zip(profiles.items(), records, strict=True)
    ]
    record = {
        "command": COMMAND,
        "run": settings.model,
        "model": {**records[0]["model"], "name": settings.model, "digest": None},
        **about,
        # By which figures tell courses that were not measured alike. States hold the same images, or fewer of them.
        "images": max((record["images"] for record in records), key=len),
        "orders": [{name: one[name] for name in ("order", "ratio")} for one in records[0]["orders"]],
        **{name: sum(one[name] for one in told) for name in ("passes", "seconds")},
        "states": told,
        "status": "complete",
    }
    write_json(settings.out / "run.json", record)
    masses = table.drop_duplicates("step")[["step", "epoch", "images", "M", "M_low", "M_high"]]
    print(masses.to_string(index=False, float_format="{:.3f}".format))
    print(f"{len(told)} states, {record['passes']:,} passes, {record['seconds']:.0f} s; wrote {settings.out / TABLE}")
    draw("course", open_runs([settings.out], [Path(settings.model).resolve().name]), {}, settings.out / "course")
