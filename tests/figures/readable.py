"""What every figure is held to: it is read in a column of a journal and on a phone."""

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

WIDTH, HEIGHT = 8.5, 23.5  # cm
SMALLEST = 6.0  # points
AT_ONCE = 5  # colours


def assert_readable(figure: Figure) -> None:
    """A column wide, no taller than a page; letters of 6 points or more, inside the page and not on each other; at most
    five colours of curves in a panel, and none twice."""
    if not any(axes.get_subplotspec() for axes in figure.axes):
        figure.set_layout_engine("none")
    figure.draw_without_rendering()
    width, height = 2.54 * figure.get_size_inches()
    assert abs(width - WIDTH) < 0.01 and height <= HEIGHT
    unseen = ticks_beyond(figure)
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text not in unseen]
    shown = [text for text in texts if text.get_visible() and text.get_text().strip()]
    boxes = np.array([Text.get_window_extent(text).extents for text in shown])  # an annotation's own has its line
    assert all(text.get_fontsize() >= SMALLEST for text in shown)
    inside = (boxes[:, :2] >= -1).all(axis=1) & (boxes[:, 2:] <= np.array(figure.bbox.size) + 1).all(axis=1)
    assert inside.all(), [text.get_text() for text, within in zip(shown, inside, strict=True) if not within]
    assert not (found := overlapping(shown, boxes)), found
    for axes in figure.axes:
        lines = [line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) > 1]
        means = [line.get_color() for line in lines if (line.get_gid() or "").startswith("mean")]
        coloured = [colour for colour in map(to_hex, means) if len(set(colour[k : k + 2] for k in (1, 3, 5))) > 1]
        assert len(coloured) <= AT_ONCE and len(set(coloured)) == len(coloured)


def ticks_beyond(figure: Figure) -> set[Text]:
    """Words of ticks that lie outside their axis, which are not drawn."""
    found = set()
    for axes in [each for panel in figure.axes for each in (panel, *panel.child_axes)]:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-6 * (high - low) if axes.axison else -np.inf
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low - slack <= tick.get_loc() <= high + slack:
                    found |= {tick.label1, tick.label2}
    return found


def overlapping(shown: list[Text], boxes: np.ndarray) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other by more than a third of a letter."""
    slack = 0.3 * min(text.get_fontsize() for text in shown) / 72 * shown[0].get_figure(root=True).dpi  # type: ignore[union-attr]
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    shared = np.minimum(high, boxes[None, :, 2:]) - np.maximum(low, boxes[None, :, :2])
    pairs = np.argwhere(np.triu((shared > slack).all(axis=2), 1))
    return [(shown[i].get_text(), shown[j].get_text()) for i, j in pairs]
