"""Conditions: what is known of a lumisection besides its events. Knows no broker and no events.

One JSON message per change and one at the end of each lumisection, which also says how many batches
each source sent, so that a window knows when it is complete.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from streams import versions
from streams.errors import MalformedMessage

VERSION: Final = 1
MAX_CONDITIONS_BYTES = 64 * 1024
STABLE_BEAMS = "STABLE BEAMS"

Matchable = Literal["prescale_column"]
"""Conditions that may have to be the same in a window as in its reference."""

_Text = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(versions.printable)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]

LARGEST_VALUE: Final = 1e15
"""A named number is no larger than this, to either side: what is measured is not, and sums stay finite."""
MAX_VALUES: Final = 16
ConditionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""Name of a number that a site tells of a lumisection, for example ``bunches``."""
ConditionValue = Annotated[float, Field(ge=-LARGEST_VALUE, le=LARGEST_VALUE, allow_inf_nan=False)]


class Conditions(BaseModel):
    """Conditions of one model's data in one lumisection.

    Attributes
    ----------
    pileup
        Mean number of interactions per crossing.
    luminosity_hz_cm2
        Instantaneous luminosity in Hz/cm^2, or None where nobody measured it.
    prescale_column
        Index of the prescale column in use.
    subsystems
        Detector parts in the run.
    simulated
        The events come from a replay or a simulation, not from collisions.
    end_of_lumisection
        The last message of this lumisection: `expected` is then complete.
    expected
        Source -> number of batches it sent in this lumisection.
    values
        Further numbers by name, for example ``bunches``: a reference may follow one of them. Left out of a
        message where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: versions.Version1 = 1
    model: _Text
    run: _Number
    lumisection: _Number
    pileup: float = Field(ge=0, le=1000)
    luminosity_hz_cm2: float | None = Field(default=None, ge=0)
    beam_mode: _Text = STABLE_BEAMS
    prescale_column: _Number = 0
    subsystems: list[_Text] = Field(default_factory=list, max_length=256)
    simulated: bool = False
    end_of_lumisection: bool = False
    expected: dict[_Text, _Number] = Field(default_factory=dict, max_length=1024)
    values: dict[ConditionName, ConditionValue] = Field(
        default_factory=dict, max_length=MAX_VALUES, exclude_if=lambda values: not values
    )

    @property
    def stable_beams(self) -> bool:
        """Whether the beam mode is stable beams."""
        return self.beam_mode == STABLE_BEAMS


def encode_conditions(conditions: Conditions) -> bytes:
    """Return the message: UTF-8 JSON."""
    return conditions.model_dump_json().encode()


def decode_conditions(payload: bytes) -> Conditions:
    """Read a message.

    Raises
    ------
    MalformedMessage
        It is too long, no JSON, or not what `Conditions` describes.
    """
    if len(payload) > MAX_CONDITIONS_BYTES:
        raise MalformedMessage(f"conditions of {len(payload)} bytes exceed {MAX_CONDITIONS_BYTES}: send less")
    try:
        return Conditions.model_validate_json(payload, strict=True)
    except ValidationError as error:
        versions.check_json("conditions", payload, VERSION)
        raise MalformedMessage(f"conditions: {versions.first_problem(error)}") from error
