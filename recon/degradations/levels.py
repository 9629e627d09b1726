"""Checks of a degradation's parameters; each error names the parameter and what to give.

The bounds exclude meaningless values, such as noise of 25 times the range of light, and those that would take forever.
"""

import re
import reprlib
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, TypeAlias

from recon.errors import InputError
from recon.ranges import require_number

Range: TypeAlias = float | Sequence[float]  # a number, or the two ends between which each sample draws


def ends(name: str, value: Range, low: float, high: float, kind: str = "number") -> tuple[float, float]:
    """Return the two ends of a number or range that must lie in [low,high], or raise InputError naming `name`.

    >>> ends("sigma", 2, 0, 50), ends("sigma", [1, 3], 0, 50)
    ((2.0, 2.0), (1.0, 3.0))
    """
    pair = _pair(value)
    if not (len(pair) == 2 and all(map(_is_number, pair)) and low <= pair[0] <= pair[1] <= high):
        raise _misfit(name, value, low, high, kind, ", or a range [low,high] of two such numbers")
    return float(pair[0]), float(pair[1])


def whole_ends(name: str, value: Range, low: int, high: int) -> tuple[float, float]:
    """Return the two ends of a whole number or range of whole numbers in [low,high]; raises as `ends`.

    >>> whole_ends("bits", [1, 3], 1, 8)
    (1.0, 3.0)
    """
    pair = ends(name, value, low, high, "whole number")
    if not all(end.is_integer() for end in pair):
        raise _misfit(name, value, low, high, "whole number")
    return pair


def light_ends(name: str, value: Range) -> tuple[float, float]:
    """Return the two ends of a level of light in [0,1]; raises as `ends`, and for levels of 255 says what to type.

    >>> light_ends("sigma", [0, 0.1])
    (0.0, 0.1)
    """
    _require_no_bytes(name, _pair(value))
    return ends(name, value, 0, 1)


def light(name: str, value: float, low: float = 0.0) -> float:
    """Return a level of light in [low,1] or raise InputError, which for a level of 255 says what to type.

    >>> light("fill", 1)
    1.0
    """
    _require_no_bytes(name, (value, value))
    require_number(name, value, low, 1)
    return float(value)


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """Return the word if it is one of the choices, or raise InputError, which names `name` and lists them.

    >>> one_of("side", "left", ("left", "right"))
    'left'
    """
    choices = list(choices)
    if value not in choices:
        raise InputError(f"{name}: {reprlib.repr(value)} does not exist; give one of {', '.join(choices)}")
    return value


def too_small(scale: int, height: int, width: int) -> InputError:
    """Return the error that images would become smaller than a pixel.

    >>> too_small(9, 8, 20)
    InputError('scale: 9 would leave 0×2 pixels of 8×20; give at most 8')
    """
    left = f"{height // scale}×{width // scale}"
    return InputError(
        f"scale: {scale} would leave {left} pixels of {height}×{width}; give at most {min(height, width)}"
    )


def within(key: str, error: InputError) -> InputError:
    """Put the key of a degradation before the parameter that its error names, or before the sentence.

    >>> within("steps.blur", InputError("sigma: 99 does not fit"))
    InputError('steps.blur.sigma: 99 does not fit')
    """
    sentence = str(error)
    named = re.match(r"[\w.]+: ", sentence)
    return InputError(f"{key}.{sentence}" if named else f"{key}: {sentence}")


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
        levels = values[values[0] == values[1] :]
        shares = [f"{level / 255:.3g}" for level in levels]
        of_255 = " and ".join(f"{level:g}/255 is {share}" for level, share in zip(levels, shares, strict=True))
        typed = shares[0] if len(shares) == 1 else f"[{','.join(shares)}]"
        raise InputError(f"{name}: levels are in [0,1], where {of_255}; give {typed}")
