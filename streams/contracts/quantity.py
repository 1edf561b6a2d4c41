"""A measured quantity of a trigger object and how it becomes an integer code. Knows no file and no event.

All that follows the raw code (wrap, clamp, offset, shift, the firmware's input stage) is integer
arithmetic.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from streams.contracts import expression
from streams.contracts.input_stage import InputStage
from streams.errors import ContractError, ExpressionError

INT16_MINIMUM = -(2**15)
INT16_MAXIMUM = 2**15 - 1

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Rounding = Literal["floor", "nearest"]


class ContractModel(BaseModel):
    """A frozen part of a contract: unknown keys, wrong types and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def checked_expression(text: str | None) -> str | None:
    """Refuse, for pydantic, what `streams.contracts.expression` cannot parse."""
    if text is not None:
        try:
            expression.parse(text)
        except ExpressionError as error:
            raise ValueError(str(error)) from error
    return text


class Quantity(ContractModel):
    """One measured quantity of an object, and its integer code.

    The code of a value ``v`` is ``raw = round(v / lsb)``, wrapped or clamped to
    ``[minimum, maximum]``, then ``(raw - offset) >> shift`` (arithmetic shift). With a `stage`, what follows
    the raw code is the stage instead.

    Attributes
    ----------
    name
        ``pt``, ``eta`` and ``phi`` have their usual meaning for resampling and effects; any other is allowed.
    expression
        Expression over the branches of the tree (see `streams.contracts.expression`).
    lsb
        Size of one raw code, in `unit`.
    minimum, maximum
        Range of the raw code, both ends included. It must contain 0, the code of a missing object.
    wrap
        Period in codes for an angle; then ``maximum == minimum + wrap - 1``.
    rounding
        ``floor`` (the code names the lower edge) or ``nearest`` (ties to even).
    offset, shift
        Firmware's own re-scaling of the raw code, the same for every object and without fraction.
    coded
        The expression gives the raw code itself, an integer such as ``hwPt``; `lsb` then only says how much
        one raw code is worth. No floating-point number takes part.
    stage
        Firmware's own scaling in fixed point, with numbers for every object (see `InputStage`).
    """

    name: Name
    expression: str
    lsb: float = Field(gt=0)
    unit: str = ""
    minimum: int
    maximum: int
    wrap: int | None = Field(default=None, ge=2)
    rounding: Rounding = "floor"
    offset: int = 0
    shift: int = Field(default=0, ge=0, le=15)
    coded: bool = False
    stage: InputStage | None = None

    _expression = field_validator("expression")(checked_expression)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.minimum <= 0 <= self.maximum:
            raise ValueError(
                "the range must contain 0, the code of a missing object: mend minimum or maximum"
            )
        if self.wrap is not None and self.maximum != self.minimum + self.wrap - 1:
            raise ValueError(f"with wrap = {self.wrap} set maximum = {self.minimum + self.wrap - 1}")
        if self.wrap is not None and self.shift:
            raise ValueError("a wrapping quantity cannot be shifted: choose a larger lsb instead")
        if self.stage is not None and (self.offset or self.shift):
            raise ValueError("offset and shift stand inside stage when there is one: move them there")
        for index in range(self.n_numbers):
            if self.stage is not None:
                self.stage.check_range(self.minimum, self.maximum, index)
            if (
                self.code(self.minimum, index) < INT16_MINIMUM
                or self.code(self.maximum, index) > INT16_MAXIMUM
            ):
                raise ValueError("codes leave 16 bits: narrow minimum and maximum, or shift further")
        return self

    @property
    def n_numbers(self) -> int:
        """For how many objects the stage has numbers of its own; 1 where all objects share them."""
        return max(self.stage.lengths(), default=1) if self.stage is not None else 1

    def code(self, raw: int, index: int = 0) -> int:
        """Return the code of a raw code of the object of that index. It never falls where `raw` rises."""
        if self.stage is not None:
            return self.stage.code(raw, index)
        return (raw - self.offset) >> self.shift

    @property
    def code_minimum(self) -> int:
        """Smallest code of the first object."""
        return self.code(self.minimum)

    @property
    def code_maximum(self) -> int:
        """Largest code of the first object."""
        return self.code(self.maximum)

    def padding(self, index: int = 0) -> int:
        """Return the code of a missing object (raw code 0)."""
        return self.code(0, index)

    def spec(self, group: str, index: int) -> "InputSpec":
        """Describe the input that this quantity of one object becomes."""
        lsb, offset, shift = self.lsb * 2**self.shift, self.offset, self.shift
        if self.stage is not None:
            raw, scaled = self.stage.raw_type.fraction, self.stage.scaled_type.fraction
            lsb = self.lsb * 2.0 ** (self.stage.shift_of(index) - scaled)
            offset, shift = self.stage.offset_steps(index), self.stage.shift_of(index) - scaled + raw
        return InputSpec(
            name=f"{group}[{index}].{self.name}",
            object=group,
            index=index,
            quantity=self.name,
            lsb=lsb,
            unit=self.unit,
            minimum=self.code(self.minimum, index),
            maximum=self.code(self.maximum, index),
            wrap=self.wrap if self.stage is None else None,
            padding=self.padding(index),
            rounding=self.rounding,
            offset=offset,
            shift=shift,
            staged=self.stage is not None,
        )


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One integer input of the model.

    `minimum`, `maximum`, `wrap` and `padding` are in codes as streamed, `lsb` is the size of one such
    code in `unit`; the value of a code is ``code * lsb + offset * lsb / 2**shift + origin``. A `staged`
    input went through firmware's scaling: what was rounded or saturated there cannot be told from the code.
    """

    name: str
    object: str
    index: int
    quantity: str
    lsb: float
    unit: str
    minimum: int
    maximum: int
    wrap: int | None
    padding: int
    rounding: Rounding
    offset: int
    shift: int
    staged: bool = False
    origin: float = 0.0


def digitise(values: npt.ArrayLike, quantity: Quantity, index: int = 0) -> npt.NDArray[np.int16]:
    """Turn physical values, or raw codes where the quantity is `coded`, into integer codes.

    Parameters
    ----------
    values
        Array of any shape: numbers in ``quantity.unit``, or integers.
    quantity
        How to round, wrap or clamp, offset and shift.
    index
        Of the object, where the stage has numbers for each.

    Returns
    -------
    int16 array of the same shape.

    Raises
    ------
    ContractError
        A value is NaN or infinite: it has no code, and the caller decides what becomes of its event.
        Or a coded value is no integer.
    """
    array = np.asarray(values)
    if quantity.coded:
        if array.dtype.kind not in "iub":
            raise ContractError(f"quantity '{quantity.name}' is coded, not {array.dtype}: give integers")
        raw = array.astype(np.int64)
        if quantity.wrap is not None:
            raw = quantity.minimum + (raw - quantity.minimum) % quantity.wrap
        raw = np.clip(raw, quantity.minimum, quantity.maximum)
    else:
        raw = _raw_codes(array.astype(np.float64), quantity)
    if quantity.stage is not None:
        return quantity.stage.codes(raw, index).astype(np.int16)
    return ((raw - quantity.offset) >> quantity.shift).astype(np.int16)


def _raw_codes(array: npt.NDArray[np.float64], quantity: Quantity) -> npt.NDArray[np.int64]:
    if not np.isfinite(array).all():
        raise ContractError(f"quantity '{quantity.name}' holds NaN or infinity: drop those events first")
    scaled = array / quantity.lsb
    rounded = np.floor(scaled) if quantity.rounding == "floor" else np.rint(scaled)
    if quantity.wrap is not None:
        rounded = quantity.minimum + np.mod(rounded - quantity.minimum, quantity.wrap)
    return np.clip(rounded, quantity.minimum, quantity.maximum).astype(np.int64)


def is_full_turn(spec: InputSpec) -> bool:
    """Tell whether an input is an angle in radians whose period is one turn."""
    return (
        spec.wrap is not None
        and spec.unit == "rad"
        and math.isclose(spec.wrap * spec.lsb, math.tau, rel_tol=1e-6)
    )
