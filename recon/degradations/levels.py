"""What a person may give as the parameters of a degradation; each sentence names the parameter and what to give.

The bounds keep out what means nothing, such as noise of 25 times the range of light, and what would take for ever.
"""

import reprlib
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, TypeAlias

from recon.errors import InputError
from recon.ranges import require_number

Range: TypeAlias = float | Sequence[float]  # a number, or the two ends between which each sample draws


def ends(name: str, value: Range, low: float, high: float, kind: str = "number") -> tuple[float, float]:
    """Give the two ends of a number or range that must lie in [low,high].

    Raises:
        InputError: it is neither a number nor a range, reversed, or out of bounds; the sentence names `name`.
    """
    found = _pair(value)
    if not (len(found) == 2 and all(map(_is_number, found)) and low <= found[0] <= found[1] <= high):
        raise _misfit(name, value, low, high, kind, ", or a range [low,high] of two such numbers")
    return float(found[0]), float(found[1])


def whole_ends(name: str, value: Range, low: int, high: int) -> tuple[float, float]:
    """Give the two ends of a whole number or range of whole numbers that must lie in [low,high]; raises as `ends`."""
    found = ends(name, value, low, high, "whole number")
    if not all(end.is_integer() for end in found):
        raise _misfit(name, value, low, high, "whole number")
    return found


def light_ends(name: str, value: Range) -> tuple[float, float]:
    """Give the two ends of a level of light in [0,1]; raises as `ends`, of levels of 255 with the value to type."""
    _require_no_bytes(name, _pair(value))
    return ends(name, value, 0, 1)


def light(name: str, value: float, low: float = 0.0) -> float:
    """Give a level of light in [low,1]; raises InputError, of a level of 255 with the value to type."""
    _require_no_bytes(name, (value, value))
    require_number(name, value, low, 1)
    return float(value)


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """Give the word if it is one of the choices; raises InputError, which names `name` and lists them."""
    known = list(choices)
    if value not in known:
        raise InputError(f"{name}: {reprlib.repr(value)} does not exist; give one of {', '.join(known)}")
    return value


def too_small(scale: int, height: int, width: int) -> InputError:
    """Say that images would be made smaller than a pixel."""
    left = f"{height // scale}×{width // scale}"
    return InputError(
        f"scale: {scale} would leave {left} pixels of {height}×{width}; give at most {min(height, width)}"
    )


def _pair(value: Range) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _misfit(name: str, value: object, low: float, high: float, kind: str, more: str = "") -> InputError:
    more = "" if _is_number(value) else more
    return InputError(f"{name}: {reprlib.repr(value)} does not fit; give a {kind} from {low:g} to {high:g}{more}")


def _require_no_bytes(name: str, values: tuple[Any, ...]) -> None:
    """Raise InputError for levels of 255, such as the literature's "sigma 25"."""
    if len(values) == 2 and all(map(_is_number, values)) and 0 <= values[0] <= values[1] <= 255 and values[1] > 1:
        ends_of = values[values[0] == values[1] :]
        wanted = [f"{end / 255:.3g}" for end in ends_of]
        of_255 = " and ".join(f"{end:g}/255 is {share}" for end, share in zip(ends_of, wanted, strict=True))
        typed = wanted[0] if len(wanted) == 1 else f"[{','.join(wanted)}]"
        raise InputError(f"{name}: levels are in [0,1], where {of_255}; give {typed}")
