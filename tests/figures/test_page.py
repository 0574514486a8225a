"""The parts of a page: markup, numbers, charts, tables, pictures."""

import base64
import re
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from figures.page import pictures
from figures.page.blocks import Card, Chart, Charts, Curve, Fold, Gallery, Picture, Rows, Section
from figures.page.charts import colour_rules
from figures.page.document import draw_block, draw_page, write_page
from figures.page.markup import Html, join, tag, void
from figures.page.numbers import short, with_interval
from figures.page.tables import shown_columns
from figures.style import COLOURS, GREYS

EVIL = "<script>alert('&\"')</script>"
X, Y = [0.0, 0.2, 0.5, 1.0], [0.25, 4.0, 1.5, 2.5]
LOW, HIGH = [y - 0.2 for y in Y], [y + 0.3 for y in Y]


def parsed(html: str) -> ElementTree.Element:
    """The tree, where the markup is well-formed; img has no end tag."""
    return ElementTree.fromstring(re.sub(r"<(img[^>]*)>", r"<\1/>", html).replace("&nbsp;", " "))


def words(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def by_class(tree: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in tree.iter() if name in each.get("class", "").split()]


def chart(*curves: Curve, **more) -> ElementTree.Element:
    return parsed(draw_block(Charts([Chart("Strength", "order ratio", curves, "ratio", "J", **more)])))


def numbers_of_axis(tree: ElementTree.Element, anchor: str, place: str) -> tuple[list[float], list[float]]:
    """What the ticks say, and where they stand."""
    labels = [each for each in by_class(tree, anchor) if "label" not in each.get("class", "")]
    return [float((each.text or "").replace("−", "-")) for each in labels], [
        float(each.get(place, "")) for each in labels
    ]


def test_text_is_escaped_where_it_enters_a_tag():
    drawn = tag("p", EVIL, tag("b", "<i>"), title=EVIL, data_v=1, hidden=True, lang=None, open=False)
    tree = parsed(drawn.replace(" hidden", ' hidden=""'))
    assert tree.text == EVIL and tree.get("title") == EVIL and tree.get("data-v") == "1"
    assert words(tree[0]) == "<i>" and "lang" not in tree.attrib and "open" not in tree.attrib
    assert join("<", Html("<br>")) == "&lt;<br>"
    assert void("img", alt='"') == '<img alt="&quot;">'


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.91234, 0.88, 0.9412), ("0.912", "[0.880, 0.941]")),
        ((12.3456, 9.0, 15.0), ("12.3", "[9.0, 15.0]")),
        ((-0.5, -0.9, -0.1), ("−0.50", "[−0.90, −0.10]")),
        ((250.0, 100.0, 400.0), ("250", "[100, 400]")),
        ((0.00012, 0.0001, 0.00014), ("0.00012", "[0.0001, 0.00014]")),
        ((1.0, 1.0, 1.0), ("1.000", "[1.000, 1.000]")),
        ((0.5, float("nan"), float("nan")), ("0.5", "")),
        ((float("nan"), 0.1, 0.2), ("–", "")),
        ((0.5, 0.0, float("inf")), ("0.5", "[0, ∞)")),
        ((0.5, float("-inf"), 1.25), ("0.5", "(−∞, 1.25]")),
        ((0.5, float("-inf"), float("inf")), ("0.5", "(−∞, ∞)")),
    ],
)
def test_a_number_has_the_digits_that_its_interval_warrants(numbers, said):
    assert with_interval(*numbers) == said


def test_numbers_without_an_interval_are_short():
    assert [short(value) for value in (1234567.0, -3.0, 0.123456, float("inf"))] == ["1,234,567", "−3", "0.1235", "–"]


@pytest.mark.parametrize("from_zero", [True, False])
def test_points_lines_and_bars_stand_where_the_axes_say(from_zero):
    tree = chart(Curve("a", X, Y, LOW, HIGH), from_zero=from_zero)
    across = np.poly1d(np.polyfit(*numbers_of_axis(tree, "mid", "x")[::-1], 1))
    up = np.poly1d(np.polyfit(*numbers_of_axis(tree, "end", "y")[::-1], 1))
    below = 3.7  # by which the foot of a label stands under its tick
    places = np.array([[float(each.get("x", "")), float(each.get("y", ""))] for each in by_class(tree, "point")])
    np.testing.assert_allclose(across(places[:, 0]), X, atol=0.005)
    np.testing.assert_allclose(up(places[:, 1] + below), Y, atol=0.02)
    (line,) = by_class(tree, "line")
    np.testing.assert_allclose(np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", line.get("d", "")), float), places)
    (bars,) = by_class(tree, "bars")
    ends = np.array(re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", bars.get("d", "")), float)
    np.testing.assert_allclose(up(ends + below), np.transpose([LOW, HIGH]), atol=0.02)
    assert (0.0 in numbers_of_axis(tree, "end", "y")[0]) or not from_zero


def test_a_logarithmic_axis_is_logarithmic_and_leaves_out_what_is_not_positive():
    tree = chart(Curve("a", [0, 1, 2, 3], [0.001, 1.0, -1.0, 0.1], [-1] * 4, [2] * 4), logarithmic=True)
    ticks, places = numbers_of_axis(tree, "end", "y")
    up = np.poly1d(np.polyfit(places, np.log10(ticks), 1))
    points = [float(each.get("y", "")) + 3.7 for each in by_class(tree, "point")]
    np.testing.assert_allclose(up(points), [-3, 0, -1], atol=0.02)
    bottom = max(float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)V", by_class(tree, "bars")[0].get("d", "")))
    assert bottom <= 240 - 38 + 0.1  # an interval that reaches below 0 ends at the foot of the axis


def test_a_missing_point_breaks_the_line_and_hollow_points_are_hollow():
    tree = chart(Curve("a", [0, 1, 2, 3], [1, float("nan"), 2, 3], hollow=[True, False, False, True]))
    assert by_class(tree, "line")[0].get("d", "").count("M") == 2
    assert ["hollow" in each.get("class", "") for each in by_class(tree, "point")] == [True, False, True]


@pytest.mark.parametrize(("logarithmic", "bars"), [(False, 3), (True, 2)])
def test_the_interval_of_a_missing_point_is_drawn(logarithmic, bars):
    tree = chart(Curve("a", [0, 1, 2], [1, np.nan, np.nan], [0.5, 0.0, -2], [2, 3, -1]), logarithmic=logarithmic)
    assert len(by_class(tree, "point")) == 1
    assert by_class(tree, "bars")[0].get("d", "").count("M") == bars  # below 0 a logarithmic axis has no place


@pytest.mark.parametrize("logarithmic", [True, False])
def test_an_interval_without_an_end_reaches_the_end_of_the_axis(logarithmic):
    tree = chart(Curve("a", [0, 1], [1.0, 2.0], [0.5, 1.0], [3.0, np.inf]), logarithmic=logarithmic)
    assert by_class(tree, "bars")[0].get("d", "").endswith("V8.0")  # the top
    assert "J 2 [1, ∞)" in words(tree)


def test_a_drawn_interval_without_an_end_reaches_the_end_of_the_scale():
    table = pd.DataFrame({"run": ["a", "b"], "d": [0.2, 0.1], "low": [0.1, -np.inf], "high": [np.inf, 0.2]})
    drawings = by_class(parsed(draw_block(Rows("", table, plot="d", reference=0.0))), "interval")
    bars = [by_class(drawing, "bar")[0].get("d", "") for drawing in drawings]
    assert bars[0].endswith("H126.0") and bars[1].startswith("M4.0 ")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "curve",
    [Curve("a", [0.5], [2.0]), Curve("a", [], []), Curve("a", [0, 1], [float("nan")] * 2), Curve("a", [1], [0])],
)
@pytest.mark.parametrize("logarithmic", [True, False])
def test_one_point_or_none_is_a_chart_all_the_same(curve, logarithmic):
    assert len(by_class(chart(curve, logarithmic=logarithmic), "chart")) == 1


def test_a_point_says_run_place_value_interval_and_what_else_is_known():
    tree = chart(Curve("ViT <b>", X, Y, LOW, HIGH, notes=["order 0, 50 images", "", "", ""]))
    said = [words(each) for each in by_class(tree, "point")]
    assert said[0] == "ViT <b>: ratio 0, J 0.25 [0.05, 0.55]; order 0, 50 images"
    assert said[1] == "ViT <b>: ratio 0.2, J 4.00 [3.80, 4.30]"


def test_curves_of_one_name_look_the_same_in_every_chart_and_share_a_legend():
    one, two, three = (Curve(name, X, Y) for name in "abc")
    block = Charts([Chart("first", "x", [one, two]), Chart("second", "x", [three, two])])
    tree = parsed(draw_block(block))
    looks = [(each.get("data-k"), each.get("class"), each[-1].get("href")) for each in by_class(tree, "curve")]
    assert looks[1] == looks[3] and len(set(looks)) == 3
    (legend,) = by_class(tree, "legend")
    assert [words(entry) for entry in legend] == ["a", "b", "c"]
    assert [button.get("data-k") for button in legend.iter("button")] == ["0", "1", "2"]


def test_seeds_of_one_model_look_alike_and_share_one_entry_of_the_legend():
    tree = chart(Curve("a · 1", X, Y, legend="a"), Curve("a · 2", X, Y, legend="a"), Curve("b", X, Y))
    assert [each.get("data-k") for each in by_class(tree, "curve")] == ["0", "0", "1"]
    (legend,) = by_class(tree, "legend")
    assert [words(entry) for entry in legend] == ["a", "b"]
    assert words(by_class(by_class(tree, "chart")[0], "point")[4]).startswith("a · 2: ratio 0,")


def test_five_curves_are_coloured_and_the_others_are_grey_behind_them():
    drawn = by_class(chart(*(Curve(str(k), X, Y) for k in range(8))), "chart")[0]
    shades = [each.get("class", "").split()[1:] for each in by_class(drawn, "curve")]
    assert shades == [["k5", "context"], ["k6", "context"], ["k7", "context"], *([f"k{k}"] for k in range(5))]
    lines = [by_class(each, "line")[0].get("stroke-dasharray") for each in by_class(drawn, "curve")]
    assert len(set(lines[3:])) == 5
    grey = by_class(
        parsed(draw_block(Charts([Chart("a", "x", [Curve("a", X, Y), Curve("b", X, Y)])], grey=["a"]))), "curve"
    )
    assert [each.get("class") for each in grey] == ["curve k5 context", "curve k0"]


def test_colours_are_those_of_the_figures():
    shades = [*COLOURS, *(colour for colour, _ in GREYS)]
    rules = colour_rules(shades[::-1])
    assert all(f".k{k}{{color:{colour}}}" in rules.split("@media")[0] for k, colour in enumerate(shades))
    with pytest.raises(ValueError, match="1 colours for the dark page"):
        colour_rules(["#fff"])


def test_intervals_become_one_column_with_their_value():
    names = ["run", "M", "M_low", "M_high", "top1", "low", "high", "slow_low"]
    shown = [column[:3] for column in shown_columns(pd.DataFrame(columns=names))]
    assert shown == [("run", "", ""), ("M", "M_low", "M_high"), ("top1", "low", "high"), ("slow_low", "", "")]


def test_a_table_says_every_number_and_knows_what_to_sort_by():
    table = pd.DataFrame({"run": [EVIL, "b"], "M": [0.5, np.nan], "M_low": [0.4, np.nan], "M_high": [0.7, np.nan]})
    table = table.assign(images=[1200, 3], near=[True, False], note=["x", None])
    tree = parsed(draw_block(Rows("Masses", table, plot="M", reference=1.0)))
    head, *body = tree.iter("tr")
    assert [words(cell) for cell in head] == ["run", "M", "images", "near", "note", "M, drawn"]
    assert all(cell.get("aria-sort") == "none" and cell[0].tag == "button" for cell in head[:-1])
    assert [words(cell) for cell in body[0]] == [EVIL, "0.50 [0.40, 0.70]", "1,200", "yes", "x", ""]
    assert [words(cell) for cell in body[1]] == ["b", "–", "3", "no", "–", ""]
    assert [row[1].get("data-v") for row in body] == ["0.5", ""] and body[0][0].get("scope") == "row"
    assert tree.get("tabindex") == "0" and tree.get("aria-label") == "Masses"


def test_drawn_intervals_share_one_scale_with_the_reference():
    table = pd.DataFrame({"run": ["a", "b"], "d": [0.2, -0.1], "low": [0.1, -0.3], "high": [0.4, 0.2]})
    drawings = by_class(parsed(draw_block(Rows("", table, plot="d", reference=0.0))), "interval")
    lines = {by_class(drawing, "reference")[0].get("d") for drawing in drawings}
    assert len(lines) == 1
    zero = float(re.findall(r"M([\d.]+)", lines.pop())[0])
    scale = (126 - 4) / 0.7  # from −0.3 to 0.4
    for drawing, row in zip(drawings, table.itertuples(), strict=True):
        place = float(drawing.find("circle").get("cx"))
        assert place - zero == pytest.approx(row.d * scale, abs=0.2)
        ends = re.findall(r"M([\d.]+) 9H([\d.]+)", by_class(drawing, "bar")[0].get("d", ""))[0]
        np.testing.assert_allclose(np.array(ends, float) - zero, [row.low * scale, row.high * scale], atol=0.2)


def test_a_column_without_an_interval_cannot_be_drawn():
    with pytest.raises(ValueError, match="'T' has no column M with an interval to plot"):
        draw_block(Rows("T", pd.DataFrame({"M": [1.0]}), plot="M"))


def embedded(html: str) -> list[Image.Image]:
    found = re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", html)
    return [Image.open(BytesIO(base64.b64decode(each))) for each in found]


def test_pictures_are_inside_the_page(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    drawn = draw_block(Picture(tmp_path / "a.png", 'a "cat"', "Cat & dog"))
    (picture,) = embedded(drawn)
    np.testing.assert_array_equal(np.asarray(picture), pixels)
    tree = parsed(drawn)
    assert tree[0].get("alt") == 'a "cat"' and tree[0].get("width") == "18" and words(tree) == "Cat & dog"
    (again,) = embedded(draw_block(Picture((tmp_path / "a.png").read_bytes(), "bytes")))
    np.testing.assert_array_equal(np.asarray(again), pixels)
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert 'src="data:image/svg+xml;base64,' in draw_block(Picture(tmp_path / "a.svg", "svg"))


def test_a_large_picture_loses_pixels_and_is_written_in_the_smaller_way(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_FILE", 1000)
    monkeypatch.setattr(pictures, "SIDES", (140,))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8))
    lines = Image.new("RGB", (200, 160), "white")
    for k in range(0, 200, 4):
        lines.putpixel((k, (k * k) % 160), (0, 0, 0))
    for picture, format in ((noise, "JPEG"), (lines, "PNG")):
        picture.save(tmp_path / "a.png", compress_level=0)
        drawn = draw_block(Picture(tmp_path / "a.png", "a"))
        (shown,) = embedded(drawn)
        assert (shown.format, shown.size) == (format, (140, 112)) and parsed(drawn)[0].get("width") == "90"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", b"no picture", "a.png cannot be read as a picture"),
        ("a.pdf", b"%PDF", "cannot hold the picture 'a.pdf': it takes .png, .jpg, .jpeg, .svg"),
    ],
)
def test_what_is_no_picture_is_one_sentence(tmp_path: Path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        draw_block(Picture(tmp_path / name, ""))
    with pytest.raises(FileNotFoundError, match=r"b\.png does not exist"):
        draw_block(Picture(tmp_path / "b.png", ""))


def test_a_gallery_has_a_row_for_each_picture_and_small_ones_keep_every_pixel():
    g = np.random.default_rng(0)
    originals, masked = (g.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8) for _ in range(2))
    drawn = draw_block(Gallery({"original": originals, "masked": masked}, "Seen."))
    found = embedded(drawn)
    assert len(found) == 12 and "Seen. The first 6 of 9." in drawn
    for k, picture in enumerate(found):
        np.testing.assert_array_equal(np.asarray(picture), (originals, masked)[k % 2][k // 2])
    assert parsed(drawn).findall(".//img")[3].get("alt") == "masked, picture 2"
    with pytest.raises(ValueError, match="differ in shape"):
        draw_block(Gallery({"a": originals, "b": masked[:, :4]}))


def test_a_page_has_its_landmarks_and_loads_nothing(tmp_path: Path):
    sections = [
        Section(f"Section {EVIL}", ["One.\n\nTwo.", Fold("more", ["inside"])]),
        Section("Runs", [Card("r", {"model": EVIL}, {"a": EVIL})]),
    ]
    html = write_page(tmp_path / "new" / "page.html", sections, f"Title {EVIL}", "Lead.").read_text("utf-8")
    assert html == draw_page(sections, f"Title {EVIL}", "Lead.")
    assert html.startswith("<!DOCTYPE html>") and html.count("<script>") == 1 and EVIL not in html
    links = re.findall(r'<a href="#(s[^"]+)"', html)
    assert len(links) == 2 and all(f'<section id="{link}"' in html or f' id="{link}"' in html for link in links)
    assert html.index('href="#main"') < html.index("<h1>") and 'id="main"' in html
    assert not re.findall(r'(?:src|href|action|srcset|poster)="(?!#|data:)', html)
    assert not re.findall(r"@import|url\(|https?://|//[a-z]", html.split("<body>")[0])
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "page.html"]


@pytest.mark.parametrize(("name", "sections", "said"), [
    ("page.pdf", [Section("a", [])], "cannot write a page to 'page.pdf': end its name in .html"),
    ("page.html", [], "nothing to put on the page"),
])  # fmt: skip
def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path, name, sections, said):
    with pytest.raises(ValueError, match=said):
        write_page(tmp_path / name, sections, "Title")
    assert not list(tmp_path.iterdir())
