"""Networks of shapes alone, on torch's meta device, without the seconds in which their weights would be drawn there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

FILLS = {"uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_"}
"""What initial weights are made by."""


class _NoValues(TorchDispatchMode):
    """Takes what fills a tensor without memory for done: torch would work it out operation by operation, in Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in FILLS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """What is made in the block has shapes and no memory."""
    with torch.device("meta"), _NoValues():
        yield
