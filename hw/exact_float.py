"""Fixed-point arithmetic in floating point, where the number of bits proves it exact.

A float64 holds every integer up to 2^53, a float32 up to 2^24, each times a power of two. As long as no
intermediate result needs more bits, adding and multiplying round nothing, in whatever order a BLAS library
works. Refuses to know stages and models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.fixed_point import FixedFormat, Overflow, Rounding

Floats = npt.NDArray[np.floating[Any]]

_SIGNIFICANT_BITS: tuple[tuple[type[np.floating[Any]], int], ...] = ((np.float32, 24), (np.float64, 53))
_SLACK = 1
"""What rounding and the two's complement of a wrap add to the larger of the two widths."""


def number_for(bits: int, shift: int, fmt: FixedFormat) -> type[np.floating[Any]] | None:
    """Choose the number type in which a conversion into a format is exact.

    Parameters
    ----------
    bits
        Every intermediate result, in units of its last bit, stays within +-2^bits.
    shift
        Bits by which that last bit is below the one of `fmt`; negative when it is above.
    fmt
        Where the result goes.

    Returns
    -------
    type or None
        float32, float64, or None: integers are needed.
    """
    needed = max(bits, bits - shift, shift, fmt.width) + _SLACK
    return next((number for number, held in _SIGNIFICANT_BITS if needed <= held), None)


class Landing:
    """How values come to rest in a format: rounded, then brought into range, then rectified if wanted.

    Parameters
    ----------
    fmt
        The format.
    shift
        As for `number_for`.
    relu
        Whether negative results become zero.

    Attributes
    ----------
    half
        What must have been added to the values before; it is free where something is added anyway.
    """

    def __init__(self, fmt: FixedFormat, shift: int, *, relu: bool = False) -> None:
        self._round: Any = None
        self.half = 0.0
        if shift > 0:
            self._round = np.rint if fmt.rounding is Rounding.RND_CONV else np.floor
            self.half = 0.5 if fmt.rounding is Rounding.RND else 0.0
        self._wraps = fmt.overflow is Overflow.WRAP
        self._width = fmt.width
        self._minimum = fmt.raw_minimum
        self._limits: tuple[int | None, int | None] | None = (fmt.raw_minimum, fmt.raw_maximum)
        if self._wraps:
            self._limits = None
        if relu:
            self._limits = (0, None if self._wraps else fmt.raw_maximum)

    def __call__(self, values: Floats) -> None:
        """Convert values in units of the format's last bit, in place, (n, ...)."""
        if self._round is not None:
            self._round(values, out=values)
        if self._wraps:
            values -= self._minimum
            values -= np.ldexp(np.floor(np.ldexp(values, -self._width)), self._width)
            values += self._minimum
        if self._limits is not None:
            np.clip(values, *self._limits, out=values)
