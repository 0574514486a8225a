"""The one strict checkpoint reader: a file is read safely, recognised, renamed, and loaded completely or not at all.

    report = load_into(model, "weights.pth")        # CheckpointError unless every key finds its place
    checkpoint = read("weights.pth")                # the tensors in timm's names, and what the file was

The steps, one file each: `read` (file → tensors: safe reading, container, prefixes), `convert` (whose names these are
→ timm's), `load` (tensors → model, every key accounted for).
"""

from a2mim.checkpoints.errors import CheckpointError
from a2mim.checkpoints.load import LoadReport, load_into
from a2mim.checkpoints.read import Checkpoint, read

__all__ = ["Checkpoint", "CheckpointError", "LoadReport", "load_into", "read"]
