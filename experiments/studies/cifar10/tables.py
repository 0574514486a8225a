"""Tables of a CIFAR-10 study, and copies of what is worth keeping, made of whatever is finished, each time anew."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.folders import is_complete, read_json, read_record
from experiments.measuring.comparison import by_identity
from experiments.studies import token_position
from experiments.studies.cifar10.earlier import ACCURACY, MASSES, joined_accuracies
from experiments.studies.cifar10.plan import (
    BASELINES,
    CONTEXT_CHECK,
    COURSE,
    Settings,
    backbone_of,
    everyone,
    folder_of,
    setups,
)
from experiments.studies.kept import keep_copy
from experiments.studies.methods import LABELS, NAMES, UNTRAINED
from interactions.hierarchy import seeded_differences, seeded_masses
from interactions.masses import middle_mass
from interactions.profile import load_profile
from interactions.runs.files import write_csv

Profile = Callable[[Settings, str, str, int], Path]
"""Where a profile of a network, method and seed is."""


def collect(settings: Settings) -> None:
    """Every table that can be made of what is finished."""
    kept = settings.kept
    tables = {
        ACCURACY.removesuffix(".csv"): accuracies(settings),
        MASSES.removesuffix(".csv"): masses(settings),
        "differences": differences(settings),
        "published": published(settings),
    }
    for name, table in tables.items():
        if len(table):
            write_csv(kept / f"{name}.csv", table)
            print(f"\n{name}\n{table.to_string(index=False, float_format='{:.3f}'.format)}")
        else:
            (kept / f"{name}.csv").unlink(missing_ok=True)  # of another part of the study
    token_position.collect(settings)
    keep_copies(settings)


# ------------------------------------------------------------------------------------------- accuracy


def accuracies(settings: Settings) -> pd.DataFrame:
    """network, method, seed: accuracy after fine-tuning (of the last epoch, and of the best one, which the test images
    chose: an upper end, not an estimate), of nearest neighbours before it, and what training took."""
    rows = []
    for family, method, seed in everyone(settings):
        before, after = (of(settings, family, method, seed) for of in (backbone_of, folder_of))
        row: dict[str, Any] = {"network": family, "method": NAMES[method], "seed": seed}
        if is_complete(after):
            row |= fine_tuned(read_record(after))
        if before != after and is_complete(before):
            row |= {f"pretrain_{key}": value for key, value in spent(read_record(before)).items()}
        if (before / "knn.json").is_file():
            row["knn"] = read_json(before / "knn.json").get("top1")
        if len(row) > 3:
            rows.append(row)
    return pd.concat([joined_accuracies(settings), pd.DataFrame(rows)], ignore_index=True)


def fine_tuned(record: dict[str, Any]) -> dict[str, Any]:
    last = record["last"]
    return {"top1": last["top1"], "best_top1": record["best"]["top1"], "val_loss": last["val_loss"]} | spent(record)


def spent(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in ("epochs", "images", "seconds", "cpu_seconds")}


# ------------------------------------------------------------------------------------------- middle mass


def profiles(settings: Settings, family: str, method: str, of: Profile) -> dict[int, Path]:
    """The finished profiles of a method, by seed."""
    folders = {seed: of(settings, family, method, seed) for seed in settings.all_seeds}
    return {seed: folder for seed, folder in folders.items() if is_complete(folder)}


def measured(
    settings: Settings, family: str, methods: Iterable[str], of: Profile, whole: bool = False
) -> dict[str, list[pd.DataFrame]]:
    """The images' strengths of every one of the methods that has such a profile, a table for each seed.

    whole: of all orders, also of those that not every baseline has.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for method in methods:
        seeds = profiles(settings, family, method, of)
        tables = [by_identity(load_profile(folder)) for folder in seeds.values()]
        if tables:
            found[method] = tables if whole else [alike(family, table) for table in tables]
    return found


def alike(family: str, rows: pd.DataFrame) -> pd.DataFrame:
    """An images table of the orders that every baseline of the network has: J is relative to the mean over the orders,
    so that M of a list with order 0 is another number than M of one without."""
    return rows[rows["ratio"] > 0] if "drop" in BASELINES[family] else rows


def masses(settings: Settings) -> pd.DataFrame:
    """M of every run: network, setup, measure, method, seed, M, M_low, M_high, images, least_ratio (of the orders over
    which J is relative)."""
    parts = []
    for family in settings.families:
        for setup in setups(family):
            for method in LABELS:
                for seed, folder in profiles(settings, family, method, setup.of).items():
                    who: dict[str, Any] = {"network": family, "setup": setup.name, "method": LABELS[method]}
                    who["seed"] = seed
                    rows = alike(family, load_profile(folder).images())
                    parts.append(middle_mass(rows).assign(**who, least_ratio=rows["ratio"].min()))
    columns = ["network", "setup", "measure", "method", "seed", "M", "M_low", "M_high", "images", "least_ratio"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def differences(settings: Settings) -> pd.DataFrame:
    """M of every pre-trained network less that of the supervised and of the untrained one, over the same images:
    network, setup, measure, method_a, method_b, difference, low, high, p (of itself alone), images, seeds."""
    parts = []
    for family in settings.families:
        for setup in setups(family):
            runs = measured(settings, family, LABELS, setup.of)
            pairs = [(a, b) for b in ("supervised", UNTRAINED) for a in runs if b in runs and a not in (b, UNTRAINED)]
            if pairs:
                parts.append(seeded_differences(runs, pairs).assign(network=family, setup=setup.name))
    columns = [
        "network",
        "setup",
        "measure",
        "method_a",
        "method_b",
        "difference",
        "low",
        "high",
        "p",
        "images",
        "seeds",
    ]
    if not parts:
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True).rename(columns={"run_a": "method_a", "run_b": "method_b"})
    return table.replace({"method_a": LABELS, "method_b": LABELS})[columns]


def published(settings: Settings) -> pd.DataFrame:
    """The published measure J of the published protocol, over all of its orders, with the contexts that the size
    has passes for (fewer than published) and with four times as many: M of the methods, and the differences from the
    first. One that shrinks with the contexts was noise; one that stays was not."""
    parts = []
    for family in settings.families:
        for times in (1, 4):
            runs = measured(settings, family, CONTEXT_CHECK, of_published(times), whole=True)
            if len(runs) < len(CONTEXT_CHECK):
                continue
            who: dict[str, Any] = {"network": family, "contexts": f"×{times}"}
            parts.append(
                seeded_masses({LABELS[method]: seeds for method, seeds in runs.items()})
                .rename(columns={"run": "of", "M_low": "low", "M_high": "high"})
                .assign(**who)
            )
            a, *others = CONTEXT_CHECK
            change = seeded_differences(runs, [(a, b) for b in others]).rename(columns={"difference": "M"})
            change["of"] = [f"{LABELS[a]} − {LABELS[b]}" for b in change["run_b"]]
            parts.append(change.assign(**who).drop(columns=["run_a", "run_b"]))
    columns = ["network", "contexts", "of", "measure", "M", "low", "high", "images", "seeds"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def of_published(times: int) -> Profile:
    """The profile by the published protocol with so many times the contexts."""
    return lambda *network: folder_of(*network) / f"published-{times}"


# ------------------------------------------------------------------------------------------- copies


def keep_copies(settings: Settings) -> None:
    """curves/, occlusion/, spectrum/: the tables behind the figures. loss/ and pictures/: of every training run."""
    for family, method, seed in everyone(settings):
        for folder in {of(settings, family, method, seed) for of in (folder_of, backbone_of)}:
            for source, place in copies(folder):
                if source.is_file():
                    keep_copy(source, settings.kept / place)


def copies(folder: Path) -> list[tuple[Path, str]]:
    """What is kept of a run, and where."""
    found = [(folder / "loss.png", f"loss/{folder.name}.png")]
    found += [(path, f"pictures/{folder.name}.png") for path in sorted(folder.glob("pictures/*.png"))[-1:]]
    found += [(folder / "occlusion" / "occlusion.csv", f"occlusion/{folder.name}.csv")]
    found += [
        (folder / "spectrum" / f"{name}.csv", f"spectrum/{folder.name}-{name}.csv") for name in ("spectrum", "variance")
    ]
    names = {setup.folder for family in BASELINES for setup in setups(family)}
    for profile in sorted({"profile-16", *names}):
        found.append((folder / profile / "strength.csv", f"curves/{folder.name}-{profile}.csv"))
    course = f"{COURSE.folder}-course"
    found.append((folder / course / "course.csv", f"curves/{folder.name}-{course}.csv"))
    return found
