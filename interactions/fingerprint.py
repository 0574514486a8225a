"""Short digests by which a resumed run notices that its model, its data set or an image is not what it was."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def model_digest(model: nn.Module) -> str:
    """Of every parameter and buffer that the module would save, with its name."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()[:16]


def image_digest(image_CHW: Tensor) -> str:
    """Of the pixels."""
    return hashlib.sha256(tensor_bytes(image_CHW)).hexdigest()[:16]


def names_digest(names: Iterable[str]) -> str:
    """Of a list of names, in their order."""
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor of any type, on any device."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
