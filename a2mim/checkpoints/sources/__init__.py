"""Whose checkpoints are known, one file for each kind of layout."""

from a2mim.checkpoints.convert import Source, Tensors
from a2mim.checkpoints.sources import cnn, simmim, torchvision, vit
from a2mim.checkpoints.sources.hugging_face import HUGGING_FACE
from a2mim.checkpoints.sources.lite0 import LITE0
from a2mim.checkpoints.sources.openmmlab import OPENMMLAB

NATIVE = Source("timm", lambda tensors: True, positions="antialiased")

# The first that knows the names is taken: those with marks of their own before those that look like timm's.
SOURCES = (
    LITE0,
    cnn.AUGNET,
    vit.MOCO_V3,
    vit.IBOT,
    vit.DINO,
    simmim.SIMMIM_VIT,
    simmim.SIMMIM_SWIN,
    cnn.SPARK,
    *HUGGING_FACE,
    torchvision.VIT,
    torchvision.CONVNEXT,
    *OPENMMLAB,
    vit.MAE,
    vit.MAE_PROBE,
    simmim.BEIT,
    simmim.SWIN,
    cnn.CONVNEXT,
    vit.DEIT_III,
    vit.DEIT_DISTILLED,
)


def recognise(tensors: Tensors) -> Source:
    """The first source that knows the names; timm's own (torchvision's ResNets use the same) when none does."""
    return next((source for source in SOURCES if source.is_this(tensors)), NATIVE)
