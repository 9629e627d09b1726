"""What the numbers may be that a person sets: each check names the argument and says what to give instead."""

import re
from collections.abc import Sequence

from recon.errors import InputError

# No net of use is wider; what fits the memory is worked out where a net is built.
WIDEST = 1 << 20
# Each layer is a Python object: a million of them would take minutes before anything could be refused.
DEEPEST = 1000


def fraction(text: str) -> float | None:
    """Read a text such as "25/255" as a number; None where it is no fraction.

    >>> fraction("1/8")
    0.125
    """
    if not re.fullmatch(r"\d+(\.\d+)?/\d*[1-9]\d*(\.\d+)?", text):
        return None
    above, below = text.split("/")
    return float(above) / float(below)


def require_whole(name: str, value: int, least: int = 1, most: int = WIDEST) -> None:
    """Raise InputError unless an argument is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name}: {value!r} is out of range; give a whole number from {least} to {most}")


def require_number(name: str, value: float, least: float = 0.0, most: float = 1e9) -> None:
    """Raise InputError unless an argument is a finite number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InputError(f"{name}: {value!r} is out of range; give a number from {least:g} to {most:g}")


def require_share(name: str, value: float) -> None:
    """Raise InputError unless an argument is at least 0 and below 1."""
    require_number(name, value)
    if value >= 1:
        raise InputError(f"{name}: {value!r} is out of range; give a number of at least 0 and below 1")


def require_widths(name: str, values: Sequence[int], least: int = 1, count: int | None = None) -> None:
    """Raise InputError unless an argument is a list of at least `least` widths, or of just `count`."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InputError(f"{name}: {values!r} is no list; give the widths as {name}=[32,64]")
    if not least <= len(values) <= DEEPEST or (count is not None and len(values) != count):
        wanted = f"{count}" if count is not None else f"{least} to {DEEPEST}"
        raise InputError(f"{name}: there are {len(values)} widths; give {wanted}")
    for value in values:
        require_whole(name, value)


_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def seconds_of(name: str, text: str) -> float:
    """Read a length of time such as "90s", "20min" or "1h30min"; raises InputError where it is none.

    >>> seconds_of("budget", "1h30min")
    5400.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*", str(text))
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != re.sub(r"\s", "", str(text)):
        raise InputError(f"{name}: {text!r} is no length of time; give one such as {name}=20min or {name}=1h30min")
    seconds = float(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if not 0 < seconds <= 366 * 86400:
        raise InputError(f"{name}: {text} is out of range; give more than 0s and at most 366d")
    return seconds
