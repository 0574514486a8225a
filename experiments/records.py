"""The records of runs of any command, looked at before figures are drawn from them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from a2mim.runs import refuse_damaged as refuse_damaged_training
from interactions.runs.kinds import KINDS
from interactions.runs.storage import refuse_damaged

if TYPE_CHECKING:
    from figures.runs import Run

TRAININGS = ("pretrain", "finetune", "segment", "detect")


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
