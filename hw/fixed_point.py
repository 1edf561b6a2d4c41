"""Fixed-point numbers as firmware holds them: formats, and exact conversions of raw integers.

The semantics are those of `ap_fixed` (Xilinx UG1399, "Arbitrary Precision Fixed-Point Data Types"): a value
is rounded first, then brought into range. This module refuses to know models, files and boards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from hw.errors import FormatError

MAXIMUM_WIDTH = 62
"""Widest format in bits, so that every raw value and its rounding fit into int64."""

MAXIMUM_SHIFT = 62
"""Largest difference of fraction bits one conversion may bridge."""


class Rounding(StrEnum):
    """What happens to the bits that do not fit below the last one."""

    RND = "RND"
    """Nearest; a tie goes towards plus infinity."""
    RND_CONV = "RND_CONV"
    """Nearest; a tie goes to the even neighbour."""
    TRN = "TRN"
    """Towards minus infinity."""


class Overflow(StrEnum):
    """What happens to values outside the range."""

    SAT = "SAT"
    """The nearest end of the range."""
    WRAP = "WRAP"
    """The bits above the first one are dropped."""


_PATTERN = re.compile(
    r"(?:ap_)?(?P<kind>u?fixed)<\s*(?P<width>\d+)\s*,\s*(?P<integer>-?\d+)\s*"
    r"(?:,\s*(?:AP_)?(?P<rounding>RND_CONV|RND|TRN)\s*)?"
    r"(?:,\s*(?:AP_)?(?P<overflow>SAT|WRAP)\s*)?>"
)


@dataclass(frozen=True, slots=True)
class FixedFormat:
    """One fixed-point type.

    Parameters
    ----------
    width
        All bits, the sign included.
    integer
        Bits left of the binary point, the sign included; may be negative or exceed `width`.
    signed
        Two's complement when true.
    rounding, overflow
        What a conversion into this format does.

    Examples
    --------
    >>> fmt = FixedFormat.parse("fixed<16,6,RND,SAT>")
    >>> fmt.lsb, fmt.raw_maximum
    (0.0009765625, 32767)
    """

    width: int
    integer: int
    signed: bool = True
    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "rounding", Rounding(self.rounding))
            object.__setattr__(self, "overflow", Overflow(self.overflow))
        except ValueError as error:
            raise FormatError(f"{error}: use RND, RND_CONV or TRN, and SAT or WRAP") from error
        if not 1 <= self.width <= MAXIMUM_WIDTH:
            raise FormatError(f"{self}: a width must be between 1 and {MAXIMUM_WIDTH} bits")
        if abs(self.fraction) > MAXIMUM_SHIFT:
            raise FormatError(f"{self}: at most {MAXIMUM_SHIFT} fraction bits, use fewer")

    @classmethod
    def parse(cls, text: str) -> FixedFormat:
        """Read `fixed<16,6,RND,SAT>`, `ufixed<18,14>` or the same with the `ap_` and `AP_` prefixes.

        Raises
        ------
        FormatError
            When the text is not such a format.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise FormatError(f"{text!r} is not a fixed-point format: write e.g. fixed<16,6,RND,SAT>")
        return cls(
            width=int(match["width"]),
            integer=int(match["integer"]),
            signed=match["kind"] == "fixed",
            rounding=Rounding(match["rounding"] or "TRN"),
            overflow=Overflow(match["overflow"] or "WRAP"),
        )

    @property
    def fraction(self) -> int:
        """Bits right of the binary point."""
        return self.width - self.integer

    @property
    def raw_minimum(self) -> int:
        """Smallest raw integer."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def raw_maximum(self) -> int:
        """Largest raw integer."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1

    @property
    def lsb(self) -> float:
        """Value of the last bit."""
        return float(2.0**-self.fraction)

    @property
    def cpp(self) -> str:
        """The type's name in C++, e.g. `ap_fixed<16,6,AP_RND,AP_SAT>`."""
        kind = "ap_fixed" if self.signed else "ap_ufixed"
        return f"{kind}<{self.width},{self.integer},AP_{self.rounding},AP_{self.overflow}>"

    def __str__(self) -> str:
        kind = "fixed" if self.signed else "ufixed"
        if self.rounding is Rounding.TRN and self.overflow is Overflow.WRAP:
            return f"{kind}<{self.width},{self.integer}>"
        return f"{kind}<{self.width},{self.integer},{self.rounding},{self.overflow}>"

    def holds(self, raw: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Say for each raw integer whether it is inside the range of this format."""
        inside: npt.NDArray[np.bool_] = (raw >= self.raw_minimum) & (raw <= self.raw_maximum)
        return inside


def quantise(values: npt.ArrayLike, fmt: FixedFormat) -> npt.NDArray[np.int64]:
    """Turn real numbers into raw integers of a format, exactly as `ap_fixed(double)` does.

    Parameters
    ----------
    values
        Any shape, float64. Infinities saturate in a SAT format.
    fmt
        The target.

    Returns
    -------
    numpy.ndarray
        int64, same shape.

    Raises
    ------
    FormatError
        For NaN, and for infinities in a WRAP format.
    """
    scaled = np.ldexp(np.asarray(values, dtype=np.float64), fmt.fraction)
    if np.isnan(scaled).any():
        raise FormatError(f"NaN has no value in {fmt}: find where the model became NaN")
    floor = np.floor(scaled)
    with np.errstate(invalid="ignore"):  # inf - inf: the clip below decides
        rest = scaled - floor
    if fmt.rounding is Rounding.RND:
        floor = floor + (rest >= 0.5)
    elif fmt.rounding is Rounding.RND_CONV:
        with np.errstate(invalid="ignore"):
            odd = np.fmod(floor, 2.0) != 0.0
        floor = floor + ((rest > 0.5) | ((rest == 0.5) & odd))
    if fmt.overflow is Overflow.SAT:
        # twice: as a float64, an end of more than 53 bits is rounded to just outside
        inside = np.clip(floor, fmt.raw_minimum, fmt.raw_maximum).astype(np.int64)
        return np.asarray(np.clip(inside, fmt.raw_minimum, fmt.raw_maximum))
    if np.isinf(floor).any():
        raise FormatError(f"infinity has no value in {fmt}: use a SAT format or find where it came from")
    return _wrap(np.fmod(floor, 2.0**fmt.width).astype(np.int64), fmt)


def to_float(raw: npt.ArrayLike, fmt: FixedFormat) -> npt.NDArray[np.float64]:
    """Turn raw integers into the real numbers they stand for (exact up to 53 bits)."""
    return np.asarray(np.ldexp(np.asarray(raw, dtype=np.int64).astype(np.float64), -fmt.fraction))


def requantise(raw: npt.NDArray[np.int64], from_fraction: int, fmt: FixedFormat) -> npt.NDArray[np.int64]:
    """Convert raw integers with `from_fraction` fraction bits into a format, exactly as `ap_fixed` does.

    Parameters
    ----------
    raw
        int64, any shape.
    from_fraction
        Fraction bits of `raw`.
    fmt
        The target.

    Raises
    ------
    FormatError
        When the two differ by more than `MAXIMUM_SHIFT` fraction bits.
    """
    shift = from_fraction - fmt.fraction
    if abs(shift) > MAXIMUM_SHIFT:
        raise FormatError(
            f"{from_fraction} fraction bits cannot become {fmt}: the shift exceeds {MAXIMUM_SHIFT}"
        )
    raw = np.asarray(raw, dtype=np.int64)
    if shift <= 0:
        if fmt.overflow is Overflow.SAT:
            raw = np.clip(raw, (fmt.raw_minimum >> -shift) - 1, (fmt.raw_maximum >> -shift) + 1)
        result = np.left_shift(raw, -shift)
    else:
        result = np.right_shift(raw, shift)
        below = np.right_shift(raw, shift - 1) & 1
        if fmt.rounding is Rounding.RND:
            result = result + below
        elif fmt.rounding is Rounding.RND_CONV:
            rest = raw & ((1 << (shift - 1)) - 1)
            result = result + (below & ((rest != 0) | (result & 1)))
    if fmt.overflow is Overflow.SAT:
        return np.asarray(np.clip(result, fmt.raw_minimum, fmt.raw_maximum))
    return _wrap(result, fmt)


def _wrap(raw: npt.NDArray[np.int64], fmt: FixedFormat) -> npt.NDArray[np.int64]:
    low = raw & ((1 << fmt.width) - 1)
    if not fmt.signed:
        return np.asarray(low)
    sign = 1 << (fmt.width - 1)
    return np.asarray((low ^ sign) - sign)
