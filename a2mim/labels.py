"""Which label an image has: its first-level folder's, by the classes that are known, else by the folders' order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from timm.data import ImageNetInfo, infer_imagenet_subset

from a2mim.parts import kind_of
from a2mim.trees import Found, listed

SYNSET = re.compile(r"n\d{8}$")

Classes = Mapping[str, int]


def classes_of(
    found: Found, known: Classes | None, whose: str, model_classes: int | None, where: str
) -> dict[str, int]:
    """Class -> label, empty where the images have no labels.

    They are those of the classes that are known, of ImageNet's list for synsets, else the place of each folder among
    the sorted ones. Raises ValueError for names that do not match.
    """
    filled = [name for name in found.folders if name not in found.bare]
    named_by_synsets = any(SYNSET.match(name) for name in filled)
    if named_by_synsets and (known is None or not any(name in known for name in filled)):
        known, whose = synset_list(filled, found, model_classes, where)
    if known:
        strange = [name for name in filled if name not in known]
        if len(filled) == 1 and strange:
            return {}  # images in one folder, whatever it is called
        if strange:
            raise ValueError(
                f"the folders {listed(strange)} in '{where}' are none of the classes of {whose} "
                f"({listed(sorted(known, key=known.__getitem__), 20)}): rename them, or move them away"
            )
        return dict(known) if filled else {}
    folders = [name for name in found.folders if not found.bare.get(name)]
    return {name: label for label, name in enumerate(folders)} if filled and len(folders) > 1 else {}


def synset_list(
    filled: Sequence[str], found: Found, model_classes: int | None, where: str
) -> tuple[Classes | None, str]:
    """The list that gives the synsets' labels, and what it is called; None where the folders' places do.

    Raises ValueError where the model has another number of classes than there are folders, and than timm's lists.
    """
    subset = infer_imagenet_subset({"num_classes": model_classes})
    if subset:
        names = ImageNetInfo(subset).label_names()
        return {synset: label for label, synset in enumerate(names)}, f"timm's list of {subset}"
    folders = [name for name in found.folders if not found.bare.get(name)]
    if model_classes in (0, len(folders)) or not all(SYNSET.match(name) for name in filled):
        return None, ""
    classes = f"has {model_classes} classes" if model_classes else "does not say how many classes it has"
    raise ValueError(
        f"'{where}' holds {len(folders)} folders called by synsets, and the model {classes}, for which there is no "
        "list: say with --class-map FILE which synset is which class, one a line"
    )


def read_class_map(path: str) -> dict[str, int]:
    """Class -> line number of a text file. Raises FileNotFoundError, ValueError for no name, or one that stands there
    twice."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no class map at '{path}'")
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"the class map '{path}' is no text file: give class names, one a line") from error
    twice = sorted({name for name in lines if name and lines.count(name) > 1}) if len(set(lines)) < len(lines) else []
    if twice:
        raise ValueError(f"the class map '{path}' names {listed(twice)} twice")
    if not any(lines):
        raise ValueError(f"the class map '{path}' names no class: give class names, one a line")
    return {name: label for label, name in enumerate(lines) if name}


def translation(name: str, classes: Classes, known: Classes, whose: str) -> dict[int, int]:
    """The data set's own labels -> those of the known classes. Raises ValueError for names that do not match."""
    if not set(classes) <= set(known):
        here, there = (listed(sorted(names, key=names.__getitem__), 20) for names in (classes, known))
        raise ValueError(f"the classes of '{name}' ({here}) are not those of {whose} ({there})")
    return {label: known[each] for each, label in classes.items()}


def notes_of(found: Found, classes: Classes, known: Classes | None) -> Iterator[str]:
    """What a user should know about the folders."""
    empty = [name for name, files in found.bare.items() if not files and name in classes]
    if empty and known is None:
        yield f"no images lie in {listed(empty)}, which {'count as classes' if empty[1:] else 'counts as a class'}"
    others = [f"{name} ({files:,} files)" for name, files in found.bare.items() if files]
    if others and classes:
        yield f"no images lie in {listed(others)}, which {'are no classes' if others[1:] else 'is no class'}"
    if found.again:
        yield f"counted once, though there are links to it: what is in {listed(found.again)}"
    if found.unread:
        yield f"not read: {counted(found.unread)}"
    parts = [name for name in classes if kind_of(name) and name in found.folders]
    if parts and known is None:
        yield f"{listed(parts)} {'are' if parts[1:] else 'is'} taken for a class, like what lies beside it"
    beside = found.tops.count("")
    if classes and beside:
        yield f"{beside:,} images lie beside the class folders and have no label"


def counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(kinds.items()))
