"""Fine-tuning: the training loop with the supervised method, evaluated on the validation images as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from a2mim.data import Source
from a2mim.dist import World
from a2mim.evaluate.accuracy import accuracy
from a2mim.gallery import Gallery
from a2mim.methods import Supervised, SupervisedSettings
from a2mim.settings import Loop, Optim
from a2mim.train import NO_HOOKS, Hooks, train


def finetune(
    model: nn.Module,
    source: Source,
    gallery: Gallery | None,
    folder: Path,
    optim: Optim,
    loop: Loop,
    world: World,
    architecture: Mapping[str, Any],
    loss: SupervisedSettings,
    hooks: Hooks = NO_HOOKS,
) -> dict[str, Any]:
    """Train all of a timm `model` with labels; with a `gallery`, its accuracy decides which state is the best.

    Returns and raises what `train` does: `last` and `best` hold top1, top5 and val_loss.
    """
    if gallery:
        hooks = replace(hooks, evaluate=evaluator(gallery, world))
    return train(Supervised(model, loss), source, folder, optim, loop, world, architecture, hooks)


def evaluator(gallery: Gallery, world: World) -> Any:
    """method -> the accuracy of its backbone on `gallery`."""
    return lambda method: accuracy(method.backbone, gallery, world)
