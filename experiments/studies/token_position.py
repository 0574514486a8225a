"""Where the mask token goes: A²MIM with its token in every block of a small ViT and of a small CNN, on CIFAR-10.

Reproduces, on images of 32×32 pixels, figure 6 of the A²MIM paper (arXiv 2205.13943): accuracy after fine-tuning
against the stage or layer whose input the mask token joins, on ImageNet-100 there. Networks and recipes are those of
experiments/recipes/cifar10.py, with fewer epochs; nothing but --mask-at differs between the runs of a network. For a
ViT the input of its first block is left out: but for the position embedding, that is the patch embedding's output.

Should reach. The paper finds middle layers best. Of the CNN at the CPU size the later of its two places is better by
1.3 points (0.2 to 2.4, three seeds), of the ViT the last of its four is best in every seed, by 1.8 points over the
first on average (−1.6 to 5.2; experiments/results/token_position). The GPU size has not been run.

Costs.

            places: ViT, CNN   images  epochs: pre-training, fine-tuning  seeds  all epochs
    gpu     6, 6               50,000  50, 30                             3      2 × 6 × 3 × 80 = 2,880
    cpu     4, 2               50,000  2, 2                               3      (4 + 2) × 3 × 4 = 72

On one core of two an epoch of the CPU size takes two to three minutes for the ViT and one for the CNN: two hours and
more in all.

Commands. The same command again goes on, until all is finished (exit code 0; 3 before that). It writes
token_position.csv and figures/fig6 into --results, of what is there:

    python -m experiments.studies.token_position --train cifar10-train.tar --test cifar10-test.tar --budget 9
    python -m experiments.studies.token_position --size cpu --train cifar10-train.tar --test cifar10-test.tar
    a2mim figure fig6 runs/token-position/results --out fig6
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.folders import is_complete, read_record
from experiments.recipes.cifar10 import PLACES
from experiments.studies.steps import Step, pursue, refuse_absent
from experiments.studies.trainings import EPOCH_SECONDS, Scale, Study, suffix, training_words

TABLE = "token_position.csv"

EPOCHS = {"gpu": (50, 30), "cpu": (2, 2)}


@dataclass(frozen=True)
class Sweep(Scale):
    """Pre-train A²MIM with its mask token in every place of a small ViT and a small CNN, and fine-tune each.

    Start it again to go on. Writes a folder for each run into --out, and token_position.csv and figures/fig6 into
    --results.
    """

    train: str
    """The training images: a .tar or a folder with ten classes, or timm's name (kept in --data-root)."""
    test: str
    """The test images."""
    out: Path = Path("runs/token-position")
    """Folder of all runs."""

    @property
    def kept(self) -> Path:
        return self.results or self.out / "results"


def steps(study: Study) -> list[Step]:
    """All training runs, in the order in which they are made: seed by seed, then place by place."""
    return [
        step
        for seed in study.all_seeds
        for family in study.families
        for place in places(study, family)
        for step in training(study, family, place, seed)
    ]


def places(study: Study, family: str) -> tuple[str, ...]:
    return PLACES[family + suffix(study)]


def folder_of(study: Study, family: str, place: str, seed: int) -> Path:
    """Of the fine-tuned network."""
    return study.out / f"{family}-token-{place}-{seed}"


def training(study: Study, family: str, place: str, seed: int) -> Iterator[Step]:
    """The pre-training with the token at this place, and the fine-tuning."""
    network = family + suffix(study)
    after = folder_of(study, family, place, seed)
    before = after.with_name(f"{after.name}-pretrain")
    common = training_words(study, seed)
    first, second = ((*common, *(() if study.quick else ("--epochs", str(n)))) for n in EPOCHS[study.size])
    guesses = [epochs * EPOCH_SECONDS[study.size][family] for epochs in EPOCHS[study.size]]
    start = ("pretrain", "--recipe", f"cifar10:a2mim_{network}", "--mask-at", place)
    yield Step((*start, *first, "--out", str(before)), before, guesses[0])
    tune = ("finetune", "--recipe", f"cifar10:finetune_{network}", "--val", study.test, "--weights", str(before))
    yield Step((*tune, *second, "--out", str(after)), after, guesses[1])


def accuracies(study: Study) -> pd.DataFrame:
    """One row for each finished run, places in the order of the forward pass: network, position, seed, top1 (per cent,
    of the last epoch), images (validated), pretrain_epochs, epochs."""
    rows: list[dict[str, Any]] = []
    for family in study.families:
        for place in places(study, family):
            for seed in study.all_seeds:
                folder = folder_of(study, family, place, seed)
                if not is_complete(folder):
                    continue
                record, before = read_record(folder), read_record(folder.with_name(f"{folder.name}-pretrain"))
                row = {"network": family, "position": place, "seed": seed, "top1": record["last"]["top1"]}
                row |= {"images": int(record["last"]["val_images"])}
                rows.append({**row, "pretrain_epochs": before.get("epochs"), "epochs": record["epochs"]})
    columns = ["network", "position", "seed", "top1", "images", "pretrain_epochs", "epochs"]
    return pd.DataFrame(rows, columns=columns)


def collect(study: Study) -> bool:
    """Write token_position.csv of what is finished, or leave none; whether anything is."""
    from interactions.runs.files import write_csv

    table = accuracies(study)
    if len(table):
        write_csv(study.kept / TABLE, table)
    else:
        (study.kept / TABLE).unlink(missing_ok=True)
    return len(table) > 0


def run(sweep: Sweep) -> int:
    """Make what is missing, then table and figure of what is there; the exit code: 0 when all is done, 3 when the time
    was over before, that of a command that failed."""
    from experiments.machine import pick_device
    from experiments.studies.pages import Shown, draw

    made = steps(sweep)

    def ready() -> None:
        pick_device(sweep.device)
        refuse_absent(made, (sweep.train, sweep.test))

    def show() -> int:
        return draw("fig6", [Shown(sweep.kept, "", "")] if collect(sweep) else [], sweep.kept / "figures" / "fig6")

    return pursue(sweep, made, show, ready)


if __name__ == "__main__":
    from experiments.cli import start

    sys.exit(start(Sweep, run, sys.argv[1:], "python -m experiments.studies.token_position"))
