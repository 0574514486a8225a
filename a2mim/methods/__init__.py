"""Pre-training methods, one file each: `METHODS[name](backbone, METHODS[name].Settings())`."""

from typing import Any

from a2mim.methods.a2mim import A2MIM, A2MIMSettings
from a2mim.methods.base import Method
from a2mim.methods.mae import MAE, MAESettings
from a2mim.methods.maskfeat import MaskFeat, MaskFeatSettings
from a2mim.methods.simmim import SimMIM, SimMIMSettings
from a2mim.methods.spark import SparK, SparKSettings
from a2mim.methods.supervised import Supervised, SupervisedSettings

__all__ = [
    "A2MIM",
    "MAE",
    "METHODS",
    "A2MIMSettings",
    "MAESettings",
    "MaskFeat",
    "MaskFeatSettings",
    "Method",
    "SimMIM",
    "SimMIMSettings",
    "SparK",
    "SparKSettings",
    "Supervised",
    "SupervisedSettings",
]

METHODS: dict[str, type[Any]] = {
    "a2mim": A2MIM,
    "simmim": SimMIM,
    "mae": MAE,
    "maskfeat": MaskFeat,
    "spark": SparK,
    "supervised": Supervised,
}
