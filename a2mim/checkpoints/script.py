"""TorchScript archives as inert data: the tensors of their modules, by name. Nothing of their code is read.

OpenAI's CLIP is published so (ViT-B-32.pt). The archive's data.pkl names a class under `__torch__` for each module,
builds it from its attributes, and refers to the tensors as any file of torch.save does; programs lie beside it, under
code/. Here each of these classes is a record made for this one file, which keeps its attributes and does nothing.
"""

import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from a2mim.checkpoints.errors import CheckpointError

CLASSES = "__torch__"
LIST_MAKERS = ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag")


class Part:
    """A module of the archive: its attributes by name, as they were built."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class Forgotten:
    """What is made of lists and other attributes that are no tensors: takes any arguments, and keeps nothing."""

    def __init__(self, *args: Any) -> None:
        pass


def read_script(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript archive by name, as its state_dict() would name them.

    Read by torch's weights_only reader and mapped to the file. Of a module that stands in two places, the first has its
    tensors. Raises CheckpointError for an archive of something else than a module; anything for a damaged one.
    """
    records = torch._C.PyTorchFileReader(str(path))
    stand_ins = [type(name, (Part,), {"__module__": module}) for module, name in classes(records)]
    makers = [type(name, (Forgotten,), {"__module__": "torch.jit._pickle"}) for name in LIST_MAKERS]
    whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    with torch.serialization.safe_globals([*stand_ins, *makers]):
        # torch.load refuses such archives by their name alone; this is the reader behind it.
        reader: Any = torch._weights_only_unpickler
        root = torch.serialization._load(records, "cpu", reader, overall_storage=whole, encoding="utf-8")
    if not isinstance(root, Part):
        raise CheckpointError(
            f"checkpoint '{path}' is a TorchScript program without a network's weights: save model.state_dict() instead"
        )
    return dict(tensors(root, "", set()))


def classes(records: Any) -> set[tuple[str, str]]:
    """(module, name) of the classes that data.pkl names as those of the archive's own code."""
    named = (str(what) for code, what, _ in pickletools.genops(records.get_record("data.pkl")) if code.name == "GLOBAL")
    pairs = (tuple(each.split(" ", 1)) for each in named)
    return {(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0].split(".")[0] == CLASSES}


def tensors(part: Part, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a module and of those inside of it, each module once; sparse ones, which no network has, are none."""
    seen.add(id(part))
    for name, value in getattr(part, "attributes", {}).items():
        if isinstance(value, Tensor) and value.layout == torch.strided:
            yield f"{prefix}{name}", value
        elif isinstance(value, Part) and id(value) not in seen:
            yield from tensors(value, f"{prefix}{name}.", seen)
