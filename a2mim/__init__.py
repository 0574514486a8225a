"""Train A²MIM and its baselines on any timm backbone, and read the checkpoints of others.

    from a2mim import METHODS, load_into
    from a2mim.train import train

What stands here is the face of the package. A name is imported when it is asked for, so that `import a2mim` (and
`a2mim --help`) costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2mim.checkpoints import Checkpoint, CheckpointError, LoadReport, load_into
    from a2mim.evaluate.finetune import finetune
    from a2mim.evaluate.knn import knn
    from a2mim.evaluate.linear import linear_probe
    from a2mim.export import export_backbone
    from a2mim.methods import METHODS, Method
    from a2mim.own import OwnBackbone
    from a2mim.settings import Augmentation, Data, Evaluation, Loop, Mixing, Network, Optim

__all__ = [
    "METHODS",
    "Augmentation",
    "Checkpoint",
    "CheckpointError",
    "Data",
    "Evaluation",
    "LoadReport",
    "Loop",
    "Method",
    "Mixing",
    "Network",
    "Optim",
    "OwnBackbone",
    "__version__",
    "export_backbone",
    "finetune",
    "knn",
    "linear_probe",
    "load_into",
]

_HOMES = {
    "checkpoints": ("Checkpoint", "CheckpointError", "LoadReport", "load_into"),
    "evaluate.finetune": ("finetune",),
    "evaluate.knn": ("knn",),
    "evaluate.linear": ("linear_probe",),
    "export": ("export_backbone",),
    "methods": ("METHODS", "Method"),
    "own": ("OwnBackbone",),
    "settings": ("Augmentation", "Data", "Evaluation", "Loop", "Mixing", "Network", "Optim"),
}

try:
    __version__ = version("a2mim")
except PackageNotFoundError:  # run from its source tree
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"a2mim.{home}"), name)
    raise AttributeError(f"module 'a2mim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
