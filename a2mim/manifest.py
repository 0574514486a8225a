"""The list of images that a run is made of, kept in its folder, by which it is noticed that they have changed."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from a2mim.checkpoints.archive import check_file
from a2mim.runs import known_run, read_run, write_atomically
from a2mim.trees import listed

FILE = "images.txt.gz"
LONGEST = 1_000_000_000
"""Bytes of the lists: some ten million images."""

Rows = Mapping[str, Sequence[str]]
"""Part of the data (train, validation) -> a line for each image: name, bytes, label (`Images.rows`)."""


def refuse_other_images(folder: Path, rows: Rows) -> None:
    """Raises ValueError where the run in `folder` was made of other images, and says what has changed.

    A run from before the list was kept goes on.
    """
    there = (known_run(folder) or {}).get("data", {})
    changed = [part for part in rows if part in there and there[part]["digest"] != digest(rows[part])]
    if not changed:
        return
    before = read_rows(folder / FILE)
    told = [
        f"{part}: "
        + (changes(before[part], rows[part]) if part in before else counts(there[part]["images"], rows[part]))
        for part in changed
    ]
    raise ValueError(
        f"{folder} holds a run on other images ({'; '.join(told)}): put them back as they were, or begin a new run "
        "with another --out"
    )


def keep_rows(folder: Path, rows: Rows) -> dict[str, Any]:
    """Write the list into the run's folder, unless it is there; returns what run.json says of it."""
    about = summary(rows)
    if not (folder / FILE).exists() or read_run(folder).get("data") != about:
        write_atomically(folder / FILE, lambda beside: write_rows(beside, rows))
    return about


def summary(rows: Rows) -> dict[str, Any]:
    """How many images each part has, and by what they are known."""
    return {part: {"images": len(lines), "digest": digest(lines)} for part, lines in rows.items()}


def digest(rows: Sequence[str]) -> str:
    """Of a list of images."""
    return hashlib.sha256("\n".join(rows).encode(errors="surrogateescape")).hexdigest()[:16]


def write_rows(path: Path, parts: Rows) -> None:
    """The lists of all parts, as a text that can be compared later."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for part, rows in parts.items():
            file.writelines(f"{part}\t{row}\n".encode(errors="surrogateescape") for row in rows)


def read_rows(path: Path) -> dict[str, list[str]]:
    """The lists by part; none where the file is gone, damaged or beyond all lists of images. It only tells what has
    changed: that something has, the digest in run.json says."""
    parts: dict[str, list[str]] = {}
    try:
        check_file(path)
        with gzip.open(path, "rb") as file:
            text = file.read(LONGEST + 1)
    except (OSError, EOFError, ValueError, zlib.error):
        return parts
    for line in text.decode(errors="surrogateescape").split("\n")[:-1] if len(text) <= LONGEST else ():
        part, _, row = line.partition("\t")
        parts.setdefault(part, []).append(row)
    return parts


def changes(before: Sequence[str], now: Sequence[str]) -> str:
    """What happened to a list of images, in words."""
    old, new = ({row.split("\t")[0]: row for row in rows} for rows in (before, now))
    added, gone = [name for name in new if name not in old], [name for name in old if name not in new]
    other = [name for name in new if name in old and old[name] != new[name]]
    words = [
        f"{len(names):,} {what} ({listed(names, 3)})"
        for names, what in ((added, "added"), (gone, "gone"), (other, "of another size or label"))
        if names
    ]
    return f"{counts(len(before), now)}, {', '.join(words) or 'in another order'}"


def counts(before: int, now: Sequence[str]) -> str:
    return f"{before:,} images then, {len(now):,} now"
