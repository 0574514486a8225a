"""COCO's average precision of boxes and of masks, and its interval over pictures.

Which detection meets which instance is pycocotools' to say, picture by picture. The average over a set of pictures is
taken here, for each picture counted so many times: once gives COCO's own numbers, and as often as it is drawn gives
those of pictures drawn with replacement. (Copies of a picture give what COCO's code would, but where scores are tied.)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2mim.redraws import FEWEST, ends_of, times_drawn

KINDS = {"box": "bbox", "mask": "segm"}
AREAS = ("all", "small", "medium", "large")
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AT_ONCE = 4_000_000
"""Numbers of one array while pictures are drawn."""


@dataclass(frozen=True)
class Matches:
    """What became of the detections in I pictures of K classes, for each of A areas and T overlaps.

    picture, label, score (D,): of each detection. right (A, T, D): it meets an instance; aside (A, T, D): it counts
    neither way. there (A, K, I): instances that count.
    """

    picture: NDArray[Any]
    label: NDArray[Any]
    score: NDArray[Any]
    right: NDArray[Any]
    aside: NDArray[Any]
    there: NDArray[Any]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return asdict(self)


def matches_of(
    pictures: Sequence[Mapping[str, Any]],
    instances: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: int,
    kind: str,
) -> Matches:
    """Let pycocotools compare detections with instances.

    pictures: id, height, width of each. instances: image_id, category_id (number of the class), bbox, area, iscrowd,
    and segmentation. detections: image_id, category_id, bbox, score, and segmentation. kind: box or mask.
    """
    from pycocotools.cocoeval import COCOeval

    categories = [{"id": number} for number in range(classes)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_of(pictures, categories, instances)
        told = coco_of(pictures, categories, measured(detections, kind))
        evaluation = COCOeval(truth, told, KINDS[kind])
        evaluation.evaluate()
    rows = evaluation.evalImgs  # of each class, of that each area, of that each picture
    return assembled(np.array(rows, object).reshape(classes, len(AREAS), len(pictures)))


def coco_of(pictures: Any, categories: Any, annotations: Sequence[Mapping[str, Any]]) -> Any:
    """pycocotools' table. Numbers of annotations begin at 1: it takes 0 for no match."""
    from pycocotools.coco import COCO

    table = COCO()
    rows = [{**each, "id": number} for number, each in enumerate(annotations, 1)]
    table.dataset = {"images": list(pictures), "categories": categories, "annotations": rows}
    table.createIndex()
    return table


def measured(detections: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Detections with the area of their box, or of their mask."""
    from pycocotools import mask

    def area(row: Mapping[str, Any]) -> float:
        return float(mask.area(row["segmentation"])) if kind == "mask" else row["bbox"][2] * row["bbox"][3]

    return [{**row, "area": area(row), "iscrowd": 0} for row in detections]


def assembled(rows_KAI: NDArray[Any]) -> Matches:
    """pycocotools' results of each class, area and picture (None where there is nothing) in arrays."""
    there = np.zeros((rows_KAI.shape[1], rows_KAI.shape[0], rows_KAI.shape[2]), np.int64)
    parts: list[tuple[int, int, list[dict[str, Any]]]] = []
    for label, of_class in enumerate(rows_KAI):
        for picture, column in enumerate(of_class.T):
            if column[0] is None:
                continue
            there[:, label, picture] = [np.count_nonzero(np.asarray(row["gtIgnore"]) == 0) for row in column]
            parts.append((label, picture, list(column)))
    counts = [len(column[0]["dtScores"]) for _, _, column in parts]

    def joined(name: str) -> NDArray[Any]:
        each = [np.stack([np.asarray(row[name]).reshape(len(IOUS), -1) > 0 for row in column]) for *_, column in parts]
        return np.concatenate([*each, np.zeros((rows_KAI.shape[1], len(IOUS), 0), bool)], axis=2)

    return Matches(
        np.repeat(np.array([picture for _, picture, _ in parts], np.int64), counts),
        np.repeat(np.array([label for label, *_ in parts], np.int64), counts),
        np.concatenate([np.asarray(column[0]["dtScores"], np.float64) for *_, column in parts] or [np.zeros(0)]),
        joined("dtMatches"),
        joined("dtIgnore"),
        there,
    )


# ------------------------------------------------------------------------------------------- average precision


def precisions(matches: Matches, area: str = "all", times_WI: NDArray[Any] | None = None) -> NDArray[Any]:
    """Average precision (W, T, K) of each class, its pictures counted so many times; NaN without an instance."""
    a = AREAS.index(area)
    pictures = matches.there.shape[2]
    times_WI = np.ones((1, pictures), np.int64) if times_WI is None else times_WI
    there_WK = times_WI @ matches.there[a].T
    found = np.full((len(times_WI), len(IOUS), there_WK.shape[1]), np.nan)
    for label in np.flatnonzero(matches.there[a].sum(1)):
        chosen = np.flatnonzero(matches.label == label)
        chosen = chosen[np.argsort(-matches.score[chosen], kind="mergesort")]
        right, aside = matches.right[a][:, chosen], matches.aside[a][:, chosen]
        step = max(1, AT_ONCE // max(1, right.size))
        for start in range(0, len(times_WI), step):
            some = slice(start, start + step)
            times_WD = times_WI[some][:, matches.picture[chosen]]
            found[some, :, label] = of_class(right & ~aside, ~right & ~aside, times_WD, there_WK[some, label])
    return found


def of_class(
    right_TD: NDArray[Any], wrong_TD: NDArray[Any], times_WD: NDArray[Any], there_W: NDArray[Any]
) -> NDArray[Any]:
    """Average precision (W, T): the mean, over 101 recalls, of the best precision at that recall or a higher one."""
    rights = np.cumsum(right_TD * times_WD[:, None], axis=2)
    wrongs = np.cumsum(wrong_TD * times_WD[:, None], axis=2)
    precision = rights / (rights + wrongs + np.spacing(1))
    precision = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    precision = np.concatenate([precision, np.zeros((*precision.shape[:2], 1))], axis=2)  # of what is never reached
    weights, overlaps, length = rights.shape
    needed_WR = np.stack([reaching(int(n)) for n in there_W])
    # One search for all rows: each row's counts are lifted above those of the row before.
    lift = (np.arange(weights * overlaps) * (int(there_W.max(initial=0)) + 2)).reshape(weights, overlaps, 1)
    flat = (np.minimum(rights, there_W.max(initial=0)) + lift).ravel()
    places = (
        np.searchsorted(flat, needed_WR[:, None] + lift)
        - np.arange(weights * overlaps).reshape(weights, overlaps, 1) * length
    )
    found = np.take_along_axis(precision, places, axis=2).mean(2)
    return np.where(there_W[:, None] > 0, found, np.nan)


def reaching(there: int) -> NDArray[Any]:
    """How many of so many instances have to be found for each of the 101 recalls."""
    return np.searchsorted(np.arange(there + 1) / max(1, there), RECALLS)


# ------------------------------------------------------------------------------------------- numbers


def summary(matches: Matches, kind: str) -> dict[str, float]:
    """box_ap, box_ap50, box_ap75, box_ap_small, box_ap_medium, box_ap_large (or mask_...) in percent; what there is
    nothing to take it from is left out."""
    overall = precisions(matches)[0]
    found = {"ap": overall, "ap50": overall[:1], "ap75": overall[5:6]}
    found |= {f"ap_{area}": precisions(matches, area)[0] for area in AREAS[1:]}
    return {f"{kind}_{name}": 100 * mean(x) for name, x in found.items() if not np.isnan(x).all()}


def mean(values: NDArray[Any]) -> float:
    return float(np.nanmean(values))


def redrawn(matches: Matches, seed: int = 0) -> NDArray[Any]:
    """Average precision (draws, T, K) of 1,000 draws of the pictures with replacement: the same ones for any model."""
    return precisions(matches, times_WI=times_drawn(matches.there.shape[2], seed))


def intervals(matches: Matches, kind: str, seed: int = 0) -> dict[str, float]:
    """box_ap_low, box_ap_high, box_ap50_low ... (or mask_...): percentiles 2.5 and 97.5 of those draws, of each the
    mean over the classes that occur in it; empty for fewer than eight pictures or no instance."""
    if matches.there.shape[2] < FEWEST or not matches.there[0].any():
        return {}
    drawn = redrawn(matches, seed)
    parts = {"ap": drawn, "ap50": drawn[:, :1], "ap75": drawn[:, 5:6]}
    return ends_of({f"{kind}_{name}": 100 * np.nanmean(x, axis=(1, 2)) for name, x in parts.items()})


def difference(first: Matches, second: Matches, kind: str, seed: int = 0) -> dict[str, float]:
    """By how much the second's AP is the higher one, with its 95 % interval over the same pictures (difference,
    difference_low, difference_high; no ends for fewer than eight)."""
    point = summary(second, kind)[f"{kind}_ap"] - summary(first, kind)[f"{kind}_ap"]
    if first.there.shape[2] < FEWEST:
        return {"difference": point}
    drawn = 100 * (np.nanmean(redrawn(second, seed), axis=(1, 2)) - np.nanmean(redrawn(first, seed), axis=(1, 2)))
    return {"difference": point, **ends_of({"difference": drawn})}
