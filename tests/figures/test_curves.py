from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from figures.curves import MEASURES, draw_strength, plot_strength
from figures.style import grey_look, look
from tests.figures.made_up import NOTE, strength_table, texts
from tests.figures.readable import assert_readable


def points(axes, colour: str, hollow: bool) -> np.ndarray:
    """y of the markers of one colour."""
    lines = [line for line in axes.lines if line.get_marker() not in ("None", None) and line.get_color() == colour]
    wanted = [line for line in lines if (line.get_markerfacecolor() == "white") == hollow]
    return np.concatenate([line.get_ydata() for line in wanted]) if wanted else np.array([])


def bands(axes) -> dict[str, np.ndarray]:
    """Of each colour, the lower and upper edge of its band at every x, one row for each."""
    found = {}
    for each in axes.collections:
        if (each.get_gid() or "").startswith("band"):
            corners = pd.DataFrame(np.concatenate([path.vertices for path in each.get_paths()]), columns=["x", "y"])
            edges = corners.groupby("x")["y"].agg(["min", "max"]).to_numpy()
            found[to_hex(each.get_facecolor()[0]).upper()] = edges
    return found


def seen(figure: Figure) -> list[Any]:
    """The axes; their artists have more methods than their types say."""
    return list(figure.axes)


def caption(figure: Figure) -> str:
    return " ".join(figure.texts[-1].get_text().split())


@pytest.mark.rendered
def test_strength_shows_all_measures_with_their_intervals_the_raw_one_faintly(tmp_path: Path):
    table = strength_table()
    figure = draw_strength(table, tmp_path / "s.png", "A model", "Made up.", unit="log-odds")
    above, below = figure.axes[:2]
    looks = (look(0), look(1), grey_look(2))
    for axes, measures in ((above, ("J_rms", "J_corrected", "J")), (below, ("rms", "A_corrected", "A"))):
        shown = bands(axes)
        for each, measure in zip(looks, measures, strict=True):
            np.testing.assert_allclose(points(axes, each.colour, hollow=False), table[measure])
            np.testing.assert_allclose(shown[each.colour.upper()], table[[f"{measure}_low", f"{measure}_high"]])
        order = [line.get_color() for line in axes.lines if (line.get_gid() or "").startswith("mean")]
        assert order == [each.colour for each in reversed(looks)]  # what noise lifts lies behind
    assert above.get_ylim()[0] == 0
    assert "log-odds" in below.get_ylabel()
    assert {"A model", "raw, as published", "noise-corrected", "rms"} <= set(texts(figure))
    assert "Made up." in caption(figure) and "50 images" in caption(figure)
    assert_readable(figure)
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
    assert [label.get_text() for label in labels] == [str(m) for m in (0, 38, 77, 116, 155, 194)]
    boxes = [label.get_window_extent() for label in labels]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_a_missing_rms_is_left_out_and_said(tmp_path: Path):
    table = strength_table(missing_rms=(4, 5))
    figure = draw_strength(table, tmp_path / "s.png")
    for axes, measure in zip(figure.axes[:2], ("J_rms", "rms"), strict=True):
        np.testing.assert_allclose(points(axes, look(0).colour, hollow=False), table[measure].dropna())
    assert f"Left out: J_rms and rms at order 58, 77 ({NOTE})." in caption(figure)
    assert "Left out" not in caption(draw_strength(strength_table(), tmp_path / "s.png"))


@pytest.mark.filterwarnings("error")
def test_a_run_without_any_rms_is_drawn(tmp_path: Path):
    table = strength_table()
    table[[f"{name}{end}" for name in ("rms", "J_rms") for end in ("", "_low", "_high")]] = np.nan
    table["rms_note"] = np.nan
    figure = draw_strength(table, tmp_path / "s.png")
    assert "174, 184, 194 (no reason given)" in caption(figure)
    assert points(figure.axes[1], look(1).colour, hollow=False).size == len(table)


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


def test_one_measure_goes_into_axes_of_ones_own(tmp_path: Path):
    table = strength_table()
    table.to_csv(tmp_path / "strength.csv", index=False)
    mine = Figure().subplots()
    assert plot_strength(tmp_path / "strength.csv", mine, "J", look(3), "mine") is mine
    np.testing.assert_allclose(bands(mine)[look(3).colour.upper()], table[["J_low", "J_high"]])
    assert mine.get_legend_handles_labels()[1] == ["mine"]
    new: Any = plot_strength(table)
    assert new is not mine and points(new, look(0).colour, hollow=False).size == 13
    with pytest.raises(ValueError, match="no measure 'K': choose one of J, J_corrected"):
        plot_strength(table, mine, "K")


@pytest.mark.parametrize("column", ["order", "ratio", "near_floor", "images", "J_rms_low"])
def test_a_missing_column_is_named_with_its_run(tmp_path: Path, column: str):
    broken = strength_table().drop(columns=column)
    with pytest.raises(ValueError, match=f"the strength table lacks the column {column}:"):
        draw_strength(broken, tmp_path / "s.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
def test_a_run_without_interactions_has_empty_panels_and_no_intervals(tmp_path: Path):
    table = strength_table()
    table[[column for column in table if str(column).removesuffix("_low").removesuffix("_high") in MEASURES]] = np.nan
    figure = draw_strength(table, tmp_path / "s.png")
    assert not any(points(axes, look(0).colour, hollow=False).size for axes in figure.axes[:2])
    assert "No intervals." in caption(figure) and "Bands" not in caption(figure)


def test_images_are_counted_where_there_is_an_interval(tmp_path: Path):
    table = strength_table().assign(images=4)
    ends = [column for column in table if str(column).endswith(("_low", "_high"))]
    few = table.assign(**dict.fromkeys(ends, np.nan))
    assert "No intervals: fewer than eight images." in caption(draw_strength(few, tmp_path / "s.png"))
    few.loc[3:, ends], few.loc[3:, "images"] = table.loc[3:, ends], 50
    assert "Bands: 95 % bootstrap intervals over 50 images." in caption(draw_strength(few, tmp_path / "s.png"))


def test_bands_without_an_end_stretch_no_axis(tmp_path: Path):
    """They ended the command, when all was measured, with a sentence of matplotlib's; or the axis at 10^147."""
    table = strength_table()
    table.loc[2, ["rms_high", "A_high"]] = np.inf
    table.loc[3, "rms_high"] = 1e30 * table.rms[3]
    table.loc[1, "J_corrected_low"] = -np.inf
    figure = draw_strength(table, tmp_path / "s.png")
    above, below = seen(figure)[:2]
    assert below.get_ylim()[1] < 100 * table[["rms", "A", "A_corrected"]].max(axis=None)
    assert 0 >= above.get_ylim()[0] > -10 * table.J.max() and above.get_ylim()[1] < 10 * table.J_rms.max()
    assert "Some bands go on above the axis." in caption(figure)
    assert "Some bands" not in caption(draw_strength(strength_table(), tmp_path / "t.png"))
