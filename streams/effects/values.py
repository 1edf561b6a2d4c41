"""The values an effect is written with: one function for each sort, from text to value. Knows no effect.

Each returns a reader that raises `EffectError` with what to write instead.
"""

import math
import re
from collections.abc import Callable
from typing import Final

from streams.errors import EffectError

Value = float | str | tuple[float, float]
Reader = Callable[[str], Value]

INPUT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\[\d{1,3}\]\.[A-Za-z][A-Za-z0-9_-]*")
OBJECT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_LONG: Final = 1e15
"""Whole numbers from here on are written with an exponent."""
_LARGEST: Final = 1e9
"""No effect needs more, and what is calculated from less cannot overflow."""
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def number(
    cure: str, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> Reader:
    """Read a number from `least`, or above `above`, up to `most`; `cure` is said of any other."""

    def read(text: str) -> float:
        value = _finite(text)
        if value is None or not (least <= value <= most and value > above):
            raise EffectError(cure)
        return value

    return read


def whole(cure: str, *, least: float = -math.inf, most: float = math.inf) -> Reader:
    """Read an integer from `least` to `most`; `cure` is said of any other."""

    def read(text: str) -> int:
        value = _finite(text)
        if value is None or value != int(value) or not least <= value <= most:
            raise EffectError(cure)
        return int(value)

    return read


def pair(cure: str, *, least: float = -math.inf) -> Reader:
    """Read two numbers from `least` on, with a comma between them."""

    def read(text: str) -> tuple[float, float]:
        values = [_finite(part) for part in text.split(",")]
        match values:
            case [float(first), float(second)] if min(first, second) >= least:
                return first, second
        raise EffectError(cure)

    return read


def word(cure: str, *words: str) -> Reader:
    """Read one of some words."""

    def read(text: str) -> str:
        if text not in words:
            raise EffectError(cure)
        return text

    return read


def either(choice: str, reader: Reader) -> Reader:
    """Read one word, or else what a reader reads."""

    def read(text: str) -> Value:
        return text if text == choice else reader(text)

    return read


def input_name(cure: str) -> Reader:
    """Read the name of an input."""

    def read(text: str) -> str:
        if INPUT.fullmatch(text) is None:
            raise EffectError(cure)
        return text

    return read


def written(value: Value) -> str:
    """Write a value so that its reader reads the same."""
    if isinstance(value, tuple):
        return ",".join(written(part) for part in value)
    if isinstance(value, str):
        return value
    is_whole = math.isfinite(value) and value == int(value) and abs(value) < _LONG
    return str(int(value)) if is_whole else repr(float(value))


def _finite(text: str) -> float | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    value = float(text)
    return value if abs(value) <= _LARGEST else None
