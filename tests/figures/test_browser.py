"""The page in a real browser: what a reader with a mouse, a finger, a keyboard or a dark screen meets."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from figures.report import Card, Chart, Charts, Curve, Fold, Rows, Section, open_runs, sections_of, write_report
from tests.figures import made_up_runs as made_up
from tests.figures.browser import Browser, find_browser

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no chromium or chrome is installed")

MASSES = pd.DataFrame(
    {
        "run": ["run 10", "run 9", "Run 2", "run 1"],
        "M": [0.5, np.nan, 1.25, -2.0],
        "M_low": [0.4, np.nan, 1.0, -3.0],
        "M_high": [0.6, np.nan, 1.5, -1.0],
        "images": [100, 20, 3, 1000],
    }
)
UPPER = Curve("upper", [0.0, 0.5, 1.0], [2.0, 3.0, 2.5], [1.9, 2.8, 2.4], [2.1, 3.2, 2.6], ["order 0", "", "order 194"])
LOWER = Curve("lower", [0.0, 0.5, 1.0], [1.0, 0.5, 1.5], [0.9, 0.4, 1.4], [1.1, 0.6, 1.6])
LONG = "supervised_with_a_name_that_no_phone_can_show_on_one_line_" * 3
ATTACK = "</title></script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\"><b id=hacked>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    assert EXECUTABLE
    started = Browser(EXECUTABLE, tmp_path_factory.mktemp("browser"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A page of one chart and one table."""
    charts = Charts([Chart("Strength", "order ratio", [UPPER, LOWER], "ratio", "J", (0.3, 0.7))])
    return write_report(
        tmp_path_factory.mktemp("small") / "page.html",
        [Section("Only", [charts, Rows("Masses", MASSES, "M", 1.0)])],
        "Small",
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A page of runs of every kind, with names, numbers and records that are hard to fit."""
    folder = tmp_path_factory.mktemp("large")
    runs = [
        made_up.kept_pairs(folder / "a"),
        made_up.profile(folder / "b", seed=1, missing_rms=(7,)),
        made_up.occlusion(folder / "c"),
        made_up.spectrum(folder / "d"),
        made_up.training(folder / "e"),
        made_up.study(folder / "f"),
    ]
    names = [LONG, "ViT-S, A²MIM", "occlusion", "spectrum", "training", "study"]
    return write_report(folder / "page.html", sections_of(open_runs(runs, names)), LONG, LONG)


def rows(browser: Browser) -> list[str]:
    """The first cell of each row, from top to bottom."""
    return browser.run("[...document.querySelectorAll('tbody tr')].map((row) => row.cells[0].textContent)")


def sorts(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('th[aria-sort]')].map((head) => head.getAttribute('aria-sort'))")


def readout(browser: Browser) -> str:
    return browser.run("document.querySelector('.readout').textContent").strip()


def focused(browser: Browser) -> str:
    """What a screen reader says of the element in focus."""
    return browser.run("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")


def tab_until(browser: Browser, selector: str) -> None:
    for _ in range(40):
        browser.press("Tab")
        if browser.run(f"document.activeElement.matches({json.dumps(selector)})"):
            return
    raise AssertionError(f"no Tab reaches {selector}")


def background(path: Path) -> tuple[int, ...]:
    """The commonest colour of a screenshot."""
    with Image.open(path) as shot:
        counts = shot.convert("RGB").getcolors(1 << 24)
    assert counts
    return max(counts)[1]


def test_a_click_on_a_header_sorts_numbers_as_numbers_and_words_as_words(browser, small):
    browser.open(small)
    assert rows(browser) == list(MASSES["run"]) and sorts(browser) == ["none"] * 3
    browser.click("th:nth-child(2) button")
    assert rows(browser) == ["run 1", "run 10", "Run 2", "run 9"] and sorts(browser) == ["none", "ascending", "none"]
    browser.click("th:nth-child(2) button")
    assert rows(browser) == ["Run 2", "run 10", "run 1", "run 9"]  # what is missing stays last
    assert sorts(browser) == ["none", "descending", "none"]
    browser.click("th:nth-child(3) button")
    assert rows(browser) == list(MASSES.sort_values("images")["run"]) and sorts(browser) == [
        "none",
        "none",
        "ascending",
    ]
    browser.click("th:nth-child(1) button")
    assert rows(browser) == ["run 1", "Run 2", "run 9", "run 10"]


@pytest.mark.parametrize("key", ["Enter", " "])
def test_the_keyboard_sorts(browser, small, key):
    browser.open(small)
    tab_until(browser, "th:nth-child(3) button")
    browser.press(key)
    assert rows(browser) == list(MASSES.sort_values("images")["run"])
    assert browser.run("document.activeElement.matches('th:nth-child(3) button')")
    browser.press(key)
    assert rows(browser) == list(MASSES.sort_values("images", ascending=False)["run"])


def test_the_first_tab_skips_to_the_results(browser, small):
    browser.open(small)
    browser.press("Tab")
    assert focused(browser) == "Skip to the results"
    left, top = browser.run(
        "(() => { const r = document.activeElement.getBoundingClientRect(); return [r.x, r.y]; })()"
    )
    assert left >= 0 and top >= 0
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "main"


def test_focus_shows_the_values_of_a_point_and_arrows_go_on(browser, small):
    browser.open(small)
    tab_until(browser, ".point")
    assert readout(browser) == focused(browser) == "upper: ratio 0, J 2.00 [1.90, 2.10]; order 0"
    went = []
    for key in (
        "ArrowRight",
        "ArrowRight",
        "ArrowRight",
        "ArrowDown",
        "ArrowLeft",
        "Home",
        "ArrowUp",
        "ArrowUp",
        "End",
    ):
        browser.press(key)
        assert readout(browser) == focused(browser)
        went.append(readout(browser).split(" [")[0])
    assert went == [
        "upper: ratio 0.5, J 3.00",
        "upper: ratio 1, J 2.50",
        "upper: ratio 1, J 2.50",
        "lower: ratio 1, J 1.50",
        "lower: ratio 0.5, J 0.50",
        "lower: ratio 0, J 1.00",
        "upper: ratio 0, J 2.00",
        "upper: ratio 0, J 2.00",
        "upper: ratio 1, J 2.50",
    ]
    browser.press("Tab")
    assert readout(browser) == "" and not browser.run("document.activeElement.matches('.point')")
    assert browser.run("document.querySelectorAll('.point[tabindex=\"0\"]').length") == 1


def test_what_has_the_focus_is_seen(browser, small):
    browser.open(small)
    for selector in (".legend button", "th button", ".scroll"):
        tab_until(browser, selector)
        style = browser.run(
            "(() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]; })()"
        )
        assert style == ["solid", "3px"], selector
    browser.open(small)
    tab_until(browser, ".point")
    assert float(browser.run("getComputedStyle(document.activeElement).strokeWidth").removesuffix("px")) >= 3


def test_hovering_shows_the_nearest_point_and_leaving_hides_it(browser, small):
    browser.open(small)
    browser.hover(".curve:nth-of-type(3) .point:nth-of-type(2)")
    assert readout(browser).startswith("lower: ratio 0.5, J 0.50 [0.40, 0.60]")
    assert browser.run("document.querySelectorAll('.curve.lit').length") == 1
    browser.hover("h1")
    assert readout(browser) == "" and browser.run("document.querySelector('.dim')") is None


def test_a_finger_on_a_point_shows_its_values_and_they_stay(browser, small):
    browser.open(small, 360, 800)
    for beside in (0, 12):
        browser.tap(".curve:nth-of-type(2) .point:nth-of-type(1)", beside)
        assert readout(browser) == "upper: ratio 0, J 2.00 [1.90, 2.10]; order 0"
        browser.tap(".curve:nth-of-type(3) .point:nth-of-type(2)", beside)
        assert readout(browser) == "lower: ratio 0.5, J 0.50 [0.40, 0.60]"


def test_a_press_beside_a_point_counts_more_than_the_focus_that_it_ends(browser, small):
    browser.open(small)
    tab_until(browser, ".point")
    browser.click(".curve:nth-of-type(3) .point:nth-of-type(2)", beside=12)
    assert readout(browser).startswith("lower: ratio 0.5,")


def test_the_legend_hides_a_curve_from_eye_pointer_and_keyboard(browser, small):
    browser.open(small)
    browser.click(".legend button")
    assert browser.run("document.querySelector('.legend button').getAttribute('aria-pressed')") == "false"
    assert browser.run("getComputedStyle(document.querySelector('.curve')).display") == "none"
    tab_until(browser, ".point")
    assert focused(browser).startswith("lower: ratio 0,")
    browser.press("ArrowUp")
    assert focused(browser).startswith("lower: ratio 0,")
    browser.hover(".curve:not(.off) .point")
    assert readout(browser).startswith("lower")
    browser.click(".legend button")
    assert browser.run("getComputedStyle(document.querySelector('.curve')).display") == "inline"


@pytest.mark.parametrize("width", [320, 360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_screen_and_says_nothing_on_the_console(browser, large, width, scheme):
    browser.open(large, width, 800, prefers_color_scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length"
    assert browser.run(wide) > 0 or width == 1200  # tables scroll in their own box
    assert browser.messages == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [large.resolve().as_uri()]


def test_a_table_that_is_wider_than_the_screen_says_so(browser, small):
    shown = "getComputedStyle(document.querySelector('.scroll'), '::before').content"
    browser.open(small, 320, 800)
    assert "goes on to the side" in browser.run(shown)
    browser.open(small, 1200, 800)
    assert browser.run(shown) in ("none", "normal")


def test_sections_below_the_summary_are_folded_and_a_link_opens_one(browser, large):
    browser.open(large)
    opened = (
        "[...document.querySelectorAll('section > details')].filter((each) => each.open).map((each) => each.innerText)"
    )
    assert browser.run("document.querySelector('section h2').textContent") == "Summary"
    assert browser.run(opened) == [] and browser.run("document.querySelectorAll('section > details').length") >= 7
    assert browser.run("document.querySelector('section > :first-child').tagName") == "H2"
    browser.click("nav li:nth-child(4) a")
    browser.run("new Promise((done) => setTimeout(done, 50))")
    (text,) = browser.run(opened)
    assert text.startswith("Interaction strength by order")
    top = browser.run("document.querySelector('section:has(> details[open])').getBoundingClientRect().top")
    assert -2 <= top < 100


def test_a_thumbnail_grows_when_it_is_pressed(browser, large):
    browser.open(large)
    browser.run("document.querySelectorAll('section > details').forEach((each) => { each.open = true; })")
    width = "document.querySelector('.zoom img').getBoundingClientRect().width"
    before = browser.run(width)
    browser.click(".zoom summary")
    assert before <= 180 < browser.run(width)


def test_every_picture_of_the_page_is_shown(browser, large):
    browser.open(large)
    browser.run("Promise.all([...document.images].map((image) => image.decode().catch(() => 0)))")
    sizes = browser.run("[...document.images].map((image) => [image.naturalWidth, image.alt])")
    assert len(sizes) >= 2 + 1 + 6 * 4 and all(width > 0 and alt for width, alt in sizes)


def test_letters_of_a_chart_are_legible_on_a_phone(browser, large):
    browser.open(large, 360, 800)
    drawn, shown = browser.run(
        "(() => { const svg = document.querySelector('.chart');"
        "return [svg.viewBox.baseVal.width, svg.getBoundingClientRect().width]; })()"
    )
    size = browser.run("parseFloat(getComputedStyle(document.querySelector('.chart text')).fontSize)")
    assert size * shown / drawn >= 10
    heights = browser.run("[...document.querySelectorAll('button')].map((each) => each.getBoundingClientRect().height)")
    assert min(heights) >= 24  # the least size of a target, WCAG 2.2


def test_dark_and_light_follow_the_system_with_enough_contrast(browser, small, tmp_path):
    for scheme, colour in (("light", (255, 255, 255)), ("dark", (20, 20, 20))):
        browser.open(small, prefers_color_scheme=scheme)
        browser.screenshot(tmp_path / "shot.png")
        assert background(tmp_path / "shot.png") == colour
        for selector in ("h1", ".ci", "a", ".chart text"):
            style = "fill" if selector.startswith(".chart") else "color"
            script = f"getComputedStyle(document.querySelector({json.dumps(selector)})).{style}"
            words = browser.run(script).removeprefix("rgb(").removesuffix(")").split(",")
            assert contrast(tuple(map(int, words)), colour) >= 4.5, (scheme, selector)


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """WCAG 2's contrast ratio of two sRGB colours."""

    def luminance(colour: tuple[int, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_motion_stops_for_those_who_ask(browser, small):
    duration = "getComputedStyle(document.querySelector('.curve')).transitionDuration"
    browser.open(small, prefers_reduced_motion="reduce")
    assert browser.run(duration) == "0s"
    browser.open(small, prefers_reduced_motion="no-preference")
    assert browser.run(duration) != "0s"


def test_names_that_hold_markup_are_text(browser, tmp_path):
    table = pd.DataFrame({"run": [ATTACK], ATTACK: [ATTACK]})
    curve = Curve(ATTACK, [0.0], [1.0], notes=[ATTACK])
    blocks = [
        ATTACK,
        Charts([Chart(ATTACK, ATTACK, [curve, LOWER], ATTACK, ATTACK)], ATTACK, ATTACK),
        Rows(ATTACK, table),
        Fold(ATTACK, [ATTACK]),
        Card(ATTACK, {ATTACK: ATTACK}, {ATTACK: ATTACK}),
    ]
    page = write_report(tmp_path / "page.html", [Section(ATTACK, blocks)], ATTACK, ATTACK)
    browser.open(page)
    tab_until(browser, ".point")
    assert ATTACK in readout(browser)
    browser.click("th button")
    assert browser.run(
        "window.hacked === undefined && document.querySelector('#hacked, script + script, img') === null"
    )
    assert browser.run("document.title") == ATTACK
    assert browser.messages == []  # the security policy had nothing to refuse


def test_the_policy_stops_a_script_and_a_request_that_should_get_in(browser, small, tmp_path):
    spoilt = tmp_path / "spoilt.html"
    attack = "<script>window.hacked = 1</script><img src='http://127.0.0.1:9/x.png'>"
    spoilt.write_text(small.read_text("utf-8").replace("</main>", f"{attack}</main>"), "utf-8")
    browser.open(spoilt)
    assert browser.run("window.hacked === undefined")
    assert sum("Content Security Policy" in message for message in browser.messages) == 2


def test_without_script_the_page_is_still_read(browser, large, tmp_path):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(large, 360, 800)
        assert browser.run("document.querySelectorAll('tbody tr').length") > 20
        assert browser.run("document.querySelector('.point title').textContent").startswith(LONG)
        assert browser.run("getComputedStyle(document.querySelector('.readout')).display") == "none"
        assert browser.run("document.documentElement.scrollWidth") <= 360
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
