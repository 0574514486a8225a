"""Pre-training methods, one file each: `METHODS[name](backbone, METHODS[name].Settings())`."""

from typing import Any

from a2mim.methods.a2mim import A2MIM, A2MIMSettings
from a2mim.methods.base import Method
from a2mim.methods.byol import BYOL, BYOLSettings
from a2mim.methods.dino import DINO, DINOSettings
from a2mim.methods.mae import MAE, MAESettings
from a2mim.methods.maskfeat import MaskFeat, MaskFeatSettings
from a2mim.methods.mocov3 import MoCoV3, MoCoV3Settings
from a2mim.methods.simclr import SimCLR, SimCLRSettings
from a2mim.methods.simmim import SimMIM, SimMIMSettings
from a2mim.methods.spark import SparK, SparKSettings
from a2mim.methods.supervised import Supervised, SupervisedSettings

__all__ = [
    "A2MIM",
    "BYOL",
    "DINO",
    "MAE",
    "METHODS",
    "A2MIMSettings",
    "BYOLSettings",
    "DINOSettings",
    "MAESettings",
    "MaskFeat",
    "MaskFeatSettings",
    "Method",
    "MoCoV3",
    "MoCoV3Settings",
    "SimCLR",
    "SimCLRSettings",
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
    "simclr": SimCLR,
    "byol": BYOL,
    "mocov3": MoCoV3,
    "dino": DINO,
    "supervised": Supervised,
}
