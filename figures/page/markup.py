"""HTML that is escaped by construction: whatever enters a tag as ordinary text leaves it as text."""

from html import escape
from typing import Any


class Html(str):
    """Markup. Every other string is text, and is escaped where it enters a tag."""


def tag(name: str, /, *children: str, **attributes: Any) -> Html:
    """<name attributes>children</name>.

    Args:
        children: `Html` stays as it is; other strings are escaped.
        attributes: `class_` is class, and an underscore a hyphen; None and False leave the attribute out, True writes
            its name alone; numbers are written short.
    """
    return Html(f"<{name}{_written(attributes)}>{join(*children)}</{name}>")


def void(name: str, /, **attributes: Any) -> Html:
    """An element without content or end tag, such as img."""
    return Html(f"<{name}{_written(attributes)}>")


def join(*children: str) -> Html:
    """The children one after the other, text escaped."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def _written(attributes: dict[str, Any]) -> str:
    written = ""
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        if isinstance(value, float):
            value = f"{value:.5g}"
        written += f" {name}" if value is True else f' {name}="{escape(str(value))}"'
    return written
