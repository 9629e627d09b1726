"""Elements of HTML, escaped by construction: a plain string is text, only `Html` is markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
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
    # An image in an attribute is long, and the filter looks at each letter.
    return html.escape(text if text.isprintable() else printable(text))


def timed(*children: Child, name: str = "span") -> Html:
    """Mark what depends on when and how fast something ran: all the rest of a page is the same for the same numbers."""
    return tag(name, *children, class_="time")
