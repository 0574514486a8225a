import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from figures.style import (
    COLOURS,
    check_suffix,
    grey_look,
    house_style,
    look,
    looks,
    page,
    save,
    text_width,
    wrap,
)

LONG = "A caption of many words that needs several lines, with $one unmatched dollar and some_under_scores. " * 4
pytestmark = pytest.mark.rendered


def drawn(title: str = "Title"):
    with house_style():
        figure = page(2, title, "A note", LONG)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        axes.set_xlabel("x")
    return figure


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")]
)
def test_the_suffix_decides_the_kind_and_the_bytes_are_the_same_every_time(tmp_path: Path, suffix: str, start: bytes):
    first, second = save(drawn(), tmp_path / f"a.{suffix}"), save(drawn(), tmp_path / "new folder" / f"b.{suffix}")
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()
    assert save(drawn("Another"), tmp_path / f"c.{suffix}").read_bytes() != first.read_bytes()


def test_the_last_digits_of_the_layout_which_vary_from_run_to_run_are_rounded_off(tmp_path: Path):
    figure = drawn()
    save(figure, tmp_path / "a.svg")
    corners = figure.axes[0].get_position(original=True).get_points()
    np.testing.assert_array_equal(corners, corners.round(5))
    assert not np.array_equal(corners, corners.round(4))


def test_a_png_is_a_column_wide_at_300_dots_an_inch(tmp_path: Path):
    with Image.open(save(drawn(), tmp_path / "a.png")) as image:
        assert image.width == int(8.5 / 2.54 * 300)


def test_a_figure_taller_than_a_page_is_refused():
    with pytest.raises(ValueError, match="would be 26 cm tall, and a page holds 23: draw fewer runs or panels"):
        page(10.0, "", "", "A caption.")


@pytest.mark.parametrize("name", ["curve.jpg", "curve", "png"])
def test_another_suffix_is_refused_and_nothing_written(tmp_path: Path, name: str):
    for refuse in (check_suffix, lambda path: save(drawn(), path)):
        with pytest.raises(ValueError, match=r"end its name in \.png, \.pdf or \.svg"):
            refuse(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("culprit", ["draw", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch, culprit: str):
    path = tmp_path / "curve.svg"
    path.write_text("old")

    def fail(*args, **kwargs):
        if culprit == "draw":
            args[0].write(b"<svg half")
        raise OSError("disk full")

    figure = drawn()
    monkeypatch.setattr(*((figure, "savefig") if culprit == "draw" else (os, "replace")), fail)
    with pytest.raises(OSError, match="disk full"):
        save(figure, path)
    assert [file.name for file in tmp_path.iterdir()] == ["curve.svg"]
    assert path.read_text() == "old"


def test_drawing_leaves_the_settings_of_the_caller_alone_and_does_not_depend_on_them(tmp_path: Path):
    plain = save(drawn(), tmp_path / "plain.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "savefig.dpi": 31, "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        assert save(drawn(), tmp_path / "other.png").read_bytes() == plain
        assert dict(matplotlib.rcParams) == before


def test_words_stay_on_the_page_and_clear_of_the_panels():
    figure = drawn("A title that is rather longer than one line at this width, and so takes two")
    figure.draw_without_rendering()
    title, note, caption = (text.get_window_extent() for text in figure.texts)
    panel = figure.axes[0].get_tightbbox()
    edges = [figure.bbox.y1, title.y1, title.y0, panel.y1, panel.y0, note.y1, note.y0, caption.y1, caption.y0, 0]
    assert edges == sorted(edges, reverse=True)
    for box in (title, note, caption, panel):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_wrapping_keeps_every_letter_within_the_width():
    lines = wrap(f"{LONG}\nnew {'x' * 200} end", 2.0, 7)
    assert max(text_width(line, 7) for line in lines) <= 2.0
    assert "".join(lines).replace(" ", "") == f"{LONG}new{'x' * 200}end".replace(" ", "")
    assert any(line.startswith("new") for line in lines)
    assert wrap("", 2.0, 7) == []


def test_five_curves_differ_in_colour_and_in_grey_and_all_show_on_white():
    five = [look(k) for k in range(5)]
    for parts in ({each.colour for each in five}, {each.marker for each in five}, {str(each.line) for each in five}):
        assert len(parts) == 5
    luminance = np.array([to_rgb(colour) for colour in COLOURS]) @ (0.2126, 0.7152, 0.0722)
    assert luminance.max() < 0.75
    for k in range(5):
        red, green, blue = to_rgb(grey_look(k).colour)
        assert red == green == blue < 0.75 and grey_look(k).context


def test_a_name_has_one_look_and_no_panel_has_a_colour_twice():
    panels = [["x", "a", "b", "c"], ["x", "d", "b"], ["e", "c", "d"]]
    found = looks(panels, grey=["x"])
    assert found["x"].context and [found[name] for name in "abcde"] == [look(k) for k in (0, 1, 2, 0, 1)]
    for names in panels:
        assert len({found[name].colour for name in names}) == len(names)


def test_at_most_five_of_a_panel_are_coloured_and_the_first_are():
    found = looks([[str(k) for k in range(8)]])
    assert [each.context for each in found.values()] == [False] * 5 + [True] * 3
