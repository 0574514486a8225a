"""Short digests by which a resumed run notices that its model, its data set or an image is not what it was."""

import hashlib
import re
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn


def model_digest(model: nn.Module) -> str:
    """Of every parameter and buffer that the module would save, with its name."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()[:16]


INACTIVE = ("Dropout", "DropPath", "StochasticDepth", "Identity")
"""How the types of modules begin that do nothing in evaluation mode."""
LIBRARIES, TRANSFORMS = ("torch.", "torchvision.", "timm."), ("torchvision.transforms.",)
"""Packages whose modules make the buffers that they do not save from their settings; and whose settings are lists."""
HOW = {"training", "fused_attn", "grad_checkpointing", "inplace"}
"""Settings of torch's and timm's modules that say how, and not what, is computed."""


def structure_digest(model: nn.Module) -> str:
    """Of what a model computes with beside its tensors, which no tensor tells: each module's place, type and settings,
    such as attention heads, pooling and activation.

    Settings are public attributes that are numbers, words, functions or tuples of these, lists and tensors of them in
    torchvision's transforms (Normalize), and buffers that one's own modules do not save. Private ones, a counter or a
    cache, are the author's own affair, strings that are no word may be paths, and what is called after dropout or
    initialisation acts in training alone, or before it.
    """
    digest = hashlib.sha256()
    for place, module in model.named_modules():
        kind = type(module).__name__
        if not kind.startswith(INACTIVE):
            digest.update(f"{place} {kind} {settings_of(module)}\n".encode())
        for name in sorted(module._non_persistent_buffers_set) if not is_of(module, LIBRARIES) else ():
            if (buffer := module._buffers[name]) is not None:
                digest.update(f"{place} {name}\n".encode() + tensor_bytes(buffer))
    return digest.hexdigest()[:16]


def is_of(module: nn.Module, packages: tuple[str, ...]) -> bool:
    """Whether a module's type is one of these packages'."""
    return type(module).__module__.startswith(packages)


def settings_of(module: nn.Module) -> dict[str, str]:
    """A module's settings in words, by their names."""
    public = {key: value for key, value in sorted(vars(module).items()) if not key.startswith("_") and key not in HOW}
    if is_of(module, TRANSFORMS):
        lists = {key: x.tolist() if isinstance(x, Tensor) else x for key, x in public.items()}
        public = {key: tuple(x) if isinstance(x, list) else x for key, x in lists.items()}
    told = {key: in_words(value) for key, value in public.items() if "drop" not in key and "init" not in key}
    return {key: words for key, words in told.items() if words}


def in_words(value: Any) -> str:
    """A setting's value; empty for what is none. None counts for nothing, since what a pass keeps begins so."""
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return value.__qualname__
    if isinstance(value, tuple):
        parts = [in_words(each) for each in value]
        return f"({', '.join(parts)})" if all(parts) else ""
    word = isinstance(value, str) and re.fullmatch(r"[\w-]*", value)
    return repr(value) if word or isinstance(value, bool | int | float) else ""


def image_digest(image_CHW: Tensor) -> str:
    """Of the pixels."""
    return hashlib.sha256(tensor_bytes(image_CHW)).hexdigest()[:16]


def names_digest(names: Iterable[str]) -> str:
    """Of a list of names, in their order."""
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor of any type, on any device."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
