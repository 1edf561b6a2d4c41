"""One message to the control room, as data.

A message is what a shifter reads first: which model, which lumisections, what is off and by how much, what
lumiwatch proposes and how to answer. Its table has the shape of the CMS RateMon alerts: first the run, the
lumisections and the conditions, then one line per quantity with actual, expected and deviation.

Refuses to know how it is written down (`rendering`) and where it goes: no channels, no HTTP, no database, no
clock.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Stage(StrEnum):
    """Where an incident is when a message about it is written."""

    WARNING = "warning"
    ALARM = "alarm"
    ACKNOWLEDGED = "acknowledged"
    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    PRESCALED_OUT = "prescaled out"
    PROGRESS = "in progress"
    RECONFIGURED = "reconfigured"
    ROLLED_BACK = "rolled back"
    FAILED = "response failed"
    RESOLVED = "resolved"


class Answer(StrEnum):
    """What people can answer to an incident from where they read it."""

    ACKNOWLEDGE = "acknowledge"
    APPROVE = "approve"
    REJECT = "reject"
    PRESCALE_OUT = "prescale_out"
    SILENCE = "silence"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Offer(_Frozen):
    """One answer that makes sense now.

    Parameters
    ----------
    answer
        What to say.
    response_id, stage
        The response that it would decide, and what that asks (`DecisionStage`); empty: it decides none.
    """

    answer: Answer
    response_id: str = ""
    stage: str = ""


class RunConditions(_Frozen):
    """Run, lumisections and machine conditions a message is about.

    Parameters
    ----------
    run, first_lumisection, last_lumisection
        The judged range, both ends included.
    luminosity_hz_cm2
        Instantaneous luminosity in Hz/cm^2, or None when the conditions did not carry it.
    pileup
        Mean number of interactions per crossing, or None.
    beam_mode
        As announced by the accelerator, such as ``STABLE BEAMS``, or None.
    prescale_column
        Index of the active prescale column, or None.
    """

    run: int
    first_lumisection: int
    last_lumisection: int
    luminosity_hz_cm2: float | None = None
    pileup: float | None = None
    beam_mode: str | None = None
    prescale_column: int | None = None

    @property
    def lumisections(self) -> str:
        """The range as people write it: ``61`` or ``61-63``."""
        if self.first_lumisection == self.last_lumisection:
            return str(self.first_lumisection)
        return f"{self.first_lumisection}-{self.last_lumisection}"

    def cells(self) -> tuple[str, ...]:
        """Run, LS, luminosity, pileup, beam mode and prescale column as text."""
        luminosity = None if self.luminosity_hz_cm2 is None else f"{self.luminosity_hz_cm2:.3g} Hz/cm2"
        pileup = None if self.pileup is None else f"{self.pileup:.1f}"
        column = None if self.prescale_column is None else str(self.prescale_column)
        cells = (str(self.run), self.lumisections, luminosity, pileup, self.beam_mode, column)
        return tuple("unknown" if cell is None else cell for cell in cells)


class Comparison(_Frozen):
    """One line of the table: a quantity, what it is and what it should be.

    Parameters
    ----------
    quantity
        Name of the input or of the derived quantity, such as ``jet[0].pt mean`` or ``accept rate``.
    actual, expected
        In `unit`; None when only the deviation is known.
    unit
        Written behind both values: ``GeV``, ``LSB``, ``%``.
    deviation
        Relative, 0.05 is +5 %; None when it cannot be told.
    note
        The statistic that noticed it, such as ``KS D 0.041``.
    """

    quantity: str
    actual: float | None = None
    expected: float | None = None
    unit: str = ""
    deviation: float | None = None
    note: str = ""

    @classmethod
    def of_rate(cls, actual: float, expected: float, quantity: str = "accept rate") -> "Comparison":
        """Compare two accept fractions (0 to 1); they are shown in percent."""
        deviation = None if expected == 0 else actual / expected - 1.0
        return cls(
            quantity=quantity, actual=100 * actual, expected=100 * expected, unit="%", deviation=deviation
        )

    def cells(self) -> tuple[str, str, str, str]:
        """Quantity, actual, expected and deviation as text."""
        deviation = "" if self.deviation is None else f"{100 * self.deviation:+.1f} %"
        if self.note:
            deviation = f"{deviation} ({self.note})" if deviation else self.note
        return (self.quantity, self._value(self.actual), self._value(self.expected), deviation)

    def _value(self, value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:.4g} {self.unit}".rstrip()


class Proposal(_Frozen):
    """What lumiwatch offers to do, and who may say yes.

    Parameters
    ----------
    response_id
        Such as ``anomaly-3-r1``: the response that waits for the decision.
    strategies
        Offered strategies, least invasive first.
    summary
        One sentence: what would change and what it would cost.
    approvers
        Names of the operators who may decide.
    """

    response_id: str
    strategies: tuple[str, ...]
    summary: str
    approvers: tuple[str, ...] = ()


class AlertMessage(_Frozen):
    """Everything the control room is told at one moment of an incident.

    Parameters
    ----------
    incident_id
        Such as ``anomaly-3``; messages of one incident form one thread.
    stage
        What happened.
    model
        Name of the monitored model.
    site
        Name of the site, for people who read several.
    reason
        One sentence a shifter understands.
    story
        The simplest cause that explains it, as one sentence; empty where none is known.
    replay, simulated
        Marks that every rendering repeats. A marked message never reaches the channel of live data.
    onset_lumisection
        First lumisection of the episode, or None while unknown.
    exceeded
        Families beyond their threshold: ``scale``, ``maps``, ``rate``.
    conditions, comparisons, proposal
        The tables and what is proposed; each may be missing.
    offers
        Answers that make sense now; only a chat with buttons shows them.
    console_url
        Page of the incident in the console.
    details
        Further lines, such as the results of single steps.
    """

    incident_id: str
    stage: Stage
    model: str
    reason: str
    story: str = ""
    site: str = ""
    replay: bool = False
    simulated: bool = False
    onset_lumisection: int | None = None
    exceeded: tuple[str, ...] = ()
    conditions: RunConditions | None = None
    comparisons: tuple[Comparison, ...] = ()
    proposal: Proposal | None = None
    offers: tuple[Offer, ...] = ()
    console_url: str | None = None
    details: tuple[str, ...] = Field(default=())

    @property
    def marks(self) -> tuple[str, ...]:
        """Words that say that these are not live data; empty for live data."""
        return (("REPLAY",) if self.replay else ()) + (("SIMULATED DATA",) if self.simulated else ())

    @property
    def title(self) -> str:
        """State, model and marks in one line, without markup."""
        parts = [*self.marks, self.stage.upper(), self.model]
        if self.conditions is not None:
            parts.append(f"run {self.conditions.run}, LS {self.conditions.lumisections}")
        return " | ".join(parts)


def approve_command(response_id: str) -> str:
    """Command line that approves a response with the least invasive strategy that passes."""
    return f"lumiwatch approve {response_id}"


def prescale_command(response_id: str) -> str:
    """Command line that takes the algorithm out of the menu instead of retraining it."""
    return f"lumiwatch prescale-out {response_id}"
