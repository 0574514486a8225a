"""The house style of every figure, a page with room for its words, and the one way a figure becomes a file."""

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox

from figures.files import write_atomically

COLUMN = 8.5 / 2.54
"""Inches: a column of a journal, at which every figure is read, and no wider than a phone shows it."""
TALLEST = 9.2
"""Inches: a page of a journal."""
MARGIN = 0.06

INK, GREY, SHADE = "#222222", "#777777", "#efefef"
BLUE, VERMILION = "#0072B2", "#D55E00"

# Five of Okabe & Ito's colours, told apart by the colour-blind; more at once nobody tells apart. With the markers and
# lines the curves differ in grey too.
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
GREYS = (("#555555", "-"), ("#8a8a8a", (0, (5, 1.5))), ("#b4b4b4", "-"))
"""Colour and line of what the others are compared with; all after the second look alike."""

FONT = "DejaVu Sans"
STYLE: dict[str, Any] = {
    "font.family": FONT,  # ships with matplotlib, so a figure has the same letters on every machine
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 2.8,
    "lines.markeredgewidth": 0.7,
    "figure.dpi": 300,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "a2mim",  # without it the names inside an SVG differ from run to run
}
TITLE_SIZE, NOTE_SIZE, CAPTION_SIZE = 8.0, 6.5, 6.5  # points

# What a file says about itself holds no time stamp, so that the same table gives the same bytes.
METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}

_TOLD: WeakSet[Figure] = WeakSet()
"""Figures of whose letters something was said."""


@contextmanager
def house_style() -> Iterator[None]:
    """Context manager, and decorator of a function, under which everything is drawn. What the caller has set in
    rcParams is put aside and comes back afterwards. Of letters that the font lacks `save` warns once for all."""
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@dataclass(frozen=True)
class Look:
    """How one of several curves is drawn; `context`: in grey, as what the others are compared with."""

    colour: str
    marker: str
    line: Any
    context: bool = False


def look(k: int) -> Look:
    """The look of the k-th of at most five curves."""
    return Look(COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)], LINES[k % len(LINES)])


def grey_look(k: int) -> Look:
    """The look of the k-th curve that the others are compared with."""
    colour, line = GREYS[min(k, len(GREYS) - 1)]
    return Look(colour, ".", line, context=True)


def behind_first(names: Iterable[str], looks: Mapping[str, Look]) -> list[str]:
    """In the order in which curves are drawn: those that others are compared with lie behind."""
    return sorted(names, key=lambda name: not looks[name].context)


FIRST = look(0)


def looks(panels: Iterable[Sequence[str]], grey: Collection[str] = ()) -> dict[str, Look]:
    """One look for each name in all panels, and no colour twice in one.

    Args:
        panels: the names that each shows.
        grey: names that are context. So are those for which no colour is left: the first five have one.
    """
    panels = list(panels)
    found: dict[str, Look] = {}
    greys = 0
    for name in dict.fromkeys(name for names in panels for name in names):
        beside = {found[other].colour for names in panels if name in names for other in names if other in found}
        free = [k for k, colour in enumerate(COLOURS) if colour not in beside]
        if name in grey or not free:
            found[name], greys = grey_look(greys), greys + 1
        else:
            found[name] = look(free[0])
    return found


def page(body_height: float, title: str = "", note: str = "", caption: str = "", pad: float = MARGIN) -> Figure:
    """A figure as wide as a column whose panels share `body_height` inches, with a title above them and a note and a
    caption below: as many lines as the words need, so that nothing is cut off or runs into the panels.

    `pad` inches stay free around every panel. The note stands out by its colour. Words are drawn as they are, `$` and
    `_` included.

    Raises:
        ValueError: more than a page of a journal holds.
    """
    above = [_block(title, TITLE_SIZE, INK)]
    below = [_block(note, NOTE_SIZE, VERMILION), _block(caption, CAPTION_SIZE, INK)]
    foot = sum(block.height for block in below)
    height = foot + body_height + sum(block.height for block in above)
    if height > TALLEST:
        raise ValueError(
            f"the figure would be {2.54 * height:.0f} cm tall, and a page holds {2.54 * TALLEST:.0f}: "
            "draw fewer runs or panels, or part them among several figures"
        )
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    figure.get_layout_engine().set(  # type: ignore[union-attr, call-arg]
        rect=(0, foot / height, 1, body_height / height), w_pad=pad, h_pad=pad
    )
    for blocks, top in ((above, height), (below, foot)):
        for block in blocks:
            x, y = MARGIN / COLUMN, (top - MARGIN) / height
            figure.text(x, y, block.text, size=block.size, color=block.colour, va="top", parse_math=False)
            top -= block.height
    return figure


def room(title: str = "", note: str = "", caption: str = "") -> float:
    """Inches that these words leave on a page of a journal."""
    blocks = _block(title, TITLE_SIZE, INK), _block(note, NOTE_SIZE, VERMILION), _block(caption, CAPTION_SIZE, INK)
    return TALLEST - sum(block.height for block in blocks)


def add_panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place of their own on a `page`: inches from the upper left corner of what is left beside its words."""
    _, foot, _, body = figure.get_layout_engine().get()["rect"]  # type: ignore[union-attr]
    wide, tall = figure.get_size_inches()
    return figure.add_axes((left / wide, foot + body - (top + height) / tall, width / wide, height / tall))


def wrap(text: str, width: float, size: float) -> list[str]:
    """Lines of at most `width` inches at `size` points; a word longer than a line is broken, a line break is kept."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            if text_width(f"{line} {word}".lstrip(), size) > width:
                lines += [line] if line else []
                *pieces, word = _pieces(word, width, size)
                lines += pieces
                line = word
            else:
                line = f"{line} {word}".lstrip()
        lines.append(line)
    return lines


@cache
def text_width(text: str, size: float) -> float:
    """Width in inches of one line of text at `size` points."""
    font = FontProperties(family=STYLE["font.family"], size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def check_suffix(path: str | Path) -> Path:
    """The path, where its suffix names a kind of figure that can be written.

    Raises:
        ValueError: another suffix than .png, .pdf or .svg.
    """
    path = Path(path)
    if path.suffix[1:].lower() not in METADATA:
        raise ValueError(f"cannot write a figure to {path.name!r}: end its name in .png, .pdf or .svg")
    return path


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure as .png (300 dpi), .pdf or .svg, whole or not at all, and the same bytes for the same figure.
    Letters that the font lacks are told in a warning (an SVG leaves them to the fonts of who reads it).

    Raises:
        ValueError: another suffix.
        OSError: a folder that cannot be written to, a full disk.
    """
    path = check_suffix(path)
    kind = path.suffix[1:].lower()
    if kind != "svg" and figure not in _TOLD and (lacking := lacking_letters(figure)):
        _TOLD.add(figure)  # one sentence for all of its files
        warnings.warn(f"{FONT}, the font of figures, has no {lacking}: boxes stand in their places", stacklevel=2)

    def write(beside: Path) -> None:
        with house_style(), open(beside, "wb") as file:
            _settle(figure)
            figure.savefig(file, format=kind, metadata=METADATA[kind])

    return write_atomically(path, write)


def lacking_letters(figure: Figure) -> str:
    """The letters of the figure that its font does not have."""
    texts = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    letters = set("".join(texts)) - {"\n"}
    return "".join(sorted(letter for letter in letters if ord(letter) not in _letters()))


@cache
def _letters() -> set[int]:
    return set(get_font(findfont(FONT)).get_charmap())


def _settle(figure: Figure) -> None:
    """Lay the panels out once for all kinds of file. The solver's last digits vary from run to run, and the names
    inside an SVG are hashes of them, so they are rounded off."""
    engine = figure.get_layout_engine()
    if engine is None:
        return
    if any(axes.get_subplotspec() for axes in figure.axes):  # else all panels have places of their own
        engine.execute(figure)
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(5)), "original")


@dataclass(frozen=True)
class _Block:
    """Wrapped text, and the inches that it takes with the space that parts it from what comes next."""

    text: str
    size: float
    colour: str
    height: float


def _block(text: str, size: float, colour: str) -> _Block:
    lines = wrap(text, COLUMN - 2 * MARGIN, size)
    return _Block("\n".join(lines), size, colour, len(lines) * size * 1.3 / 72 + MARGIN if lines else 0.0)


def _pieces(word: str, width: float, size: float) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and text_width(pieces[-1] + letter, size) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces
