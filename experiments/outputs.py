"""Where a command may write: never over a file of a run, nor over what it reads."""

import re
from collections.abc import Iterable
from pathlib import Path

from interactions.runs.files import remove_orphans
from interactions.runs.storage import refuse_unwritable

FILES = {
    *("run.json", "strength.csv", "strength.png", "middle_mass.csv", "probe.safetensors"),
    *("course.csv", "course.png", "course.pdf", "course.json"),
    *("occlusion.csv", "occlusion.png", "shuffling.csv", "spectrum.csv", "variance.csv", "spectrum.png"),
    *("variance.png", "log.jsonl", "loss.png", "backbone.safetensors", "backbone_without_ema.safetensors"),
    *("decoder.safetensors", "per_class.csv", "counts.npz", "predictions.png", "images.txt.gz"),
    *("detector.safetensors", "detections.json", "matches.npz"),
    *("commands.json", "commands.sh", "study.json", "settings.json"),
    *("accuracy.csv", "masses.csv", "differences.csv", "declared.csv", "published.csv", "token_position.csv"),
}
"""Of runs and studies. (A study's transfer.csv is written by `a2mim transfer`, which asks here first.)"""
PAGE = "report.html"
"""Of a study; a run has none of its own."""
EXTENDED = re.compile(r"-\d+-epochs(?=\.safetensors$)")
"""In the name of weights that a training had before it was extended."""
FOLDERS = {
    *("units", "images", "pairs", "amplitudes", "saliency", "shuffling", "unfinished"),
    *("state", "course", "pictures", "tensorboard"),
}
"""Of runs, whose every file is theirs."""
RECORDS = ("run.json", "commands.json", "study.json", "settings.json")


def claim(paths: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Make sure that a command may write these files, and remove what a killed one left of them.

    Raises:
        ValueError: a file of a run or of a study, or one that the command reads.
        OSError: a place where no file can be written.
    """
    read = [path for path in inputs if path.exists()]
    for path in paths:
        refuse_unwritable(path.parent)
        if (folder := owner(path)) is not None:
            raise ValueError(f"{path} is a file of the run in {folder}: give the result another name with --out")
        if any(path.exists() and path.samefile(other) for other in read):
            raise ValueError(f"{path} is read, and would be overwritten: give the result another name with --out")
        remove_orphans(path.parent, path.name)


def tables_beside(figure: Path) -> tuple[Path, Path]:
    """The tables of `a2mim compare` to a figure: M of each run, and the differences."""
    return figure.with_suffix(".csv"), figure.with_name(f"{figure.stem}-differences.csv")


def owner(path: Path) -> Path | None:
    """The folder of the run or study that a file is a part of; None for any other file."""
    folder = path.parent
    if EXTENDED.sub("", path.name) in FILES and any((folder / record).exists() for record in RECORDS):
        return folder
    if path.name == PAGE and (folder / "study.json").exists():
        return folder
    if folder.name in FOLDERS and (folder.parent / "run.json").exists():
        return folder.parent
    return None
