"""What the drift benchmark does to lumisections, and what it asks of a judge. Knows no judge.

The targets were set before anything was measured; where one is missed the table says so.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

EVENTS: Final = 20_000
"""Events of a lumisection."""
IN_CONTROL_PER_1000: Final = 1.0
IN_CONTROL_STRETCH_PER_1000: Final = 0.25
"""False episodes that may be found in 1000 lumisections in control."""
OUTSIDE: Final = 1.05
"""From so many times the highest learnt pileup on, a true one is outside, however wrong the measured one."""


class Wanted(Enum):
    """What is right to say about a case."""

    ALARM = "alarm"
    QUIET = "no more alarms than in control"
    NOT_JUDGED = "outside not judged, no alarm"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that happens to a detector.

    Attributes
    ----------
    effect
        As `streams.effects` writes it, without its onset, which is added; empty: none.
    ramp
        Lumisections over which it grows.
    pileup_factor
        Factor on the pileup from the onset on. The conditions tell.
    horizon
        Lumisections from the onset on that are judged.
    detected_percent, delay
        At least so many percent of the repetitions raise an alarm within the horizon, and the median delay is
        at most so many lumisections (1: the first bad one). None: recorded only.
    """

    name: str
    effect: str = ""
    ramp: int = 1
    pileup_factor: float = 1.0
    horizon: int = 20
    wanted: Wanted = Wanted.ALARM
    detected_percent: float | None = None
    delay: float | None = None

    def effect_from(self, onset: int) -> str:
        """Return the effect with its onset, as `streams.effects.effect.parse_effect` reads it."""
        if not self.effect:
            return "none"
        return f"{self.effect}@LS{onset}" + (f"+{self.ramp}" if self.ramp > 1 else "")


CASES: Final = (
    Case(name="jet gain +1 %", effect="jet_gain=1.01", detected_percent=95, delay=2),
    Case(name="jet gain +0.5 %", effect="jet_gain=1.005", horizon=40, detected_percent=90, delay=12),
    Case(name="MET gain +1 %", effect="met_gain=1.01", horizon=30, detected_percent=95, delay=6),
    Case(name="e/gamma gain +1 %", effect="egamma_gain=1.01", horizon=40, detected_percent=90, delay=10),
    Case(
        name="jet gain, ramp to +2 % over 100 LS",
        effect="jet_gain=1.02",
        ramp=100,
        horizon=100,
        detected_percent=95,
        delay=30,
    ),
    Case(
        name="MET tail x3 in 0.5 % of events",
        effect="met_tail=3:fraction=0.005",
        horizon=30,
        detected_percent=95,
        delay=6,
    ),
    Case(
        name="MET tail x3 in 1 % of events", effect="met_tail=3:fraction=0.01", detected_percent=95, delay=2
    ),
    Case(
        name="dead region of jets, 10 x 6 eta-phi codes",
        effect="jet_hole=20,40:width=10,6:unit=codes",
        detected_percent=99,
        delay=2,
    ),
    Case(name="dead channel, jet[3].pt", effect="jet[3].pt_stuck=padding", detected_percent=99, delay=1),
    Case(name="stuck bit, jet[0].phi bit 3", effect="jet[0].phi_bit=3:at=1", detected_percent=99, delay=1),
    Case(
        name="swapped jet[0].pt, jet[1].pt", effect="jet[0].pt_swap=jet[1].pt", detected_percent=99, delay=1
    ),
    Case(name="swapped jet[0].eta, jet[1].eta", effect="jet[0].eta_swap=jet[1].eta"),
    Case(
        name="noise burst, 60 GeV jets in 0.5 % of events",
        effect="jet_noise=60:fraction=0.005",
        detected_percent=95,
        delay=2,
    ),
    Case(
        name="hot tower, 20 GeV jets in 0.5 % of events",
        effect="jet_noise=20:fraction=0.005:at=1.2,0.6",
        detected_percent=95,
        delay=2,
    ),
    Case(name="pileup x0.7", pileup_factor=0.7, wanted=Wanted.QUIET),
    Case(name="prescale x0.25", effect="events_prescale=0.25", wanted=Wanted.QUIET),
    Case(name="pileup x2, outside the reference", pileup_factor=2.0, wanted=Wanted.NOT_JUDGED),
)
