"""Whose checkpoints are known: one short file for each family of layouts, with its public code, its marks, its rules.

A new format is a `Source` in one of these files (or in one of its own), and its place in SOURCES.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from a2mim.checkpoints.convert import Dropped, Pixels, Source, Tensors, drop
from a2mim.checkpoints.resize import PositionRule
from a2mim.checkpoints.sources import beit, clip, convnext, dino, hiera, swin, torchvision, torchvision_cnn, vit
from a2mim.checkpoints.sources.hugging_face import HUGGING_FACE
from a2mim.checkpoints.sources.hugging_face_cnn import HUGGING_FACE_CNN
from a2mim.checkpoints.sources.lite import LITE
from a2mim.checkpoints.sources.openmmlab import OPENMMLAB
from a2mim.checkpoints.sources.wrappers import OTHER_BACKBONE, WRAPPERS

NATIVE = Source("timm", "github.com/huggingface/pytorch-image-models", positions="antialiased")

# The first that knows the names is taken: wrappers first, then those with marks of their own before those that look
# like timm's.
SOURCES: tuple[Source, ...] = (
    *dino.WRAPPERS,
    *clip.WRAPPERS,
    *WRAPPERS,
    LITE,
    *HUGGING_FACE,
    *HUGGING_FACE_CNN,
    torchvision.VIT,
    torchvision.CONVNEXT,
    *torchvision.SWINS,
    *torchvision_cnn.NAMED,
    *OPENMMLAB,
    vit.I_JEPA,
    vit.MAE,
    vit.MAE_PROBE,
    beit.BEIT,
    *swin.NAMED,
    *convnext.NAMED,
    *hiera.NAMED,
    *clip.NAMED,
    *dino.NAMED,
    vit.DEIT_PARALLEL,
    vit.DEIT_III,
    vit.SCALED_VIT,
    torchvision.SEQUENTIAL_RESNET,
    vit.DEIT_DISTILLED,
    OTHER_BACKBONE,
)


@dataclass(frozen=True)
class Recognised:
    """A file's tensors under timm's names, and the sources that gave them: wrappers first, the names last."""

    sources: tuple[Source, ...]
    tensors: Tensors
    dropped: Dropped
    """Why → which keys of the file, or of what lies behind its wrapper's prefix, were left out."""
    left_out: Mapping[str, Any]
    """Those tensors."""
    fresh: Dropped
    """Why → which keys of the model the file has not, and were made."""

    @property
    def name(self) -> str:
        return next(each.name for each in self.sources if each.name)

    @property
    def names(self) -> Source:
        """The source of the names themselves."""
        return self.sources[-1]

    @property
    def norm_eps(self) -> Mapping[str, float]:
        return next((each.norm_eps for each in self.sources if each.norm_eps), {})

    @property
    def positions(self) -> PositionRule:
        return next((each.positions for each in self.sources if each.positions), "bicubic")

    @property
    def pixels(self) -> Pixels | None:
        return next((each.pixels for each in self.sources if each.pixels), None)

    @property
    def models(self) -> Mapping[str, Mapping[str, Any]]:
        """The one with the nearest number of tensors first, where that is known."""
        known, there = self.names.tensors, len(self.tensors)
        nearest = sorted(self.names.models, key=lambda name: abs(known.get(name, there) - there))
        return {name: self.names.models[name] for name in nearest}

    @property
    def arguments(self) -> dict[str, Any]:
        return {key: x for each in reversed(self.sources) for key, x in each.arguments.items()}

    @property
    def unread(self) -> str:
        return next((each.unread for each in self.sources if each.unread), "")


def recognise(tensors: Tensors, beside: Collection[str] = ()) -> Recognised:
    """The sources that know the names; timm's own (torchvision's ResNets use the same) when none does.

    beside: keys of the file's top level.
    """
    sources: list[Source] = []
    dropped: Dropped = {}
    left_out: dict[str, Any] = {}
    while not sources or sources[-1].inner:
        left = (each for each in SOURCES if not any(each is source for source in sources))
        source = next((each for each in left if each.is_this(tensors, beside)), NATIVE)
        sources.append(source)
        kept, out = drop(tensors, source.drops)
        left_out |= {key: tensors[key] for keys in out.values() for key in keys}
        dropped = {why: (*dropped.get(why, ()), *out.get(why, ())) for why in {**dropped, **out}}
        tensors = source.convert(kept)
    made = {why: tuple(key for key in tensors if re.fullmatch(rule, key)) for rule, why in source.fresh.items()}
    return Recognised(tuple(sources), tensors, dropped, left_out, {why: keys for why, keys in made.items() if keys})
