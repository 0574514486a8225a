"""What profiles need alike for their interactions to be of one game, and what of it they do not: settings, images,
explained classes; and the pixels, which tell of one network alone.

`a2mim compare` refuses what figures and pages note, by the same functions.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from figures.runs import (
    Facets,
    Record,
    Run,
    data_name,
    differ_in,
    grid_words,
    images_of,
    looked_up,
    order_words,
    pair_words,
    phrases_of,
    who,
)
from figures.words import baseline_in_words, spaced, value_in_words

FACETS: Facets = {
    "grid": grid_words,
    "output": lambda record: value_in_words(record["settings"]["value"]),
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
RAW: Facets = {"passes": lambda record: str(record["settings"].get("budget") or "as a precision needed")}
"""What raw strengths need alike besides: noise lifts them, the more the fewer passes there are."""
IMAGES: Facets = {"number of images": images_of}


def unlike_games(runs: Sequence[Run], facets: Facets = GAME) -> str:
    """Sentences on what these runs were not measured alike in, their images and pixels among it; empty where all is
    alike, or not recorded."""
    of_images = image_phrases(runs) or phrases_of(runs, IMAGES)
    return " ".join(filter(None, [differ_in([*phrases_of(runs, facets), *of_images]), pixel_words(runs)]))


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
    """Which runs show images of other mean and deviation to what seems to be one network; empty where none do. Networks
    of different families were trained with different ones, and rightly see them."""
    kinds: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        kind, pixels = looked_up(_kind, run.record), looked_up(_pixels, run.record)
        if kind and pixels:
            kinds.setdefault(kind, {}).setdefault(pixels, []).append(run)
    return " ".join(
        f"Networks of one kind ({kind}) are shown images of "
        f"{'; of '.join(f'{pixels}: ' + ', '.join(who(some, runs)) for pixels, some in of.items())}; "
        "was each trained so?"
        for kind, of in kinds.items()
        if len(of) > 1
    )


def _kind(record: Record) -> str:
    model: Any = record["model"]
    return f"{model['class']}, {model['parameters']:,} parameters"


def _pixels(record: Record) -> str:
    shown = record["settings"]["normalisation"]
    return f"mean {spaced(shown['mean'])} and deviation {spaced(shown['std'])}"
