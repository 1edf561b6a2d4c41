"""Arrays of exact binary fractions, and the narrowest fixed-point format that holds them.

What is folded here is folded without rounding, or not at all. Refuses to know graphs and layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.errors import ModelError
from hw.fixed_point import FixedFormat
from hw.ingest.target import check_word, checked

_MAXIMUM_FRACTION = 256
"""Fraction bits up to which numbers are looked at; no format has as many."""

_MAXIMUM_BITS = 2048
"""Of products on the way: a file must not make them grow without end."""

Integers = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Exact:
    """Numbers `raw / 2**fraction`.

    Parameters
    ----------
    raw
        Python integers, any shape.
    fraction
        Fraction bits of all of them; may be negative.
    format
        Their declared format, when a quantiser gave them one: then `fraction` is that of the format.
    """

    raw: Integers
    fraction: int
    format: FixedFormat | None = None

    def __post_init__(self) -> None:
        largest = max(abs(int(self.raw.min())), abs(int(self.raw.max()))) if self.raw.size else 0
        if abs(self.fraction) > _MAXIMUM_BITS or largest.bit_length() > _MAXIMUM_BITS:
            raise ModelError("the graph multiplies numbers that are far beyond any format: export it again")

    @classmethod
    def of(cls, what: str, values: Iterable[Fraction | float], shape: tuple[int, ...] | None = None) -> Exact:
        """Take numbers as they are.

        Parameters
        ----------
        what
            Their name for error messages.
        values
            Finite numbers, flat.
        shape
            Of the result; None keeps it flat.

        Raises
        ------
        ModelError
            When one is no binary fraction, such as a third.
        """
        ratios = [value.as_integer_ratio() for value in values]
        largest = max((q for _, q in ratios), default=1)
        if any(q & (q - 1) for _, q in ratios) or largest.bit_length() > _MAXIMUM_FRACTION:
            raise ModelError(
                f"{what} is not on a binary grid and cannot be bit-true: fold it into the parameters before "
                "quantising"
            )
        fraction = largest.bit_length() - 1
        raw = np.empty(len(ratios), dtype=object)
        raw[:] = [p * (largest // q) for p, q in ratios]
        return cls(raw.reshape(shape or (len(ratios),)), fraction)

    @classmethod
    def on_grid(cls, values: npt.NDArray[np.float64], fmt: FixedFormat) -> Exact:
        """Take numbers that are on the grid of a format."""
        return cls(np.ldexp(values, fmt.fraction).astype(np.int64).astype(object), fmt.fraction, fmt)

    @property
    def is_zero(self) -> bool:
        """Whether all of them are 0."""
        return not self.raw.any()

    @property
    def is_one(self) -> bool:
        """Whether all of them are 1."""
        return self.fraction >= 0 and bool(np.all(self.raw == 1 << self.fraction))

    def reshaped(self, shape: tuple[int, ...]) -> Exact:
        """Give the same numbers in another shape, repeated where numpy's broadcasting says so."""
        same_size = prod(shape) == self.raw.size
        raw = self.raw.reshape(shape) if same_size else np.broadcast_to(self.raw, shape)
        return replace(self, raw=raw)

    def times(self, other: Exact) -> Exact:
        """Multiply element by element; a format survives factors that are one power of two."""
        if self.format is not None and (shift := other.power_of_two()) is not None:
            fmt = replace(self.format, integer=self.format.integer + shift)
            return Exact(np.broadcast_arrays(self.raw, other.raw)[0], fmt.fraction, fmt)
        return Exact(self.raw * other.raw, self.fraction + other.fraction)

    def plus(self, other: Exact) -> Exact:
        """Add element by element; adding to zero keeps a format."""
        if self.is_zero:
            return replace(other, raw=np.broadcast_arrays(other.raw, self.raw)[0])
        if other.is_zero:
            return replace(self, raw=np.broadcast_arrays(self.raw, other.raw)[0])
        fraction = max(self.fraction, other.fraction)
        return Exact(self._aligned(fraction) + other._aligned(fraction), fraction)

    def through(self, matrix: Exact) -> Exact:
        """Multiply a flat array by a matrix."""
        return Exact(np.dot(self.raw, matrix.raw), self.fraction + matrix.fraction)

    def power_of_two(self) -> int | None:
        """Give n when all of them are 2**n."""
        first = int(self.raw.flat[0]) if self.raw.size else 0
        if first <= 0 or first & (first - 1) or not np.all(self.raw == first):
            return None
        return first.bit_length() - 1 - self.fraction

    def narrowest(self, what: str) -> FixedFormat:
        """Give the narrowest signed format that holds all of them; raises ModelError when there is none."""
        combined = int(np.bitwise_or.reduce(self.raw, axis=None)) if self.raw.size else 0
        if not combined:
            return checked(what, 2, 2)
        empty = (combined & -combined).bit_length() - 1
        low, high = int(self.raw.min()), int(self.raw.max())
        bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
        width = max(bits - empty, 2)
        return checked(what, width, width - (self.fraction - empty))

    def parameters(self, what: str) -> tuple[npt.NDArray[np.int64], FixedFormat]:
        """Give raw integers and their format: the declared one, else the narrowest.

        Raises
        ------
        ModelError
            When it needs more than a 32-bit word.
        """
        fmt = self.format or self.narrowest(what)
        check_word(what, fmt)
        return self.within(what, fmt), fmt

    def within(self, what: str, fmt: FixedFormat) -> npt.NDArray[np.int64]:
        """Give raw integers of a format; raises ModelError when it does not hold the numbers exactly."""
        shift = fmt.fraction - self.fraction
        raw = self.raw << shift if shift >= 0 else self.raw >> -shift
        lossless = shift >= 0 or not np.any(self.raw & ((1 << -shift) - 1))
        if not lossless or np.any(raw < fmt.raw_minimum) or np.any(raw > fmt.raw_maximum):
            raise ModelError(f"{what} is not exact in {fmt}: use a format that holds it")
        return np.asarray(raw, dtype=np.int64)

    def fractions(self) -> list[Fraction]:
        """Give them as rational numbers, flat."""
        unit = Fraction(2) ** -self.fraction
        return [int(value) * unit for value in self.raw.ravel()]

    def _aligned(self, fraction: int) -> Any:
        return self.raw << (fraction - self.fraction)


def square_root(what: str, value: Fraction) -> Fraction:
    """Give the rational square root; raises ModelError when there is none."""
    if value <= 0:
        raise ModelError(f"{what} has a variance that is not above zero: train the model again")
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root != value:
        raise ModelError(
            f"{what} divides by a square root that is not exact and cannot be bit-true: merge it into the "
            "weights before quantising (brevitas.nn.utils.merge_bn), or put a Quant behind the product"
        )
    return root
