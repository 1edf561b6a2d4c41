"""The kinds of effect: how each is written, what it acts on, and the function that does it.

A new kind is one function and one entry of `KINDS`. Knows no lumisection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from streams.effects.energy import gain, offset, resolution, tail
from streams.effects.objects import dead, hole, noise, pileup
from streams.effects.rate import prescale
from streams.effects.slots import Inputs
from streams.effects.values import (
    Reader,
    Value,
    either,
    input_name,
    number,
    pair,
    whole,
    word,
)
from streams.effects.wires import bit, stuck, swap

EVENTS: Final = "events"
"""What a kind that acts on whole events is written with, in place of an object."""
VALUE: Final = "value"


@dataclass(frozen=True)
class Option:
    """A named option, written ``:name=value``; without a default it must be given."""

    name: str
    read: Reader
    default: Value | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of effect.

    Attributes
    ----------
    apply
        ``apply(inputs, contract, rng, target, value, **options)``. It returns int16 codes and leaves `inputs`
        as they are, and on a block without events finds out whether the contract has what it needs.
    acts_on
        What its target names.
    example
        How one is written.
    says
        What it does, in one line.
    grows
        ``(name, neutral)``: what a slow onset moves from the neutral number to its own, ``value`` or an
        option; None: the kind is all or nothing.
    """

    name: str
    apply: Callable[..., Inputs]
    acts_on: Literal["object", "input", "events"]
    read: Reader
    example: str
    says: str
    options: tuple[Option, ...] = ()
    grows: tuple[str, float] | None = None


_FRACTION: Final = Option("fraction", number("fraction is a number from 0 to 1", least=0.0, most=1.0))

_ALL: Final = (
    Kind(
        "gain",
        gain,
        "object",
        number("a gain is a number above 0, for example 1.05", above=0.0),
        "jet_gain=1.05",
        "pt is multiplied before it is digitised: a wrong energy scale",
        grows=(VALUE, 1.0),
    ),
    Kind(
        "offset",
        offset,
        "object",
        number("an offset is a number in the unit of pt, for example -1.5"),
        "met_offset=2.5",
        "added to pt, in its unit, before it is digitised: a wrong pedestal",
        grows=(VALUE, 0.0),
    ),
    Kind(
        "resolution",
        resolution,
        "object",
        number("a resolution is a relative width from 0 on, for example 0.1", least=0.0),
        "jet_resolution=0.1",
        "pt is smeared by a relative Gaussian width, objects sorted anew: noise, ageing",
        grows=(VALUE, 0.0),
    ),
    Kind(
        "tail",
        tail,
        "object",
        number("a tail is a factor above 0, for example 3", above=0.0),
        "met_tail=3:fraction=0.005",
        "pt is multiplied in a fraction of the events: fake missing energy",
        options=(_FRACTION,),
        grows=("fraction", 0.0),
    ),
    Kind(
        "dead",
        dead,
        "object",
        whole("a dead slot is a number from 0, for example 3", least=0, most=255),
        "jet_dead=3",
        "one slot is empty, nothing moves up: a dead output of the sorter",
    ),
    Kind(
        "hole",
        hole,
        "object",
        pair("a hole is the eta,phi of its centre, for example 1.2,0.6"),
        "jet_hole=1.2,0.6:width=0.4,0.3",
        "objects in an eta-phi rectangle (unit=codes: in codes) vanish, later ones move up: a dead region",
        options=(
            Option(
                "width", pair("width is full widths in eta,phi from 0 on, for example 0.4,0.3", least=0.0)
            ),
            Option("unit", word("unit is physical or codes", "physical", "codes"), "physical"),
        ),
    ),
    Kind(
        "noise",
        noise,
        "object",
        number("noise is the pt of the object to add, above 0, for example 60", above=0.0),
        "jet_noise=60:fraction=0.005:at=1.2,0.6",
        "one more object in a fraction of the events, at eta,phi or anywhere: hot tower, noise burst",
        options=(
            _FRACTION,
            Option("at", either("random", pair("at is eta,phi, for example 1.2,0.6, or random")), "random"),
        ),
        grows=("fraction", 0.0),
    ),
    Kind(
        "pileup",
        pileup,
        "object",
        number("a pileup factor is a number from 0 to 10, for example 0.7", least=0.0, most=10.0),
        "jet_pileup=0.7:below=30",
        "soft objects are thinned (below 1), or overlaid from other events (above 1)",
        options=(Option("below", number("below is a pt above 0, for example 30", above=0.0)),),
        grows=(VALUE, 1.0),
    ),
    Kind(
        "stuck",
        stuck,
        "input",
        either(
            "padding",
            whole("stuck is at a code, for example 0, or at padding", least=-(2**15), most=2**15 - 1),
        ),
        "met[0].pt_stuck=padding",
        "one input always has one code: a dead channel",
    ),
    Kind(
        "bit",
        bit,
        "input",
        whole("a bit is its number from 0 (the least) to 15, for example 3", least=0, most=15),
        "jet[0].pt_bit=3:at=1",
        "one bit of one input is always 0 or 1",
        options=(Option("at", whole("at is 0 or 1", least=0, most=1)),),
    ),
    Kind(
        "swap",
        swap,
        "input",
        input_name("an input is swapped with another, for example jet[1].pt"),
        "jet[0].eta_swap=jet[1].eta",
        "two inputs are exchanged: swapped cables",
    ),
    Kind(
        "prescale",
        prescale,
        "events",
        number("a prescale keeps a fraction of the events, above 0 and up to 1", above=0.0, most=1.0),
        "events_prescale=0.25",
        "a fraction of the events is kept: fewer events, nothing wrong with them",
        grows=(VALUE, 1.0),
    ),
)

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _ALL}
"""Name -> kind."""


def describe_kinds() -> tuple[tuple[str, str], ...]:
    """Return an example and one line for every kind, for help and documentation."""
    return tuple((kind.example, kind.says) for kind in _ALL)
