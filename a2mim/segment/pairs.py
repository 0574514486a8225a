"""Pictures with annotations of every pixel: paired by name, looked through once, and refused where they do not fit."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from a2mim.decoding import Damaged, decode
from a2mim.images import ESCAPED, Files, Images, Reports, chosen
from a2mim.labels import read_class_map
from a2mim.parts import part_of
from a2mim.segment.settings import Scenes
from a2mim.trees import Entry, Found, Tree, folders_in, listed, open_tree, place_of, walk, wrapper

IGNORE = -1
"""Class of the pixels that have none."""
IMAGES, ANNOTATIONS = "images", "annotations"
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
    pictures, masks = parts(place, scenes.split, train=True) if train else parts(place, scenes.val_split, train=False)
    if not train and place_of(pictures) == place_of(parts(scenes.data, scenes.split, train=True)[0]):
        raise ValueError(f"the validation pictures would be the training pictures in {place}: name others with --val")
    entries, annotations = paired(pictures, masks)
    names = [entry.name for entry in entries]
    named = read_class_map(scenes.class_names) if scenes.class_names else classes
    pairs = Pairs(pictures, entries, masks, annotations, np.zeros(0, np.int64))
    images = Images(pairs, place_of(pictures), len(names), {}, labelled=True, names=names, reports=Reports(names))
    if train and 0 < scenes.limit < len(names):
        images = chosen(images, np.sort(np.random.default_rng(0).permutation(len(names))[: scenes.limit]).tolist())
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


def parts(place: str, split: str, train: bool) -> tuple[Tree, Tree]:
    """The folders of pictures and of annotations of a part. Raises as `part_of` and `both_trees` do."""
    pictures, masks = both_trees(place)
    words = ("train", "--split") if train else ("validation", "--val-split")
    return part_of(pictures, split, *words), part_of(masks, split, *words)


def table(first: int, count: int, ignored: set[int]) -> np.ndarray:
    """Value of a pixel -> its class (65536,)."""
    values = np.arange(65536)
    is_class = (values >= first) & (values < first + count) & ~np.isin(values, sorted(ignored))
    return np.where(is_class, values - first, IGNORE)


def both_trees(place: str) -> tuple[Tree, Tree]:
    """The folders of pictures and of annotations. Raises ValueError where there are none."""
    tree = open_tree(Path(place).resolve())
    if IMAGES not in folders_in(tree) and (around := wrapper(tree)):
        tree = tree.at(around)
    there = folders_in(tree)
    if missing := [name for name in (IMAGES, ANNOTATIONS) if name not in there]:
        raise ValueError(
            f"'{place_of(tree)}' holds no folder '{missing[0]}' (it holds {listed(there) or 'no folders'}): put the "
            f"pictures into {IMAGES}/PART and their annotations, of the same names, into {ANNOTATIONS}/PART"
        )
    return tree.at(IMAGES), tree.at(ANNOTATIONS)


def paired(pictures: Tree, masks: Tree) -> tuple[list[Entry], list[Entry]]:
    """The pictures and their annotations, in one order. Raises ValueError for one without the other."""
    found = walk(pictures)
    by_name, annotations = named(pictures, found), named(masks, walk(masks))
    if not by_name:
        raise ValueError(f"'{place_of(pictures)}' holds no pictures")
    for name in annotations:
        if name not in by_name:
            raise ValueError(
                f"the annotation {name} in {place_of(masks)} has no picture in {place_of(pictures)}: add it, or remove "
                "the annotation"
            )
    for name in by_name:
        if name not in annotations:
            raise ValueError(
                f"the picture {name} in {place_of(pictures)} has no annotation in {place_of(masks)}: add it, or remove "
                "the picture"
            )
    return list(by_name.values()), [annotations[name] for name in by_name]


def named(tree: Tree, found: Found) -> dict[str, Entry]:
    """Path below the tree, without suffix -> file. Raises ValueError where two have one."""
    files: dict[str, Entry] = {}
    for entry in found.entries:
        path = posixpath.normpath(entry.name).removeprefix(f"{getattr(tree, 'base', '')}/")
        name = posixpath.splitext(path)[0]
        if name in files:
            raise ValueError(f"'{place_of(tree)}' holds two files called {name}: remove one of them")
        files[name] = entry
    return files


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
