"""float32 as it is written: no TF32, no bfloat16 in matrix products and convolutions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 products without TF32, which PyTorch allows in cuDNN by default: it would lift the floor.

    On CPUs that have it, without bfloat16, too. What the caller had set, by whichever of PyTorch's interfaces, returns.
    """
    cudnn, matmul = _readable(lambda: torch.backends.cudnn.allow_tf32), _readable(torch.get_float32_matmul_precision)
    parts = _precision_parts()
    before = [part.fp32_precision for part in parts]
    if cudnn is not None:
        torch.backends.cudnn.allow_tf32 = False
    if matmul is not None:
        torch.set_float32_matmul_precision("highest")
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def _precision_parts() -> list[Any]:
    """What has a float32 precision of its own, which outranks the older flags; none before PyTorch 2.9."""
    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        return []
    return [
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    ]


def _readable(flag: Callable[[], Any]) -> Any:
    """The flag, or None where PyTorch refuses to read it because a part's own precision says otherwise."""
    try:
        return flag()
    except RuntimeError:
        return None
