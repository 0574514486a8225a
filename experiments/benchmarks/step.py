"""The step that benchmarks time: forward, loss, backward, optimizer and momentum copy, and nothing of the loop."""

from collections.abc import Callable
from typing import Any

import torch

from a2mim.methods import Method
from a2mim.optim import make_optimizer
from a2mim.settings import Precision
from a2mim.trainer import AUTOCAST


def bare_step(
    method: Method,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Any],
    seed: int,
    precision: Precision,
    device: torch.device,
) -> Callable[[], None]:
    """A function that takes one step on `batch`, its masks drawn from `seed` on."""
    generator, dtype = torch.Generator().manual_seed(seed), AUTOCAST[precision]

    def step() -> None:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss = method(batch, generator)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(0.4, 0.5)

    return step


def bare(method: Method, recipe: Any, batch: dict[str, Any], device: torch.device) -> Callable[[], None]:
    """A function that takes one step on `batch`, with the optimizer and the loop's settings of a recipe."""
    loop = recipe.loop
    form = torch.channels_last if loop.laid_out else torch.preserve_format
    method = method.to(device, memory_format=form).train()  # type: ignore[call-overload]
    optimizer = make_optimizer(method, recipe.optim, loop.batch)
    if loop.compile:
        method.compile()
    return bare_step(method, optimizer, batch, loop.seed, loop.precision, device)
