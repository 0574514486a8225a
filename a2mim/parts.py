"""Which folder of a data set is the part (train, validation, test) that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from a2mim.trees import Tree, folders_in, listed, place_of, wrapper

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "eval", "evaluation"),
    "test": ("test", "testing"),
}
WHOLE = (".", "")
"""The split that is the whole folder, whatever its sub-folders are called."""


def part_of(tree: Tree, split: str, default: str, flag: str = "--split", known: Iterable[str] = ()) -> Tree:
    """The part of a data set that `split` names; the whole of one that is not divided into parts.

    Folders called train, val, test … are parts where those beside them are parts too, or hold no images; a folder of
    such a name among class folders is a class.

    default: the split that is meant where nobody named one, and that an undivided data set need not have.
    flag: the option that chooses the part, for messages ('': there is none).
    known: names of classes; where they are what lies there, they are classes.

    Raises ValueError where the part is not there, and where parts and classes cannot be told apart, naming what is
    there.
    """
    if split in WHOLE:
        return tree
    folders = folders_in(tree)
    named = [name for name in folders if kind_of(name) or name == split]
    if not named:
        around = wrapper(tree)
        if around and any(kind_of(name) for name in folders_in(tree, around)):
            return part_of(tree.at(around), split, default, flag, known)
        if split != default:
            raise ValueError(f"{missing(tree, split, folders)}: leave out {flag} for all of it, or name another place")
        return tree
    sisters = [name for name in folders if name not in named and tree.holds_images(name)]
    if {*named, *sisters} <= set(known):
        return tree
    meant = split in named and not kind_of(split)
    if sisters and not meant and not are_parts(tree, named):
        if len({kind_of(name) for name in named}) == 1 and split == default:
            return tree
        raise ValueError(
            f"'{place_of(tree)}' holds {listed(named)} beside {listed(sisters)}, which may be parts of a data set or "
            f"classes: name one itself ({place_of(tree)}/{named[0]})"
            + (f", or take all as classes with {flag} ." if flag else "")
        )
    wanted = [name for name in named if name == split] or [name for name in named if kind_of(name) == kind_of(split)]
    if len(wanted) > 1:
        way_out = choice(tree, wanted[0], flag)
        raise ValueError(f"'{place_of(tree)}' holds {listed(wanted)}, which mean the same: {way_out}")
    if not wanted:
        other = next((name for name in named if kind_of(name) != "train"), named[0])
        raise ValueError(f"{missing(tree, split, named)}: {choice(tree, other, flag)}")
    return tree.at(wanted[0])


def are_parts(tree: Tree, named: Sequence[str]) -> bool:
    """Whether two folders of different kinds (train, val) hold the same class folders, as parts of one data set do."""
    classes = {kind_of(name): set(folders_in(tree, name)) for name in named}
    groups = [names for names in classes.values() if names]
    first = groups[0] if groups else set[str]()
    return len(groups) > 1 and all(2 * len(first & names) >= min(len(first), len(names)) for names in groups[1:])


def kind_of(name: str) -> str:
    """train, validation or test: which part a folder of that name would be; '' for none."""
    return next((kind for kind, names in SPLITS.items() if name.lower() in names), "")


def choice(tree: Tree, name: str, flag: str) -> str:
    """How a user chooses a part, or all."""
    named = f"name it itself, as {place_of(tree)}/{name}"
    return f"choose one, as {flag} {name}, or all of it, {flag} ." if flag else named


def missing(tree: Tree, split: str, there: Sequence[str]) -> str:
    return f"'{place_of(tree)}' has no part '{split}': it holds {listed(there) or 'no folders'}"
