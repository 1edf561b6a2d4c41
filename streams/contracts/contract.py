"""The contract: which numbers a monitored model sees, in order, and how each becomes an integer code.

The one definition that conversion, streaming, references, retraining and firmware share. It refuses
to know where events come from or what is done with them; it reads one TOML file and nothing else.
"""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from streams.contracts.histograms import HistogramSpec, check_histograms, histogram_inputs
from streams.contracts.input_stage import InputStage
from streams.contracts.quantity import (
    INT16_MAXIMUM,
    INT16_MINIMUM,
    ContractModel,
    InputSpec,
    Name,
    Quantity,
    Rounding,
    checked_expression,
    digitise,
    is_full_turn,
)
from streams.errors import ContractError

__all__ = [
    "INT16_MAXIMUM",
    "INT16_MINIMUM",
    "Contract",
    "InputSpec",
    "InputStage",
    "ObjectGroup",
    "Quantity",
    "Rounding",
    "digitise",
    "is_full_turn",
    "load_contract",
    "parse_contract",
]

_LATER_KEYS: Final[dict[str, Any]] = {
    "select": None, "label": None, "keep_without_pt": False, "coded": False, "stage": None, "histograms": [],
}  # fmt: skip
"""Keys that came after contracts were in use, with what they are when absent: then they leave no trace in
the hash, which packages, references and datasets hold."""


class ObjectGroup(ContractModel):
    """A fixed number of trigger objects of one kind, for example the ten leading jets.

    Attributes
    ----------
    sort_by
        Quantity whose value, before it is digitised, orders the objects, largest first; None: as in the file.
    select
        Expression that is true for objects to take, or None for all.
    keep_without_pt
        An object whose ``pt`` has the code of a missing object keeps its other quantities, as in the CMS
        global trigger. False: it is a missing object.
    """

    name: Name
    count: int = Field(ge=1, le=256)
    sort_by: str | None = None
    select: str | None = None
    keep_without_pt: bool = False
    quantities: list[Quantity] = Field(min_length=1)

    _expressions = field_validator("select")(checked_expression)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [quantity.name for quantity in self.quantities]
        if len(set(names)) != len(names):
            raise ValueError(f"object '{self.name}' has a quantity twice: rename one")
        if self.sort_by is not None and self.sort_by not in names:
            raise ValueError(
                f"sort_by = '{self.sort_by}' is not a quantity of '{self.name}': use one of {names}"
            )
        for quantity in self.quantities:
            for length in () if quantity.stage is None else quantity.stage.lengths():
                if length != self.count:
                    raise ValueError(
                        f"the stage of '{self.name}.{quantity.name}' has {length} numbers: give {self.count}"
                    )
        return self

    def quantity(self, name: str) -> Quantity | None:
        """Return the quantity of that name, or None."""
        return next((quantity for quantity in self.quantities if quantity.name == name), None)


class Contract(ContractModel):
    """The inputs of a monitored model, in order. Build it with `load_contract`.

    Attributes
    ----------
    tree
        Name of the TTree or RNTuple that holds the events.
    objects
        Object groups; inputs are numbered group by group, object by object, quantity by quantity.
    histograms
        Monitor elements, instead of tree and objects: the model is watched by histograms that others
        filled, and there are no events (`streams.contracts.histograms`).
    select
        Expression that is true for events to keep, or None for all.
    label
        Expression of an integer kept for supervised training, or None.
    weight, run, lumisection, event
        Expressions for what else is kept beside the inputs, or None.
    """

    name: Name
    version: int = Field(ge=1)
    description: str = ""
    tree: str = ""
    select: str | None = None
    label: str | None = None
    weight: str | None = None
    run: str | None = None
    lumisection: str | None = None
    event: str | None = None
    objects: list[ObjectGroup] = Field(default_factory=list)
    histograms: list[HistogramSpec] = Field(default_factory=list)

    _expressions = field_validator("select", "label", "weight", "run", "lumisection", "event")(
        checked_expression
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [group.name for group in self.objects]
        if len(set(names)) != len(names):
            raise ValueError("an object stands twice under [[objects]]: rename one or merge them")
        if bool(self.objects) == bool(self.histograms):
            raise ValueError("give [[objects]] or [[histograms]], one of them, with one entry or more")
        if self.histograms:
            about_events = (self.tree, self.select, self.label, self.weight, self.run, self.lumisection)
            if any(about_events) or self.event:
                raise ValueError(
                    "tree, select, label, weight, run, lumisection and event are about events, and "
                    "[[histograms]] come without: drop them"
                )
            check_histograms(self.histograms)
        elif not self.tree:
            raise ValueError("key 'tree' is missing: name the tree that holds the events")
        return self

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Every input in order, for example ``met[0].pt, met[0].eta, ..., jet[9].phi``."""
        if self.histograms:
            return tuple(histogram_inputs(self.histograms))
        return tuple(
            quantity.spec(group.name, index)
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
        content = _without_unused(self.model_dump(mode="json"))
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def require_events(self, purpose: str) -> None:
        """Make sure that this contract describes events and not histograms.

        Raises
        ------
        ContractError
            It lists histograms; `purpose` says what needs events.
        """
        if self.histograms:
            raise ContractError(
                f"contract '{self.name}' lists histograms, and {purpose} needs events: "
                "use a contract with [[objects]]"
            )

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


def _without_unused(content: Any) -> Any:
    """Leave out the later keys that say nothing."""
    if isinstance(content, list):
        return [_without_unused(one) for one in content]
    if not isinstance(content, dict):
        return content
    return {
        key: _without_unused(value)
        for key, value in content.items()
        if key not in _LATER_KEYS or value != _LATER_KEYS[key]
    }


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
    if "stage" in location[:-1]:
        model = InputStage
    elif "quantities" in location[:-1]:
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
