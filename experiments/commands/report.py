"""`a2mim report`: one self-contained page of what runs measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from a2mim.bounds import Natural
from experiments.help import FILE

if TYPE_CHECKING:
    import pandas as pd

    from figures.runs import Run


@dataclass(frozen=True)
class Settings:
    """Put the results of runs on one page that needs no network: curves, tables, pictures, and where they come from.

    A run is a folder that a measuring or training command wrote, or one with the tables and figures of a study. The
    page shows what it holds: interaction strength by order with the middle mass M and its paired differences,
    occlusion, spectra, accuracy, segmentation and detection (beside them the M of a profile of the same name), losses,
    reconstructions, pair maps, and a card with the provenance of each run.

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
    runs = told_apart(open_runs(settings.runs, settings.names or distinct_names(settings.runs)))
    check_records(runs)
    sections = sections_of(runs, differences_between(runs), settings.maps, transfer=transfer_of(runs))
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


def transfer_of(runs: "Sequence[Run]") -> "pd.DataFrame | None":
    """What the runs of segmentation and detection reach; beside each M of the one profile that has its name."""
    dense = [run for run in runs if run.record.get("command") in ("segment", "detect")]
    if not dense:
        return None
    from experiments.training.transferring import Entry, transfer_table
    from figures.report import profile_groups
    from figures.runs import label

    held = [run for run in runs if run.holds("strength.csv") and has_mass(run)]
    profiles = {label(run): run.folder for run in held if [label(one) for one in held].count(label(run)) == 1}
    if len(profile_groups([run for run in held if label(run) in {*profiles} & {*map(label, dense)}])) > 1:
        profiles = {}  # M of several games says nothing of their networks together
    return transfer_table([Entry(label(run), run.folder, profiles.get(label(run))) for run in dense])


def has_mass(run: "Run") -> bool:
    """Whether the profile measured middle orders."""
    from figures.tables import has_rows

    return has_rows(run.folder / "middle_mass.csv")
