"""Tensors of a file that belong one below the other, joined where somebody asks for their values and not before.

`inspect` asks for shapes alone, and loading copies one tensor after the other, so that a network whose queries, keys
and values lie apart is never in memory beside its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

__all__ = ["Joined", "joins", "whole"]


class Joined(Tensor):
    """`torch.cat(parts)`, whose shape and kind of number are known without it; every operation on it gets the whole."""

    parts: tuple[Tensor, ...]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, parts: Sequence[Tensor]) -> Joined:
        shape = (sum(x.shape[0] for x in parts), *parts[0].shape[1:])
        made: Joined = Tensor._make_wrapper_subclass(cls, shape, dtype=parts[0].dtype)  # type: ignore[attr-defined]
        made.parts = tuple(parts)
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        args, kwargs = tree_map_only(Joined, whole, (args, kwargs or {}))
        return func(*args, **kwargs)


def joins(parts: Sequence[Tensor]) -> bool:
    """Whether tensors are of one shape and kind, and of no other sort than plain ones with an axis to join along."""
    first = parts[0]
    plain = (x.device.type == "cpu" and x.layout == torch.strided and not x.is_quantized for x in parts)
    return first.ndim > 0 and all(plain) and all(x.shape == first.shape and x.dtype == first.dtype for x in parts)


def whole(x: Tensor) -> Tensor:
    """A tensor with values of its own."""
    return torch.cat(x.parts) if isinstance(x, Joined) else x
