"""The records of runs of any command, looked at before figures are drawn from them; names of runs, and why they end."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2mim.runs import refuse_damaged as refuse_damaged_training
from interactions.intervals import MIN_IMAGES
from interactions.runs.kinds import KINDS
from interactions.runs.storage import refuse_damaged

if TYPE_CHECKING:
    from figures.runs import Run

TRAININGS = ("pretrain", "finetune", "segment", "detect")
ENDED = {"images": "there are no more images", "minutes": "the time is over", "precision": "as asked"}
"""Why a profile's run ended, in words."""


def ended_in_words(record: Mapping[str, Any]) -> str:
    """Why a finished profile's run ended: the images that were asked for, or all that there are, among it."""
    asked = record["settings"].get("images")
    if record["ended"] == "images" and asked is not None and len(record["images"]) >= asked:
        return f"the {asked} images asked for are measured"
    return ENDED[record["ended"]]


def tell_skipped(record: Mapping[str, Any]) -> None:
    """Say on the terminal which images were left out, and why."""
    for one in record["skipped"]:
        print(f"skipped {one['name']}: {one['reason']}")


def pairs_measured(record: Mapping[str, Any]) -> str:
    """How many of the pairs were measured; nothing of a run from before that was counted."""
    known = all("pairs_measured" in one for one in record["orders"])
    return sampled(record) or f"Measured all {record['pairs']:,} pairs of an image at every order." * known


def between(row: Mapping[Any, Any], signed: bool = True) -> str:
    """The interval (low, high) of a row over so many images, or why there is none."""
    if isnan(row["low"]):
        return "[no interval: fewer than eight images]" if row["images"] < MIN_IMAGES else "[no interval]"
    sign = "+" if signed else ""
    return f"[{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"


def sampled(record: Mapping[str, Any]) -> str:
    """How many of the pairs were measured, where it is not all of them."""
    measured = {one["order"]: one["pairs_measured"] for one in record["orders"] if "pairs_measured" in one}
    some = [pairs for pairs in measured.values() if pairs < record["pairs"]]
    if not some:
        return ""
    least, most = (f"{end(some):.4g}" for end in (min, max))
    at_least = "at least " * bool(record.get("looks"))  # how many pairs several looks have in common is not counted
    of_all = f"{at_least}{least if least == most else f'{least} to {most}'} of {record['pairs']:,} pairs of an image"
    return f"Sampled: {of_all} at {len(some)} of {len(measured)} orders."


def check_records(runs: "Iterable[Run]") -> None:
    """Make sure that what the run.json of these folders say is what the commands write.

    Raises:
        ValueError: a part that is of another kind, or missing; says which, of which file.
    """
    for run in runs:
        command, path = (
            run.record.get("command", "profile" if "orders" in run.record else None),
            run.folder / "run.json",
        )
        if command in KINDS:
            refuse_damaged(run.record, command, path, whole=False)
        elif command in TRAININGS:
            refuse_damaged_training(run.record, path)


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, with as many of the folders above as tell all of them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
