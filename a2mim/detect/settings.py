"""What a detection is asked to do. Imports nothing heavy: `--help` reads this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from a2mim.bounds import Natural, Pixels, Range, Share

Anchor = Annotated[int, Range(1, 65536)]
"""Side of an anchor in pixels."""
Zoom = Annotated[float, Range(0.05, 20)]


@dataclass(frozen=True)
class Coco:
    """Where the pictures and their instances lie."""

    data: str = ""
    """A folder or .tar with the pictures in images/PART (or PART) and their instances in
    annotations/instances_PART.json, in COCO's format."""
    split: str = "train2017"
    """The part that trains."""
    val: str = ""
    """Where the validation pictures lie (empty: the same place)."""
    val_split: str = "val2017"
    """The part that validates."""
    drop_empty: bool = False
    """Leave out instances whose box is empty, which are refused otherwise (COCO's train2017 has some)."""
    annotated_only: bool = False
    """Leave out training pictures without instances."""
    limit: Natural = 0
    """Use only this many training pictures, drawn once with a fixed seed (0: all)."""
    workers: Natural = 4
    """Processes that decode pictures (0: none). Results do not depend on it."""


@dataclass(frozen=True)
class Frames:
    """How a training view is made, boxes and masks along with their picture."""

    short_side: tuple[Pixels, ...] = (800,)
    """Shorter side in pixels that pictures are resized to; of several, one is drawn each time. Evaluation takes the
    largest."""
    long_side: Pixels = 1333
    """Longer side in pixels at most."""
    crop: tuple[Annotated[int, Range(0, 65536)], Annotated[int, Range(0, 65536)]] = (0, 0)
    """Height and width: a picture that is fitted into it is scaled by a random `scale` and cut to it at a random place
    (large-scale jitter), in place of the short side (0 0: no)."""
    scale: tuple[Zoom, Zoom] = (0.1, 2.0)
    """Range of that scale."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    pad: bool = False
    """Pad every picture to one size, the crop's or a square of the longer side: for networks that see images of one
    size alone (BEiT, Hiera, MaxViT)."""

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of a training view, as large as it can be."""
        if self.crop[0]:
            return self.crop
        return (self.long_side, self.long_side) if self.pad else (max(self.short_side), self.long_side)

    def check(self) -> None:
        """Raises ValueError for sides that do not fit together."""
        if not self.short_side:
            raise ValueError("--short-side names no side: give one or several")
        if self.long_side < max(self.short_side):
            raise ValueError(
                f"--long-side {self.long_side} is shorter than --short-side {max(self.short_side)}: use a larger one"
            )
        if (self.crop[0] == 0) != (self.crop[1] == 0):
            raise ValueError(f"--crop {self.crop[0]} {self.crop[1]} has no area: give both sides, or 0 0 for none")
        if self.pad and min(self.largest) < self.long_side:
            raise ValueError(
                f"--long-side {self.long_side} does not fit into --crop {self.crop[0]} {self.crop[1]}, to which --pad "
                "fills every picture up: use a shorter one"
            )
        if self.scale[0] > self.scale[1]:
            raise ValueError(
                f"--scale {self.scale[0]:g} {self.scale[1]:g} ends before it begins: give the smaller first"
            )


@dataclass(frozen=True)
class Detecting:
    """What turns features into boxes and masks."""

    detector: Literal["mask_rcnn", "faster_rcnn"] = "mask_rcnn"
    """torchvision's Mask R-CNN (boxes and masks) or Faster R-CNN (boxes), on torchvision's FPN over maps of strides 4
    to 32, or on ViTDet's simple feature pyramid over the last map of a plain transformer."""
    anchors: tuple[Anchor, Anchor, Anchor, Anchor, Anchor] = (32, 64, 128, 256, 512)
    """Side of the square anchor of each level, finest first; there are three of its area, 1:2, 1:1 and 2:1."""
    regions: Annotated[int, Range(4, 65536)] = 512
    """Proposed regions of a picture that the heads are trained on: what a step costs without a GPU."""
    width: Annotated[int, Range(8, 4096)] = 256
    """Channels of the levels that the detector sees; its heads grow and shrink with it."""
    window: Natural = 0
    """Cells along a side of the windows in which a plain transformer attends, but for the last block of each quarter
    (ViTDet: 14; 0: every block attends to the whole picture)."""
    frozen: bool = False
    """Train the detector alone, on the backbone as it is."""
    frozen_norms: bool = True
    """Keep the backbone's batch normalisation as it is, statistics and factors."""
    predictions: Natural = 4
    """Validation pictures whose prediction is drawn beside their annotation (0: none)."""
