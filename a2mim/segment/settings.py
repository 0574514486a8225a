"""What a segmentation is asked to do. Imports nothing heavy: `--help` reads this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from a2mim.bounds import Natural, Pixels, Range, Share

Value = Annotated[int, Range(0, 65535)]
"""Of a pixel of an annotation."""


@dataclass(frozen=True)
class Scenes:
    """Where the pictures and their annotations lie."""

    data: str = ""
    """A folder or .tar with the pictures in images/PART and their annotations in annotations/PART, of the same names:
    maps of class numbers (grey or palette); or PASCAL VOC's (JPEGImages, SegmentationClass, ImageSets/Segmentation)."""
    split: str = "train"
    """The part that trains; `.` is all of it."""
    val: str = ""
    """Where the validation pictures lie (empty: the same place)."""
    val_split: str = "validation"
    """The part that validates, in the same way."""
    class_names: str = ""
    """Text file with the name of each class, one a line (left out: numbers, as many as the training annotations
    have)."""
    first_class: Value = 0
    """Value of an annotation's pixel that means the first class (ADE20K: 1)."""
    ignore: tuple[Value, ...] = (255,)
    """Values of pixels that belong to no class (ADE20K: 0; CamVid: 11)."""
    limit: Natural = 0
    """Use only this many training pictures, drawn once with a fixed seed (0: all)."""
    workers: Natural = 4
    """Processes that decode pictures (0: none). Results do not depend on it."""

    def check(self) -> None:
        """Raises ValueError where one value is to be the first class and none."""
        if self.first_class in self.ignore:
            raise ValueError(
                f"the value {self.first_class} is that of the first class, and --ignore names it, too: say with "
                "--first-class which value the first class has"
            )


@dataclass(frozen=True)
class Crops:
    """How a training view is made, the annotation along with its picture."""

    crop: tuple[Pixels, Pixels] = (224, 224)
    """Height and width of a crop in pixels."""
    short_side: Annotated[int, Range(0, 65536)] = 0
    """Shorter side in pixels that pictures are resized to before they are scaled or evaluated (0: the crop's)."""
    scale: tuple[Annotated[float, Range(0.05, 20)], Annotated[float, Range(0.05, 20)]] = (0.5, 2.0)
    """Range of a random scale; what is smaller than the crop is padded with what is ignored."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    color_jitter: Share = 0.4
    """Strength of the change of brightness, contrast and saturation."""
    hue: Annotated[float, Range(0, 0.5)] = 0.0
    """Strength of the change of hue."""

    @property
    def side(self) -> int:
        """The shorter side of pictures at scale 1."""
        return self.short_side or min(self.crop)

    def check(self) -> None:
        """Raises ValueError for a range that begins behind its end."""
        if self.scale[0] > self.scale[1]:
            raise ValueError(
                f"--scale {self.scale[0]:g} {self.scale[1]:g} ends before it begins: give the smaller first"
            )


@dataclass(frozen=True)
class Decoding:
    """What turns features into classes of pixels, and how it is evaluated."""

    decoder: Literal["linear", "fpn", "upernet"] = "linear"
    """linear: batch norm and one 1×1 convolution on the last map; fpn, upernet: those of segmentation_models_pytorch on
    the maps of four strides (of a plain transformer: four of its blocks, resized)."""
    frozen: bool = False
    """Train the decoder alone, on the backbone as it is."""
    evaluate: Literal["whole", "slide"] = "whole"
    """whole: a picture at once; slide: windows of the crop's size, their scores averaged."""
    overlap: Annotated[float, Range(0, 0.95)] = 1 / 3
    """Share of a window that the next one covers again."""
    predictions: Natural = 4
    """Validation pictures whose prediction is drawn beside their annotation (0: none)."""
