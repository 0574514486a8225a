"""The processes that share one measurement, as torchrun starts them; without torchrun there is a single one."""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch.distributed as dist

from interactions.forecast import DryRun

Result = TypeVar("Result")

# A process waits for the slowest one, however long that takes; torchrun ends the others when one fails.
PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """This process's rank among `size` processes; `group` is their gloo group, None for a single process."""

    rank: int = 0
    size: int = 1
    group: Any = None

    def from_first(self, make: Callable[[], Result]) -> Result:
        """`make()` of rank 0, on every rank; what is wrong with the input is raised on every rank, too."""
        if self.size == 1:
            return make()
        made: list[Any] = [None, None]
        if self.rank == 0:
            try:
                made[0] = make()
            except (ValueError, OSError, DryRun) as error:
                made[1] = error
        dist.broadcast_object_list(made, src=0, group=self.group)
        if made[1] is not None:
            raise made[1]
        return made[0]

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier(group=self.group)


@contextmanager
def join() -> Iterator[Ranks]:
    """The processes that torchrun announces in the environment, or those that the caller's program has joined."""
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        group = gloo_group()
        yield Ranks(dist.get_rank(), dist.get_world_size(), group)
    else:
        yield Ranks()


@cache
def gloo_group() -> Any:
    """The group of all processes, formed once a program and left at its end.

    Never twice: under a launcher's store a second group can find the addresses of the first, and waits for ever.
    """
    if dist.is_initialized():
        atexit.register(gloo_group.cache_clear)
        return dist.new_group(backend="gloo", timeout=PATIENCE)
    dist.init_process_group("gloo", timeout=PATIENCE)
    atexit.register(_leave)
    return dist.group.WORLD


def _leave() -> None:
    """Destroy the group and its threads; one that this module still held would abort a program that is ending."""
    gloo_group.cache_clear()
    dist.destroy_process_group()
