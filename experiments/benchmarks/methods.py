"""`a2mim bench methods`: what a step of every pre-training method costs, beside the supervised step."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from a2mim.bounds import Count, Natural, Pixels, Threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from a2mim.methods import Method


@dataclass(frozen=True)
class Settings:
    """Time a training step of every method against the supervised step of the same backbone and batch.

    A step is masking, forward, loss, backward, AdamW and, where there is one, the update of a momentum copy, on a ready
    batch of noise with the views that the method wants; weights are random. Method and supervised step take turns: the
    relative time is the median over the repeats, with the 95 % bootstrap interval of that median. The supervised step
    against a second one like it shows what noise is. Memory is what tensors hold at the peak of a step: weights,
    optimizer, batch and all that the step makes. Methods keep their papers' settings; those that do not fit a backbone
    are named and skipped. Writes cpu.csv and cpu.json, or those of the accelerator.

    For example:
        a2mim bench methods
        a2mim bench methods resnet50 convnext_tiny --methods spark simmim --device cuda --precision bf16
        a2mim bench methods --quick
    """

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """timm's names of the backbones; without them vit_small_patch16_224 and resnet50."""
    methods: tuple[str, ...] = ()
    """Methods to time (empty: all)."""
    out: Path | None = None
    """Folder of the results (of those that are committed: experiments/results/methods); without it
    runs/bench/methods, and none with --quick."""
    image_size: Pixels = 224
    """Side of the images in pixels."""
    batch_size: Count | None = None
    """Images per step; without it 8 on the CPU and 128 elsewhere."""
    repeats: Count = 10
    """Timings of each, twice."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of all."""
    device: str = "auto"
    """cpu, cuda …; auto takes the accelerator when there is one."""
    threads: Threads | None = None
    """CPU threads; without it, torch's own choice."""
    seed: Natural = 0
    """Of weights, noise and masks."""
    quick: bool = False
    """Tiny backbones, two repeats: does it run?"""


MODELS = ("vit_small_patch16_224", "resnet50")
QUICK = ("test_vit", "test_resnet")
REFERENCE = "supervised"


def run(settings: Settings) -> None:
    """Time every method on every backbone, print the table and write it."""
    # Read once, when torch is imported: its profiler would print lines of its own between ours.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")

    import pandas as pd

    from experiments.benchmarks.record import begin, write_results
    from experiments.machine import pick_device

    device = pick_device(settings.device)
    settings = completed(settings, device.type)
    record = begin(settings, device)
    measured, skipped = measure(settings, device)
    table = pd.DataFrame([row(*key, found, measured[key[0], REFERENCE], settings) for key, found in measured.items()])
    print(table.to_string(index=False, float_format="{:.3f}".format))
    for (model, method), reason in skipped.items():
        print(f"skipped {method} on {model}: {reason}")
    if settings.out:
        named = {f"{model} {method}": found for (model, method), found in measured.items()}
        reasons = {f"{model} {method}": reason for (model, method), reason in skipped.items()}
        write_results(settings.out, device.type, table.round(4), record | {"measured": named, "skipped": reasons})


def completed(settings: Settings, device: str) -> Settings:
    """Settings with what was left open filled in, the supervised step first. Raises ValueError for what cannot be."""
    from a2mim.methods import METHODS
    from experiments.benchmarks.record import quickened
    from experiments.models import did_you_mean

    for method in settings.methods:
        if method not in METHODS:
            near = did_you_mean(method, list(METHODS)) or f": choose of {', '.join(METHODS)}"
            raise ValueError(f"there is no method '{method}'{near}")
    others = [method for method in settings.methods or METHODS if method != REFERENCE]
    settings = replace(settings, methods=(REFERENCE, *others))
    if settings.quick:
        return quickened(settings, models=QUICK, batch_size=2, image_size=64, repeats=2)
    return replace(
        settings,
        models=settings.models or MODELS,
        out=settings.out or Path("runs/bench/methods"),
        batch_size=settings.batch_size or (8 if device == "cpu" else 128),
    )


def measure(
    settings: Settings, device: "torch.device"
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[tuple[str, str], str]]:
    """(model, method) -> its seconds beside those of the supervised step, and bytes; and why others were left out.

    Raises ValueError where a backbone cannot be trained with labels.
    """
    from a2mim.errors import one_line, out_of_memory

    measured, skipped = {}, {}
    for model in settings.models:
        for method in settings.methods:
            try:
                measured[model, method] = measure_method(model, method, settings, device)
            except (ValueError, MemoryError, RuntimeError) as error:
                if not (isinstance(error, ValueError) or out_of_memory(error)):
                    raise
                if method == REFERENCE:
                    raise ValueError(f"{model} cannot be trained with labels here: {error}") from error
                skipped[model, method] = one_line(error)
    return measured, skipped


def measure_method(model: str, method: str, settings: Settings, device: "torch.device") -> dict[str, Any]:
    """Seconds of a method's step (first) and of the supervised step (second), and the bytes of the method's."""
    from experiments.benchmarks.timing import time_in_turns

    step, held = make_step(model, method, settings, device)
    step()  # the optimizer makes its state in the first step
    memory = peak_bytes(step, held, device)
    supervised, _ = make_step(model, REFERENCE, settings, device)
    times = time_in_turns(step, supervised, settings.repeats, device, f"{model} {method}")
    return {"peak_bytes": memory, **times}


def new_backbone(model: str, classes: int, settings: Settings) -> "nn.Module":
    """The backbone on random weights; one that can, takes crops of other sizes, which multi-crop needs."""
    from a2mim.settings import Network
    from experiments.training.assembly import make_network

    size, seed = settings.image_size, settings.seed
    backbone = make_network(Network(model), classes, size, seed)[0]
    if getattr(backbone, "dynamic_img_size", None) is False:
        backbone = make_network(Network(model, ("dynamic_img_size=True",)), classes, size, seed)[0]
    return backbone


def make_step(
    model: str, name: str, settings: Settings, device: "torch.device"
) -> tuple[Callable[[], None], Callable[[], list["torch.Tensor"]]]:
    """A function that takes one training step, and one that lists the tensors held between steps."""
    import torch

    from a2mim.optim import make_optimizer
    from a2mim.settings import Optim
    from experiments.benchmarks.step import bare_step
    from experiments.training.assembly import make_method

    backbone = new_backbone(model, 1000 if name == REFERENCE else 0, settings)
    method = make_method(name, backbone, {}, settings.image_size, settings.seed).to(device).train()
    assert settings.batch_size is not None
    optimizer = make_optimizer(method, Optim(), settings.batch_size)
    batch = make_batch(method, settings, device)
    step = bare_step(method, optimizer, batch, settings.seed, settings.precision, device)

    def held() -> list[torch.Tensor]:
        states = [value for state in optimizer.state.values() for value in state.values()]
        images = batch["image"] if isinstance(batch["image"], list) else [batch["image"]]
        tensors = [*method.parameters(), *method.buffers(), *images, *states]
        return [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]

    return step, held


def make_batch(method: "Method", settings: Settings, device: "torch.device") -> dict[str, Any]:
    """Noise in the number and sizes of views that the method compares."""
    from a2mim.settings import Augmentation
    from experiments.training.forecasting import noise

    assert settings.batch_size is not None
    sides = [view.image_size for view in method.views(Augmentation(image_size=settings.image_size))]
    return noise(sides, settings.batch_size, 1000, device, settings.seed)


def peak_bytes(step: Callable[[], None], held: Callable[[], list["torch.Tensor"]], device: "torch.device") -> int:
    """What tensors hold at most during a step: those that are held anyway, and the most that was allocated on top.

    On the CPU from the allocations that torch's profiler reports: libraries' own scratch space is not counted there.
    """
    import torch

    resident = sum(tensor.numel() * tensor.element_size() for tensor in held())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return resident + torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return resident + most


def row(
    model: str, method: str, found: dict[str, Any], reference: dict[str, Any], settings: Settings
) -> dict[str, Any]:
    """One line of the table."""
    import numpy as np

    from experiments.benchmarks.timing import speed_ratio

    relative, low, high = speed_ratio(found)
    return {
        "model": model,
        "method": method,
        "batch_size": settings.batch_size,
        "repeats": len(found["first"]),
        "step_ms": 1000 * float(np.median(found["first"])),
        "relative_time": relative,
        "relative_time_low": low,
        "relative_time_high": high,
        "memory_mb": found["peak_bytes"] / 1e6,
        "relative_memory": found["peak_bytes"] / reference["peak_bytes"],
    }
