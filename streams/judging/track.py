"""The track: the sequence of judged windows of one package against one reference, and what it says now.

Evidence raises the alarm (`streams.judging.evidence`), and it takes windows that agree, not evidence that
fades, to end one: levels for on and off are apart. Refuses to know what is done about it.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from streams.judging.assessment import Assessment
from streams.judging.channels import RATE
from streams.judging.evidence import INDIFFERENT, Evidence, Linear, Place, Rare, Weight
from streams.judging.onset import MOST_WINDOWS, deviations_of_rare, likeliest_change
from streams.judging.words import describe_excess, describe_suspect

GOOD_TO_RECOVER: Final = 3
"""Fewest judged windows in a row that must agree to end an alarm."""
MOST_TO_RECOVER: Final = 20
CERTAINTY_TO_RECOVER: Final = 16.0
"""Windows to look at, for an effect of one standard deviation; fewer for larger ones, by their square."""
RARE: Final = 4.0
"""Deviations that stand for an extreme that is rare in control."""
WARNING_SHARE: Final = 0.3
"""Evidence of this part of an alarm's level is a warning."""
SUSPECT_SHARE: Final = 0.1
"""A channel with this part of the most telling one's evidence is a suspect too."""
SLOW_DRIFT_DELTA: Final = 0.002
SLOW_DRIFT_WINDOWS: Final = 10
SLOW_DRIFT_MEAN_PULL: Final = 1.0
"""A change found by ADWIN is a drift while the mean pull of the last windows is this far from zero ..."""
RECOVERED_MEAN_PULL: Final = 0.5
"""... until it is nearer than this."""


class State(StrEnum):
    """What is said of a model after a window."""

    GOOD = "good"
    WARNING = "warning"
    ALARM = "alarm"
    INSUFFICIENT = "insufficient"
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True)
class Standing:
    """Where a track stands after a window.

    Attributes
    ----------
    reason
        One sentence for a shifter.
    onset
        First lumisection, of this run, of what is said; None while all is good.
    evidence
        Decimal logarithm of the evidence over the level of an alarm: 0 and above raise one.
    suspects
        Names of the channels that tell most, while there is a warning or an alarm.
    """

    state: State
    reason: str
    onset: int | None
    evidence: float | None
    suspects: tuple[str, ...] = ()


class _Said(NamedTuple):
    """What a channel said in a window.

    Attributes
    ----------
    value
        In deviations; an extreme that tells something counts as `RARE`, another one as nothing.
    deviation
        The same, but for an extreme as much as its probability says.
    tolerance
        Of a mean that is no drift.
    """

    place: Place
    value: float
    deviation: float
    tolerance: float


class _Suspect:
    """A channel that raised an alarm: how far off it was, in deviations, and its windows since."""

    def __init__(self, size: float) -> None:
        self._size = size
        most = CERTAINTY_TO_RECOVER / size**2 if size else 0.0
        self._needed = int(min(max(math.ceil(most), GOOD_TO_RECOVER), MOST_TO_RECOVER))
        self._since: deque[float] = deque(maxlen=self._needed)

    def take(self, value: float) -> None:
        """Take the next window."""
        self._since.append(value)

    @property
    def recovered(self) -> bool:
        """Whether the mean of the last windows is nearer to none than to what it was."""
        if len(self._since) < self._needed:
            return False
        return sum(self._since) / self._needed * math.copysign(1, self._size) < abs(self._size) / 2


class Track:
    """Sequence of judged windows of one package against one reference."""

    def __init__(self) -> None:
        self._run: int | None = None
        self._first_of_run = 0
        self._evidence = Evidence()
        self._history: dict[str, deque[_Said]] = {}
        self._suspects: dict[str, _Suspect] = {}
        self._onset: Place | None = None
        self._good_in_a_row = 0
        self._slow = _SlowDrift()

    def update(self, assessment: Assessment) -> Standing:
        """Take a judged assessment."""
        if assessment.run != self._run:
            self._run, self._first_of_run = assessment.run, assessment.lumisection
        place = (assessment.run, assessment.lumisection)
        level, weights = self._evidence.update(
            [
                Linear(
                    one.name,
                    one.share,
                    one.z,
                    one.tolerance,
                    firm=one.family == RATE or not assessment.bias_learnt,
                )
                for one in assessment.channels
            ],
            [Rare(one.name, one.share, one.p_value) for one in assessment.extremes],
            assessment.budget or 1.0,
            place,
        )
        self._remember(assessment, place)
        log10 = level / math.log(10) if math.isfinite(level) else None
        exceeded = bool(assessment.exceeded_families)
        self._good_in_a_row = 0 if exceeded else self._good_in_a_row + 1
        self._slow.update(assessment)
        if self._onset is not None:
            return self._in_alarm(assessment, log10, exceeded=exceeded)
        if level >= 0:
            return self._raised(assessment, weights, log10)
        if level >= math.log(WARNING_SHARE) or exceeded:
            names = tuple(one.name for one in weights[:1])
            words = describe_excess(assessment) or "".join(
                describe_suspect(assessment, name) for name in names
            )
            onset = self._in_this_run(self._changed(names)) if names else assessment.lumisection
            return Standing(State.WARNING, f"{words}; not confirmed yet.", onset, log10, names)
        if self._slow.since is not None:
            return Standing(State.WARNING, self._slow.reason, self._slow.since, log10)
        return Standing(State.GOOD, "All statistics within their thresholds.", None, log10)

    def _raised(self, assessment: Assessment, weights: list[Weight], log10: float | None) -> Standing:
        self._good_in_a_row = 0
        least = min(weights[0].log_level + math.log(SUSPECT_SHARE), 0.0)
        self._suspects = {one.name: self._suspect(one) for one in weights if one.log_level >= least}
        self._onset = self._changed(self._suspects)
        return Standing(
            State.ALARM,
            f"{self._words(assessment)}.",
            self._in_this_run(self._onset),
            log10,
            tuple(self._suspects),
        )

    def _in_alarm(self, assessment: Assessment, log10: float | None, *, exceeded: bool) -> Standing:
        for name, suspect in self._suspects.items():
            last = self._history[name][-1]
            if last.place == (assessment.run, assessment.lumisection):
                suspect.take(last.value)
        agrees = all(suspect.recovered for suspect in self._suspects.values())
        if agrees and self._good_in_a_row >= GOOD_TO_RECOVER:
            n_good = self._good_in_a_row
            self._evidence, self._history, self._suspects, self._onset = Evidence(), {}, {}, None
            return Standing(
                State.GOOD, f"Back to good: the last {n_good} judged lumisections agree.", None, None
            )
        onset = self._in_this_run(self._onset or (assessment.run, assessment.lumisection))
        reason = f"{self._words(assessment)}."
        if not exceeded:
            reason = f"Alarm since LS {onset}: {', '.join(self._suspects)}; not recovered yet."
        return Standing(State.ALARM, reason, onset, log10, tuple(self._suspects))

    def _remember(self, assessment: Assessment, place: Place) -> None:
        """Keep what every channel says."""
        said = {one.name: _Said(place, one.z, one.z, one.tolerance) for one in assessment.channels}
        for one in assessment.extremes:
            value = RARE * (one.p_value < INDIFFERENT)
            said[one.name] = _Said(place, value, deviations_of_rare(one.p_value), 0.0)
        for name, content in said.items():
            self._history.setdefault(name, deque(maxlen=MOST_WINDOWS)).append(content)

    def _suspect(self, weight: Weight) -> _Suspect:
        """Follow a channel that tells nearly as much as the most telling one, or alarms by itself."""
        recent = list(self._history[weight.name])[-MOST_TO_RECOVER:]
        last = [said.value for said in recent if said.place >= weight.since]
        return _Suspect(sum(last) / len(last) if last else 0.0)

    def _changed(self, names: Iterable[str]) -> Place:
        """Return the first window after the clearest change of some channels."""
        found = []
        for name in names:
            history = self._history[name]
            change = likeliest_change([said.deviation for said in history], history[-1].tolerance)
            found.append((change.strength, history[change.first].place))
        return max(found)[1]

    def _words(self, assessment: Assessment) -> str:
        suspects = [describe_suspect(assessment, name) for name in self._suspects]
        return describe_excess(assessment) or "; ".join(filter(None, suspects[:2])) or "It drifted"

    def _in_this_run(self, place: Place) -> int:
        """Return the lumisection of a place, or the first one seen of this run for one of an earlier run."""
        return place[1] if place[0] == self._run else self._first_of_run


class _SlowDrift:
    """Change of the accept rate that no window shows by itself, by ADWIN (Bifet and Gavalda 2007)."""

    def __init__(self) -> None:
        # river takes a second to load, and most programs read verdicts without folding any
        from river.drift import ADWIN  # noqa: PLC0415

        self._adwin = ADWIN(delta=SLOW_DRIFT_DELTA, clock=1)
        self._pulls: deque[float] = deque(maxlen=SLOW_DRIFT_WINDOWS)
        self.since: int | None = None

    def update(self, assessment: Assessment) -> None:
        """Take the accept-rate pull of a window."""
        if assessment.rate_pull is None:
            return
        self._pulls.append(assessment.rate_pull)
        self._adwin.update(assessment.rate_pull)
        distance = abs(self._mean)
        if self._adwin.drift_detected and self.since is None and distance >= SLOW_DRIFT_MEAN_PULL:
            self.since = assessment.lumisection
        elif self.since is not None and distance < RECOVERED_MEAN_PULL:
            self.since = None

    @property
    def reason(self) -> str:
        """One sentence."""
        return (
            f"Slow drift of the accept rate, noticed at LS {self.since}: "
            f"{self._mean:+.1f} standard deviations on average."
        )

    @property
    def _mean(self) -> float:
        return sum(self._pulls) / len(self._pulls)
