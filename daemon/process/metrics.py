"""Prometheus metrics of the daemon, all created up front and named by one rule.

Names start with `lumiwatch_`, units are base units, labels are bounded by the site's models.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

from daemon.access.logins import OUTCOMES, Outcome
from daemon.store.records import FINAL_RESPONSE_STATES, DecisionKind
from streams.judging.verdict import State, Verdict

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asked for


class Metrics:
    """Every metric of one daemon, in a registry of its own.

    Parameters
    ----------
    models
        Names of the monitored models; their series exist from the start, at zero.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self.verdicts = Counter(
            "lumiwatch_verdicts_total", "Verdicts received.", ["model", "state"], registry=self.registry
        )
        self.verdicts_repeated = Counter(
            "lumiwatch_verdicts_repeated_total",
            "Verdicts received before.",
            ["model"],
            registry=self.registry,
        )
        self.messages_malformed = Counter(
            "lumiwatch_verdict_messages_malformed_total",
            "Verdict messages not understood.",
            registry=self.registry,
        )
        self.incidents_opened = Counter(
            "lumiwatch_incidents_opened_total", "Incidents opened.", ["model"], registry=self.registry
        )
        self.incidents_unresolved = Gauge(
            "lumiwatch_incidents_unresolved",
            "Incidents that are not resolved.",
            ["model"],
            registry=self.registry,
        )
        self.responses_ended = Counter(
            "lumiwatch_responses_ended_total",
            "Responses ended.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.decisions = Counter(
            "lumiwatch_decisions_total", "Decisions of operators.", ["kind"], registry=self.registry
        )
        self.accept_rate = Gauge(
            "lumiwatch_accept_ratio",
            "Accepted events of the latest window.",
            ["model"],
            registry=self.registry,
        )
        self.verdicts_late = Counter(
            "lumiwatch_verdicts_late_total",
            "Verdicts that came too long after their lumisection.",
            ["model"],
            registry=self.registry,
        )
        self.verdicts_untold = Counter(
            "lumiwatch_verdicts_without_story_total",
            "Warnings and alarms that the judge could not explain for an error.",
            ["model"],
            registry=self.registry,
        )
        self.verdict_delay = Gauge(
            "lumiwatch_verdict_delay_seconds",
            "From the end of the lumisection to the latest verdict.",
            ["model"],
            registry=self.registry,
        )
        self.events_checked = Counter(
            "lumiwatch_integrity_events_checked_total",
            "Events compared with the emulator.",
            ["model"],
            registry=self.registry,
        )
        self.events_mismatched = Counter(
            "lumiwatch_integrity_events_mismatched_total",
            "Events that differ from the emulator.",
            ["model"],
            registry=self.registry,
        )
        self.last_lumisection = Gauge(
            "lumiwatch_last_lumisection",
            "Lumisection of the latest verdict.",
            ["model"],
            registry=self.registry,
        )
        self.contained_errors = Counter(
            "lumiwatch_contained_errors_total",
            "Errors that were contained and logged.",
            ["where"],
            registry=self.registry,
        )
        self.logins = Counter(
            "lumiwatch_logins_total", "Tries to log in.", ["outcome"], registry=self.registry
        )
        for model in models:
            self._start_at_zero(model)
        for outcome in OUTCOMES:
            self.logins.labels(outcome)
        for kind in DecisionKind:
            self.decisions.labels(kind.value)
        for where in ("consumer", "publisher", "response", "alerts", "api", "housekeeping", "configuration"):
            self.contained_errors.labels(where)
        self.contained_errors.labels("scrubbing")

    def take_verdict(self, verdict: Verdict) -> None:
        """Count a new verdict of a monitored model."""
        model = verdict.model
        self.verdicts.labels(model, verdict.state.value).inc()
        self.accept_rate.labels(model).set(verdict.accept_rate)
        self.last_lumisection.labels(model).set(verdict.lumisection)
        if verdict.late:
            self.verdicts_late.labels(model).inc()
        if verdict.state in {State.WARNING, State.ALARM} and not verdict.story:
            self.verdicts_untold.labels(model).inc()
        if verdict.delay_s is not None:
            self.verdict_delay.labels(model).set(verdict.delay_s)
        if verdict.integrity is not None and verdict.revision == 1:  # later ones hold the same events again
            self.events_checked.labels(model).inc(verdict.integrity.n_checked)
            self.events_mismatched.labels(model).inc(verdict.integrity.n_mismatched)

    def count_login(self, outcome: Outcome) -> None:
        """Count a try to log in."""
        self.logins.labels(outcome).inc()

    def render(self) -> bytes:
        """Give the text exposition format."""
        return generate_latest(self.registry)

    def _start_at_zero(self, model: str) -> None:
        for state in State:
            self.verdicts.labels(model, state.value)
        for outcome in FINAL_RESPONSE_STATES:
            self.responses_ended.labels(model, outcome.value)
        for series in (
            self.verdicts_repeated,
            self.verdicts_late,
            self.verdicts_untold,
            self.events_checked,
            self.events_mismatched,
        ):
            series.labels(model)
        self.verdict_delay.labels(model).set(0)
        self.incidents_opened.labels(model)
        self.incidents_unresolved.labels(model).set(0)
