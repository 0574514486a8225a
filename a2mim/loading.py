"""Batches on their way from the processes that make them to the model: moved to the device, normalised and mixed.

Mixing is a function of (seed, step).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import torch
from timm.data import Mixup
from timm.data.mixup import mixup_target
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from a2mim.errors import one_line
from a2mim.images import Images
from a2mim.samples import Batch
from a2mim.settings import Mixing


class WorkerDied(ValueError):
    """A process that decodes images is gone."""


class Unreadable(WorkerDied):
    """Images cannot be read any more, though they were there."""


def loader_settings(workers: int, device: torch.device) -> dict[str, Any]:
    """What every DataLoader of this project is given."""
    return {
        "num_workers": workers,
        "pin_memory": device.type == "cuda",
        "persistent_workers": workers > 0,
        "worker_init_fn": _start_worker if workers else None,
    }


def _start_worker(_: int) -> None:
    """Leave Ctrl-C to the main process, which stops in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def started(loader: DataLoader) -> Iterator[Batch]:
    """iter(loader), whose dead processes are noticed where a batch is waited for.

    torch would have the news of a death raise at whatever line the main process is at, in the middle of an optimizer
    step too. Without its handler, waiting for a batch finds out within seconds.
    """
    batches = iter(loader)
    if loader.num_workers and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return batches


def together(samples: Sequence[Batch], collate: Callable[[Any], Batch] = default_collate) -> Batch:
    """A batch of those samples that hold an image, and what was told of all."""
    told = [each for sample in samples for each in sample.pop("told")]
    failed = [sample["failed"] for sample in samples if "failed" in sample]
    if failed:
        return {"told": told, "failed": failed[0]}
    whole = [sample for sample in samples if sample]
    return {**(collate(whole) if whole else {}), "told": told}


def heard(batches: Iterable[Batch], images: Images) -> Iterator[Batch]:
    """The batches that hold images, once what they tell of single ones is noted. Raises Unreadable."""
    for batch in batches:
        for what, index, why in batch.pop("told", ()):
            images.reports.add(what, index, why)
        if "failed" in batch:
            raise Unreadable(batch["failed"])
        if batch:
            yield batch


def guarded(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """`batches`, with a failed loader told in one sentence: WorkerDied, or ValueError."""
    try:
        yield from batches
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, ConnectionError | EOFError) or "DataLoader worker (pid" in str(error):
            raise WorkerDied(one_line(error)) from error
        raise


def in_channels_last(model: nn.Module) -> bool:
    """Whether a model's convolutions lie in memory in channels-last format, as then its images had better do."""
    weights = [each.weight for each in model.modules() if isinstance(each, nn.Conv2d)]
    return any(x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous() for x in weights)


def on_device(
    batch: Batch, device: torch.device, mean: Sequence[float], std: Sequence[float], channels_last: bool = False
) -> Batch:
    """Move a batch; uint8 pixels become normalised float32 there."""
    views = batch["image"] if isinstance(batch["image"], list) else [batch["image"]]
    ready = [normalised(view.to(device, non_blocking=True), mean, std) for view in views]
    moved: Batch = {
        name: value.to(device, non_blocking=True) for name, value in batch.items() if isinstance(value, Tensor)
    }
    moved["image"] = ready if isinstance(batch["image"], list) else ready[0]
    return channels_last_images(moved) if channels_last else moved


def channels_last_images(batch: Batch) -> Batch:
    """The batch with its images, or views of them, in channels-last format."""
    image = batch["image"]
    if isinstance(image, list):
        return {**batch, "image": [view.contiguous(memory_format=torch.channels_last) for view in image]}
    return {**batch, "image": image.contiguous(memory_format=torch.channels_last)}


def normalised(x_BCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 pixels -> (x / 255 - mean) / std in float32; float pixels are taken to be normalised already."""
    if x_BCHW.dtype != torch.uint8:
        return x_BCHW
    scale = torch.tensor(std, device=x_BCHW.device).view(1, -1, 1, 1) * 255
    return (x_BCHW - torch.tensor(mean, device=x_BCHW.device).view(1, -1, 1, 1) * 255) / scale


def mixer(mixing: Mixing, classes: int, batch: int) -> Callable[[Any, Tensor], tuple[Any, Tensor]] | None:
    """timm's Mixup and CutMix with label smoothing, smoothing alone, or None where all are off."""
    if not (mixing.mixup or mixing.cutmix or mixing.smoothing):
        return None
    if not classes:
        raise ValueError("mixup, CutMix and label smoothing need labelled images: set them to 0")
    if not (mixing.mixup or mixing.cutmix):
        return lambda image, target: (image, mixup_target(target, classes, 1.0, mixing.smoothing))
    if batch % 2:
        raise ValueError(f"mixup and CutMix pair images up: {batch} in a micro-batch is odd, change --batch")
    return Mixup(
        mixup_alpha=mixing.mixup,
        cutmix_alpha=mixing.cutmix,
        prob=mixing.mix_prob,
        switch_prob=mixing.switch_prob,
        label_smoothing=mixing.smoothing,
        num_classes=classes,
    )
