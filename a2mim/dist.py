"""One process or many: what torchrun says about it, and the few things that the processes must agree on.

    torchrun --nproc-per-node 8 --no-python a2mim pretrain ...

NCCL between CUDA devices, gloo on the CPU. A second, always-gloo group carries control messages, so that agreeing on
"stop now" never waits for a device.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """The processes of a run as this one sees them: its rank, their number, its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    control: Any = None  # gloo process group, None in a single process

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def largest(self, *values: int) -> list[int]:
        """The largest of each value over all processes."""
        if self.size == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(together, op=dist.ReduceOp.MAX, group=self.control)
        return [int(value) for value in together]

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of `tensor` over all processes, on the CPU."""
        tensor = tensor.detach().cpu().clone()
        if self.size > 1:
            dist.all_reduce(tensor, group=self.control)
        return tensor

    @torch.no_grad()
    def from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give `tensors`, as many of the same shapes on every process, the values that they have on process 0."""
        for tensor in tensors if self.size > 1 else ():
            values = tensor.detach().cpu().contiguous()
            dist.broadcast(values, 0, group=self.control)
            tensor.copy_(values)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The rows of every process's `tensor`, on the CPU, those of process 0 first.

        Their numbers may differ; a process that has none may give a tensor of shape (0,), whatever the others' is.
        """
        parts = self.collect(tensor.detach().cpu())
        return torch.cat([part for part in parts if len(part)] or parts[:1])

    def collect(self, content: Any) -> list[Any]:
        """What every process has to say: anything that can be pickled, that of process 0 first."""
        if self.size == 1:
            return [content]
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, content, group=self.control)
        return parts

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier(group=self.control)


@contextmanager
def join(device: str = "auto") -> Iterator[World]:
    """The World of this process: what torchrun announced in the environment, or a single process without it.

    device: auto (CUDA where there is one), cpu, cuda, or any torch device. Raises ValueError for a device that is
    not there.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    place = _device(device, local)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World(device=place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), place, dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"there is no device called {name!r}: use auto, cpu, cuda or cuda:N") from error
    if device.type == "meta":
        raise ValueError("the device meta computes nothing: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name} is not there ({torch.cuda.device_count()} CUDA devices are visible): use --device cpu"
        )
    return device
