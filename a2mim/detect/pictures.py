"""Pictures with their instances: found, compared with what their file says of them, and decoded together."""

from __future__ import annotations

import pickle
import posixpath
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from a2mim.decoding import decode
from a2mim.detect.annotations import Instance, Listing, Pictured, cut, read_listing
from a2mim.detect.settings import Coco
from a2mim.images import ESCAPED, Files, Images, Reports, chosen, few
from a2mim.segment.pairs import size_of
from a2mim.segment.places import ANNOTATIONS, IMAGES, has, read_other
from a2mim.trees import Entry, Tree, folders_in, joined, listed, open_tree, place_of, walk, wrapper


@dataclass(frozen=True)
class Things:
    """What is in one picture: boxes (N, 4) left, top, right, bottom in pixels, float32; labels (N,) int64, the first
    class is 0; masks (N, H, W) uint8, or None where there are none."""

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None


class Scenes(Files):
    """Number -> (PIL image, the Things in it, those that stand for a crowd left out).

    class_of: number of a category in the file -> number of its class.
    packed: of each picture what the file says of it, in one object: workers that are forked share its memory.
    """

    def __init__(self, tree: Tree, entries: Sequence[Entry], packed: Sequence[bytes], class_of: Mapping[int, int]):
        super().__init__(tree, entries, [0] * len(entries), "RGB")
        self.packed, self.class_of = packed, class_of
        self.masks = True

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        return decode(self.tree.read(self.entries[index])), self.things(index)

    def pictured(self, index: int) -> Pictured:
        """What the file says of a picture."""
        return pickle.loads(self.packed[index])

    def things(self, index: int) -> Things:
        """Of a picture, without crowds."""
        picture = self.pictured(index)
        single = [each for each in picture.instances if not each.crowd]
        boxes = [cut(each.box, picture) for each in single]
        labels = [self.class_of[each.category] for each in single]
        masks = masks_of(single, picture) if self.masks else None
        return Things(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), masks)

    def only(self, kept: Sequence[int]) -> Scenes:
        entries, packed = ([each[n] for n in kept] for each in (self.entries, self.packed))
        scenes = Scenes(self.tree, entries, packed, self.class_of)  # type: ignore[arg-type]
        scenes.masks = self.masks
        return scenes

    def rows(self) -> list[str]:
        both = zip(self.entries, self.packed, strict=True)
        return [f"{entry.name.translate(ESCAPED)}\t{entry.size}\t{zlib.crc32(packed):08x}" for entry, packed in both]


def masks_of(instances: Sequence[Instance], picture: Pictured) -> np.ndarray:
    """(N, H, W) uint8: 1 where the instance is, by COCO's own rule for outlines."""
    found = np.zeros((len(instances), picture.height, picture.width), np.uint8)
    for mask, each in zip(found, instances, strict=True):
        mask[:] = coco_masks().decode(run_lengths(each.segmentation, picture))
    return found


def run_lengths(segmentation: Any, picture: Pictured) -> dict[str, Any]:
    """A mask in COCO's packed run lengths."""
    masks, size = coco_masks(), (picture.height, picture.width)
    if isinstance(segmentation, list):
        return masks.merge(masks.frPyObjects(segmentation, *size))
    packed = isinstance(segmentation["counts"], str)
    return segmentation if packed else masks.frPyObjects(segmentation, *size)


def coco_masks() -> Any:
    """pycocotools.mask. Raises ValueError where it is not installed."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError(
            "masks and average precision are pycocotools', which is not installed: pip install 'a2mim[detect]'"
        ) from error
    return mask


# ------------------------------------------------------------------------------------------- opening


def open_coco(coco: Coco, masks: bool, train: bool = True, like: Images | None = None) -> Images:
    """Open the training or the validation pictures with their instances, and compare all of them.

    masks: whether instances must have masks.
    like: the training pictures, whose categories decide for the others.

    Raises FileNotFoundError for a place that does not exist, and ValueError for a file that is not what it should be,
    pictures that it names and that are not there, sizes that differ, other categories, or nothing to detect.
    """
    coco_masks()
    place, split = (coco.data, coco.split) if train else (coco.val or coco.data, coco.val_split)
    flag = "--split" if train else "--val-split"
    if not place:
        raise ValueError("no pictures were named: use --data with a folder or .tar of images and annotations")
    tree = around(open_tree(Path(place).resolve()))
    pictures, content, where = part(tree, split, flag)
    if like is not None and place_of(pictures) == like.name:
        raise ValueError(f"the validation pictures would be the training pictures in {place}: name others with --val")
    listing = read_listing(content, where, masks, coco.drop_empty)
    if like is not None and list(listing.categories.values()) != list(like.classes):
        raise ValueError(f"{where} has other categories than the training pictures: use the same, in the same order")
    scenes = found_in(pictures, listing, where)
    scenes.masks = masks
    names = [entry.name for entry in scenes.entries]
    classes = {name: number for number, name in enumerate(listing.categories.values())}
    images = Images(scenes, place_of(pictures), len(names), classes, names=names, reports=Reports(names))
    if train:
        images = fewer(images, coco)
    look_through(images, where)
    return images


def around(tree: Tree) -> Tree:
    """The tree itself, or what is in the one folder that all lies in."""
    name = wrapper(tree)
    return tree.at(name) if name and ANNOTATIONS not in folders_in(tree) else tree


def part(tree: Tree, split: str, flag: str) -> tuple[Tree, bytes, str]:
    """The folder of a part's pictures, the content of its file, and where that is. Raises ValueError."""
    named = f"{ANNOTATIONS}/instances_{split}.json"
    files = tree.scan(ANNOTATIONS).others if has(tree, ANNOTATIONS) else []
    there = sorted(name for name in files if name.endswith(".json"))
    if posixpath.basename(named) not in there:
        raise ValueError(
            f"'{place_of(tree)}' has no {named} (in {ANNOTATIONS} are {listed(there) or 'no such files'}): name a part "
            f"that is there with {flag}"
        )
    below = [name for name in (joined(IMAGES, split), split) if has(tree, name)]
    if not below:
        raise ValueError(f"'{place_of(tree)}' has no folder {IMAGES}/{split} of pictures: put them there")
    return tree.at(below[0]), read_other(tree, named), f"{place_of(tree)}/{named}"


def found_in(pictures: Tree, listing: Listing, where: str) -> Scenes:
    """The pictures of a listing in their folder. Raises ValueError for one that is not there."""
    base = f"{getattr(pictures, 'base', '')}/"
    files = {posixpath.normpath(entry.name).removeprefix(base): entry for entry in walk(pictures).entries}
    missing = [each.file_name for each in listing.pictures if posixpath.normpath(each.file_name) not in files]
    if missing:
        raise ValueError(
            f"{where} names {len(missing):,} pictures that are not in {place_of(pictures)} ({listed(missing, 3)}): add "
            "them, or remove them from the file"
        )
    entries = [files[posixpath.normpath(each.file_name)] for each in listing.pictures]
    class_of = {identity: number for number, identity in enumerate(listing.categories)}
    return Scenes(pictures, entries, [pickle.dumps(each) for each in listing.pictures], class_of)


def fewer(images: Images, coco: Coco) -> Images:
    """Training pictures without those that are not wanted. Raises ValueError where no instance is left."""
    scenes = images.raw
    if coco.annotated_only:
        images = chosen(
            images, [n for n in range(len(scenes)) if any(not i.crowd for i in scenes.pictured(n).instances)]
        )
    if 0 < coco.limit < images.samples:
        images = few(images, coco.limit)
    scenes = images.raw
    if not any(not each.crowd for n in range(len(scenes)) for each in scenes.pictured(n).instances):
        raise ValueError(
            f"there is no instance in the {images.samples} pictures of {images.name}: nothing can be learnt"
        )
    return images


def look_through(images: Images, where: str) -> None:
    """Raise ValueError for a picture that is of another size than stated. What cannot be decoded is left to whoever
    reads it."""
    scenes = images.raw
    with ThreadPoolExecutor(4) as pool:
        sizes = pool.map(lambda entry: size_of(scenes.tree.read(entry)), scenes.entries)
        told = f"looking through {images.name}"
        for number, size in enumerate(tqdm(sizes, told, len(scenes), leave=False, mininterval=1, delay=1)):
            picture = scenes.pictured(number)
            if size not in (None, (picture.width, picture.height)):
                raise ValueError(
                    f"the picture {picture.file_name} is {size[0]}×{size[1]} px and {where} says "
                    f"{picture.width}×{picture.height}: mend the file"
                )
