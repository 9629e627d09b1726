"""Elements of HTML, escaped by construction: a plain string is text, only `Html` is markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Union

Child = Union["Html", str, int, float, None, Iterable["Child"]]

# Codes that steer a terminal or turn text round, and halves of characters: no text has use of them.
_CODES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
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
    """Put children one after the other."""
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
    return html.escape(printable(text))


def printable(text: str) -> str:
    """Replace the codes in a text that would not be shown but obeyed."""
    return _CODES.sub("\N{REPLACEMENT CHARACTER}", text)


def timed(*children: Child, name: str = "span") -> Html:
    """Mark what depends on when and how fast something ran: all the rest of a page is the same for the same numbers."""
    return tag(name, *children, class_="time")
