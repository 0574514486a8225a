"""What lies in a folder or a tar, seen as a tree of folders.

What is hidden (a name that begins with a dot) or left behind by a file system is not there; every folder counts once,
whatever links lead back to it.
"""

from __future__ import annotations

import os
import tarfile
import threading
from collections import Counter
from collections.abc import Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from errno import EIO
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from timm.utils import natural_key

from a2mim.decoding import EXTENSIONS, UNREAD, Damaged

JUNK = frozenset(("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"))


class ReadFailed(OSError):
    """A file that was there cannot be read now: of the disk, not of the picture."""

    errno = EIO
    """By which interactions, which knows no such class, tells it from damage."""


class Entry(NamedTuple):
    """One image file."""

    name: str
    """Path below the folder, or the name within the tar."""
    size: int
    """Bytes; -1 where a link leads nowhere."""
    start: int = -1
    """Where its bytes begin in the tar."""


@dataclass
class Contents:
    """What lies directly in a folder. links: folders that are reached by a link."""

    folders: list[str] = field(default_factory=list)
    images: list[Entry] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class Folder:
    """The tree below a folder on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scan(self, below: str = "", sizes: bool = False) -> Contents:
        """What lies directly in the folder `below`: '' for the root, parts divided by '/'. sizes: of the images too."""
        found = Contents()
        with os.scandir(self.root / below) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if is_folder(entry):
                    (found.links if entry.is_symlink() else found.folders).append(entry.name)
                elif suffix(entry.name) in EXTENSIONS:
                    found.images.append(Entry(joined(below, entry.name), size_of(entry) if sizes else 0))
                else:
                    found.others.append(entry.name)
        return found

    def holds_images(self, below: str) -> bool:
        """Whether there is any image in the folder `below` or further down."""
        for _, folders, files in os.walk(self.root / below):
            if any(suffix(name) in EXTENSIONS and not is_hidden(name) for name in files):
                return True
            folders[:] = [name for name in folders if not is_hidden(name)]
        return False

    def identity(self, below: str) -> Hashable:
        """Equal for two ways to one folder."""
        about = os.stat(self.root / below)
        return about.st_dev, about.st_ino

    def above(self) -> set[Hashable]:
        """Identities of the folders that the root lies in: a link to them is a loop."""
        found = (os.stat(each) for each in self.root.resolve().parents)
        return {(about.st_dev, about.st_ino) for about in found}

    def at(self, name: str) -> Folder:
        """The sub-folder as a tree of its own."""
        return Folder(self.root / name)

    def read(self, entry: Entry) -> bytes:
        """The bytes of a file. Raises Damaged for a link that leads nowhere and for what is no file, ReadFailed where
        the disk does."""
        path = self.root / entry.name
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device be read for ever
            raise Damaged("it is no file")
        try:
            return path.read_bytes()
        except OSError as error:
            if entry.size < 0 and path.is_symlink():
                raise Damaged("it is a link that leads nowhere") from error
            raise ReadFailed(f"{path} cannot be read any more: {error.strerror or error}") from error


OPENING = threading.Lock()


class Tar:
    """The tree in an uncompressed .tar, and in the tars in it: one called cat.tar counts as a folder cat."""

    def __init__(self, root: Path, base: str = "", tree: dict[str, Contents] | None = None) -> None:
        self.root, self.base = root, base
        self.tree = read_tar(root) if tree is None else tree
        self._file: Any = None

    def scan(self, below: str = "", sizes: bool = False) -> Contents:
        return self.tree.get(joined(self.base, below), Contents())

    def holds_images(self, below: str) -> bool:
        found = self.scan(below)
        return bool(found.images) or any(self.holds_images(joined(below, name)) for name in found.folders)

    def identity(self, below: str) -> Hashable:
        return below

    def above(self) -> set[Hashable]:
        return set()

    def at(self, name: str) -> Tar:
        return Tar(self.root, joined(self.base, name), self.tree)

    def read(self, entry: Entry) -> bytes:
        """The bytes of a member; workers may share the file, since nobody moves in it."""
        try:
            content = os.pread(self._opened().fileno(), entry.size, entry.start)
        except OSError as error:
            raise ReadFailed(f"{self.root} cannot be read any more: {error.strerror or error}") from error
        if len(content) < entry.size:
            raise ReadFailed(f"{self.root} ends within {entry.name}: it has become shorter")
        return content

    def _opened(self) -> Any:
        """The file, opened once: of two that threads had opened, one would be closed while it is read, and its number
        given to the next file that is opened."""
        with OPENING:
            self._file = self._file or self.root.open("rb")
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "tree": {}}  # a worker reads entries, and looks for nothing


Tree = Folder | Tar


def open_tree(place: Path) -> Tree:
    """The tree at `place`. Raises FileNotFoundError where there is none, ValueError where it is neither kind."""
    if not place.exists():
        raise FileNotFoundError(f"there are no images at '{place}': it does not exist")
    if place.is_dir():
        return Folder(place)
    if place.suffix.lower() != ".tar":
        raise ValueError(f"'{place}' is neither a folder nor a .tar of images")
    return Tar(place)


# ------------------------------------------------------------------------------------------- a tar's contents


def read_tar(path: Path) -> dict[str, Contents]:
    """Folder -> what lies in it. Raises ValueError for a file that is no uncompressed tar, or a part of one."""
    about = path.stat()
    return _read_tar(path.resolve(), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=2)  # training and validation images may lie in one, and reading what it holds takes a while
def _read_tar(path: Path, size: int, changed: int) -> dict[str, Contents]:
    tree: dict[str, Contents] = {"": Contents()}
    try:
        with tarfile.open(path, "r:") as tar:
            add_members(tree, tar, "", 0)
    except (tarfile.TarError, EOFError, RecursionError) as error:
        raise ValueError(f"'{path}' holds no images: it is no whole, uncompressed tar ({error})") from error
    return tree


def add_members(tree: dict[str, Contents], tar: tarfile.TarFile, inside: str, start: int) -> None:
    """Put a tar's members, which lie `start` bytes into the file, into the tree below the folder `inside`."""
    places: dict[str, Entry] = {}
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep every one of them
        parts = [part for part in (*inside.split("/"), *member.name.split("/")) if part not in ("", ".")]
        if not parts or any(is_hidden(part) for part in parts):
            continue
        path, name = "/".join(parts), joined(inside, member.name)
        if member.isdir():
            add_folder(tree, path)
            continue
        if member.isreg() and suffix(path) == ".tar":
            below, content = path[: -len(".tar")], tar.extractfile(member)
            add_folder(tree, below)
            with tarfile.open(fileobj=content, mode="r:") as nested:
                add_members(tree, nested, below, start + member.offset_data)
            continue
        folder = add_folder(tree, path.rpartition("/")[0])
        entry = Entry(name, member.size, start + member.offset_data) if member.isreg() else None
        if member.islnk():  # a second name of an earlier member
            entry = places.get(member.linkname)
        if entry is None or suffix(path) not in EXTENSIONS:
            folder.others.append(parts[-1])
        else:
            places[member.name] = entry
            folder.images.append(entry._replace(name=name))


def add_folder(tree: dict[str, Contents], path: str) -> Contents:
    """The folder of that path, put into the tree with those above it."""
    if path not in tree:
        tree[path] = Contents()
        above, _, name = path.rpartition("/")
        add_folder(tree, above).folders.append(name)
    return tree[path]


# ------------------------------------------------------------------------------------------- all below a folder


@dataclass
class Found:
    """The images below a folder, in natural order of their names.

    tops: the first folder on the way to each image, '' where it lies directly in the folder.
    folders: the first-level folders; those that hold no image have their number of other files in `bare`.
    unread: suffix -> files that are pictures, but of a kind that is not read.
    again: first-level links to folders that were counted already.
    """

    entries: list[Entry] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    bare: dict[str, int] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)


def walk(tree: Tree, below: str = "") -> Found:
    """Every image in the folder `below` and further down, each folder once. Raises OSError for one that is closed."""
    found, others = Found(), Counter[str]()
    seen = tree.above() | {tree.identity(below)}
    waiting, links = [(below, "")], list[tuple[str, str]]()
    with ThreadPoolExecutor(8) as pool:  # a network's file system answers slowly, and many questions at once
        while waiting:
            contents = list(pool.map(lambda each: tree.scan(each[0], sizes=True), waiting))
            coming = []
            for (folder, top), content in zip(waiting, contents, strict=True):
                found.entries += content.images
                found.tops += [top] * len(content.images)
                others[top] += len(content.others)
                found.unread.update(s for s in map(suffix, content.others) if s in UNREAD or s in EXTENSIONS)
                coming += [(joined(folder, name), top or name) for name in content.folders]
                links += [(joined(folder, name), top or name) for name in content.links]
                found.folders += [] if top else content.folders
            seen.update(pool.map(tree.identity, [folder for folder, _ in coming]))
            if not coming:  # links last: what lies in a folder under its own name has that name
                coming, links = follow(tree, links, seen, found), []
            waiting = coming
    order = sorted(range(len(found.entries)), key=lambda n: natural(found.entries[n].name))
    found.entries, found.tops = [found.entries[n] for n in order], [found.tops[n] for n in order]
    with_images = set(found.tops)
    found.folders.sort(key=natural)
    found.bare = {name: others[name] for name in found.folders if name not in with_images}
    return found


def follow(tree: Tree, links: list[tuple[str, str]], seen: set[Hashable], found: Found) -> list[tuple[str, str]]:
    """Those of the linked folders that have not been seen, which from now on have."""
    fresh = []
    for folder, top in sorted(links):
        first_level = folder.rpartition("/")[2] == top and top not in found.folders
        if tree.identity(folder) in seen:
            found.again += [top] if first_level else []
            continue
        seen.add(tree.identity(folder))
        fresh.append((folder, top))
        found.folders += [top] if first_level else []
    return fresh


def folders_in(tree: Tree, below: str = "") -> list[str]:
    """The folders in `below`, without links that lead back to what is there already, in natural order."""
    content = tree.scan(below)
    found = list(content.folders)
    seen = tree.above() | {tree.identity(below)} | {tree.identity(joined(below, name)) for name in found}
    for name in sorted(content.links):
        if tree.identity(joined(below, name)) not in seen:
            seen.add(tree.identity(joined(below, name)))
            found.append(name)
    return sorted(found, key=natural)


def wrapper(tree: Tree, below: str = "") -> str:
    """The one folder in `below` that all images lie in, as tars are often packed; '' where there is none."""
    filled = ""
    for name in () if tree.scan(below).images else folders_in(tree, below):
        if tree.holds_images(joined(below, name)):
            if filled:
                return ""
            filled = name
    return filled


# ------------------------------------------------------------------------------------------- names


def natural(name: str) -> tuple[Any, str]:
    """Sorts names as timm does (2 before 10, upper case as lower case), and the same on every machine."""
    return natural_key(name), name


def place_of(tree: Tree) -> str:
    """Where a tree lies, for people."""
    return str(tree.root / getattr(tree, "base", ""))


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    names = list(names)
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def joined(folder: str, name: str) -> str:
    return "/".join(part for part in (folder, name) if part)


def suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in JUNK


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False


def size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return -1
