"""The scaling that trigger firmware does to a raw integer before its network sees it, in integers alone.

A stage is ``scaled_t((raw_t(raw) - offset) >> shift)`` with the fixed-point types of high-level synthesis,
as in the input scaling of the CMS Run-3 anomaly trigger. It refuses to know where the raw integer comes
from. Nothing here is a floating-point number, so the result is the firmware's bit by bit.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

TRN: Final = 0
RND: Final = 1
RND_CONV: Final = 2
_ROUNDINGS: Final = {"TRN": TRN, "RND": RND, "RND_CONV": RND_CONV}
_MAX_WIDTH: Final = 32
_TYPE: Final = re.compile(
    r"^ap_(?P<unsigned>u)?fixed<\s*(?P<width>\d{1,2})\s*,\s*(?P<integer>-?\d{1,2})\s*"
    r"(?:,\s*(?:AP_)?(?P<rounding>RND_CONV|RND|TRN)\s*)?(?:,\s*(?:AP_)?(?P<overflow>SAT|WRAP)\s*)?(?:,\s*0\s*)?>$"
)


@dataclass(frozen=True, slots=True)
class FixedType:
    """A type such as ``ap_fixed<8,6,RND_CONV,SAT>``: a code is an integer times ``2**-fraction``.

    Attributes
    ----------
    width, integer
        Bits in all, and before the binary point (sign included).
    signed
        False for ``ap_ufixed``.
    rounding
        `TRN` (floor), `RND` (half up) or `RND_CONV` (half to even).
    saturates
        False: out of range wraps around.
    """

    width: int
    integer: int
    signed: bool
    rounding: int
    saturates: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a type as it is written in C++; rounding defaults to TRN and overflow to WRAP, as there.

        Raises
        ------
        ValueError
            It is not such a type, or wider than 32 bits.
        """
        match = _TYPE.match(text.strip())
        if match is None:
            raise ValueError(f"'{text}' is no fixed-point type: write for example ap_fixed<8,6,RND_CONV,SAT>")
        width = int(match["width"])
        if not 1 <= width <= _MAX_WIDTH:
            raise ValueError(f"'{text}' has {width} bits: give 1 to {_MAX_WIDTH}")
        return cls(
            width=width,
            integer=int(match["integer"]),
            signed=match["unsigned"] is None,
            rounding=_ROUNDINGS[match["rounding"] or "TRN"],
            saturates=match["overflow"] == "SAT",
        )

    @property
    def fraction(self) -> int:
        """Bits after the binary point."""
        return self.width - self.integer

    @property
    def minimum(self) -> int:
        """Smallest code."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest code."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1

    def holds(self, code: int) -> bool:
        """Tell whether a code fits."""
        return self.minimum <= code <= self.maximum


class InputStage(BaseModel):
    """Firmware's scaling of one quantity, with its own numbers for every object.

    Attributes
    ----------
    raw
        Type that the raw integer is put into, for example ``ap_fixed<18,13>``.
    scaled
        Type that the network reads, for example ``ap_fixed<8,6,RND_CONV,SAT>``. What is streamed is its
        integer: 13 stands for 3.25 where the type has two bits after the point.
    offset
        What is subtracted, in raw units: one number for all objects, or a list of one for each. It is a
        multiple of the last bit of `raw`.
    shift
        By how many bits to shift right (negative: left), likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    raw: str
    scaled: str
    offset: float | list[float] = 0.0
    shift: int | list[int] = 0

    @field_validator("raw", "scaled")
    @classmethod
    def _is_type(cls, text: str) -> str:
        FixedType.parse(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 0 <= self.raw_type.fraction <= self.raw_type.width:
            raise ValueError(f"stage.raw = '{self.raw}' must have its binary point within its bits")
        for offset in self.offset if isinstance(self.offset, list) else [self.offset]:
            steps = offset * 2**self.raw_type.fraction
            if steps != int(steps):
                raise ValueError(f"stage offset {offset} is no multiple of the last bit of {self.raw}")
        for shift in self.shift if isinstance(self.shift, list) else [self.shift]:
            if not -self.raw_type.width < shift < self.raw_type.width:
                raise ValueError(f"stage shift {shift} is wider than {self.raw}")
        return self

    @cached_property
    def raw_type(self) -> FixedType:
        """`raw`, read."""
        return FixedType.parse(self.raw)

    @cached_property
    def scaled_type(self) -> FixedType:
        """`scaled`, read."""
        return FixedType.parse(self.scaled)

    def lengths(self) -> set[int]:
        """Return the lengths of the lists given, which must be the number of objects."""
        return {len(one) for one in (self.offset, self.shift) if isinstance(one, list)}

    def offset_steps(self, index: int) -> int:
        """Return the offset of one object in last bits of the raw type."""
        offset = self.offset[index] if isinstance(self.offset, list) else self.offset
        return int(offset * 2**self.raw_type.fraction)

    def shift_of(self, index: int) -> int:
        """Return the shift of one object."""
        return self.shift[index] if isinstance(self.shift, list) else self.shift

    def check_range(self, minimum: int, maximum: int, index: int) -> None:
        """Refuse raw integers that would wrap around somewhere in the stage.

        Raises
        ------
        ValueError
            They leave the raw type, or a scaled type that does not saturate.
        """
        fraction, shift = self.raw_type.fraction, self.shift_of(index)
        for raw in (minimum, maximum):
            unscaled = raw << fraction
            moved = unscaled - self.offset_steps(index)
            shifted = moved >> shift if shift >= 0 else moved << -shift
            if not all(self.raw_type.holds(code) for code in (unscaled, moved, shifted)):
                raise ValueError(
                    f"raw code {raw} leaves {self.raw} in the stage of object {index}: narrow it"
                )
            if not self.scaled_type.saturates and not self.scaled_type.holds(self._rounded(shifted)):
                raise ValueError(f"raw code {raw} wraps around in {self.scaled}: saturate, or shift further")

    def code(self, raw: int, index: int) -> int:
        """Scale one raw integer with the numbers of one object."""
        return int(self.codes(np.array([raw], dtype=np.int64), index)[0])

    def codes(self, raw: npt.NDArray[np.int64], index: int) -> npt.NDArray[np.int64]:
        """Scale raw integers with the numbers of one object: int64 in, int64 out, same shape."""
        moved = (raw << self.raw_type.fraction) - self.offset_steps(index)
        shift = self.shift_of(index)
        shifted = moved >> shift if shift >= 0 else moved << -shift
        rounded: npt.NDArray[np.int64] = self._rounded(shifted)
        return np.clip(rounded, self.scaled_type.minimum, self.scaled_type.maximum)

    def _rounded(self, steps: Any) -> Any:
        """Go from the fraction of the raw type to that of the scaled one; int or int64 array."""
        drop = self.raw_type.fraction - self.scaled_type.fraction
        if drop <= 0:
            return steps << -drop
        if self.scaled_type.rounding == TRN:
            return steps >> drop
        half = 1 << (drop - 1)
        if self.scaled_type.rounding == RND:
            return (steps + half) >> drop
        # half to even: what is added to an even result stops just short of carrying a tie
        return (steps + half - 1 + ((steps >> drop) & 1)) >> drop
