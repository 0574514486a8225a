"""Where pictures and their annotations lie: images/PART beside annotations/PART (as ADE20K is published), or PASCAL
VOC's JPEGImages, SegmentationClass and the lists in ImageSets/Segmentation."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from a2mim.parts import SPLITS, kind_of, part_of
from a2mim.trees import Entry, Folder, Found, Tree, folders_in, joined, listed, open_tree, place_of, walk, wrapper

IMAGES, ANNOTATIONS = "images", "annotations"
VOC_IMAGES, VOC_ANNOTATIONS, VOC_LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
LAYOUTS = ((IMAGES, ANNOTATIONS), (VOC_IMAGES, VOC_ANNOTATIONS))
DEPTH = 3
"""Folders in each other that all lies in, at most: VOC's are VOCdevkit/VOC2012."""


@dataclass(frozen=True)
class Place:
    """The folders of the pictures of a part and of their annotations; names: of those that belong to it, without
    suffix, None for all. where: what it is called."""

    pictures: Tree
    masks: Tree
    where: str
    names: Sequence[str] | None = None


def place_for(place: str, split: str, train: bool) -> Place:
    """Where a part lies. Raises FileNotFoundError for a place that does not exist, and ValueError where there are no
    such folders, or no such part."""
    words = ("train", "--split") if train else ("validation", "--val-split")
    tree = around(open_tree(Path(place).resolve()))
    there = folders_in(tree)
    if set(LAYOUTS[1]) <= set(there):
        return of_voc(tree, split, words[1])
    if missing := [name for name in LAYOUTS[0] if name not in there]:
        raise ValueError(
            f"'{place_of(tree)}' holds no folder '{missing[0]}' (it holds {listed(there) or 'no folders'}): put the "
            f"pictures into {IMAGES}/PART and their annotations, of the same names, into {ANNOTATIONS}/PART"
        )
    pictures, masks = (part_of(tree.at(name), split, *words) for name in LAYOUTS[0])
    return Place(pictures, masks, place_of(pictures))


def around(tree: Tree) -> Tree:
    """The tree itself, or what is in the folders that all lies in."""
    for _ in range(DEPTH):
        if any(set(layout) & set(folders_in(tree)) for layout in LAYOUTS) or not (name := wrapper(tree)):
            break
        tree = tree.at(name)
    return tree


def of_voc(tree: Tree, split: str, flag: str) -> Place:
    """A part of PASCAL VOC: that whose list has the split's name, or one that means the same (validation: val)."""
    lists = sorted(tree.scan(VOC_LISTS).others) if has(tree, VOC_LISTS) else []
    there = [name.removesuffix(".txt") for name in lists if name.endswith(".txt")]
    wanted = [name for name in (split, *SPLITS.get(kind_of(split), ())) if name in there]
    if not wanted:
        raise ValueError(
            f"'{place_of(tree)}' has no {VOC_LISTS}/{split}.txt (there are {listed(there) or 'no lists'}): name a part "
            f"that is there with {flag}"
        )
    name = f"{VOC_LISTS}/{wanted[0]}.txt"
    try:
        names = read_other(tree, name).decode().split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{place_of(tree)}/{name} is no list of names: it is not text") from error
    pictures, masks = tree.at(VOC_IMAGES), tree.at(VOC_ANNOTATIONS)
    return Place(pictures, masks, f"{place_of(pictures)} ({wanted[0]}.txt)", list(dict.fromkeys(names)))


def paired(place: Place) -> tuple[list[Entry], list[Entry]]:
    """The pictures and their annotations, in one order. Raises ValueError for one without the other."""
    by_name, annotations = named(place.pictures, walk(place.pictures)), named(place.masks, walk(place.masks))
    names = list(by_name) if place.names is None else place.names
    if not by_name or not names:
        raise ValueError(f"'{place.where}' holds no pictures")
    wanted = list(annotations) if place.names is None else place.names
    for name in wanted:
        if name not in by_name:
            raise ValueError(
                f"the annotation {name} in {place_of(place.masks)} has no picture in {place_of(place.pictures)}: add "
                "it, or remove the annotation"
            )
    for name in names:
        if name not in annotations:
            raise ValueError(
                f"the picture {name} in {place_of(place.pictures)} has no annotation in {place_of(place.masks)}: add "
                "it, or remove the picture"
            )
    return [by_name[name] for name in names], [annotations[name] for name in names]


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


def has(tree: Tree, folder: str) -> bool:
    """Whether there is a folder of that path."""
    above, _, name = folder.rpartition("/")
    return (not above or has(tree, above)) and name in folders_in(tree, above)


def read_other(tree: Tree, name: str) -> bytes:
    """The bytes of a file that is no picture."""
    if isinstance(tree, Folder):
        if not (tree.root / name).is_file():
            raise ValueError(f"{tree.root / name} is no file: copy what it gives into one")
        return (tree.root / name).read_bytes()
    wanted = joined(tree.base, name)
    with tarfile.open(tree.root, "r:") as tar:
        for member in tar:
            if posixpath.normpath(member.name) == wanted and (file := tar.extractfile(member)):
                return file.read()
    raise ValueError(f"'{place_of(tree)}' holds no file {name} that can be read")
