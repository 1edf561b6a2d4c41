"""The contract: which numbers a monitored model sees, in order, and how each becomes an integer code.

The one definition that conversion, streaming, references, retraining and firmware share. It refuses
to know where events come from or what is done with them; it reads one TOML file and nothing else.
"""

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from streams import expression
from streams.errors import ContractError, ExpressionError

INT16_MINIMUM = -(2**15)
INT16_MAXIMUM = 2**15 - 1

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Rounding = Literal["floor", "nearest"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _checked_expression(text: str | None) -> str | None:
    if text is not None:
        try:
            expression.parse(text)
        except ExpressionError as error:
            raise ValueError(str(error)) from error
    return text


class Quantity(_Model):
    """One measured quantity of an object, and its integer code.

    The code of a value ``v`` is ``raw = round(v / lsb)``, wrapped or clamped to
    ``[minimum, maximum]``, then ``(raw - offset) >> shift`` (arithmetic shift).

    Attributes
    ----------
    name
        ``pt``, ``eta`` and ``phi`` have their usual meaning for resampling and effects; any other is allowed.
    expression
        Expression over the branches of the tree (see `streams.expression`).
    lsb
        Size of one raw code, in `unit`.
    minimum, maximum
        Range of the raw code, both ends included. It must contain 0, the code of a missing object.
    wrap
        Period in codes for an angle; then ``maximum == minimum + wrap - 1``.
    rounding
        ``floor`` (the code names the lower edge) or ``nearest`` (ties to even).
    offset, shift
        Firmware's own re-scaling of the raw code.
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

    _expression = field_validator("expression")(_checked_expression)

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
        if self.code_minimum < INT16_MINIMUM or self.code_maximum > INT16_MAXIMUM:
            raise ValueError("codes leave 16 bits: narrow minimum and maximum, or shift further")
        return self

    @property
    def code_minimum(self) -> int:
        """Smallest code after offset and shift."""
        return (self.minimum - self.offset) >> self.shift

    @property
    def code_maximum(self) -> int:
        """Largest code after offset and shift."""
        return (self.maximum - self.offset) >> self.shift

    @property
    def padding(self) -> int:
        """Code of a missing object (raw code 0)."""
        return (0 - self.offset) >> self.shift


class ObjectGroup(_Model):
    """A fixed number of trigger objects of one kind, for example the ten leading jets."""

    name: Name
    count: int = Field(ge=1, le=256)
    sort_by: str | None = None
    quantities: list[Quantity] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [quantity.name for quantity in self.quantities]
        if len(set(names)) != len(names):
            raise ValueError(f"object '{self.name}' has a quantity twice: rename one")
        if self.sort_by is not None and self.sort_by not in names:
            raise ValueError(
                f"sort_by = '{self.sort_by}' is not a quantity of '{self.name}': use one of {names}"
            )
        return self

    def quantity(self, name: str) -> Quantity | None:
        """Return the quantity of that name, or None."""
        return next((quantity for quantity in self.quantities if quantity.name == name), None)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One integer input of the model.

    `minimum`, `maximum`, `wrap` and `padding` are in codes as streamed, `lsb` is the size of one such
    code in `unit`; the value at the code's origin is ``code * lsb + offset * lsb / 2**shift``.
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


class Contract(_Model):
    """The inputs of a monitored model, in order. Build it with `load_contract`.

    Attributes
    ----------
    tree
        Name of the TTree that holds the events.
    objects
        Object groups; inputs are numbered group by group, object by object, quantity by quantity.
    weight, run, lumisection, event
        Expressions for what is kept beside the inputs, or None.
    """

    name: Name
    version: int = Field(ge=1)
    description: str = ""
    tree: str = Field(min_length=1)
    weight: str | None = None
    run: str | None = None
    lumisection: str | None = None
    event: str | None = None
    objects: list[ObjectGroup] = Field(min_length=1)

    _expressions = field_validator("weight", "run", "lumisection", "event")(_checked_expression)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [group.name for group in self.objects]
        if len(set(names)) != len(names):
            raise ValueError("an object stands twice under [[objects]]: rename one or merge them")
        return self

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Every input in order, for example ``met[0].pt, met[0].eta, ..., jet[9].phi``."""
        return tuple(
            InputSpec(
                name=f"{group.name}[{index}].{quantity.name}",
                object=group.name,
                index=index,
                quantity=quantity.name,
                lsb=quantity.lsb * 2**quantity.shift,
                unit=quantity.unit,
                minimum=quantity.code_minimum,
                maximum=quantity.code_maximum,
                wrap=quantity.wrap,
                padding=quantity.padding,
                rounding=quantity.rounding,
                offset=quantity.offset,
                shift=quantity.shift,
            )
            for group in self.objects
            for index in range(group.count)
            for quantity in group.quantities
        )

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(self.inputs)

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the canonical JSON of the content; comments and layout of the file do not count."""
        text = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.input_names)}

    def input_index(self, name: str) -> int:
        """Return the position of an input.

        Raises
        ------
        ContractError
            There is no input of that name.
        """
        try:
            return self._index[name]
        except KeyError:
            hint = _did_you_mean(name, self.input_names)
            raise ContractError(f"contract '{self.name}' has no input '{name}'{hint}") from None

    def group(self, name: str) -> ObjectGroup:
        """Return the object group of that name.

        Raises
        ------
        ContractError
            There is no such object.
        """
        for group in self.objects:
            if group.name == name:
                return group
        known = ", ".join(group.name for group in self.objects)
        raise ContractError(f"contract '{self.name}' has no object '{name}'; it has {known}")

    @cached_property
    def presence(self) -> npt.NDArray[np.intp]:
        """For each input, the input that tells whether its object is there (its ``pt``), or -1.

        Shape (n_inputs,). An object is missing where that input holds its padding code.
        """
        return np.array(
            [self._index.get(f"{spec.object}[{spec.index}].pt", -1) for spec in self.inputs], dtype=np.intp
        )


def load_contract(path: Path | str) -> Contract:
    """Read a contract from a TOML file.

    Raises
    ------
    ContractError
        The file is missing or is no TOML, a key is unknown, missing or of the wrong type, or the content
        contradicts itself. The message names the file, the key and the cure.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(
            f"{path}: cannot read this contract ({_cause(error)}): give a TOML file"
        ) from error
    return parse_contract(text, source=str(path))


def parse_contract(text: str, *, source: str = "contract") -> Contract:
    """Read a contract from TOML text; `source` names it in errors. Raises as `load_contract`."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{source}: not valid TOML: {_first_line(error)}") from error
    try:
        return Contract.model_validate(content)
    except ValidationError as error:
        raise ContractError(f"{source}: {_explain(error)}") from error


def digitise(values: npt.ArrayLike, quantity: Quantity) -> npt.NDArray[np.int16]:
    """Turn physical values into integer codes.

    Parameters
    ----------
    values
        Float array of any shape, in ``quantity.unit``.
    quantity
        How to round, wrap or clamp, offset and shift.

    Returns
    -------
    int16 array of the same shape.

    Raises
    ------
    ContractError
        A value is NaN or infinite: it has no code, and the caller decides what becomes of its event.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ContractError(f"quantity '{quantity.name}' holds NaN or infinity: drop those events first")
    scaled = array / quantity.lsb
    rounded = np.floor(scaled) if quantity.rounding == "floor" else np.rint(scaled)
    if quantity.wrap is not None:
        rounded = quantity.minimum + np.mod(rounded - quantity.minimum, quantity.wrap)
    raw = np.clip(rounded, quantity.minimum, quantity.maximum).astype(np.int64)
    return ((raw - quantity.offset) >> quantity.shift).astype(np.int16)


def is_full_turn(spec: InputSpec) -> bool:
    """Tell whether an input is an angle in radians whose period is one turn."""
    return (
        spec.wrap is not None
        and spec.unit == "rad"
        and math.isclose(spec.wrap * spec.lsb, math.tau, rel_tol=1e-6)
    )


def _explain(error: ValidationError) -> str:
    """Turn the most telling pydantic complaint into one line with the key and the cure."""
    # a misspelt key is also a missing one; the misspelling says more
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    key = re.sub(
        r"\.\[", "[", ".".join(f"[{part}]" if isinstance(part, int) else part for part in first["loc"])
    )
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    kind = first["type"]
    if kind == "extra_forbidden":
        hint = _did_you_mean(str(first["loc"][-1]), _known_keys(first["loc"]))
        return f"unknown key '{key}'{hint or ': remove it'}{more}"
    if kind == "missing":
        return f"key '{key}' is missing: add it{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key or 'contract'}: {message}{_got(first)}{more}"


def _got(problem: Any) -> str:
    value = problem.get("input")
    return f" (it is {value!r})" if isinstance(value, str | int | float) else ""


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Contract
    if "quantities" in location[:-1]:
        model = Quantity
    elif "objects" in location[:-1]:
        model = ObjectGroup
    return list(model.model_fields)


def _did_you_mean(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean '{close[0]}'?" if close else ""


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is no text"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
