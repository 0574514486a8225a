from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from figures.curves import MEASURES, draw_comparison, draw_strength
from figures.style import look
from tests.figures.made_up import NOTE, strength_table, texts


def points(axes, colour: str, hollow: bool) -> np.ndarray:
    """y of the markers of one colour."""
    lines = [line for line in axes.lines if line.get_marker() not in ("None", None) and line.get_color() == colour]
    wanted = [line for line in lines if (line.get_markerfacecolor() == "white") == hollow]
    return np.concatenate([line.get_ydata() for line in wanted]) if wanted else np.array([])


def intervals(axes) -> dict[str, np.ndarray]:
    """Lower and upper ends of the bars of each colour, one row for each bar."""
    bars = [bars for bars in axes.collections if (bars.get_gid() or "").startswith("interval")]
    return {to_hex(each.get_color()[0]).upper(): np.array(each.get_segments())[:, :, 1] for each in bars}


def seen(figure: Figure) -> list[Any]:
    """The axes; their artists have more methods than their types say."""
    return list(figure.axes)


def caption(figure: Figure) -> str:
    return " ".join(figure.texts[-1].get_text().split())


def middle_masses(runs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = []
    for k, run in enumerate(runs):
        rows += [(run, "J_rms", 0.8 + k / 10, 0.75 + k / 10, 0.86 + k / 10), (run, "J", 5.0, 4.0, 6.0)]
    return pd.DataFrame(rows, columns=["run", "measure", "M", "M_low", "M_high"])


@pytest.mark.rendered
def test_strength_shows_all_measures_with_their_intervals(tmp_path: Path):
    table = strength_table()
    figure = draw_strength(table, tmp_path / "s.png", "A model", "Made up.", unit="log-odds")
    left, right = figure.axes[:2]
    for axes, measures in ((left, ("J", "J_corrected", "J_rms")), (right, ("A", "A_corrected", "rms"))):
        bars = intervals(axes)
        for k, measure in enumerate(measures):
            np.testing.assert_allclose(points(axes, look(k).colour, hollow=False), table[measure])
            np.testing.assert_allclose(bars[look(k).colour], table[[f"{measure}_low", f"{measure}_high"]])
    assert left.get_ylim()[0] == 0
    assert "log-odds" in right.get_ylabel()
    assert {"A model", "raw, as published", "noise-corrected", "rms"} <= set(texts(figure))
    assert "Made up." in caption(figure) and "50 images" in caption(figure)
    assert (tmp_path / "s.png").stat().st_size > 10_000
    assert [file.name for file in tmp_path.iterdir()] == ["s.png"]


def test_strength_from_a_file_is_the_same_figure(tmp_path: Path):
    table = strength_table(missing_rms=(4, 5))
    table.to_csv(tmp_path / "strength.csv", index=False)
    draw_strength(table, tmp_path / "a.svg")
    draw_strength(tmp_path / "strength.csv", tmp_path / "b.svg")
    draw_strength(table.sample(frac=1, random_state=0), tmp_path / "c.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes() == (tmp_path / "c.svg").read_bytes()


@pytest.mark.rendered
def test_orders_stand_on_the_upper_axis_without_touching(tmp_path: Path):
    figure = draw_strength(strength_table(), tmp_path / "s.png")
    figure.draw_without_rendering()
    (above,) = figure.axes[0].child_axes
    labels = [label for label in above.get_xticklabels() if label.get_text()]
    assert [label.get_text() for label in labels] == [str(m) for m in (0, 19, 38, 58, 77, 97, 116, 135, 155, 174, 194)]
    boxes = [label.get_window_extent() for label in labels]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_a_missing_rms_is_left_out_and_said(tmp_path: Path):
    table = strength_table(missing_rms=(4, 5))
    figure = draw_strength(table, tmp_path / "s.png")
    for axes, measure in zip(figure.axes[:2], ("J_rms", "rms"), strict=True):
        np.testing.assert_allclose(points(axes, look(2).colour, hollow=False), table[measure].dropna())
    assert f"Left out: J_rms and rms at order 58, 77 ({NOTE})." in caption(figure)
    assert "Left out" not in caption(draw_strength(strength_table(), tmp_path / "s.png"))


@pytest.mark.filterwarnings("error")
def test_a_run_without_any_rms_is_drawn(tmp_path: Path):
    table = strength_table()
    table[[f"{name}{end}" for name in ("rms", "J_rms") for end in ("", "_low", "_high")]] = np.nan
    table["rms_note"] = np.nan
    figure = draw_strength(table, tmp_path / "s.png")
    assert "174, 184, 194 (no reason given)" in caption(figure)
    assert points(figure.axes[1], look(0).colour, hollow=False).size == len(table)


def test_the_floor_is_a_line_and_orders_near_it_are_hollow(tmp_path: Path):
    table = strength_table(floor=0.01)
    near = table["near_floor"]
    assert near.any() and not near.all()
    figure = draw_strength(table, tmp_path / "s.png")
    right = figure.axes[1]
    np.testing.assert_allclose(points(right, look(1).colour, hollow=True), table["A_corrected"][near])
    np.testing.assert_allclose(points(right, look(1).colour, hollow=False), table["A_corrected"][~near])
    assert "numerical floor" in texts(figure) and "Hollow" in caption(figure)
    assert right.get_ylim()[0] < 0.01
    far = draw_strength(strength_table(floor=1e-7), tmp_path / "s.png")
    assert "1e-07 or less, lies below the axis" in caption(far) and "numerical floor" not in texts(far)
    for absent in (strength_table().drop(columns="floor"), strength_table(floor=np.nan)):
        assert "floor" not in caption(draw_strength(absent, tmp_path / "s.png"))


def test_a_strength_that_is_not_positive_has_no_place_on_the_logarithmic_axis(tmp_path: Path):
    table = strength_table()
    table.loc[6, ["A_corrected", "A_corrected_low"]] = -0.01
    table.loc[6, ["J_corrected", "J_corrected_low"]] = -0.1
    figure = draw_strength(table, tmp_path / "s.png")
    assert "Left out: A_corrected at order 97 (not positive)." in caption(figure)
    assert figure.axes[0].get_ylim()[0] < -0.1 and figure.axes[1].get_ylim()[0] > 0


@pytest.mark.rendered
@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_a_comparison_names_every_run_inside_the_page(tmp_path: Path, count: int):
    name = "vit_small_patch16_224.augreg_in1k, from $scratch_{}, a name that takes several lines"
    runs = {name.format(k) if k % 3 == 0 else f"run_{k}": strength_table(k) for k in range(count)}
    figure = draw_comparison(runs, tmp_path / "c.svg", masses=middle_masses(runs), note="Differ: baseline mean, blur.")
    curves, masses, names = seen(figure)
    for k, table in enumerate(runs.values()):
        mine = points(curves, look(k).colour, hollow=False).reshape(-1, len(table))
        assert any(np.allclose(row, table["J_rms"]) for row in mine)
    assert len(intervals(curves)) == min(count, 7) and curves.get_ylim()[0] == 0
    np.testing.assert_allclose(masses.collections[0].get_segments()[0][:, 0], [0.75, 0.86])
    svg = "".join((tmp_path / "c.svg").read_text().split())
    assert "Differ:baselinemean,blur." in svg and all(f"run_{k}<" in svg for k in range(count) if k % 3)
    shown = "".join("".join(texts(figure)).split())
    assert all("".join(run.split()) in shown for run in runs) and "M=0.800[0.750,0.860]" in shown
    for axes in (curves, masses, names):
        box = axes.get_tightbbox()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    rows = [text.get_window_extent() for text in names.texts]
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(rows))
    assert all(not box.overlaps(curves.get_window_extent()) for box in rows)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_can_be_compared(tmp_path: Path, measure: str):
    runs = {"one": strength_table(1, missing_rms=(6,)), "two": strength_table(2)}
    figure = draw_comparison(runs, tmp_path / "c.png", measure, unit="log-odds")
    curves = figure.axes[0]
    assert MEASURES[measure].kind in curves.get_ylabel()
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


@pytest.mark.parametrize("column", ["order", "ratio", "near_floor", "images", "J_rms_low"])
def test_a_missing_column_is_named_with_its_run(tmp_path: Path, column: str):
    broken = strength_table().drop(columns=column)
    with pytest.raises(ValueError, match=f"the strength table lacks the column {column}:"):
        draw_strength(broken, tmp_path / "s.png")
    with pytest.raises(ValueError, match=f"the strength table of bad lacks the column {column}:"):
        draw_comparison({"good": strength_table(), "bad": broken}, tmp_path / "c.png")
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(ValueError, match="no row of J_rms for b"):
        draw_comparison(runs, tmp_path / "c.png", masses=masses[masses["run"] == "a"])
    with pytest.raises(ValueError, match="several rows for one run"):
        draw_comparison(runs, tmp_path / "c.png", masses=masses.drop(columns="measure"))
    with pytest.raises(ValueError, match="middle masses lacks the column M_low"):
        draw_comparison(runs, tmp_path / "c.png", masses=masses.drop(columns="M_low"))
    with pytest.raises(ValueError, match=r"end its name in \.png"):
        draw_comparison(runs, tmp_path / "c.jpg")
    assert not list(tmp_path.iterdir())


def test_a_missing_middle_mass_is_said(tmp_path: Path):
    masses = pd.DataFrame({"run": ["a"], "M": [np.nan], "M_low": [np.nan], "M_high": [np.nan]})
    figure = draw_comparison({"a": strength_table()}, tmp_path / "c.png", masses=masses)
    assert any("M is missing" in text for text in texts(figure))
