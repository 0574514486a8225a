"""Small SVG charts whose points tell their values to pointer, finger, keyboard and screen reader."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import LogLocator, MaxNLocator

from figures.page.blocks import Chart, Charts, Curve, Rows
from figures.page.markup import Html, tag
from figures.page.numbers import short, with_interval
from figures.style import COLOURS, GREYS, MARKERS, Look, looks

# Narrow, so that the letters stay legible where a phone shows the whole width in 330 px.
WIDTH, HEIGHT = 360.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 8.0, 8.0, 38.0
MARKER_SIZE = 7.0
PLOT_WIDTH, PLOT_HEIGHT = 130.0, 18.0
SHADES = (*COLOURS, *(colour for colour, _ in GREYS))
SHAPES = (*MARKERS, ".")


class Axis(NamedTuple):
    """From values to places of the drawing."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high, value = ((math.log10(v) if self.logarithmic else v) for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def place_within(self, value: float) -> float:
        """Of an end of an interval, which leaves the axis where it is infinite or has no logarithm."""
        return self.place(min(max(value, self.low), self.high))


def markers() -> Html:
    """The shapes of all markers, once for the whole page."""
    shapes = [tag("path", id=f"m{k}", d=_shape(marker)) for k, marker in enumerate(SHAPES)]
    return tag("svg", tag("defs", *shapes), class_="sprite", aria_hidden="true", width=0, height=0)


def colour_rules(dark: Sequence[str]) -> str:
    """CSS of the curves' colours and greys, on white and, from `dark`, on black."""
    if len(dark) != len(SHADES):
        raise ValueError(f"{len(dark)} colours for the dark page, {len(SHADES)} for the light one")
    rules, darker = (
        "".join(f".k{k}{{color:{colour}}}" for k, colour in enumerate(colours)) for colours in (SHADES, dark)
    )
    return f"{rules}@media (prefers-color-scheme:dark){{{darker}}}"


def draw_charts(block: Charts) -> Html:
    """All charts of the block, above them their one legend."""
    names = looks([[curve.legend or curve.name for chart in block.charts for curve in chart.curves]], block.grey)
    drawn = [_draw_chart(chart, names) for chart in block.charts]
    caption = tag("p", block.caption, class_="caption") if block.caption else Html()
    legend = _legend(names) if len(names) > 1 else Html()
    title = tag("h3", block.title) if block.title else Html()
    return tag(
        "div", title, legend, tag("div", *drawn, class_="charts"), caption, class_=f"group{' lone' * (len(drawn) == 1)}"
    )


def draw_interval(rows: Rows, span: tuple[float, float], value: float, low: float, high: float) -> Html:
    """A table's cell: the value and its interval on the scale that all rows share."""
    axis = Axis(*span, 4, PLOT_WIDTH - 4, ())
    middle = PLOT_HEIGHT / 2
    parts = []
    if rows.reference is not None:
        at = axis.place(rows.reference)
        parts.append(tag("path", d=f"M{at} 0V{PLOT_HEIGHT:g}", class_="reference"))
    if math.isfinite(value):
        if not (math.isnan(low) or math.isnan(high)):
            parts.append(tag("path", d=f"M{axis.place_within(low)} {middle:g}H{axis.place_within(high)}", class_="bar"))
        parts.append(tag("circle", cx=axis.place(value), cy=middle, r=3.5))
    return tag("svg", *parts, class_="interval", viewBox=f"0 0 {PLOT_WIDTH:g} {PLOT_HEIGHT:g}", aria_hidden="true")


def _shape(marker: str) -> str:
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    polygon = np.asarray(path.to_polygons(closed_only=True)[0])[:-1]
    points = polygon[:: max(1, len(polygon) // 24)] * np.array([MARKER_SIZE, -MARKER_SIZE])
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"


def _draw_chart(chart: Chart, names: Mapping[str, Look]) -> Html:
    x, y = _axes(chart)
    shade = Html()
    if chart.shade:
        left, right = (x.place(value) for value in chart.shade)
        shade = tag("rect", x=left, y=TOP, width=right - left, height=HEIGHT - TOP - BOTTOM, class_="shade")
    behind_first = sorted(chart.curves, key=lambda curve: not names[curve.legend or curve.name].context)
    curves = [_draw_curve(chart, curve, names, x, y) for curve in behind_first]
    label = f"{chart.title}, against {chart.x_label}. Arrow keys go from point to point."
    svg = tag(
        "svg", shade, _draw_axes(chart, x, y), *curves,
        class_="chart", viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="group", aria_label=label,
    )  # fmt: skip
    # The words of a point stand in a line of their own: a finger would cover a box beside the point.
    readout = tag("p", Html("&nbsp;"), class_="readout", aria_hidden="true")
    return tag("figure", tag("figcaption", chart.title), svg, readout, class_="panel")


def _axes(chart: Chart) -> tuple[Axis, Axis]:
    xs = _finite([list(curve.x) for curve in chart.curves])
    columns = [[*curve.y, *curve.low, *curve.high] for curve in chart.curves]
    ys = _finite(columns)
    if chart.logarithmic:
        ys = ys[ys > 0]
    bottom, top = (float(ys.min()), float(ys.max())) if len(ys) else (1.0, 10.0)
    ends = WIDTH - RIGHT - 6, HEIGHT - BOTTOM
    left, right = (float(xs.min()), float(xs.max())) if len(xs) else (0.0, 1.0)
    if left == right:
        left, right = left - 0.5, right + 0.5
    across = Axis(left, right, LEFT + 6, ends[0], _ticks(left, right))
    if chart.logarithmic:
        bottom, top = bottom / 1.3, top * 1.3
        subs = (1.0, 2.0, 5.0) if top / bottom < 100 else (1.0, 3.0) if top / bottom < 1000 else (1.0,)
        ticks = LogLocator(subs=subs, numticks=20).tick_values(bottom, top)
        kept = tuple(float(tick) for tick in ticks if bottom <= tick <= top)
        return across, Axis(bottom, top, ends[1], TOP, kept, logarithmic=True)
    if chart.limits:
        return across, Axis(*chart.limits, ends[1], TOP, _ticks(*chart.limits))
    if chart.from_zero:
        bottom, top = min(bottom, 0.0), max(top, 0.0)
    if bottom == top:
        bottom, top = bottom - 0.5, top + 0.5
    margin = 0.05 * (top - bottom)
    bottom, top = bottom - margin * (bottom < 0 or not chart.from_zero), top + margin
    return across, Axis(bottom, top, ends[1], TOP, _ticks(bottom, top))


def _finite(columns: Sequence[Sequence[float]]) -> np.ndarray:
    values = np.array([value for column in columns for value in column], dtype=float)
    return values[np.isfinite(values)]


def _ticks(low: float, high: float) -> tuple[float, ...]:
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return tuple(float(tick) for tick in ticks if low - slack <= tick <= high + slack)


def _draw_axes(chart: Chart, x: Axis, y: Axis) -> Html:
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    rows = [(y.place(tick), f"{tick:.6g}".replace("-", "−")) for tick in y.ticks]
    columns = [(x.place(tick), f"{tick:.6g}".replace("-", "−")) for tick in x.ticks]
    lines = "".join(f"M{left:g} {at}H{right:g}" for at, _ in rows)
    words = [tag("text", word, x=left - 5, y=at + 3.7, class_="end") for at, word in rows]
    words += [tag("text", word, x=at, y=bottom + 15, class_="mid") for at, word in columns]
    words.append(tag("text", chart.x_label, x=(left + right) / 2, y=HEIGHT - 4, class_="mid label"))
    grid, axis = tag("path", d=lines, class_="grid"), tag("path", d=f"M{left:g} {bottom:g}H{right:g}", class_="axis")
    return tag("g", grid, axis, *words, aria_hidden="true")


def _draw_curve(chart: Chart, curve: Curve, names: Mapping[str, Look], x: Axis, y: Axis) -> Html:
    name = curve.legend or curve.name
    k, look = list(names).index(name), names[name]
    drawn = [math.isfinite(value) and (value > 0 or not y.logarithmic) for value in curve.y]
    # Moved aside by a pixel or two, so that every interval is seen.
    aside = (k - (len(names) - 1) / 2) * min(1.5, 8 / len(names)) if curve.low else 0.0
    line, bars, points, pen_up = "", "", [], True
    for n, value in enumerate(curve.y):
        at_x = round(x.place(curve.x[n]) + aside, 1)
        low, high = (curve.low[n], curve.high[n]) if curve.low else (math.nan, math.nan)
        # Also of a missing value: how large the root of a square below 0 can be is known.
        if not (math.isnan(low) or math.isnan(high)) and (high > 0 or not y.logarithmic):
            bars += f"M{at_x} {y.place_within(low)}V{y.place_within(high)}"
        if not drawn[n]:
            pen_up = True
            continue
        at_y = y.place(value)
        line += f"{'M' if pen_up else 'L'}{at_x} {at_y}"
        pen_up = False
        points.append(_point(chart, curve, n, look, at_x, at_y, low, high))
    paths = tag("path", d=bars, class_="bars"), tag("path", d=line, class_="line", stroke_dasharray=_dashes(look))
    return tag("g", *paths, *points, class_=f"curve {_shade(look)}", data_k=k)


def _point(chart: Chart, curve: Curve, n: int, look: Look, at_x: float, at_y: float, low: float, high: float) -> Html:
    value, interval = with_interval(curve.y[n], low, high)
    words = f"{curve.name}: {chart.x_name} {short(curve.x[n])}, {chart.y_name} {value} {interval}".rstrip()
    if curve.notes and curve.notes[n]:
        words += f"; {curve.notes[n]}"
    hollow = bool(curve.hollow and curve.hollow[n])
    return tag(
        "use", tag("title", words), href=f"#m{SHAPES.index(look.marker)}", x=at_x, y=at_y, role="img",
        class_="point hollow" if hollow else "point",
    )  # fmt: skip


def _legend(names: Mapping[str, Look]) -> Html:
    entries: list[Html] = []
    for k, (name, look) in enumerate(names.items()):
        sample = tag(
            "svg", tag("path", d="M0 8H30", class_="line", stroke_dasharray=_dashes(look)),
            tag("use", href=f"#m{SHAPES.index(look.marker)}", x=15, y=8, class_="point"),
            viewBox="0 0 30 16", class_=f"sample {_shade(look)}", aria_hidden="true",
        )  # fmt: skip
        button = tag("button", sample, tag("span", name), type="button", aria_pressed="true", data_k=k)
        entries.append(tag("li", button))
    return tag("ul", *entries, class_="legend", aria_label="Curves: press to hide or show")


def _shade(look: Look) -> str:
    return f"k{SHADES.index(look.colour)}{' context' * look.context}"


def _dashes(look: Look) -> str | None:
    line: Any = look.line
    return None if line == "-" else " ".join(f"{1.6 * length:g}" for length in line[1])
