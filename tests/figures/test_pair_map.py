from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures.pair_map import SIGNS, draw_pair_map, plot_pairs, plot_shapley
from tests.figures.made_up import texts
from tests.figures.readable import assert_readable

G = np.random.default_rng(0)
IMAGE = G.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def pair_lines(figure) -> Any:
    (lines,) = [each for each in figure.axes[0].collections if each.get_gid() == "pairs"]
    return lines


def caption(figure) -> str:
    return " ".join(figure.texts[-1].get_text().split())


def test_a_line_runs_from_cell_to_cell_in_the_colour_of_its_sign(tmp_path: Path):
    pairs, values = [[0, 1], [1, 6], [15, 11]], [0.5, -1.0, 0.2]
    lines = pair_lines(draw_pair_map(IMAGE, 4, pairs, values, tmp_path / "map.png"))
    ends = [(segment[0], segment[-1]) for segment in lines.get_segments()]
    # Column and row of the centres, the weakest pair first; cell 6 lies in row 1, column 2.
    np.testing.assert_allclose(ends, [[(3.5, 3.5), (3.5, 2.5)], [(0.5, 0.5), (1.5, 0.5)], [(1.5, 0.5), (2.5, 1.5)]])
    widths = np.asarray(lines.get_linewidths())
    assert np.all(np.diff(widths) > 0)
    red, blue = lines.get_colors()[:, 0], lines.get_colors()[:, 2]
    assert list(red > blue) == [True, True, False]
    np.testing.assert_allclose(lines.get_colors()[2], SIGNS(0.0))


def test_a_line_bends_around_the_cell_between(tmp_path: Path):
    lines = pair_lines(draw_pair_map(IMAGE, 4, [[0, 2], [0, 10], [0, 6]], [3, 2, 1], tmp_path / "map.png"))
    straight, diagonal, row = lines.get_segments()

    def distance(curve, cell):
        return np.linalg.norm(curve - np.array(cell), axis=1).min()

    assert distance(row, (1.5, 0.5)) > 0.2 and distance(diagonal, (1.5, 1.5)) > 0.2
    chord = straight - straight[0]
    np.testing.assert_allclose(chord[:, 0] * chord[-1, 1], chord[:, 1] * chord[-1, 0])


def test_pairs_that_may_be_noise_are_left_out_and_counted(tmp_path: Path):
    pairs = np.array([[i, i + 1] for i in range(14)])
    values = np.array([0.1, -0.1, 0.19, -0.2] + [0.5] * 6 + [-0.3] * 2 + [np.nan, 2.0])
    errors = np.array([0.1] * 13 + [np.nan])
    figure = draw_pair_map(IMAGE, 4, pairs, values, tmp_path / "map.png", standard_errors=errors)
    lines = pair_lines(figure)
    assert len(lines.get_segments()) == 9
    assert "the 8 strongest of 13 measured pairs (14 in all)." in caption(figure)
    assert "4 pairs lie within 2 standard errors of 0 and are left out; 8 do not" in caption(figure)
    assert "Grey and dashed: 1 pairs without a standard error, which may be noise." in caption(figure)
    # The strongest value of all has no error: it lies below the others, as thin as the weakest, and has no colour.
    assert [style[1] is not None for style in lines.get_linestyle()] == [True] + [False] * 8
    colours, widths = lines.get_colors(), np.asarray(lines.get_linewidths())
    assert colours[0, 0] == colours[0, 1] == colours[0, 2] and all(np.ptp(each[:3]) > 0.1 for each in colours[1:])
    assert widths[0] == widths.min() and widths[-1] == pytest.approx(2.6)
    top = draw_pair_map(IMAGE, 4, pairs, values, tmp_path / "map.png", standard_errors=errors, top=3)
    assert len(pair_lines(top).get_segments()) == 3 and "the 3 strongest of 13" in caption(top)


def test_what_chance_alone_would_show_is_said(tmp_path: Path):
    pairs = np.array([[i, j] for i in range(64) for j in range(i + 1, 64)])
    noise = G.normal(size=len(pairs))
    figure = draw_pair_map(IMAGE, 8, pairs, noise, tmp_path / "map.png", standard_errors=np.ones(len(pairs)))
    significant = int((np.abs(noise) > 2).sum())
    assert f"{significant} do not, where chance alone would give about 92." in caption(figure)
    assert abs(significant - 92) < 4 * 92**0.5


@pytest.mark.filterwarnings("error")
def test_a_map_without_any_pair_to_draw_is_still_a_picture(tmp_path: Path):
    figure = draw_pair_map(IMAGE, 4, [[0, 1]], [0.1], tmp_path / "map.png", np.zeros(16), standard_errors=[1.0])
    assert "the 0 strongest of 1" in caption(figure)
    draw_pair_map(IMAGE, 4, np.zeros((0, 2), int), [], tmp_path / "map.pdf")


def test_only_as_many_lines_are_drawn_as_an_eye_follows(tmp_path: Path):
    pairs = np.array([[i, i + 1] for i in range(0, 60, 2)])
    values = np.arange(1.0, 31.0)
    figure = draw_pair_map(IMAGE, 8, pairs, values, tmp_path / "map.png")
    widths = np.sort(pair_lines(figure).get_linewidths())
    np.testing.assert_allclose(widths, 0.7 + 1.9 * np.arange(16, 31) / 30)
    assert "the 15 strongest of 30 measured pairs" in caption(figure)


@pytest.mark.rendered
def test_shapley_values_lie_beside_it_on_a_symmetric_scale(tmp_path: Path):
    shapley = np.arange(16.0) - 4
    figure = draw_pair_map(IMAGE, 4, [[0, 1]], [1.0], tmp_path / "map.svg", shapley, "Order 7", unit="log-odds")
    (heat,) = [each for each in figure.axes[1].images if each.get_gid() == "shapley"]
    np.testing.assert_array_equal(heat.get_array(), shapley.reshape(4, 4))
    assert heat.get_clim() == (-11, 11) and heat.get_alpha() is None and len(figure.axes[1].images) == 1  # opaque
    assert_readable(figure)
    words = texts(figure)
    assert {"Order 7", "interaction (log-odds)", "Shapley value (log-odds)"} <= set(words)
    assert "Shapley value" in (tmp_path / "map.svg").read_text()
    alone = draw_pair_map(IMAGE, 4, [[0, 1]], [1.0], tmp_path / "map.svg")
    assert not [each for axes in alone.axes for each in axes.images if each.get_gid() == "shapley"]


@pytest.mark.rendered
@pytest.mark.parametrize("shapley", [None, np.arange(16.0)])
def test_the_image_keeps_its_colours_its_pixels_and_its_shape(tmp_path: Path, shapley):
    wide = np.repeat(IMAGE, 2, axis=1)
    figure = draw_pair_map(wide, 4, [[0, 1]], [1.0], tmp_path / "map.png", shapley)
    axes: Any = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), wide / 255)
    assert axes.images[0].get_extent() == [0, 4, 4, 0]
    for panel in figure.axes[: 1 if shapley is None else 2]:
        box = panel.get_window_extent()
        assert box.width / box.height == pytest.approx(2, rel=0.02)
    assert_readable(figure)


def test_pairs_and_cells_go_into_axes_of_ones_own():
    one, other = Figure().subplots(1, 2)
    assert plot_pairs(IMAGE, 4, [[0, 1], [4, 5]], [1.0, -2.0], one) is one
    assert plot_shapley(np.arange(16.0), other) is other
    assert len(next(each for each in one.collections if each.get_gid() == "pairs").get_segments()) == 2
    assert plot_shapley(np.arange(9.0)) is not other
    with pytest.raises(ValueError, match="3×3 grid has 9 Shapley values, got 10"):
        plot_shapley(np.arange(10.0), other)


def test_what_does_not_fit_is_refused(tmp_path: Path):
    def draw(image=IMAGE, side=4, pairs=((0, 1),), values=(1.0,), **others):
        draw_pair_map(image, side, pairs, values, tmp_path / "map.png", **others)

    with pytest.raises(ValueError, match=r"must be H×W×3, got 64×64$"):
        draw(IMAGE[..., 0])
    with pytest.raises(ValueError, match="undo the normalisation"):
        draw(IMAGE / 255 * 4 - 2)
    with pytest.raises(ValueError, match="undo the normalisation"):
        draw(np.full((4, 4, 3), np.nan))
    with pytest.raises(ValueError, match="4×4 grid are numbered 0 to 15, got 0 to 16"):
        draw(pairs=[[0, 16]])
    with pytest.raises(ValueError, match="got 1×2, 2, 2"):
        draw(values=[1.0, 2.0])
    with pytest.raises(ValueError, match="got 1×2, 1, 3"):
        draw(standard_errors=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="16 Shapley values, got 9"):
        draw(shapley_N=np.zeros(9))
    with pytest.raises(ValueError, match="1 or more, got 0"):
        draw(top=0)
    assert not list(tmp_path.iterdir())
