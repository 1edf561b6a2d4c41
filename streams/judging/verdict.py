"""What the sequence of assessments of one model says now: good, warning, alarm, or nothing.

A fold over stored assessments, rebuilt at start and never pickled. Refuses to know where assessments
come from, who hears of a verdict and what is done about it.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from streams import versions
from streams.errors import MalformedMessage
from streams.integrity import IntegrityResult
from streams.judging.assessment import Assessment, InputShift, Judgement
from streams.judging.firmware_fault import FirmwareFault

VERSION: Final = 1
MAX_VERDICT_BYTES: Final = 1_000_000
MAX_TEXT: Final = 128
MAX_NUMBER: Final = 2**31 - 1

HISTORY: Final = 3
"""Judged windows of one run that are looked at together."""
EXCEEDING_FOR_ALARM: Final = 2
"""How many of them must exceed to raise the alarm."""
GOOD_TO_RECOVER: Final = 3
"""Judged windows in a row without excess that end an alarm."""
SLOW_DRIFT_DELTA: Final = 0.002
SLOW_DRIFT_WINDOWS: Final = 10
SLOW_DRIFT_MEAN_PULL: Final = 1.0
"""A change found by ADWIN is a drift while the mean pull of the last windows is this far from zero ..."""
RECOVERED_MEAN_PULL: Final = 0.5
"""... until it is nearer than this."""

RATE_FAMILY: Final = "rate"
INTEGRITY: Final = "integrity"
"""Stands among the families of a verdict when the firmware differs from its emulator. No family of drift."""


class State(StrEnum):
    """What is said of a model after a window."""

    GOOD = "good"
    WARNING = "warning"
    ALARM = "alarm"
    INSUFFICIENT = "insufficient"
    NOT_JUDGED = "not_judged"


class Verdict(BaseModel):
    """What the sequence of assessments says after one window.

    Attributes
    ----------
    version
        Of the format.
    id
        The same for the same window, package and revision: consumers drop repeated ones by it.
    revision
        1 for the first verdict of the window, more after late data.
    families
        Names of the families that exceed in this window; `INTEGRITY` with them when it holds mismatches of a
        firmware fault.
    reason
        One sentence for a shifter.
    onset_lumisection
        First exceeding lumisection of the current episode; None outside an episode.
    firmware_fault
        The firmware answers other than its emulator: an alarm that no retraining mends.
    integrity
        Agreement of firmware and emulator in this window.
    delay_s, late
        How long after the end of the lumisection this was found, and whether that was too long.
    late_events
        Events of the window that came after it had closed first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: versions.Version1 = 1
    id: str
    model: str
    run: int
    lumisection: int
    revision: int = 1
    state: State
    families: tuple[str, ...] = ()
    reason: str
    package: str
    reference_id: str | None = None
    reference_package: str | None = None
    n_events: int
    accept_rate: float
    expected_rate: float | None = None
    rate_deviation: float | None = None
    worst_inputs: tuple[InputShift, ...] = ()
    simulated: bool = False
    onset_lumisection: int | None = None
    firmware_fault: bool = False
    integrity: IntegrityResult | None = None
    delay_s: float | None = None
    late: bool = False
    late_events: int = 0


def encode_verdict(verdict: Verdict) -> bytes:
    """Return the message: UTF-8 JSON."""
    return verdict.model_dump_json().encode()


def decode_verdict(content: bytes) -> Verdict:
    """Read a message.

    Raises
    ------
    MalformedMessage
        It is too long, no verdict, or one of a version that is not read here.
    """
    if len(content) > MAX_VERDICT_BYTES:
        raise MalformedMessage(f"verdict of {len(content)} bytes exceeds {MAX_VERDICT_BYTES}")
    try:
        verdict = Verdict.model_validate_json(content, strict=True)
    except ValidationError as error:
        versions.check_json("verdict", content, VERSION, "daemon")
        raise MalformedMessage(f"verdict: {versions.first_problem(error)}") from error
    # what a database would refuse: such a verdict could never be taken, and would be read for ever
    for name in ("id", "model", "package"):
        text = getattr(verdict, name)
        if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
            raise MalformedMessage(f"verdict: {name}: give 1 to {MAX_TEXT} printable characters")
    if "\x00" in verdict.reason:
        raise MalformedMessage("verdict: reason: give text without NUL")
    for name in ("run", "lumisection"):
        if not 0 <= getattr(verdict, name) <= MAX_NUMBER:
            raise MalformedMessage(f"verdict: {name}: give 0 to {MAX_NUMBER}")
    return verdict


def verdict_id(assessment: Assessment) -> str:
    """Name of the verdict on an assessment: stable over restarts and redelivery."""
    a = assessment
    key = json.dumps([a.model, a.run, a.lumisection, a.package, a.revision])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


class _Track:
    """Sequence of judged windows of one package against one reference."""

    def __init__(self) -> None:
        self._run: int | None = None
        self._recent: deque[tuple[int, bool]] = deque(maxlen=HISTORY)
        self._good_in_a_row = 0
        self._onset: int | None = None
        self._alarm = False
        self._slow = False
        self._slow_since: int | None = None
        # river takes a second to load, and most programs read verdicts without folding any
        from river.drift import ADWIN  # noqa: PLC0415

        self._adwin = ADWIN(delta=SLOW_DRIFT_DELTA, clock=1)
        self._pulls: deque[float] = deque(maxlen=SLOW_DRIFT_WINDOWS)

    def update(self, assessment: Assessment) -> tuple[State, str, int | None]:
        """State, reason and onset after a judged assessment."""
        if assessment.run != self._run:
            self._run = assessment.run
            self._recent.clear()
        exceeded = bool(assessment.exceeded_families)
        self._recent.append((assessment.lumisection, exceeded))
        self._good_in_a_row = 0 if exceeded else self._good_in_a_row + 1
        self._watch_slow_drift(assessment)
        bad = [lumisection for lumisection, is_bad in self._recent if is_bad]
        if self._alarm and self._good_in_a_row >= GOOD_TO_RECOVER:
            self._alarm, self._onset = False, None
            return State.GOOD, f"Back to good: {GOOD_TO_RECOVER} judged lumisections in a row agree.", None
        if not self._alarm and len(bad) >= EXCEEDING_FOR_ALARM:
            self._alarm, self._onset = True, bad[0]
        if self._alarm:
            return State.ALARM, self._alarm_reason(assessment, exceeded=exceeded, n_bad=len(bad)), self._onset
        if exceeded:
            return State.WARNING, f"{describe_excess(assessment)}; not confirmed yet.", assessment.lumisection
        if self._slow:
            reason = (
                f"Slow drift of the accept rate, noticed at LS {self._slow_since}: "
                f"{self._mean_pull():+.1f} standard deviations on average."
            )
            return State.WARNING, reason, self._slow_since
        return State.GOOD, "All statistics within their thresholds.", None

    def _alarm_reason(self, assessment: Assessment, *, exceeded: bool, n_bad: int) -> str:
        if exceeded:
            judged = len(self._recent)
            return f"{describe_excess(assessment)}; {n_bad} of the last {judged} judged lumisections exceed."
        return (
            f"Alarm since LS {self._onset}; this lumisection agrees "
            f"({self._good_in_a_row} of {GOOD_TO_RECOVER} needed to recover)."
        )

    def _watch_slow_drift(self, assessment: Assessment) -> None:
        """Feed ADWIN (Bifet and Gavalda 2007) the accept-rate pull of the window."""
        if assessment.rate_pull is None:
            return
        self._pulls.append(assessment.rate_pull)
        self._adwin.update(assessment.rate_pull)
        distance = abs(self._mean_pull())
        if self._adwin.drift_detected and not self._slow and distance >= SLOW_DRIFT_MEAN_PULL:
            self._slow, self._slow_since = True, assessment.lumisection
        elif self._slow and distance < RECOVERED_MEAN_PULL:
            self._slow, self._slow_since = False, None

    def _mean_pull(self) -> float:
        return sum(self._pulls) / len(self._pulls)


def describe_excess(assessment: Assessment) -> str:
    """Words for what exceeds in an assessment, the most telling first.

    Examples
    --------
    ``Accept rate 11.9 % instead of 10.0 % (+19 %); inputs disagree, worst jet[0].pt (mean +2.3 LSB)``
    """
    parts: list[str] = []
    for name in assessment.exceeded_families:
        if (
            name == RATE_FAMILY
            and assessment.expected_rate is not None
            and assessment.rate_deviation is not None
        ):
            parts.append(
                f"accept rate {assessment.accept_rate:.2%} instead of {assessment.expected_rate:.2%}"
                f" ({assessment.rate_deviation:+.0%})"
            )
        elif name == "inputs" and assessment.worst_inputs:
            worst = assessment.worst_inputs[0]
            parts.append(f"inputs disagree, worst {worst.name} (mean {worst.mean_shift_lsb:+.2f} LSB)")
        else:
            family = assessment.family(name)
            parts.append(f"{name} differs ({family.value:.1f}, threshold {family.threshold:.1f})")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


class VerdictChain:
    """Sequential judgement of one model.

    Windows of different packages, or judged against different references, are separate sequences: what
    an old firmware did never counts against a new one. Whether a firmware agrees with its emulator is
    followed apart from drift, and needs no reference.
    """

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str | None], _Track] = {}
        self._faults: dict[str, FirmwareFault] = {}

    def update(self, assessment: Assessment) -> Verdict:
        """Judge one more assessment, in stored order.

        Parameters
        ----------
        assessment
            The next one. If it is not judged, the sequence stays as it is.
        """
        onset: int | None = None
        if assessment.judgement is Judgement.JUDGED:
            track = self._tracks.setdefault((assessment.package, assessment.reference_id), _Track())
            state, reason, onset = track.update(assessment)
        else:
            state, reason = State(assessment.judgement.value), assessment.reason
        families = assessment.exceeded_families
        fault = self._faults.setdefault(assessment.package, FirmwareFault())
        fault.update(assessment)
        at_fault = fault.present and assessment.stable_beams
        if fault.present:
            drift = reason if state is not State.GOOD else ""
            reason = " ".join(filter(None, (fault.reason(assessment), drift)))
        if at_fault:
            state, onset = State.ALARM, _earliest(assessment, fault.onset, onset)
            if assessment.integrity is not None and assessment.integrity.n_mismatched:
                families = (*families, INTEGRITY)
        return Verdict(
            id=verdict_id(assessment),
            model=assessment.model,
            run=assessment.run,
            lumisection=assessment.lumisection,
            revision=assessment.revision,
            state=state,
            families=families,
            reason=reason,
            package=assessment.package,
            reference_id=assessment.reference_id,
            reference_package=assessment.reference_package,
            n_events=assessment.n_events,
            accept_rate=assessment.accept_rate,
            expected_rate=assessment.expected_rate,
            rate_deviation=assessment.rate_deviation,
            worst_inputs=assessment.worst_inputs,
            simulated=assessment.simulated,
            onset_lumisection=onset,
            firmware_fault=at_fault,
            integrity=assessment.integrity,
            delay_s=assessment.delay_s,
            late=assessment.late,
            late_events=assessment.late_events,
        )


def _earliest(assessment: Assessment, fault: tuple[int, int] | None, drift: int | None) -> int:
    """First lumisection of an episode in this run, of a firmware fault and of a drift that began earlier."""
    found = [drift if drift is not None else assessment.lumisection]
    if fault is not None and fault[0] == assessment.run:
        found.append(fault[1])
    return min(found)


def fold(assessments: Iterable[Assessment]) -> list[Verdict]:
    """Verdicts on a whole sequence of assessments of one model, in stored order."""
    chain = VerdictChain()
    return [chain.update(assessment) for assessment in assessments]
