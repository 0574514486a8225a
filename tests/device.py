"""A stand-in for an accelerator, on a CPU: tensors of the meta device, which have a place and a shape and no values.

What reads a value of such a tensor (item, bool, nonzero, cpu), and would wait for a real device, raises. `one_device`
refuses, besides, every operation on tensors of two devices, of which the meta device itself lets some pass. Indices may
lie on the CPU, as everywhere in PyTorch.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")
MOVES = ("_to_copy", "copy_", "index", "index_put", "index_put_", "_index_put_impl_", "_foreach_copy_")


class one_device(TorchDispatchMode):
    """Raises AssertionError where tensors of two devices meet; single numbers of the CPU may go anywhere."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        devices = {x.device.type for x in tensors if x.ndim or x.device.type != "cpu"}
        assert len(devices) < 2 or func.overloadpacket.__name__ in MOVES, f"{func} of tensors on {sorted(devices)}"
        return func(*args, **(kwargs or {}))
