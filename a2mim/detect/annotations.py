"""What a JSON file of instances in COCO's format says, looked at before any of it is used.

A file is data from anywhere: every number is finite and within bounds, outlines and run lengths fit their picture, and
what does not is told in one sentence. Boxes that reach beyond their picture are cut to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from a2mim.bounds import LARGEST
from a2mim.errors import one_line
from a2mim.plain import printable

FULL = 65536
"""Longest side of a picture, in pixels."""
OUTLINE = 1000
"""Length of an outline, in widths and heights of its picture, beyond which it is none."""


@dataclass(frozen=True)
class Instance:
    """One thing in a picture.

    box: left, top, width, height in pixels, as the file has it; area in pixels, by which COCO tells small from large.
    segmentation: outlines ([x, y, x, y, ...] each), or run lengths ({"size": [height, width], "counts": [...]}), None
        where masks are not asked for.
    """

    category: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    segmentation: Any


@dataclass(frozen=True)
class Pictured:
    """One picture of the file with what is in it."""

    identity: int
    file_name: str
    width: int
    height: int
    instances: list[Instance] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """A whole file: its pictures, and the name of each category by its number there, in the order of these."""

    pictures: list[Pictured]
    categories: dict[int, str]


def read_listing(content: bytes, where: str, masks: bool, drop_empty: bool) -> Listing:
    """Read a file of instances.

    where: its name for messages; masks: whether instances must have one; drop_empty: leave out empty boxes.

    Raises ValueError for what is no JSON, or not what the module's head says.
    """
    try:
        stated = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON ({one_line(error)}): is it damaged?") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(stated, dict) or any(not isinstance(stated.get(part), list) for part in parts):
        raise ValueError(f"{where} is not in COCO's format: it needs the lists {', '.join(parts)}")
    categories = read_categories(stated["categories"], where)
    pictures = read_pictures(stated["images"], where)
    for number, row in enumerate(stated["annotations"]):
        told = f"annotation {shown(row.get('id'))}" if isinstance(row, dict) else f"annotation number {number}"
        if wrong := place(row, pictures, categories, masks, drop_empty):
            raise ValueError(f"{told} in {where} {wrong}")
    return Listing(list(pictures.values()), categories)


def shown(value: Any) -> str:
    """What a file says, for people."""
    return printable(str(value))[:80]


def rows_of(rows: list[Any], kinds: dict[str, type], what: str, where: str) -> Iterable[dict[str, Any]]:
    """Those rows, each with values of these kinds and an id of its own. Raises ValueError for another."""
    seen = set()
    for row in rows:
        for name, kind in kinds.items():
            if not isinstance(row, dict) or type(row.get(name)) is not kind:
                words = "whole number" if kind is int else "text"
                raise ValueError(f"a row of {what} in {where} has no {words} as its {name}: {shown(row)}")
        if row["id"] in seen or abs(row["id"]) > LARGEST:
            raise ValueError(f"{where} has two {what} with the id {shown(row['id'])}, or it is no id: renumber them")
        seen.add(row["id"])
        yield row


def read_categories(rows: list[Any], where: str) -> dict[int, str]:
    """Number -> name, in the order of numbers."""
    found = {row["id"]: row["name"] for row in rows_of(rows, {"id": int, "name": str}, "categories", where)}
    if not found:
        raise ValueError(f"{where} has no categories: there is nothing to detect")
    if len(set(found.values())) < len(found):
        raise ValueError(f"two categories in {where} have one name: rename one of them")
    return dict(sorted(found.items()))


def read_pictures(rows: list[Any], where: str) -> dict[int, Pictured]:
    """Number -> picture, without instances."""
    kinds = {"id": int, "file_name": str, "width": int, "height": int}
    found = {}
    for row in rows_of(rows, kinds, "images", where):
        if not (0 < row["width"] <= FULL and 0 < row["height"] <= FULL):
            raise ValueError(
                f"the picture {shown(row['file_name'])} in {where} is said to be {shown(row['width'])}×"
                f"{shown(row['height'])} px: sides are from 1 to {FULL}"
            )
        found[row["id"]] = Pictured(row["id"], row["file_name"], row["width"], row["height"])
    if len({each.file_name for each in found.values()}) < len(found):
        raise ValueError(f"{where} lists a picture twice: list each once")
    return found


def place(
    row: Any, pictures: dict[int, Pictured], categories: dict[int, str], masks: bool, drop_empty: bool
) -> str | None:
    """Put an annotation to its picture. Returns what is wrong with it, and what to do, if anything is."""
    if not isinstance(row, dict):
        return "is no dictionary: it needs image_id, category_id, bbox and area"
    of, kind, crowd = row.get("image_id"), row.get("category_id"), row.get("iscrowd", 0)
    if type(of) is not int or of not in pictures:
        return f"is of the picture {shown(of)}, which the file does not list: list it, or remove the annotation"
    if type(kind) is not int or kind not in categories:
        return f"is of the category {shown(kind)}, which the file does not list: list it, or remove the annotation"
    if crowd not in (0, 1):
        return f"has {shown(crowd)} as its iscrowd: it is 0 or 1"
    picture, box, area = pictures[of], row.get("bbox"), row.get("area")
    if not numbers(box) or len(box) != 4:  # type: ignore[arg-type]
        return "has no bbox of four numbers, left, top, width and height"
    if not numbers([area]) or area < 0:  # type: ignore[operator]
        return "has no area, a number of pixels"
    segmentation = row.get("segmentation") if masks else None
    if masks and (wrong := mask_complaint(segmentation, picture)):
        return f"{wrong}: mend it, or use --detector faster_rcnn, which needs no masks"
    left, top, right, bottom = cut(box, picture)  # type: ignore[arg-type]
    if right > left and bottom > top:
        box = tuple(map(float, box))  # type: ignore[arg-type]
        picture.instances.append(Instance(kind, box, float(area), bool(crowd), segmentation))  # type: ignore[arg-type]
    elif not drop_empty:
        return f"has the empty box {shown(box)}: mend it, or leave such out with --drop-empty"
    return None


def cut(box: Sequence[float], picture: Pictured) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what lies in the picture of a box left, top, width, height."""
    left, top, width, height = box
    return max(0, left), max(0, top), min(picture.width, left + width), min(picture.height, top + height)


def numbers(values: Any) -> bool:
    """Whether it is a list of finite numbers, of a size that pixels can have."""
    return isinstance(values, list) and all(type(x) in (int, float) and abs(x) <= FULL**2 for x in values)


# ------------------------------------------------------------------------------------------- masks


def mask_complaint(segmentation: Any, picture: Pictured) -> str | None:
    """What is wrong with outlines or run lengths, if anything is."""
    if isinstance(segmentation, dict):
        return runs_complaint(segmentation, picture)
    if not isinstance(segmentation, list) or not segmentation:
        return "has no mask (a segmentation of outlines, or of run lengths)"
    return next(filter(None, (outline_complaint(each, picture) for each in segmentation)), None)


def outline_complaint(outline: Any, picture: Pictured) -> str | None:
    """Of one list x, y, x, y ..."""
    if not numbers(outline) or len(outline) < 6 or len(outline) % 2:
        return "has an outline that is not x and y of three points or more"
    longest = max(picture.width, picture.height)
    if min(outline) < -longest or max(outline) > 2 * longest:
        return f"has an outline far outside of its picture of {picture.width}×{picture.height} px"
    if len(outline) > OUTLINE and length(outline) > OUTLINE * (picture.width + picture.height):
        return "has an outline without end"
    return None


def length(outline: Sequence[float]) -> float:
    """Of a closed outline, in pixels."""
    points = list(zip(outline[::2], outline[1::2], strict=True))
    return sum(math.dist(one, other) for one, other in zip(points, [*points[1:], points[0]], strict=True))


def runs_complaint(runs: dict[str, Any], picture: Pictured) -> str | None:
    """Of {"size": [height, width], "counts": a list, or a string that packs one}."""
    if runs.get("size") != [picture.height, picture.width]:
        return f"has run lengths of the size {shown(runs.get('size'))}, not {[picture.height, picture.width]}"
    counts = runs.get("counts")
    counts = unpacked(counts) if isinstance(counts, str) else counts
    whole = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
    if not whole or sum(counts) != picture.height * picture.width:  # type: ignore[arg-type]
        return "has run lengths that do not add up to its picture"
    return None


def unpacked(packed: str) -> list[int] | None:
    """The run lengths in COCO's string: five bits a character, from the third on as the difference from the last but
    one. None for what is no such string."""
    counts: list[int] = []
    value = shift = 0
    for character in packed:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts if not shift else None
