"""Elements of HTML, escaped by construction: a plain string is text, only `Html` is markup."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Union

from recon.streams import printable

Child = Union["Html", str, int, float, None, Iterable["Child"]]

_VOID = frozenset({"img", "input", "meta", "br", "line", "circle", "path", "rect", "col"})


class Html(str):
    """Text that is markup already."""


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """Make an element.

    Args:
        name: its name.
        children: strings are escaped, `Html` is taken as it is, None is nothing, lists are flattened.
        attributes: `class_` is written class, `data_x` data-x; True is written without a value, None and False not.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>" if name not in ("line", "circle", "path", "rect") else f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Concatenate children."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str | int | float):
            parts.append(_escaped(str(child)))
        elif child is not None:
            parts.append(join(child))
    return Html("".join(parts))


def _escaped(text: str) -> str:
    # An embedded image is a long attribute, and `printable` is slow.
    return html.escape(text if text.isprintable() else printable(text))


def cut(text: str, longest: int = 80) -> str:
    """Shorten a text that is longer than anybody reads."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def timed(*children: Child) -> Html:
    """Mark what depends on when and how fast something ran; the rest of a page is the same for the same numbers."""
    return tag("span", *children, class_="time")


def note(*children: Child) -> Html:
    """Make a paragraph in small print."""
    return tag("p", *children, class_="note")


def section(title: str, *children: Child) -> Html:
    """Make a section of a problem."""
    return tag("section", tag("h3", title), *children)


def table(head: Sequence[Child], rows: Iterable[Child], foot: Child = None, class_: str = "sortable") -> Html:
    """Make a table of rows; its head holds elements or the plain names of columns.

    On a telephone each row becomes a card, whose cells go by their `data_label`.
    """
    cells = [cell if isinstance(cell, Html) else tag("th", cell, scope="col") for cell in head]
    return tag("table", tag("thead", tag("tr", cells)), tag("tbody", rows), foot, class_=f"cards {class_}")


def scrolled(content: Html, label: str) -> Html:
    """Let wide content scroll sideways, by the keyboard too."""
    return tag("div", content, class_="scroll", tabindex=0, role="group", aria_label=label)
