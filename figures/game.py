"""What profiles need alike for their interactions to be of one game, and what of it they do not: settings, images,
explained classes; and the pixels, which tell of one network alone.

`a2mim compare` refuses what figures and pages note, by the same functions.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from figures.runs import (
    Facets,
    Record,
    Run,
    data_name,
    differ_in,
    grid_words,
    grouped,
    images_of,
    looked_up,
    order_words,
    output_words,
    pair_words,
    phrases_of,
    who,
)
from figures.words import baseline_in_words, crop_in_words, spaced

FACETS: Facets = {
    "grid": grid_words,
    "output": output_words,
    "baseline": lambda record: baseline_in_words(record["settings"]["baseline"]),
    "pairs": pair_words,
    "data": data_name,
}
FILTER: Facets = {
    "filter": lambda record: "correct ones alone" if record["settings"].get("only_correct") else "all images"
}
GAME: Facets = {
    **FACETS,
    "target": lambda record: str(record["settings"].get("target", "label")),
    "orders": order_words,
    **FILTER,
}
"""What J of several runs needs alike; the last three are told only where they are not."""
RAW: Facets = {
    "passes": lambda record: _pass_words(record),
    "design": lambda record: record["settings"]["design"],
    "pairs of the published design": lambda record: _published_pairs(record["settings"]),
    "reduced precision": lambda record: record["settings"].get("amp") or "none",
}
"""What raw strengths need alike besides: noise lifts them, by what the passes, and how they are spent, leave of it."""
UNUSUAL: Facets = {
    "images": lambda record: "correctly classified ones alone" if record["settings"].get("only_correct") else None,
    "class": lambda record: _class_words(record["settings"]),
}
TOLD: Facets = FACETS | UNUSUAL
"""What a caption says of runs that have it alike: of images and classes what is not as usual."""
IMAGES: Facets = {"number of images": images_of}
ONE_COLOUR = 0.1
"""Of 1: mean colours that differ by less are hardly seen to."""


def unlike_games(runs: Sequence[Run], facets: Facets = GAME) -> str:
    """Sentences on what these runs were not measured alike in, their images and pixels among it; empty where all is
    alike, or not recorded."""
    of_images = image_phrases(runs) or phrases_of(runs, IMAGES)
    return " ".join(filter(None, [differ_in([*phrases_of(runs, facets), *of_images]), pixel_words(runs)]))


def _pass_words(record: Record) -> str:
    """Of an image and order, where all had as many; a precision spreads its own over the orders as each needs."""
    if budget := record["settings"].get("budget"):
        return str(budget)
    chosen = "as a precision needed"
    passes = record.get("passes")  # which the record of a figure from before it was kept there does not tell
    return f"{chosen}, {passes / images_of(record):,.0f} an image" if passes else chosen


def _published_pairs(settings: Record) -> int | None:
    """By which the passes are divided into contexts; None in other designs, which do not look at it."""
    return settings.get("published_pairs") if settings.get("design") == "published" else None


def _class_words(settings: Record) -> str | None:
    """Which class v is of; None for each image's own label, and where v asks for none."""
    target: Any = settings.get("target", "label")
    if target == "label" or settings["value"] == "cosine":
        return None
    return str(target) if isinstance(target, int) or target == "predicted" else f"of {Path(target).name}"


def identities(record: Record) -> dict[str, Record]:
    """What the run noted of each image, by what tells the image apart: its name, where the names are the data set's
    own and no two are alike, else the data set and the number."""
    images, data = record["images"], record["data"]
    if data["digest"] is not None and len({one["name"] for one in images}) == len(images):
        return {one["name"]: one for one in images}
    return {f"{data['name']} {one['image']}": one for one in images}


def image_phrases(runs: Sequence[Run]) -> list[str]:
    """A phrase if none of two runs holds all images of the other, and one if images that all hold have other classes;
    runs that do not say which images they hold count for nothing."""
    held = [(run, of_run) for run in runs if (of_run := looked_up(identities, run.record)) is not None]
    sets: dict[frozenset[str], list[Run]] = {}
    for run, of_run in held:
        sets.setdefault(frozenset(of_run), []).append(run)
    phrases = []
    # Runs to a precision take one random order of the images, some more of it than others: that is no difference.
    if not all(fewer <= more for fewer, more in pairwise(sorted(sets, key=len))):
        counts = "; ".join(f"{len(names)} in {', '.join(who(some, runs))}" for names, some in sets.items())
        phrases.append(f"images ({counts}; {len(frozenset.intersection(*sets))} in all)")
    return phrases + target_phrases([of_run for _, of_run in held])


def target_phrases(images: Sequence[Mapping[str, Record]]) -> list[str]:
    """A phrase if the runs explain different classes in images that all of them hold."""
    shared = set.intersection(*map(set, images)) if images else set[str]()
    other = sum(len({str(of_run[name].get("target")) for of_run in images}) > 1 for name in shared)
    return [f"target class (of {other} of {len(shared)} shared images)"] if other else []


def pixel_words(runs: Sequence[Run]) -> str:
    """Sentences on what may be as it should, or not, of the pixels that the networks are shown; empty where nothing
    is."""
    return " ".join(filter(None, [shown_words(runs), photograph_words(runs), colour_words(runs)]))


def photograph_words(runs: Sequence[Run]) -> str:
    """How many images of one name are others by their pixels, in runs that show images alike: two folders may use the
    same names. (Another version of a decoder changes pixels, too.)"""
    digests: dict[tuple[str, str], set[str]] = {}
    held: dict[tuple[str, str], int] = {}
    for run in runs:
        shown, of_run = looked_up(_shown, run.record), looked_up(identities, run.record) or {}
        for name, one in of_run.items() if shown else ():
            if digest := one.get("digest"):
                digests.setdefault((shown, name), set()).add(digest)
                held[shown, name] = held.get((shown, name), 0) + 1
    shared = [each for each, count in held.items() if count > 1]
    other = sum(len(digests[each]) > 1 for each in shared)
    return f"Of {len(shared)} shared images {other} have other pixels: are they the same photographs?" if other else ""


def colour_words(runs: Sequence[Run]) -> str:
    """The colours of absent cells, where the baseline `mean` is one colour for one network and another for another."""
    colours: dict[tuple[float, ...], list[Run]] = {}
    for run in runs:
        if colour := looked_up(_mean_colour, run.record):
            colours.setdefault(colour, []).append(run)
    if len(set(map(len, colours))) != 1:  # none, or images of other channels
        return ""
    if all(max(part) - min(part) <= ONE_COLOUR for part in zip(*colours, strict=True)):
        return ""
    listed = "; ".join(f"{spaced(colour)} in {', '.join(who(some, runs))}" for colour, some in colours.items())
    return f"Absent cells have each network's own mean colour, which is not one ({listed}; 0 is black, 1 white)."


def _mean_colour(record: Record) -> tuple[float, ...] | None:
    settings: Any = record["settings"]
    return tuple(map(float, settings["normalisation"]["mean"])) if settings["baseline"] == "mean" else None


def shown_words(runs: Sequence[Run]) -> str:
    """Which runs show images of other mean and deviation, of another size or cut otherwise to what seems to be one
    network; empty where none do. Networks of different families were trained with different ones, and rightly see
    them."""
    sentences = []
    for kind, some in grouped(runs, _kind).items():
        for what in (_pixels, _size, _cut):
            of = grouped(some, what)
            if len(of) > 1:
                listed = "; of ".join(f"{shown}: {', '.join(who(held, runs))}" for shown, held in of.items())
                sentences.append(f"Networks of one kind ({kind}) are shown images of {listed}; was each trained so?")
    return " ".join(sentences)


def _kind(record: Record) -> str:
    model: Any = record["model"]
    return f"{model['class']}, {model['parameters']:,} parameters"


def _shown(record: Record) -> str:
    """How an image becomes pixels; what is assumed of it is no part of that."""
    transform: Any = record["data"].get("transform", {})
    how = {name: value for name, value in transform.items() if name != "assumed"}
    return json.dumps([how, record["settings"]["normalisation"], record["image_shape"]], sort_keys=True)


def _pixels(record: Record) -> str:
    shown = record["settings"]["normalisation"]
    return f"mean {spaced(shown['mean'])} and deviation {spaced(shown['std'])}"


def _size(record: Record) -> str:
    height, width = record["image_shape"][1:]
    return f"{height}×{width} px"


def _cut(record: Record) -> str:
    transform: Any = record["data"]["transform"]
    resize = transform["resize"]
    sides = "×".join(map(str, resize)) if isinstance(resize, list) else resize
    return f"a {crop_in_words(transform['crop_mode'])} of what was resized to {sides} px, {transform['interpolation']}"
