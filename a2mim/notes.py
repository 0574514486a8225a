"""What of a training's optimizer and schedule is worth a word before it begins: it can be, and is hardly meant."""

from __future__ import annotations

from collections.abc import Iterable

from a2mim.optim import learning_rate, rate_words, scaled_lr
from a2mim.settings import Optim

TINY = 1 / 16
"""Of the stated learning rate: a batch that scales it to less is worth a word."""
STEPS = 100
"""Of an epoch, as finely as a schedule is looked at."""


def notes(optim: Optim, batch: int, weights: str = "") -> list[str]:
    """A sentence for each thing that is worth a word, of a training by global batches of so many images.

    weights: what it begins with, as of `Network`.
    """
    said = (
        tiny_rate(optim, batch),
        usual_rate_of_lars(optim),
        endless_warmup(optim, batch),
        unreached_milestones(optim),
        decay_of_random_layers(optim, weights),
    )
    return [each for each in said if each]


def tiny_rate(optim: Optim, batch: int) -> str:
    """Where a batch makes the learning rate tiny; nothing otherwise."""
    rate = scaled_lr(optim, batch)
    if rate >= TINY * optim.lr:
        return ""
    return (
        f"{rate_words(optim, batch)}, {optim.lr / rate:.0f} times less than stated, and the weights will hardly move: "
        f"give the --lr that is meant for this batch with --lr-batch {batch}, or --lr-scaling sqrt"
    )


def usual_rate_of_lars(optim: Optim) -> str:
    """Where LARS has the learning rate that is usual for other optimizers; nothing otherwise.

    timm's multiplies it by trust_coeff, 0.001, and by how much larger weights are than their gradient.
    """
    usual = optim.optimizer.lower().split("_")[-1] in ("lars", "nlars")
    if not usual or scaled_lr(optim, Optim.lr_batch) > Optim.lr:
        return ""
    return (
        f"--optimizer {optim.optimizer} multiplies the learning rate by 0.001 and by the size of weights over that of "
        f"their gradient, and --lr {optim.lr:g} will hardly move them: BYOL's is --lr 0.3 --lr-batch 256, with "
        "--weight-decay 1e-6"
    )


def endless_warmup(optim: Optim, batch: int) -> str:
    """Where the warm-up takes all of the training and ends it at the peak; nothing otherwise."""
    peak, steps = scaled_lr(optim, batch), optim.epochs * STEPS
    before, last = (learning_rate(optim, peak, step, STEPS) for step in (steps - 2, steps - 1))
    if optim.warmup_epochs != optim.epochs or optim.schedule == "constant" or last <= before:
        return ""
    return (
        f"the {optim.warmup_epochs:g} epochs of warm-up are all of --epochs {optim.epochs}: the learning rate climbs "
        f"to the last step and never falls; give fewer, such as --warmup-epochs {optim.epochs / 10:g}, or more epochs"
    )


def unreached_milestones(optim: Optim) -> str:
    """Where milestones lie behind the end of the training; nothing otherwise."""
    behind = [each for each in optim.milestones if each >= optim.epochs]
    if optim.schedule != "multistep" or not behind:
        return ""
    if len(behind) == len(optim.milestones):
        return (
            f"no milestone ({listed(behind)}) lies before the end of --epochs {optim.epochs}: the learning rate never "
            "decays; give --milestones that do, or --schedule constant where that is meant"
        )
    return (
        f"of the milestones {listed(optim.milestones)} the training does not reach {listed(behind)}: give --milestones "
        f"that lie before the end of --epochs {optim.epochs}, or more epochs"
    )


def decay_of_random_layers(optim: Optim, weights: str) -> str:
    """Where random weights have a layer decay; nothing otherwise."""
    if weights != "random" or optim.layer_decay == 1:
        return ""
    return (
        f"--layer-decay {optim.layer_decay:g} keeps lower layers near what they were trained to, and no --weights are "
        "given: from random weights they will hardly learn; use --layer-decay 1"
    )


def listed(epochs: Iterable[float]) -> str:
    """Numbers of epochs in a sentence."""
    return ", ".join(f"{each:g}" for each in epochs)
