"""Prometheus metrics of the daemon, all created up front and named by one rule.

Names start with `lumiwatch_`, units are base units, labels are bounded by the site's models.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from daemon.records import FINAL_RESPONSE_STATES, DecisionKind
from streams.verdict import State


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
        for model in models:
            self._start_at_zero(model)
        for kind in DecisionKind:
            self.decisions.labels(kind.value)
        for where in ("consumer", "publisher", "response", "alerts", "api", "housekeeping"):
            self.contained_errors.labels(where)

    def render(self) -> bytes:
        """Give the text exposition format."""
        return generate_latest(self.registry)

    def _start_at_zero(self, model: str) -> None:
        for state in State:
            self.verdicts.labels(model, state.value)
        for outcome in FINAL_RESPONSE_STATES:
            self.responses_ended.labels(model, outcome.value)
        self.verdicts_repeated.labels(model)
        self.incidents_opened.labels(model)
        self.incidents_unresolved.labels(model).set(0)
