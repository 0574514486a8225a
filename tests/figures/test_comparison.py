from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figures.comparison import draw_comparison
from figures.curves import MEASURES
from figures.style import look
from tests.figures.made_up import NOTE, strength_table, texts
from tests.figures.readable import assert_readable
from tests.figures.test_curves import bands, caption, points, seen


def middle_masses(runs) -> pd.DataFrame:
    rows = []
    for k, run in enumerate(runs):
        rows += [(run, "J_rms", 0.8 + k / 10, 0.75 + k / 10, 0.86 + k / 10), (run, "J", 5.0, 4.0, 6.0)]
    return pd.DataFrame(rows, columns=["run", "measure", "M", "M_low", "M_high"])


def paired(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["run_a", "run_b", "measure", "difference", "low", "high"])


def rows_of(axes, gid: str) -> np.ndarray:
    """Number of the row, by its name's place, and what is drawn in it: every value, or the ends of every interval."""
    places = list(axes.figure.axes[1].get_yticks())
    if gid == "value":
        points = [line.get_xydata()[0] for line in axes.lines if line.get_gid() == gid]
        return np.array([(places.index(y), x) for x, y in points])
    found = [each.get_segments()[0] for each in axes.collections if each.get_gid() == gid]
    return np.array([(places.index(segment[0, 1]), *segment[:, 0]) for segment in found])


@pytest.mark.rendered
@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_a_comparison_names_every_run_inside_the_page(tmp_path: Path, count: int):
    name = "vit_small_patch16_224.augreg_in1k, from $scratch_{}, a name that takes several lines"
    runs = {name.format(k) if k % 3 == 0 else f"run_{k}": strength_table(k) for k in range(count)}
    figure = draw_comparison(runs, tmp_path / "c.svg", masses=middle_masses(runs), note="Differ: baseline mean, blur.")
    curves, masses = seen(figure)
    for k, table in enumerate(list(runs.values())[:5]):
        np.testing.assert_allclose(points(curves, look(k).colour, hollow=False), table["J_rms"])
        np.testing.assert_allclose(bands(curves)[look(k).colour.upper()], table[["J_rms_low", "J_rms_high"]])
    means = [line for line in curves.lines if line.get_gid() == "mean of J_rms"]
    assert len(means) == count and curves.get_ylim()[0] == 0
    np.testing.assert_allclose(rows_of(masses, "interval"), [(k, 0.75 + k / 10, 0.86 + k / 10) for k in range(count)])
    svg = "".join((tmp_path / "c.svg").read_text().split())
    assert "Differ:baselinemean,blur." in svg and all(f"run_{k}<" in svg for k in range(count) if k % 3)
    shown = "".join("".join(texts(figure)).split())
    assert all("".join(run.split()) in shown for run in runs) and "0.80" in shown
    assert_readable(figure)
    boxes = [text.get_window_extent() for text in masses.get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))


def test_more_runs_than_colours_are_grey_behind_the_others(tmp_path: Path):
    curves = seen(draw_comparison({f"{k}": strength_table(k) for k in range(7)}, tmp_path / "c.png"))[0]
    colours = [line.get_color() for line in curves.lines if line.get_gid() == "mean of J_rms"]
    assert colours[2:] == [look(k).colour for k in range(5)] and not set(colours[:2]) & set(colours[2:])


@pytest.mark.rendered
def test_the_paired_difference_of_every_run_to_the_first_is_drawn(tmp_path: Path):
    runs = {name: strength_table(k) for k, name in enumerate("abcd")}
    table = paired(
        ("b", "a", "J_rms", 0.2, 0.1, 0.35),
        ("a", "c", "J_rms", 0.3, 0.25, 0.4),  # of the first less the other: turned round
        ("b", "c", "J_rms", 9.0, 8.0, 10.0),
        ("b", "a", "J", 5.0, 4.0, 6.0),
    )
    figure = draw_comparison(runs, tmp_path / "c.png", masses=middle_masses(runs), differences=table)
    axes = seen(figure)[2]
    np.testing.assert_allclose(rows_of(axes, "value"), [(1, 0.2), (2, -0.3)])
    np.testing.assert_allclose(rows_of(axes, "interval"), [(1, 0.1, 0.35), (2, -0.4, -0.25)])
    assert [text.get_text() for text in axes.texts] == ["compared with", "+0.20", "−0.30", "–"]
    assert all(text.get_bbox_patch() for text in axes.texts)  # a line that runs behind them leaves them readable
    assert axes.get_ylim() == seen(figure)[1].get_ylim() and "of each run less a." in caption(figure)
    assert_readable(figure)
    unpaired = draw_comparison(runs, tmp_path / "c.png", masses=middle_masses(runs), differences=table[2:3])
    assert len(seen(unpaired)) == 2 and "paired" not in caption(unpaired)


def test_the_caption_says_what_bars_are_and_of_how_many_images_differences_are(tmp_path: Path):
    runs = {name: strength_table(k) for k, name in enumerate("abc")}
    rows = ("b", "a", "J_rms", 0.2, 0.1, 0.35), ("a", "c", "J_rms", 0.3, 0.25, 0.4), ("b", "c", "J_rms", 9.0, 8.0, 10.0)
    table = paired(*rows).assign(images=[40, 24, 99])
    drawn = {"masses": middle_masses(runs), "differences": table}
    said = caption(draw_comparison(runs, tmp_path / "c.svg", **drawn))
    assert "Bars: 95 % intervals. Differences of M are paired over 24 to 40 images that both hold: of each run" in said
    bare = drawn["masses"].assign(M_low=np.nan, M_high=np.nan)
    assert "M has no intervals." in caption(draw_comparison(runs, tmp_path / "c.svg", masses=bare))
    assert "Bars" not in caption(draw_comparison(runs, tmp_path / "c.svg"))


@pytest.mark.rendered
@pytest.mark.parametrize(("low", "high"), [(-0.44, 0.13), (-0.24, 0.01), (0.42, 0.9), (-0.012, 0.031), (-1.4, 1.6)])
def test_ticks_of_a_narrow_panel_stand_apart(tmp_path: Path, low: float, high: float):
    runs = {name: strength_table(k) for k, name in enumerate(("ImageNet weights", "random weights"))}
    table = paired(("random weights", "ImageNet weights", "J_rms", (low + high) / 2, low, high))
    figure = draw_comparison(runs, tmp_path / "c.png", masses=middle_masses(runs), differences=table)
    assert_readable(figure)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_can_be_compared(tmp_path: Path, measure: str):
    runs = {"one": strength_table(1, missing_rms=(6,)), "two": strength_table(2)}
    figure = draw_comparison(runs, tmp_path / "c.png", measure, unit="log-odds")
    curves = figure.axes[0]
    assert MEASURES[measure].kind.split(",")[0] in curves.get_ylabel()
    assert ("log-odds" in curves.get_ylabel()) == (not measure.startswith("J"))
    lost = measure in ("rms", "J_rms")
    assert points(curves, look(0).colour, hollow=False).size == 13 - lost
    assert (f"Left out: {measure} of one at order 97 ({NOTE})." in caption(figure)) == lost
    assert (curves.get_ylim()[0] < 0) == (measure == "mean_square")


def test_runs_of_other_grids_share_the_ratio_but_no_axis_of_orders(tmp_path: Path):
    same = draw_comparison({"a": strength_table(n=196), "b": strength_table(1, n=196)}, tmp_path / "c.png")
    other = draw_comparison({"a": strength_table(n=196), "b": strength_table(n=49)}, tmp_path / "c.png")
    assert len(same.axes[0].child_axes) == 1 and not other.axes[0].child_axes


def test_the_middle_orders_are_shaded(tmp_path: Path):
    curves = draw_comparison({"a": strength_table()}, tmp_path / "c.png").axes[0]
    (shade,) = curves.patches
    assert shade.get_extents().transformed(curves.transData.inverted()).intervalx == pytest.approx([0.3, 0.7])


def test_columns_that_are_not_drawn_are_not_asked_for(tmp_path: Path):
    bare = strength_table()[["order", "ratio", "images", "near_floor", "J", "J_low", "J_high"]]
    draw_comparison({"bare": bare}, tmp_path / "c.png", "J")


def test_a_comparison_refuses_what_it_cannot_draw(tmp_path: Path):
    runs = {"a": strength_table(), "b": strength_table(1)}
    masses = middle_masses(runs)
    with pytest.raises(ValueError, match="no run to draw"):
        draw_comparison({}, tmp_path / "c.png")
    with pytest.raises(ValueError, match="no measure 'K': choose one of J, J_corrected"):
        draw_comparison(runs, tmp_path / "c.png", "K")
    with pytest.raises(ValueError, match="the strength table of b lacks the column order:"):
        draw_comparison({"a": strength_table(), "b": strength_table().drop(columns="order")}, tmp_path / "c.png")
    with pytest.raises(ValueError, match="no row of J_rms for b"):
        draw_comparison(runs, tmp_path / "c.png", masses=masses[masses["run"] == "a"])
    with pytest.raises(ValueError, match="several rows for one run"):
        draw_comparison(runs, tmp_path / "c.png", masses=masses.drop(columns="measure"))
    with pytest.raises(ValueError, match="middle masses lacks the column M_low"):
        draw_comparison(runs, tmp_path / "c.png", masses=masses.drop(columns="M_low"))
    with pytest.raises(ValueError, match="table of differences lacks the column high"):
        draw_comparison(runs, tmp_path / "c.png", differences=paired(("a", "b", "J", 1, 0, 2)).drop(columns="high"))
    with pytest.raises(ValueError, match=r"end its name in \.png"):
        draw_comparison(runs, tmp_path / "c.jpg")
    many = {f"{k}": strength_table(k) for k in range(40)}
    with pytest.raises(ValueError, match="cm tall, and a page holds 23: draw fewer runs"):
        draw_comparison(many, tmp_path / "c.png", masses=middle_masses(many))
    assert not list(tmp_path.iterdir())


def test_a_missing_middle_mass_is_a_dash(tmp_path: Path):
    masses = pd.DataFrame({"run": ["a"], "M": [np.nan], "M_low": [np.nan], "M_high": [np.nan]})
    figure = draw_comparison({"a": strength_table()}, tmp_path / "c.png", masses=masses)
    assert [text.get_text() for text in seen(figure)[1].texts] == ["–"]


def test_runs_without_any_interaction_have_an_empty_panel(tmp_path: Path):
    empty = strength_table().assign(J_rms=np.nan, J_rms_low=np.nan, J_rms_high=np.nan)
    figure = draw_comparison({"a": empty, "b": empty}, tmp_path / "c.png")
    assert not figure.axes[0].texts and "No intervals." in caption(figure)
