"""`a2mim report`: one self-contained page of what runs measured."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from a2mim.bounds import Natural
from experiments.help import FILE

if TYPE_CHECKING:
    import pandas as pd

    from figures.runs import Run

DENSE = ("segment", "detect")
"""Commands beside whose runs M stands."""


@dataclass(frozen=True)
class Settings:
    """Put the results of runs on one page that needs no network: curves, tables, pictures, and where they come from.

    A run is a folder that a measuring or training command wrote, or one with the tables and figures of a study. The
    page shows what it holds: interaction strength by order with the middle mass M and its paired differences,
    occlusion, spectra, accuracy, segmentation and detection (beside them the M of the profile of the same name, where
    no other run of the task and no other profile has it), losses, reconstructions, pair maps, and a card with the
    provenance of each run.

    For example:
        a2mim report runs/resnet50 runs/vit --out report.html
        a2mim report runs/* --names ResNet-50 ViT-S --title "Two families" --lead "What we asked." --out report.html
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs."""
    out: Annotated[Path, FILE] = Path("report.html")
    """The page."""
    names: tuple[str, ...] = ()
    """Names of the runs, one each; without them, those of the folders. Runs of one name and kind are seeds."""
    title: str = "Report"
    """Title of the page."""
    lead: str = ""
    """Words under the title."""
    maps: Natural = 4
    """Draw at most so many pair maps from the pairs that profiles kept."""


def run(settings: Settings) -> None:
    """Read the runs, write the page, and say how large it is."""
    from experiments.outputs import claim
    from experiments.records import check_records, distinct_names
    from figures.report import check_suffix, open_runs, sections_of, told_apart, write_report

    out = check_suffix(settings.out)
    claim([out])
    named = open_runs(settings.runs, settings.names or distinct_names(settings.runs))
    check_records(named)
    runs, (transfer, without_mass) = told_apart(named), transfer_of(named)
    sections = sections_of(runs, differences_between(runs), settings.maps, transfer=transfer, without_mass=without_mass)
    write_report(out, sections, settings.title, settings.lead)
    shown = ", ".join(section.title for section in sections)
    print(f"{len(runs)} run{'s' * (len(runs) != 1)}: {shown}\n\nwrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


def differences_between(runs: "Sequence[Run]") -> "pd.DataFrame":
    """Paired differences of M between every two profiles that measured alike and share images, of many as the page
    shows them."""
    import pandas as pd

    from experiments.measuring.comparison import paired_differences
    from figures.game import identities, target_phrases
    from figures.report import MOST_PAIRED, profile_groups
    from interactions.profile import load_profile

    tables = []
    for group in profile_groups(runs):
        # A copy of a run's tables alone has no images to pair, and a run without middle orders no M.
        profiles = {
            run.name: load_profile(run.folder)
            for run in group
            if any((run.folder / "images").glob("unit-*.parquet")) and has_mass(run)
        }
        if profiles and not target_phrases([identities(profile.record) for profile in profiles.values()]):
            tables.append(paired_differences(profiles, to_first=len(group) > MOST_PAIRED))
    columns = ["run_a", "run_b", "measure", "difference", "low", "high", "images"]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns)


def transfer_of(runs: "Sequence[Run]") -> "tuple[pd.DataFrame | None, str]":
    """What the runs of segmentation and detection reach, with M beside it where that is known, and why it is not beside
    all of them.

    runs: by the names that they were given, several of which may be one.
    """
    dense = [run for run in runs if run.record.get("command") in DENSE]
    if not dense:
        return None, ""
    from experiments.training.transferring import Entry, profiles_of, transfer_table, unlike_masses
    from figures.curves import PRIMARY
    from figures.report import told_apart

    shown = {run.folder: run.name for run in told_apart(runs)}
    beside, why = profiles_beside(dense, runs)
    entries = [Entry(shown[run.folder], run.folder, beside.get(run.folder)) for run in dense]
    if unlike := unlike_masses(profiles_of(entries), PRIMARY):
        entries = [replace(entry, profile=None) for entry in entries]
        why = f"M is not beside the runs, since it is not of one game: of the profiles, {unlike[0].lower()}{unlike[1:]}"
    return transfer_table(entries), why


def profiles_beside(dense: "Sequence[Run]", runs: "Sequence[Run]") -> "tuple[dict[Path, Path], str]":
    """The profile of each of these runs that shares its name with one profile and no other run of its task, by the
    run's folder; and a sentence on those whose name several share. Which of several seeds is of which network, the
    order in which they are given does not tell."""
    from figures.runs import label

    held = [run for run in runs if run.holds("strength.csv") and has_mass(run)]
    profiles = {name: [run.folder for run in held if label(run) == name] for name in map(label, held)}
    named = Counter((run.record["command"], label(run)) for run in dense)
    sharing = [run for run in dense if label(run) in profiles]
    one = [run for run in sharing if len(profiles[label(run)]) == named[run.record["command"], label(run)] == 1]
    several = ", ".join(dict.fromkeys(label(run) for run in sharing if run not in one))
    why = f"M is not beside {several}: several runs or profiles are called so, give each network a name of its own."
    return {run.folder: profiles[label(run)][0] for run in one}, why if several else ""


def has_mass(run: "Run") -> bool:
    """Whether the profile measured middle orders."""
    from figures.tables import has_rows

    return has_rows(run.folder / "middle_mass.csv")
