"""How a run's images were made: by that, and by their pixels, it is told whether another run's are the same pictures.

Names alone do not tell: two parts of a data set may both hold airplane/1.png, and images without names are called by
their places. Where two runs cut, resized and normalised their images in one way, their pixels are compared, too.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from interactions.baselines import Normalisation


def seen(transform: Mapping[str, Any] | None, normalisation: Normalisation) -> dict[str, Any]:
    """How images are made and normalised, as a record has it."""
    return json.loads(json.dumps({"transform": dict(transform or {}), "normalisation": asdict(normalisation)}))


def seen_by(record: Mapping[str, Any]) -> dict[str, Any]:
    """How the images of a run's record were made and normalised."""
    return {
        "transform": record["data"].get("transform", {}),
        "normalisation": record["settings"]["normalisation"],
    }


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Of what both say of how their images are made."""
    first, second = ours["transform"], theirs["transform"]
    return sorted(key for key in first.keys() & second.keys() - {"assumed"} if first[key] != second[key])


def comparable(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether the same picture has the same pixels in both runs."""
    return ours["normalisation"] == theirs["normalisation"] and not differing(ours, theirs)


def refuse_others(
    ours: Mapping[str, Any], digests: Mapping[str, str], theirs: Mapping[str, Any], known: Mapping[str, str], where: str
) -> None:
    """Raise ValueError for images that are called as another run's and have other pixels, where these can be compared.

    Args:
        ours, theirs: how the images of either run are made.
        digests, known: of the pixels of either run's images, by their names.
        where: how the other run is called.
    """
    others = [name for name, digest in digests.items() if known.get(name, digest) != digest]
    if others and comparable(ours, theirs):
        raise ValueError(
            f"{others[0]} is another image in {where} ({len(others)} of {len(digests)} images have other pixels "
            "there): name a run over the same images"
        )
