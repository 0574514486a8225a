"""The whole page: one file that asks the network for nothing."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from figures.files import write_atomically
from figures.page.blocks import Block, Card, Charts, Fold, Gallery, Picture, Rows, Section
from figures.page.charts import colour_rules, draw_charts, markers
from figures.page.markup import Html, join, tag, void
from figures.page.pictures import draw_gallery, draw_picture
from figures.page.tables import draw_rows

# The house's colours and greys, lighter: each keeps its hue and stands out from black.
DARK_COLOURS = ("#5AA9E6", "#FF8A4C", "#34CBA0", "#EDA6CF", "#F2B632", "#C8C8C8", "#979797", "#6E6E6E")


LONG, LONGEST = 12, 300  # entries of a list, and letters of a text, of a record


def write_page(path: str | Path, sections: Sequence[Section], title: str, lead: str = "") -> Path:
    """Write one self-contained HTML file, whole or not at all, and the same bytes for the same sections.

    All words are escaped; the page's security policy lets no script run but its own, and no resource load.

    Raises:
        ValueError: another suffix than .html; no section; a picture or table that cannot be shown.
        OSError: a folder that cannot be written to, a picture that is not there.
    """
    path = check_suffix(path)
    if not sections:
        raise ValueError("there is nothing to put on the page: give at least one section")
    page = draw_page(sections, title, lead)
    return write_atomically(path, lambda beside: beside.write_text(page, encoding="utf-8"))


def check_suffix(path: str | Path) -> Path:
    """The path, where it ends in .html. Raises ValueError for another."""
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"cannot write a page to {path.name!r}: end its name in .html")
    return path


def draw_page(sections: Sequence[Section], title: str, lead: str = "") -> Html:
    """The HTML of the page."""
    style = Html(_resource("page.css") + colour_rules(DARK_COLOURS))
    script = Html(_resource("page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        void("meta", charset="utf-8"),
        void("meta", http_equiv="Content-Security-Policy", content=policy),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="color-scheme", content="light dark"),
        void("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", style),
    )
    idents = [f"s{k}-{_slug(section.title)}" for k, section in enumerate(sections)]
    links = [
        tag("li", tag("a", section.title, href=f"#{ident}")) for ident, section in zip(idents, sections, strict=True)
    ]
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#main", class_="skip"),
        markers(),
        tag("header", tag("h1", title), *_paragraphs(lead)),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("main", *map(_draw_section, sections, idents), id="main", tabindex="-1"),
        tag("script", script),
    )
    return join(Html("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"), Html("\n"))


def draw_block(block: Block) -> Html:
    """The HTML of one block."""
    match block:
        case str():
            return join(*_paragraphs(block))
        case Charts():
            return draw_charts(block)
        case Rows():
            return draw_rows(block)
        case Card():
            return _draw_card(block)
        case Picture():
            return draw_picture(block)
        case Gallery():
            return draw_gallery(block)
        case Fold():
            return tag("details", tag("summary", block.summary), *map(draw_block, block.blocks))


def _draw_section(section: Section, ident: str) -> Html:
    cards = [draw_block(block) for block in section.blocks if isinstance(block, Card)]
    others = [draw_block(block) for block in section.blocks if not isinstance(block, Card)]
    together = [tag("div", *cards, class_="cards")] if cards else []
    title = tag("h2", section.title, id=f"{ident}-title")
    if section.folded:
        content = [tag("details", tag("summary", title), *others, *together)]
    else:
        content = [title, *others, *together]
    return tag("section", *content, id=ident, aria_labelledby=f"{ident}-title")


def _draw_card(card: Card) -> Html:
    facts = [join(tag("dt", name), tag("dd", value)) for name, value in card.facts.items()]
    record = Html()
    if card.record:
        text = json.dumps(_cut(card.record), indent=1, ensure_ascii=False, default=str)
        record = tag("details", tag("summary", "What run.json says"), tag("pre", text, tabindex="0"))
    return tag("article", tag("h3", card.name), tag("dl", *facts), record, class_="card")


def _cut(value: Any) -> Any:
    """The value with the beginnings of its long lists and texts alone."""
    if isinstance(value, Mapping):
        return {name: _cut(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        more = [f"… {len(value) - LONG} more"] if len(value) > LONG + 1 else []
        return [*map(_cut, value[: LONG if more else None]), *more]
    return f"{value[:LONGEST]}…" if isinstance(value, str) and len(value) > LONGEST else value


def _paragraphs(text: str) -> list[Html]:
    return [tag("p", part.strip()) for part in text.split("\n\n") if part.strip()]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _resource(name: str) -> str:
    return files("figures.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
