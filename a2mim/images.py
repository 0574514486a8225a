"""The one reader of images, for training and for measuring: what is an image, and what is its label.

A place is a folder, a .tar, or a data set that timm or torchvision knows by name. docs/images.md states the rules.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data import create_dataset
from torch.utils.data import Subset
from tqdm import tqdm

from a2mim.decoding import EXTENSIONS, Damaged, as_shown, decode
from a2mim.errors import one_line
from a2mim.labels import SYNSET, Classes, classes_of, counted, notes_of, read_class_map, translation
from a2mim.parts import part_of
from a2mim.trees import Entry, Folder, ReadFailed, Tree, folders_in, joined, open_tree, place_of, walk, wrapper

STREAMED = ("wds/", "hfids/", "tfds/")
# timm's names for any folder of images, in torchvision's manner; and torchvision's data sets of files.
FOLDER = ("torch/image_folder", "torch/folder")
OF_FILES = ("torch/imagenet", "torch/places365")
TOLD = 10
"""So many images of a kind are told by name while a command runs; all are in its record."""

ESCAPED = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}


class Reports:
    """What was found out about single images while they were read, each once.

    damaged: number -> why it cannot be decoded; constant: numbers of those that are of one colour throughout.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = names
        self.damaged: dict[int, str] = {}
        self.constant: set[int] = set()

    def name(self, index: int) -> str:
        return self.names[index] if self.names is not None else f"image {index}"

    def add(self, what: str, index: int, why: str = "") -> None:
        """Note that an image is damaged or constant, and say so."""
        if what == "damaged" and index not in self.damaged:
            self.damaged[index] = why
            tell(f"left out {self.name(index)}: {why}", len(self.damaged))
        elif what == "constant" and index not in self.constant:
            self.constant.add(index)
            tell(f"note: {self.name(index)} is of one colour throughout", len(self.constant))

    def skipped(self, part: str = "") -> list[dict[str, Any]]:
        """The damaged images for a record: image (number), name, reason, and the part of the data that they are of."""
        about = {"part": part} if part else {}
        rows = sorted(self.damaged.items())
        return [{**about, "image": index, "name": self.name(index), "reason": why} for index, why in rows]

    def constants(self, part: str) -> list[dict[str, Any]]:
        """The images of one colour throughout, in the same way."""
        return [{"part": part, "image": index, "name": self.name(index)} for index in sorted(self.constant)]


def tell(sentence: str, count: int = 1) -> None:
    """Say something about an image on stderr, unless it was said of many already."""
    if count <= TOLD:
        tqdm.write(sentence, file=sys.stderr)
    elif count == TOLD + 1:
        tqdm.write("and more such images, which the record names", file=sys.stderr)


@dataclass(frozen=True)
class Images:
    """An opened data set: `raw` yields (PIL image, label); the labels are -1 where there are none.

    It raises Damaged for a picture that cannot be decoded, and ReadFailed where the disk fails.

    classes: name -> label where the data set says so, empty where it does not.
    labelled: whether there are labels at all.
    names: of the images, where they have any.
    notes: what a user should know about what was found.
    """

    raw: Any
    name: str
    samples: int
    classes: dict[str, int] = field(default_factory=dict)
    streamed: bool = False
    labelled: bool = True
    names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    reports: Reports = field(default_factory=Reports)

    def rows(self) -> list[str]:
        """One line for each image (name, bytes, label), by which it is noticed that a data set has changed.

        Of a data set that timm names there is one line, which says what is known without reading it.
        """
        if isinstance(self.raw, Files):
            return self.raw.rows()
        labels = np.asarray(getattr(whole(self.raw), "targets", ()), dtype=np.int64)
        of_labels = hashlib.sha256(labels.tobytes()).hexdigest()[:16] if labels.ndim == 1 and len(labels) else "-"
        return [f"{self.name}\t{self.samples}\t{of_labels}"]

    def refuse_among(self, out: Path) -> None:
        """Raises ValueError for a folder of results among the images: its figures would be images the next time."""
        tree = getattr(whole(self.raw), "tree", None)
        if isinstance(tree, Folder) and out.resolve().is_relative_to(tree.root.resolve()):
            raise ValueError(
                f"{out} lies among the images in {tree.root}, where its figures would be read as images the next time: "
                "give --out a folder elsewhere"
            )


class Files:
    """Image number -> (PIL image, label) of the files of a folder or tar."""

    def __init__(self, tree: Tree, entries: Sequence[Entry], labels: Sequence[int], mode: str) -> None:
        self.tree, self.entries, self.labels, self.mode = tree, entries, labels, mode

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return decode(self.tree.read(self.entries[index]), self.mode), self.labels[index]

    def only(self, kept: Sequence[int]) -> Files:
        """These images alone."""
        return Files(self.tree, [self.entries[n] for n in kept], [self.labels[n] for n in kept], self.mode)

    def same(self, others: Files) -> bool:
        """Whether these are the same files, by whatever way they are reached: as many, of which the first and the last
        are."""
        if len(self) != len(others) or not self.entries:
            return False
        return all(identity(self.tree, self.entries[n]) == identity(others.tree, others.entries[n]) for n in (0, -1))

    def rows(self) -> list[str]:
        pairs = zip(self.entries, self.labels, strict=True)
        return [f"{entry.name.translate(ESCAPED)}\t{entry.size}\t{label}" for entry, label in pairs]


def identity(tree: Tree, entry: Entry) -> tuple[Any, ...]:
    """What tells a file on disk, or within a tar, from all others."""
    path = tree.root / entry.name
    inside = () if path.exists() else (joined(getattr(tree, "base", ""), entry.name),)
    known = (tree.root if inside else path).stat()
    return known.st_dev, known.st_ino, *inside


class Named:
    """Image number -> (PIL image, label) of a data set of torchvision or Hugging Face.

    labels: the data set's own labels -> those that are wanted, where they differ.
    """

    def __init__(self, raw: Any, mode: str, labels: Mapping[int, int] | None = None) -> None:
        # timm's own data set puts another image in the place of a damaged one; its reader does not.
        self.raw, self.mode, self.labels = getattr(raw, "reader", raw), mode, labels
        self.targets = getattr(raw, "targets", ())

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        try:
            image, label, *_ = self.raw[index]
            if not isinstance(image, Image.Image):
                with image:
                    image = decode(image.read(), self.mode)
        except (Damaged, MemoryError):
            raise
        except OSError as error:
            if error.errno is not None:
                raise ReadFailed(f"image {index} cannot be read: {error}") from error
            raise Damaged(one_line(error)) from error
        label = -1 if label is None else int(label)
        return as_shown(image, self.mode), self.labels[label] if self.labels else label


class Streamed:
    """A streamed data set of timm's, whose pictures are shown as all others are; it leaves out what cannot be."""

    def __init__(self, raw: Any, mode: str) -> None:
        self.raw, self.mode = raw, mode
        self.set_epoch, self.set_loader_cfg = raw.set_epoch, raw.set_loader_cfg

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[tuple[Image.Image, Any]]:
        for number, (image, label) in enumerate(self.raw):
            try:
                yield as_shown(image, self.mode), label
            except Damaged as error:
                tell(f"left out image {number} of the stream: {error}")


def load(path: str, mode: str) -> Image.Image:
    """What torchvision is to open its files with."""
    return decode(Path(path).read_bytes(), mode)


# ------------------------------------------------------------------------------------------- opening


def open_place(
    place: str,
    split: str,
    default: str,
    *,
    root: str = "",
    known: Classes | None = None,
    whose: str = "the training images",
    class_map: str = "",
    model_classes: int | None = 0,
    labels_needed: bool = True,
    mode: str = "RGB",
    limit: int = 0,
    flag: str = "--split",
    train: bool = False,
    seed: int = 0,
    stream_length: int = 0,
) -> Images:
    """Open a folder, a .tar, or a data set by timm's name.

    Args:
        place: a path, or a name such as torch/cifar10, hfds/uoft-cs/cifar10, wds/imagenet.
        split: the part to read (`part_of`); default: the one that is meant where nobody named one.
        root: where a named data set is kept.
        known: the classes that decide, name -> label; whose: of what they are, for messages.
        class_map: text file of class names, one a line, whose line numbers are the labels.
        model_classes: of the model that the labels are for, None where it does not say, 0 where there is none yet:
            folders called by their synsets have its index in ImageNet's lists.
        labels_needed: without it, labels that cannot be told are left out, with a note.
        mode: RGB, or L for grey images.
        limit: only so many images, drawn once with a fixed seed (0: all).
        flag: the option that chooses the part, for messages.
        train, seed, stream_length: for streamed data sets: shuffled or not, by which seed, and how many images.

    Raises:
        FileNotFoundError: no such path, no such class map.
        ValueError: no images there, no such part, folders that are none of the classes, synsets without a list, a
            damaged tar, a data set that timm cannot open, a limit for a streamed one.
    """
    names = read_class_map(class_map) if class_map else known
    whose = f"the class map {class_map}" if class_map else whose
    place = root if place.lower() in FOLDER and not Path(place).exists() else place
    if not place:  # a variable of the shell that is empty: the folder that one happens to be in is not meant
        raise ValueError("no images were named: use --data with a folder, a .tar or a data set that timm knows")
    if is_named(place):
        images = open_named(place, split, root, names, whose, mode, train, seed, stream_length)
    else:
        tree = open_tree(Path(place))
        part = part_of(tree, split, default, flag, names or ())
        images = open_files(part, names, whose, model_classes, labels_needed, mode, unpack=part is tree)
    if limit and images.streamed:
        raise ValueError(
            f"--limit draws images at random, and those of {place} arrive in one order: leave it out (--stream-length "
            "says how many make an epoch)"
        )
    if 0 < limit < images.samples:
        return few(images, limit)
    return images


def few(images: Images, limit: int) -> Images:
    """So many images, drawn once with a fixed seed, in their own order."""
    return chosen(images, np.sort(np.random.default_rng(0).permutation(images.samples)[:limit]).tolist())


def evenly(samples: int, count: int) -> list[int]:
    """Numbers of at most `count` images, evenly spaced through all, each once; the first and, of two or more, the last
    are among them."""
    return np.unique(np.linspace(0, samples - 1, min(count, samples)).round().astype(int)).tolist()


def chosen(images: Images, kept: Sequence[int]) -> Images:
    """These images of a data set, in that order."""
    raw = images.raw.only(kept) if isinstance(images.raw, Files) else Subset(images.raw, kept)
    names = None if images.names is None else [images.names[n] for n in kept]
    return replace(images, raw=raw, samples=len(kept), names=names, reports=Reports(names))


def is_named(data: str) -> bool:
    """Whether timm is meant to know the data set by name: a prefix of its own, and no such folder here."""
    return data.lower().startswith((*STREAMED, "hfds/", "torch/")) and not Path(data).exists()


def whole(raw: Any) -> Any:
    """The data set that a subset is of."""
    while isinstance(raw, Subset):
        raw = raw.dataset
    return raw


def open_files(
    tree: Tree,
    known: Classes | None,
    whose: str,
    model_classes: int | None,
    labels_needed: bool,
    mode: str,
    unpack: bool,
) -> Images:
    """The images of a folder or tar, labelled by their first-level folders. Raises as `open_place` does.

    unpack: whether a single folder that all lies in is a mere wrapping.
    """
    below = ""
    while unpack and (around := wrapper(tree, below)):
        if around in (known or ()) or SYNSET.match(around) or not folders_in(tree, joined(below, around)):
            break
        below = joined(below, around)
    found = walk(tree, below)
    if not found.entries:
        kinds = f"; there are {counted(found.unread)}" if found.unread else ""
        raise ValueError(
            f"'{place_of(tree)}' holds no images that can be read ({', '.join(sorted(EXTENSIONS))}){kinds}"
        )
    notes = []
    try:
        classes = classes_of(found, known, whose, model_classes, place_of(tree))
    except ValueError as error:
        if labels_needed:
            raise
        classes, notes = {}, [f"the images have no labels here: {error}"]
    labels = [classes.get(top, -1) for top in found.tops]
    names = [entry.name for entry in found.entries]
    return Images(
        Files(tree, found.entries, labels, mode),
        place_of(tree),
        len(names),
        classes,
        labelled=bool(classes),
        names=names,
        notes=(*notes, *notes_of(found, classes, known)),
        reports=Reports(names),
    )


def open_named(
    name: str,
    split: str,
    root: str,
    known: Classes | None,
    whose: str,
    mode: str,
    train: bool,
    seed: int,
    stream_length: int,
) -> Images:
    """A data set that timm knows by name. Raises ValueError where it cannot be opened, is empty, has other classes."""
    streamed = name.lower().startswith(STREAMED)
    if name.lower().startswith("torch/") and not root:
        raise ValueError(f"the folder that holds the data set {name} was not named: use --data-root")
    more: dict[str, Any] = {"input_img_mode": mode}
    if streamed:
        # As it is stored: our own conversion follows. (timm's TFDS reader makes pictures, and needs to know of what.)
        as_stored = {} if name.lower().startswith("tfds/") else {"input_img_mode": ""}
        count = {"num_samples": stream_length or None, "class_map": known or None}
        more |= {"is_training": train, "seed": seed, **count, **as_stored}
    elif name.lower() in OF_FILES:
        more["loader"] = partial(load, mode=mode)
    try:
        raw: Any = create_dataset(name, root or None, split=split, download=False, search_split=False, **more)
        length = len(raw)
    except (ValueError, RuntimeError, OSError, AssertionError, ImportError, TypeError) as error:
        where = f"the split {split} of the data set {name} in '{root}'"
        raise ValueError(f"timm cannot open {where}: {one_line(error)}") from error
    classes = getattr(raw, "class_to_idx", None) or getattr(getattr(raw, "reader", None), "class_to_idx", None) or {}
    samples = (train and stream_length) or length
    if samples == 0:
        raise ValueError(
            f"the data set {name} does not say how many images its split {split} holds, or holds none: "
            "name another split, or their number with --stream-length N"
        )
    if streamed:
        return Images(Streamed(raw, mode), name, samples, dict(classes), True)
    labels = translation(name, classes, known, whose) if classes and known else None
    return Images(Named(raw, mode, labels), name, samples, dict(known if labels and known else classes))
