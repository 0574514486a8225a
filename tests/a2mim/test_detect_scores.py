"""COCO's average precision against pycocotools' own average and against faster-coco-eval, and its interval."""

import contextlib
import io

import numpy as np
import pytest

from a2mim.detect.scores import AREAS, KINDS, coco_of, difference, intervals, matches_of, measured, precisions, summary

cocoeval = pytest.importorskip("pycocotools.cocoeval")
mask_tools = pytest.importorskip("pycocotools.mask")

CLASSES, SIDE = 4, 120
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def rectangle(box):
    """The run lengths of a box in a picture."""
    x, y, w, h = (round(each) for each in box)
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[max(0, y) : y + h, max(0, x) : x + w] = 1
    return mask_tools.encode(mask)


def scenes(seed, pictures=12, shift=4.0, crowds=True):
    """Pictures, instances of three of four classes, and detections: instances moved, some missed, some made up."""
    rng = np.random.default_rng(seed)
    truth, told = [], []
    for image in range(pictures):
        for _ in range(int(rng.integers(0, 7))):
            side = int(rng.choice([12, 45, 100]))
            w, h = rng.integers(max(4, side - 8), side + 8, 2).tolist()
            x, y = (int(rng.integers(0, max(1, SIDE - each))) for each in (w, h))
            label, crowd = int(rng.integers(0, 3)), int(crowds and rng.random() < 0.1)
            row = {"image_id": image, "category_id": label, "bbox": [x, y, w, h], "area": w * h}
            truth.append(row | {"iscrowd": crowd, "segmentation": rectangle([x, y, w, h])})
            for _ in range(int(rng.integers(0, 3))):
                box = (np.array([x, y, w, h]) + rng.normal(0, shift, 4)).clip(1, SIDE - 1).round().tolist()
                label = label if rng.random() < 0.8 else int(rng.integers(0, CLASSES))
                told.append({"image_id": image, "category_id": label, "bbox": box, "score": round(rng.random(), 2)})
    told = [row | {"segmentation": rectangle(row["bbox"])} for row in told]
    return [{"id": n, "height": SIDE, "width": SIDE} for n in range(pictures)], truth, told


def quietly(evaluation):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * x if x >= 0 else None for x in list(evaluation.stats)[:6]]


def by_pycocotools(pictures, truth, told, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        categories = [{"id": n} for n in range(CLASSES)]
        tables = [coco_of(pictures, categories, rows) for rows in (truth, measured(told, kind))]
        return quietly(cocoeval.COCOeval(*tables, KINDS[kind]))


def as_told(found, kind):
    return [found.get(f"{kind}_{name}") for name in NAMES]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_pycocotools(kind, seed):
    given = scenes(seed, shift=(0.5, 2, 4, 9)[seed])
    found = as_told(summary(matches_of(*given, CLASSES, kind), kind), kind)
    assert found == pytest.approx(by_pycocotools(*given, kind), abs=1e-9)
    assert 0 < found[0] < 100 and list(AREAS) == ["all", "small", "medium", "large"]


@pytest.mark.parametrize("kind", KINDS)
def test_average_precision_is_that_of_other_code(kind):
    fast = pytest.importorskip("faster_coco_eval")
    pictures, truth, told = scenes(7)
    categories = [{"id": n, "name": str(n)} for n in range(CLASSES)]
    truth = [{**row, "id": n} for n, row in enumerate(truth, 1)]
    table = fast.COCO({"images": pictures, "categories": categories, "annotations": truth})
    wanted = "bbox" if kind == "box" else "segmentation"
    rows = [{k: v for k, v in row.items() if k in (wanted, "image_id", "category_id", "score")} for row in told]
    expected = quietly(fast.COCOeval_faster(table, table.loadRes(rows), KINDS[kind]))
    assert as_told(summary(matches_of(pictures, truth, told, CLASSES, kind), kind), kind) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_right_and_what_is_shifted_is_less_so(kind):
    pictures, truth, _ = scenes(3, crowds=False)
    perfect = [{**row, "score": 1.0} for row in truth]
    found = summary(matches_of(pictures, truth, perfect, CLASSES, kind), kind)
    assert set(found) == {f"{kind}_{name}" for name in NAMES}
    assert list(found.values()) == pytest.approx([100] * 6)
    moved = [{**row, "bbox": [row["bbox"][0] + 6, *row["bbox"][1:]]} for row in perfect]
    moved = [row | {"segmentation": rectangle(row["bbox"])} for row in moved]
    less = summary(matches_of(pictures, truth, moved, CLASSES, kind), kind)
    assert 0 < less[f"{kind}_ap"] < 90
    assert as_told(less, kind) == pytest.approx(by_pycocotools(pictures, truth, moved, kind), abs=1e-9)
    nothing = summary(matches_of(pictures, truth, [], CLASSES, kind), kind)
    assert set(nothing.values()) == {0.0}
    assert summary(matches_of(pictures, [], perfect, CLASSES, kind), kind) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_counts_twice_is_a_copy_of_it(kind):
    pictures, truth, told = scenes(5, pictures=6)
    told = [{**row, "score": row["score"] + 1e-4 * n} for n, row in enumerate(told)]  # no ties
    times = np.array([2, 0, 1, 3, 1, 0])
    copies = [(n, 10 * n + copy) for n in range(6) for copy in range(times[n])]

    def copied(rows):
        return [{**row, "image_id": new} for old, new in copies for row in rows if row["image_id"] == old]

    many = [{"id": new, "height": SIDE, "width": SIDE} for _, new in copies]
    expected = precisions(matches_of(many, copied(truth), copied(told), CLASSES, kind))
    found = precisions(matches_of(pictures, truth, told, CLASSES, kind), times_WI=times[None])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_interval_is_of_pictures_drawn_again():
    given = scenes(11, pictures=40)
    matches = matches_of(*given, CLASSES, "box")
    ends = intervals(matches, "box")
    assert set(ends) == {f"box_{name}_{end}" for name in ("ap", "ap50", "ap75") for end in ("low", "high")}
    assert ends == intervals(matches, "box")
    rng, drawn = np.random.default_rng(5), []
    for _ in range(300):
        times = np.bincount(rng.integers(0, 40, 40), minlength=40)
        drawn.append(100 * np.nanmean(precisions(matches, times_WI=times[None])))
    low, high = np.quantile(drawn, (0.025, 0.975))
    width = high - low
    assert abs(ends["box_ap_low"] - low) < 0.2 * width and abs(ends["box_ap_high"] - high) < 0.2 * width
    assert ends["box_ap_low"] < summary(matches, "box")["box_ap"] < ends["box_ap_high"]
    gain = difference(matches, matches, "box")
    assert gain == {"difference": 0, "difference_low": 0, "difference_high": 0}
    pictures, truth, told = given
    worse = matches_of(pictures, truth, [row for row in told if row["image_id"] % 3], CLASSES, "box")
    gain = difference(worse, matches, "box")
    assert gain["difference"] == pytest.approx(summary(matches, "box")["box_ap"] - summary(worse, "box")["box_ap"])
    drawn = []
    for _ in range(300):  # the same pictures for both
        times = np.bincount(rng.integers(0, 40, 40), minlength=40)[None]
        drawn.append(100 * np.subtract(*(np.nanmean(precisions(each, times_WI=times)) for each in (matches, worse))))
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert abs(gain["difference_low"] - low) < 0.2 * (high - low) > abs(gain["difference_high"] - high)
    assert not intervals(matches_of(*scenes(1, pictures=7), CLASSES, "box"), "box")
