"""`a2mim transfer`: what networks reach on other tasks, side by side, and whether M tells it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.help import FILE


@dataclass(frozen=True)
class Settings:
    """Put runs of segmentation, detection, fine-tuning and probes into one table and a figure.

    A run is a finished folder of segment, detect or finetune, or the .json of linear or knn. The table has a row for
    each run and measure (mIoU, AP, top-1 in percent) with its 95 % interval over pictures (of `linear --seeds` over
    the seeds) and, where both keep what became of each picture, the paired difference from the first run of the same
    task, data and set-up. With --profiles the middle mass M of each backbone stands beside it, and of four runs or more
    of one task and set-up the rank correlation of M and measure (Spearman's, its interval over runs) and a scatter of
    both: does M predict transfer? Writes transfer.csv and figures/transfer into --out; with --profiles correlation.csv
    and figures/prediction, too.

    For example:
        a2mim transfer runs/camvid-random runs/camvid-trained --names random ImageNet --out results/camvid
        a2mim transfer runs/*/linear.json --profiles runs/*/profile --names a b c d --out results/probes
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs, or results of linear and knn (.json)."""
    out: Annotated[Path, FILE] = Path("transfer")
    """Folder of the tables and figures."""
    names: tuple[str, ...] = ()
    """Names, one a run; without them those of the folders."""
    profiles: tuple[Path, ...] = ()
    """Folders of profiles of the same backbones, one a run, in the same order; - for a run without one."""
    measure: Literal["J", "J_corrected", "J_rms"] = "J_rms"
    """Of the strength whose middle mass M is."""
    across: bool = False
    """Take differences from the first run on the same pictures, whatever its set-up."""
    title: str = ""
    """Words above the figures."""


def run(settings: Settings) -> None:
    """Write tables and figures, and print the tables."""
    from experiments.drawing import claim_figure, draw
    from experiments.outputs import claim
    from experiments.records import distinct_names
    from experiments.training.transferring import FEWEST, Entry, correlations, transfer_table
    from figures.runs import open_runs
    from interactions.runs.files import write_csv

    entries = entries_of(settings, list(settings.names) or distinct_names(settings.runs), Entry)
    table = transfer_table(entries, settings.measure, settings.across)
    ranks = correlations(table)
    if settings.profiles and not len(ranks):
        raise ValueError(
            f"a rank correlation needs {FEWEST} runs of one task and set-up at least, and there are fewer: give more "
            "runs, or leave out --profiles"
        )
    if not settings.profiles and (settings.out / "correlation.csv").exists():
        raise ValueError(
            f"{settings.out} holds the correlation of an earlier comparison, which a page would show beside this one: "
            "give another --out, or --profiles"
        )
    files = {"transfer": table} | ({"correlation": ranks} if settings.profiles else {})
    figures = ["transfer", *(["prediction"] if settings.profiles else [])]
    claim([settings.out / f"{name}.csv" for name in files])
    for name in figures:
        claim_figure(settings.out / "figures" / name)
    for name, rows in files.items():
        write_csv(settings.out / f"{name}.csv", rows.map(rounded))
        print(rows.round(2).dropna(axis=1, how="all").to_string(index=False), end="\n\n")
    options = {"title": settings.title} if settings.title else {}
    refused = []
    for name in figures:
        try:
            draw(name, open_runs([settings.out]), options, settings.out / "figures" / name)
        except ValueError as error:  # a page that is too small for one figure holds the other
            refused.append(f"{name}: {error}")
    if refused:
        raise ValueError(f"the tables are written, and not every figure: {'; '.join(refused)}")


def entries_of(settings: Settings, names: list[str], kind: type) -> list:
    """What the table is made of. Raises ValueError where names or profiles do not fit the runs, or a name is empty."""
    from figures.runs import refuse_empty

    if not settings.runs:
        raise ValueError("no runs were named: give the folders of runs, or results of linear and knn")
    for given, what in ((names, "names"), (settings.profiles, "profiles")):
        if given and len(given) != len(settings.runs):
            raise ValueError(f"{len(given)} {what} for {len(settings.runs)} runs: give one for each, or none")
    refuse_empty(names)
    if twice := [path for path in settings.runs if settings.runs.count(path) > 1]:
        raise ValueError(f"{twice[0]} is given {settings.runs.count(twice[0])} times: give each run once")
    profiles = [None if str(path) == "-" else path for path in settings.profiles] or [None] * len(settings.runs)
    return [kind(*each) for each in zip(names, settings.runs, profiles, strict=True)]


def rounded(value: object) -> object:
    """Four decimals: of percentages two too many, of M one."""
    return round(value, 4) if isinstance(value, float) else value
