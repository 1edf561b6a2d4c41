"""What the sequence of assessments of one model says now: good, warning, alarm, or nothing.

A fold over stored assessments, rebuilt at start and never pickled. Refuses to know where assessments
come from, who hears of a verdict and what is done about it.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from streams import versions
from streams.errors import MalformedMessage
from streams.integrity import IntegrityResult
from streams.judging.assessment import Assessment, InputShift, Judgement
from streams.judging.firmware_fault import FirmwareFault
from streams.judging.rate_chart import RateChart, RateWatch
from streams.judging.track import Standing, State, Track

__all__ = ["State", "Verdict", "VerdictChain", "decode_verdict", "encode_verdict", "fold", "verdict_id"]

VERSION: Final = 1
MAX_VERDICT_BYTES: Final = 1_000_000
MAX_TEXT: Final = 128
MAX_NUMBER: Final = 2**31 - 1

INTEGRITY: Final = "integrity"
"""Stands among the families of a verdict when the firmware differs from its emulator. No family of drift."""


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
    evidence
        Decimal logarithm of the evidence of drift over the level of an alarm: 0 and above raise one. None
        where nothing is judged.
    suspects
        What tells most while there is a warning or an alarm, for example ``jet gain``.
    story
        The simplest cause that explains a warning or an alarm, as one sentence; empty for other states.
    rate_chart
        Accept rate against pileup, as a shifter's rate monitor would show it.
    onset_lumisection
        First lumisection of what is said; None while all is good.
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
    evidence: float | None = None
    suspects: tuple[str, ...] = ()
    story: str = ""
    rate_chart: RateChart | None = None
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
    for name in ("reason", "story"):
        if "\x00" in getattr(verdict, name):
            raise MalformedMessage(f"verdict: {name}: give text without NUL")
    for name in ("run", "lumisection"):
        if not 0 <= getattr(verdict, name) <= MAX_NUMBER:
            raise MalformedMessage(f"verdict: {name}: give 0 to {MAX_NUMBER}")
    return verdict


def verdict_id(assessment: Assessment) -> str:
    """Name of the verdict on an assessment: stable over restarts and redelivery."""
    a = assessment
    key = json.dumps([a.model, a.run, a.lumisection, a.package, a.revision])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


class VerdictChain:
    """Sequential judgement of one model.

    Windows of different packages, or judged against different references, are separate sequences: what
    an old firmware did never counts against a new one. Whether a firmware agrees with its emulator is
    followed apart from drift, and needs no reference.
    """

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str | None], Track] = {}
        self._rates: dict[str, RateWatch] = {}
        self._faults: dict[str, FirmwareFault] = {}

    def update(self, assessment: Assessment) -> Verdict:
        """Judge one more assessment, in stored order.

        Parameters
        ----------
        assessment
            The next one. If it is not judged, the sequence stays as it is.
        """
        if assessment.judgement is Judgement.JUDGED:
            track = self._tracks.get((assessment.package, assessment.reference_id))
            if track is None:
                track = self._tracks[(assessment.package, assessment.reference_id)] = Track()
            standing = track.update(assessment)
        else:
            standing = Standing(State(assessment.judgement.value), assessment.reason, None, None)
        state, reason, onset = standing.state, standing.reason, standing.onset
        rate_chart = self._rates.setdefault(assessment.package, RateWatch()).update(assessment)
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
            evidence=standing.evidence,
            suspects=standing.suspects,
            rate_chart=rate_chart,
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
