"""Figures A3 and A4."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from figures import fig_a3, fig_a4
from figures.runs import open_runs
from figures.style import SHADE, look
from tests.figures.made_up import block_tables, record, write_run
from tests.figures.readable import assert_readable
from tests.figures.test_curves import caption, seen
from tests.figures.test_interactions import band, curve


def spectra(folder: Path, levels=(1.0, 2.0), attention=(True, False)) -> list[Path]:
    found = []
    for k, (level, kind) in enumerate(zip(levels, attention, strict=True)):
        spectrum, variance = block_tables(level, kind)
        tables = {"spectrum.csv": spectrum, "variance.csv": variance}
        found.append(write_run(folder / f"run{k}", tables, record("spectrum")))
    return found


def edges(band_) -> np.ndarray:
    """Lower and upper edge of a band at every x."""
    corners = pd.DataFrame(band_.get_paths()[0].vertices, columns=["x", "y"])
    return corners.groupby("x")["y"].agg(["min", "max"]).to_numpy()


def shades(axes) -> list[tuple[float, float]]:
    found = [patch for patch in axes.patches if patch.get_facecolor()[:3] == pytest.approx(to_rgb(SHADE), abs=0.01)]
    return [tuple(patch.get_extents().transformed(axes.transData.inverted()).intervalx) for patch in found]


def test_variance_by_depth_with_attention_shaded(tmp_path: Path):
    drawn = fig_a4.draw(open_runs(spectra(tmp_path), ["a", "b"], ["ViT", "CNN"]))
    for k, axes in enumerate(seen(drawn.figure)[:2]):
        table = block_tables(k + 1.0)[1]
        np.testing.assert_allclose(curve(axes, look(0).colour)[1], table["variance"])
        np.testing.assert_allclose(curve(axes, look(0).colour)[0], table["depth"])
        np.testing.assert_allclose(band(axes, look(0).colour), table[["low", "high"]])
    drawn.figure.draw_without_rendering()
    vit, cnn = seen(drawn.figure)[:2]
    assert np.array(shades(vit)) == pytest.approx(np.array([(1, 3), (5, 7), (9, 11)]) / 12)
    assert not shades(cnn) and vit.get_yscale() == "log"
    assert "40 images" in caption(drawn.figure) and "Shaded: attention blocks." in caption(drawn.figure)


def test_networks_with_other_blocks_have_no_shade_and_a_small_range_a_plain_axis(tmp_path: Path):
    folders = spectra(tmp_path)
    table = block_tables()[1].assign(variance=2.0, low=1.9, high=2.1)
    for folder in folders:
        table.assign(kind="attention" if folder == folders[0] else "conv").to_csv(folder / "variance.csv", index=False)
    drawn = fig_a4.draw(open_runs(folders))
    axes = seen(drawn.figure)[0]
    assert "Shaded" not in caption(drawn.figure)
    assert not axes.patches and axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0


def test_amplitude_at_the_highest_frequency_by_depth_and_whole_curves_below(tmp_path: Path):
    drawn = fig_a3.draw(open_runs(spectra(tmp_path), ["a", "b"], ["ViT", "CNN"]))
    above, below = seen(drawn.figure)[:2], [axes for axes in seen(drawn.figure) if len(axes.lines) == 7]
    for k in range(2):
        table = block_tables(k + 1.0)[0]
        last = table[table["frequency"] == 1]
        np.testing.assert_allclose(curve(above[k], look(0).colour)[1], last["log_amplitude"])
        np.testing.assert_allclose(band(above[k], look(0).colour), last[["low", "high"]])
        for block, line in enumerate(below[k].lines):
            rows = table[table["block"] == block]
            np.testing.assert_allclose(line.get_data(), rows[["frequency", "log_amplitude"]].T)
            assert line.get_color() == fig_a3.DEPTHS(block / 6)
        first, end = (edges(each) for each in below[k].collections)  # of the first and the last block alone
        for block, band_ in ((0, first), (6, end)):
            np.testing.assert_allclose(band_, table.loc[table["block"] == block, ["low", "high"]])
    assert [axes.get_title("left") for axes in below] == ["ViT\na", "CNN\nb"]
    assert_readable(drawn.figure)


def test_many_methods_stay_on_a_page_and_one_in_several_panels_is_shown_once(tmp_path: Path):
    runs = open_runs(
        spectra(tmp_path, [1.0 + k / 9 for k in range(19)], [True] * 19), panels=list("aaaaabbbbbcccccdddd")
    )
    shared = [replace(runs[0], panel=panel) for panel in "bcd"]
    figure = fig_a3.draw([*runs, *shared], grey=["run0"]).figure
    assert len([axes for axes in seen(figure) if len(axes.lines) == 7]) == 19
    assert_readable(figure)


def test_bands_of_blocks_are_told_where_they_are_drawn(tmp_path: Path):
    folders = spectra(tmp_path, (1.0, 2.0, 3.0), (True,) * 3)
    one, mixed, several = (
        caption(fig_a3.draw(open_runs(folders[: len(names)], list(names))).figure) for names in ("a", "aab", "aa")
    )
    assert "Below: a curve for each block, bands of the first and the last." in one
    assert "Below: a curve for each block, bands of the first and the last of one seed; of several seeds the" in mixed
    assert "Below: a curve for each block; of several seeds the mean." in several
    block_tables(1.0)[0].assign(low=np.nan, high=np.nan).to_csv(folders[0] / "spectrum.csv", index=False)
    assert "Below: a curve for each block." in caption(fig_a3.draw(open_runs(folders[:1])).figure)


def test_seeds_are_points_and_their_mean_is_the_curve(tmp_path: Path):
    folders = spectra(tmp_path, (1.0, 3.0), (True, True))
    drawn = fig_a3.draw(open_runs(folders, ["a", "a"]))
    above, below = seen(drawn.figure)[0], next(axes for axes in seen(drawn.figure) if len(axes.lines) == 7)
    table = block_tables(2.0)[0]
    last = table[table["frequency"] == 1]
    np.testing.assert_allclose(curve(above, look(0).colour)[1], last["log_amplitude"])
    np.testing.assert_allclose(below.lines[2].get_ydata(), table.loc[table["block"] == 2, "log_amplitude"])
    assert not below.collections and "2 training seeds" in caption(drawn.figure)


def test_a_block_of_one_position_has_no_high_frequency():
    table = block_tables()[0]
    single = table[(table["block"] != 3) | (table["frequency"] == 0)]
    assert fig_a3.last_entries(single)["block"].tolist() == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize("figure", [fig_a3, fig_a4])
def test_other_images_are_said(figure, tmp_path: Path):
    """Only their number was looked at."""
    folders = spectra(tmp_path)
    about = record("spectrum")
    about["images"] = [{"image": k, "name": f"{k}.png"} for k in range(30, 80)]
    (folders[1] / "run.json").write_text(json.dumps(about))
    note = figure.draw(open_runs(folders, ["a", "b"])).note
    assert note == "These runs differ in images (50 in a; 50 in b; 20 in all)."


def test_what_cannot_be_drawn_is_refused(tmp_path: Path):
    folders = spectra(tmp_path)
    (folders[1] / "variance.csv").unlink()
    with pytest.raises(ValueError, match=r"run1 lacks variance.csv \(of `a2mim spectrum`\)"):
        fig_a4.draw(open_runs(folders))
    block_tables()[0].drop(columns="frequency").to_csv(folders[1] / "spectrum.csv", index=False)
    with pytest.raises(ValueError, match=r"spectrum.csv of run1 .* lacks the column frequency"):
        fig_a3.draw(open_runs(folders))
    block_tables()[0].query("block < 6").to_csv(folders[1] / "spectrum.csv", index=False)
    with pytest.raises(ValueError, match="the runs of a were not measured at the same points"):
        fig_a3.draw(open_runs(folders, ["a", "a"]))
    many = spectra(tmp_path / "many", [1.0] * 12, [True] * 12)
    with pytest.raises(ValueError, match="cm tall, and a page holds 23"):
        fig_a3.draw(open_runs(many, panels=list("abcdefghijkl")))


def test_blocks_without_intervals_are_said_to_have_none(tmp_path: Path):
    folders = spectra(tmp_path)
    for folder, level in zip(folders, (1.0, 2.0), strict=True):
        for name, table in zip(("spectrum.csv", "variance.csv"), block_tables(level), strict=True):
            table.assign(low=np.nan, high=np.nan, images=4).to_csv(folder / name, index=False)
    for draw in (fig_a3.draw, fig_a4.draw):
        words = caption(draw(open_runs(folders)).figure)
        assert "No intervals: fewer than eight images." in words and "95 %" not in words


def test_maps_of_one_position_have_no_spectrum_to_draw(tmp_path: Path):
    folders = spectra(tmp_path)
    for folder in folders:
        block_tables()[0].query("frequency == 0").to_csv(folder / "spectrum.csv", index=False)
    with pytest.raises(ValueError, match="no map has more than one position"):
        fig_a3.draw(open_runs(folders))
