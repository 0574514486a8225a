"""One self-contained page of results: curves, tables, pictures, and where every number comes from.

    sections = [Section("What came out", ["Two sentences."]), *sections_of(open_runs(folders, names))]
    write_report("report.html", sections, "CIFAR-10")

The page is made of what measuring and training runs wrote (tables, logs, pictures, run.json), never of a model. It asks
the network for nothing, and is read with pointer, finger, keyboard or screen reader, and without script. A summary
comes first; what it rests on is folded below.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from figures.page.blocks import Block, Card, Chart, Charts, Curve, Fold, Gallery, Picture, Rows, Section
from figures.page.document import check_suffix, write_page
from figures.runs import Run, label, open_runs
from figures.sections.cards import card_section
from figures.sections.common import NUMBER
from figures.sections.measured import loss_section, occlusion_section, spectrum_section
from figures.sections.pictures import holds_pictures, picture_section
from figures.sections.strength import MOST_PAIRED, profile_groups, profile_section, summary_blocks
from figures.sections.study import STUDY, accuracy_section, study_runs, study_section, study_summary
from figures.sections.transfer import transfer_section, transfer_summary

__all__ = [
    "MOST_PAIRED", "Block", "Card", "Chart", "Charts", "Curve", "Fold", "Gallery", "Picture", "Rows", "Section",
    "check_suffix", "open_runs", "profile_groups", "sections_of", "told_apart",
    "write_report",
]  # fmt: skip

ALWAYS = {"profile": ("strength.csv",), "occlusion": ("occlusion.csv",), "spectrum": ("spectrum.csv", "variance.csv")}
"""Tables that a finished run of a command has, and that a page does not leave out in silence."""
TABLES = ("strength.csv", "occlusion.csv", "shuffling.csv", "spectrum.csv", "variance.csv", "log.jsonl", *STUDY)


def write_report(path: str | Path, sections: Sequence[Section], title: str = "Report", lead: str = "") -> Path:
    """Write the page, whole or not at all; the same sections give the same bytes.

    Args:
        path: .html.
        sections: `sections_of` runs, and the caller's own. A string among the blocks of a section is a paragraph.
        lead: words under the title; an empty line parts paragraphs.

    Raises:
        ValueError: no section; another suffix; a table or picture that cannot be shown.
        OSError: a folder that cannot be written to, a picture that is not there.
    """
    return write_page(path, sections, title, lead)


def sections_of(
    runs: Sequence[Run],
    differences: pd.DataFrame | None = None,
    maps: int = 4,
    said: Sequence[Block] = (),
    transfer: pd.DataFrame | None = None,
    without_mass: str = "",
) -> list[Section]:
    """The sections for which these runs have results: a summary (the middle mass M, one chart for all runs, what
    differs), then, folded, everything else in the order of a paper, and a card for each run at the end.

    A run is what its folder holds: a profile, occlusion, spectra, a training run, reconstructions (.npz), pair maps
    (NAME-cells.csv beside their figure), or the tables and pictures of a study.

    Args:
        runs: from `open_runs`; those of one name that hold the same table are seeds, and look alike.
        differences: of M between profiles: run_a, run_b, measure, difference, low, high, images.
        maps: the largest number of pair maps to draw from the pairs that profiles kept.
        said: the caller's own words, with which the summary begins.
        transfer: what runs reach on other tasks, the table that `a2mim transfer` writes.
        without_mass: why M does not stand beside all of them.

    Raises:
        ValueError: a run that holds nothing to show; a table that cannot be read or lacks a
            column.
    """
    runs = told_apart(runs)
    empty = [str(run.folder) for run in runs if not any(map(run.holds, TABLES)) and not holds_pictures(run)]
    if empty:
        raise ValueError(f"{', '.join(empty)} holds nothing to report: give folders that `a2mim` commands wrote")
    for run in runs:
        gone = [name for name in ALWAYS.get(run.record.get("command", ""), ()) if not run.holds(name)]
        if gone:
            raise ValueError(f"{run.folder} lacks {', '.join(gone)}: start its command again, it writes that anew")
    sections = [
        Section(
            "Summary", [*said, *study_summary(runs), *transfer_summary(transfer), *summary_blocks(runs, differences)]
        ),
        study_section(runs),
        accuracy_section(runs),
        transfer_section(runs, transfer, without_mass),
        profile_section(runs, differences),
        occlusion_section(runs),
        spectrum_section(runs),
        picture_section(runs, maps),
        loss_section(runs),
        card_section(runs, study_runs(runs)),
    ]
    found = [section for section in sections if section.blocks]
    if found and found[0].title != "Summary":  # nothing that a summary would be of: the first section is open
        found[0] = replace(found[0], folded=False)
    return found


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs with a number in the name where several of one name hold the same table, as seeds of one model do."""
    held = [{table for table in TABLES if run.holds(table)} for run in runs]
    called, names = list(map(label, runs)), []
    for k, name in enumerate(called):
        alike = [other for other in range(len(runs)) if called[other] == name and held[other] & held[k] and other != k]
        names.append(f"{name}{NUMBER}{1 + sum(other < k for other in alike)}" if alike else name)
    return [replace(run, name=name, panel="") for run, name in zip(runs, names, strict=True)]
