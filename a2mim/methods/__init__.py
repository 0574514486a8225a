"""Pre-training methods, one file each: `METHODS[name](backbone, METHODS[name].Settings())`."""

from typing import Any

from a2mim.methods.a2mim import A2MIM, A2MIMSettings
from a2mim.methods.base import Method
from a2mim.methods.simmim import SimMIM, SimMIMSettings
from a2mim.methods.supervised import Supervised, SupervisedSettings

__all__ = [
    "A2MIM",
    "METHODS",
    "A2MIMSettings",
    "Method",
    "SimMIM",
    "SimMIMSettings",
    "Supervised",
    "SupervisedSettings",
]

METHODS: dict[str, type[Any]] = {"a2mim": A2MIM, "simmim": SimMIM, "supervised": Supervised}
