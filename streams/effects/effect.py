"""An effect: one kind at work on one target over some lumisections, and the one form in which it is written.

It is written ``TARGET_KIND=VALUE``, then any options, then when it acts::

    jet_gain=1.05                                   from the first lumisection on
    jet_gain=1.05@LS61                              from lumisection 61 on
    jet_hole=1.2,0.6:width=0.4,0.3@LS61-LS90        in lumisections 61 to 90
    jet_gain=1.02@LS61+100                          from 61 on, growing linearly over 100 lumisections
    met[0].pt_stuck=padding@LS61                    on one input
    none                                            nothing happens

The target is an object of the contract, one of its inputs, or ``events``. What the kinds do stands in
`streams.effects.kinds`.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streams.contracts.contract import Contract
from streams.effects.kinds import EVENTS, KINDS, VALUE, Kind
from streams.effects.slots import Inputs
from streams.effects.values import INPUT, OBJECT, Value, written
from streams.errors import ContractError, EffectError

_WRITTEN: Final = re.compile(
    r"(?P<target>[^=:@]+)_(?P<kind>[A-Za-z]+)=(?P<value>[^:@]*)(?P<options>(:[^:@]*)*)(@(?P<span>.*))?"
)
_SPAN: Final = re.compile(r"LS(?P<first>\d{1,9})(\+(?P<ramp>\d{1,9}))?(-LS(?P<last>\d{1,9}))?")
_TARGETS: Final = {
    "object": (OBJECT, "an object"),
    "input": (INPUT, "one input"),
    EVENTS: (re.compile(EVENTS), f"'{EVENTS}'"),
}


@dataclass(frozen=True)
class Effect:
    """One effect on one target. Build it with `parse_effect`, or here; both check it.

    Attributes
    ----------
    kind
        A key of `KINDS`, or ``none``.
    target
        The object or input of the contract it acts on, or ``events``.
    value
        The number, pair or word after the equals sign.
    first_lumisection, last_lumisection
        Where it acts, both included; a last one of None: for ever.
    ramp
        Over how many lumisections it grows: it has ``1 / ramp`` of its strength in the first and all of it
        in the `ramp`-th.
    options
        Name and value of each option, in the order of the kind; defaults are filled in.

    Raises
    ------
    EffectError
        Anything in it makes no sense.
    """

    kind: str
    target: str
    value: Value
    first_lumisection: int = 0
    last_lumisection: int | None = None
    ramp: int = 1
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "none":
            return
        kind = _kind(self.kind)
        pattern, what = _TARGETS[kind.acts_on]
        if pattern.fullmatch(self.target) is None:
            raise EffectError(
                f"{kind.name} acts on {what}, not on '{self.target}': write for example {kind.example}"
            )
        object.__setattr__(self, "value", kind.read(written(self.value)))
        object.__setattr__(self, "options", _completed(kind, self.options))
        if self.last_lumisection is not None and self.last_lumisection < self.first_lumisection:
            raise EffectError(
                f"it ends in LS {self.last_lumisection} before it begins in LS {self.first_lumisection}: "
                "give a later end"
            )
        if self.ramp < 1:
            raise EffectError("it grows over no lumisections: write for example @LS61+100")
        if self.ramp > 1 and kind.grows is None:
            raise EffectError(f"{kind.name} is all or nothing and cannot grow: drop +{self.ramp}")

    def check(self, contract: Contract) -> None:
        """Find out whether the effect can act under a contract, before a replay gets to it.

        Raises
        ------
        EffectError
            The contract lacks what it acts on, or its codes cannot be undone.
        """
        self._act(np.zeros((0, contract.n_inputs), dtype=np.int16), contract, np.random.default_rng(0), 1.0)

    def apply(self, inputs: Inputs, contract: Contract, lumisection: int, rng: np.random.Generator) -> Inputs:
        """Return the events as the affected detector would have sent them.

        Parameters
        ----------
        inputs
            int16, shape (n_events, n_inputs). Not changed.
        rng
            Source of all that is random in it.

        Returns
        -------
        int16, same shape, except that ``prescale`` returns fewer events; `inputs` itself where the effect
        does not act.

        Raises
        ------
        EffectError
            As `check`.
        """
        strength = self.strength(lumisection)
        return self._act(inputs, contract, rng, strength) if strength else inputs

    def strength(self, lumisection: int) -> float:
        """Return how much of the effect acts in a lumisection, 0 to 1."""
        if lumisection < self.first_lumisection:
            return 0.0
        if self.last_lumisection is not None and lumisection > self.last_lumisection:
            return 0.0
        return min(1.0, (lumisection - self.first_lumisection + 1) / self.ramp)

    def _act(self, inputs: Inputs, contract: Contract, rng: np.random.Generator, strength: float) -> Inputs:
        if self.kind == "none":
            return inputs
        kind = KINDS[self.kind]
        given: dict[str, Value] = {VALUE: self.value, **dict(self.options)}
        if kind.grows is not None:
            name, neutral = kind.grows
            given[name] = _between(neutral, given[name], strength)
        value = given.pop(VALUE)
        try:
            contract.require_events("an effect")
            return kind.apply(inputs, contract, rng, self.target, value, **given)
        except (ContractError, EffectError) as error:
            raise EffectError(f"effect '{self}': {error}") from error

    def __str__(self) -> str:
        """Return it as it would be written."""
        if self.kind == "none":
            return "none"
        defaults = {option.name: option.default for option in KINDS[self.kind].options}
        options = "".join(
            f":{name}={written(value)}" for name, value in self.options if value != defaults[name]
        )
        return f"{self.target}_{self.kind}={written(self.value)}{options}{self._when()}"

    def _when(self) -> str:
        grows = f"+{self.ramp}" if self.ramp > 1 else ""
        ends = "" if self.last_lumisection is None else f"-LS{self.last_lumisection}"
        return f"@LS{self.first_lumisection}{grows}{ends}" if self.first_lumisection or grows or ends else ""


NONE: Final = Effect("none", "", 0.0)
"""Nothing happens."""


def parse_effect(text: str) -> Effect:
    """Read an effect, for example ``jet_gain=1.05@LS61``, ``muon_dead=0`` or ``none``.

    Raises
    ------
    EffectError
        It is badly written, or its kind is unknown. The message names the cure.
    """
    text = text.strip()
    if text == "none":
        return NONE
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise EffectError(f"effect '{text}' is badly written: write for example jet_gain=1.05@LS61, or none")
    try:
        return Effect(
            kind=found["kind"],
            target=found["target"],
            value=found["value"],
            options=tuple(_option(part) for part in found["options"].split(":")[1:]),
            **_span(found["span"]),
        )
    except EffectError as error:
        raise EffectError(f"effect '{text}': {error}") from None


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise EffectError(f"option '{text}' is badly written: write for example :fraction=0.005")
    return name, value


def _span(text: str | None) -> dict[str, Any]:
    """Read when it acts, which is everything after the ``@``."""
    if text is None:
        return {}
    found = _SPAN.fullmatch(text)
    if found is None:
        raise EffectError(f"'@{text}' is badly written: write for example @LS61, @LS61-LS90 or @LS61+100")
    return {
        "first_lumisection": int(found["first"]),
        "ramp": int(found["ramp"] or 1),
        "last_lumisection": None if found["last"] is None else int(found["last"]),
    }


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise EffectError(f"unknown kind '{name}': known are {', '.join(sorted(KINDS))}")
    return KINDS[name]


def _completed(kind: Kind, given: tuple[tuple[str, Value], ...]) -> tuple[tuple[str, Value], ...]:
    """Check the options of a kind, and return all of them in its order."""
    names = [name for name, _ in given]
    known = [option.name for option in kind.options]
    for name in names:
        if name not in known:
            raise EffectError(f"{kind.name} has no option '{name}': it takes {', '.join(known) or 'none'}")
        if names.count(name) > 1:
            raise EffectError(f"option '{name}' is given twice: drop one")
    values = dict(given)
    completed = []
    for option in kind.options:
        value = values.get(option.name, option.default)
        if value is None:
            raise EffectError(f"option '{option.name}' is missing: write for example {kind.example}")
        completed.append((option.name, option.read(written(value))))
    return tuple(completed)


def _between(neutral: float, value: Value, strength: float) -> Value:
    if strength == 1.0 or not isinstance(value, int | float):
        return value
    return neutral + (value - neutral) * strength
