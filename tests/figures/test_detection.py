"""The figure of detections: a row a picture, boxes where they are, masks in their colours."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from figures.detection import draw_detection
from figures.segmentation import class_colours
from tests.figures.readable import assert_readable


def picture(masks=True):
    there = np.zeros((2, 30, 40), bool)
    there[0, 5:15, 5:20], there[1, 10:25, 22:38] = True, True
    boxes = np.array([[5, 5, 20, 15], [22, 10, 38, 25]], float)
    about = {"image": np.full((30, 40, 3), 0.5), "boxes": boxes, "labels": np.array([0, 2])}
    found = {"found_boxes": boxes[:1] + 1, "found_labels": np.array([1]), "found_scores": np.array([0.875])}
    return about | found | {"masks": there if masks else None, "found_masks": there[:1] if masks else None}


@pytest.mark.rendered
@pytest.mark.parametrize("masks", [True, False])
def test_boxes_are_where_they_are_and_masks_are_veiled(tmp_path, masks):
    figure = draw_detection([picture(masks), picture(masks)], ["cat", "dog", "rocket"], tmp_path / "d.png", "A run")
    assert (tmp_path / "d.png").is_file() and len(figure.axes) == 4
    assert_readable(figure)
    left, right = figure.axes[:2]
    boxes = [each.get_bbox().extents.tolist() for each in left.patches if isinstance(each, Rectangle)]
    assert boxes == [[5, 5, 20, 15], [22, 10, 38, 25]]
    assert [each.get_text() for each in left.texts] == ["cat", "rocket"]
    assert [each.get_text() for each in right.texts] == ["dog 0.88"]
    assert left.get_xlim() == (0, 40) and left.get_ylim() == (30, 0)  # pixels and boxes have one origin
    shown = np.asarray(left.images[0].get_array())
    colours = class_colours(3)
    inside, outside = shown[12, 30], shown[0, 0]
    np.testing.assert_allclose(outside, 0.5)
    np.testing.assert_allclose(inside, 0.55 * 0.5 + 0.45 * colours[2] if masks else 0.5, atol=1e-6)


def test_nothing_is_no_figure(tmp_path):
    with pytest.raises(ValueError, match="no picture to draw"):
        draw_detection([], ["cat"], tmp_path / "d.png")
