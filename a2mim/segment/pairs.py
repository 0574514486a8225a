"""Pictures with annotations of every pixel: paired by name, looked through once, and refused where they do not fit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from a2mim.decoding import Damaged, decode
from a2mim.images import ESCAPED, Files, Images, Reports, few
from a2mim.labels import read_class_map
from a2mim.segment.places import paired, place_for
from a2mim.segment.settings import Scenes
from a2mim.trees import Entry, Tree

IGNORE = -1
"""Class of the pixels that have none."""
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""


class Pairs(Files):
    """Number -> (PIL image, classes of its pixels: int64 (H, W), IGNORE where there is none).

    It raises Damaged where one of both cannot be decoded.
    """

    def __init__(
        self, tree: Tree, entries: Sequence[Entry], masks: Tree, annotations: Sequence[Entry], class_of: np.ndarray
    ) -> None:
        super().__init__(tree, entries, [0] * len(entries), "RGB")
        self.masks, self.annotations, self.class_of = masks, annotations, class_of

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        picture = decode(self.tree.read(self.entries[index]))
        return picture, self.class_of[read_mask(self.masks.read(self.annotations[index]))]

    def only(self, kept: Sequence[int]) -> Pairs:
        chosen_of = ([each[n] for n in kept] for each in (self.entries, self.annotations))
        entries, annotations = chosen_of
        return Pairs(self.tree, entries, self.masks, annotations, self.class_of)

    def rows(self) -> list[str]:
        pairs = zip(self.entries, self.annotations, strict=True)
        return [f"{entry.name.translate(ESCAPED)}\t{entry.size}\t{mask.size}" for entry, mask in pairs]


def read_mask(content: bytes) -> np.ndarray:
    """The values of an annotation's pixels (H, W). Raises Damaged, and ValueError for a picture in colours."""
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # decoders of damaged files raise almost anything
        raise Damaged("its annotation cannot be decoded") from error
    if image.mode not in ("L", "P", "1", "I;16", "I"):
        raise ValueError(f"it is a picture in {image.mode}, no map of class numbers (grey or palette)")
    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 65535:
        raise ValueError("it holds numbers outside of 0 to 65535")
    return values_HW


def open_scenes(scenes: Scenes, train: bool = True, classes: dict[str, int] | None = None) -> Images:
    """Open the training or the validation pictures with their annotations, and look through all of them.

    classes: name -> number of the training pictures, which decide for the others.

    Raises FileNotFoundError for a place that does not exist, and ValueError where there are no such folders or parts, a
    picture without annotation or one without a picture, sizes that differ, or a value that is neither a class nor
    ignored.
    """
    place = scenes.data if train else scenes.val or scenes.data
    if not place:
        raise ValueError("no pictures were named: use --data with a folder or .tar of images and annotations")
    part = place_for(place, scenes.split if train else scenes.val_split, train)
    if not train and part.where == place_for(scenes.data, scenes.split, train=True).where:
        raise ValueError(f"the validation pictures would be the training pictures in {place}: name others with --val")
    entries, annotations = paired(part)
    names = [entry.name for entry in entries]
    named = read_class_map(scenes.class_names) if scenes.class_names else classes
    if named and scenes.class_names and sorted(named.values()) != list(range(len(named))):
        raise ValueError(f"the class names in {scenes.class_names} have an empty line among them: name every class")
    pairs = Pairs(part.pictures, entries, part.masks, annotations, np.zeros(0, np.int64))
    images = Images(pairs, part.where, len(names), {}, labelled=True, names=names, reports=Reports(names))
    if train and 0 < scenes.limit < len(names):
        images = few(images, scenes.limit)
    values = look_through(images)
    first, ignored = scenes.first_class, set(scenes.ignore)
    count = len(named) if named else max((value for value in values if value not in ignored), default=0) - first + 1
    if count < 2:
        raise ValueError(f"the annotations of {images.name} tell no two classes apart: give those of more")
    for value, where in sorted(values.items()):
        if value not in ignored and not first <= value < first + count:
            raise ValueError(
                f"the annotation {where} holds the value {value}, which is none of the {count} classes ({first} to "
                f"{first + count - 1}) and not ignored: mend it, or say --ignore {value}, --first-class or "
                "--class-names"
            )
    if ignored.issuperset(values):
        raise ValueError(f"no pixel of {images.name} has a class: all are ignored")
    images.raw.class_of = table(first, count, ignored)
    images.classes.update(named or {str(number): number for number in range(count)})
    return images


def table(first: int, count: int, ignored: set[int]) -> np.ndarray:
    """Value of a pixel -> its class (65536,)."""
    values = np.arange(65536)
    is_class = (values >= first) & (values < first + count) & ~np.isin(values, sorted(ignored))
    return np.where(is_class, values - first, IGNORE)


def look_through(images: Images) -> dict[int, str]:
    """Every value of a pixel in the annotations, and the name of one that holds it.

    What cannot be decoded is left to whoever reads it. Raises ValueError for an annotation that is no map of numbers,
    or is of another size than its picture.
    """
    pairs, values = images.raw, dict[int, str]()
    with ThreadPoolExecutor(4) as pool:
        checked = pool.map(lambda number: values_in(pairs, number), range(len(pairs)))
        told = f"looking through {images.name}"
        for number, found in enumerate(tqdm(checked, told, len(pairs), leave=False, mininterval=1, delay=1)):
            for value in found:
                values.setdefault(value, pairs.annotations[number].name)
    return values


def values_in(pairs: Pairs, number: int) -> list[int]:
    """The values of one annotation's pixels, once its size is that of its picture. Raises ValueError."""
    entry, mask = pairs.entries[number], pairs.annotations[number]
    try:
        values_HW = read_mask(pairs.masks.read(mask))
    except Damaged:
        return []
    except ValueError as error:
        raise ValueError(f"the annotation {mask.name} is not what it should be: {error}") from error
    height, width = values_HW.shape
    if (size := size_of(pairs.tree.read(entry))) not in (None, (width, height)):
        raise ValueError(
            f"the annotation {mask.name} is {width}×{height} px and its picture {entry.name} "
            f"{'×'.join(map(str, size or ()))}: make them of one size"
        )
    return np.flatnonzero(np.bincount(values_HW.ravel())).tolist()


def size_of(content: bytes) -> tuple[int, int] | None:
    """Width and height of a picture as it is shown, from its head alone; None where that cannot be read."""
    try:
        image = Image.open(io.BytesIO(content))
        width, height = image.size
        return (height, width) if image.getexif().get(0x0112) in TURNED else (width, height)
    except Exception:  # of a damaged file, which is told by name when it is read
        return None
