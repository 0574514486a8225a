from pathlib import Path

import numpy as np
import pytest

from figures.segmentation import draw_segmentation
from tests.figures.readable import assert_readable


def pictures(count: int, classes: int = 3) -> list[dict[str, np.ndarray]]:
    g = np.random.default_rng(0)
    return [
        {
            "image": g.random((24, 32, 3)),
            **{name: g.integers(-1, classes, (24, 32)) for name in ("target", "predicted")},
        }
        for _ in range(count)
    ]


@pytest.mark.rendered
def test_classes_have_one_colour_in_annotations_and_predictions_and_none_is_black(tmp_path: Path):
    given = pictures(2)
    figure = draw_segmentation(given, ["sky", "road", "tree"], tmp_path / "s.png", "A run")
    columns = [[np.asarray(image.get_array()) for image in axes.images] for axes in figure.axes if axes.images]
    assert [len(column) for column in columns] == [2] * 3
    colours: dict[int, set] = {}
    for n, each in enumerate(given):
        np.testing.assert_array_equal(columns[0][n], each["image"])
        for column, name in zip(columns[1:], ("target", "predicted"), strict=True):
            for k in range(-1, 3):
                colours.setdefault(k, set()).update(map(tuple, column[n][each[name] == k]))
    assert colours.pop(-1) == {(0.0, 0.0, 0.0)}
    assert all(len(each) == 1 for each in colours.values()) and len(set.union(*colours.values())) == 3
    legend = figure.axes[-1].get_legend()
    told = {
        text.get_text(): handle.get_facecolor()[:3]
        for text, handle in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert {name: {colour} for name, colour in told.items()} == {
        name: {tuple(map(float, colour)) for colour in colours[k]} for k, name in enumerate(("sky", "road", "tree"))
    }
    assert_readable(figure)


@pytest.mark.rendered
def test_as_many_pictures_are_shown_as_a_page_holds(tmp_path: Path):
    figure = draw_segmentation(pictures(12, 30), [f"class {k}" for k in range(30)], tmp_path / "s.png")
    shown = len(figure.axes[0].images)
    assert 6 <= shown < 12 and f"The first {shown} of 12 pictures." in figure.texts[-1].get_text()
    assert_readable(figure)
    with pytest.raises(ValueError, match="no picture to draw"):
        draw_segmentation([], ["sky"], tmp_path / "s.png")
