"""Averages over steps: of scalars, and of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from a2mim.dist import World

Metrics = dict[str, float]


class Average:
    """Means of scalars over steps, summed where they are computed: reading them is what waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.sums = torch.zeros(0, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        if not self.names:
            self.names = list(values)
            self.sums = torch.zeros(len(values), dtype=torch.float64, device=self.device)
        self.sums += torch.stack([values[name].detach().double().reshape(()) for name in self.names])
        self.count += 1

    def means(self, world: World) -> Metrics:
        """Over the steps since the last reset, and over processes; empty where there were none."""
        totals = world.total(self.sums) / max(1, self.count) / world.size
        return dict(zip(self.names, totals.tolist(), strict=True))

    def state(self, world: World) -> dict[str, Any]:
        return {"names": self.names, "mean_sums": world.total(self.sums) / world.size, "count": self.count}

    def load(self, state: dict[str, Any], world: World) -> None:
        """The saved sums are means over the processes, of which there may be others now: the first one carries them
        on for all. (An older state has the sums of all processes, of which there have to be as many as then.)"""
        self.names, self.count = list(state["names"]), state["count"]
        sums = state["mean_sums"] * world.size if "mean_sums" in state else state["sums"]
        self.sums = sums.to(self.device) * float(world.main)

    def reset(self) -> None:
        self.sums = torch.zeros_like(self.sums)
        self.count = 0


class MovingAverage(ModelEmaV3):
    """timm's, whose decay may also rise along a line in the first `rising` steps, from 0.9 of its own: at step i (0 is
    the first) decay · (1 − 0.1 · (1 − i/rising)), from the initial weights on (OpenMixup's EMAHook)."""

    def __init__(self, model: nn.Module, decay: float, use_warmup: bool, rising: float) -> None:
        super().__init__(model, decay=decay, use_warmup=use_warmup)
        self.rising = rising

    def get_decay(self, step: int | None = None) -> float:
        """step: how many updates of the weights are done."""
        if not self.rising or step is None:
            return super().get_decay(step)
        return self.decay * (1 - 0.1 * max(0.0, 1 - (step - 1) / self.rising))
