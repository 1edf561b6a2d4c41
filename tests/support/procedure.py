"""One response, run without an engine: its steps are remembered as the durable engine remembers them."""

from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from daemon.incidents.intake import take_verdict
from daemon.operations import Operations
from daemon.process.children import Interrupted
from daemon.responses.procedure import ResponseProcedure
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.records import StepState
from streams.judging.verdict import State
from tests.support.daemon import NEW_PACKAGE, Everybody, FakeWorkshop, HandClock, NoWorkflows, make_verdict

RESPONSE = "anomaly-1-r1"


class Bench:
    """One response that can be stopped and run again."""

    def __init__(self, engine: Engine, site: Site, clock: HandClock) -> None:
        self.engine, self.site, self.clock = engine, site, clock
        self.response = RESPONSE
        self.workshop = FakeWorkshop()
        self.operations = Operations(engine, site, NoWorkflows(), clock, access=Everybody())
        self.remembered: dict[str, dict[str, Any]] = {}
        self.stopping = Event()
        self.procedure = ResponseProcedure(engine, site, self.workshop, clock, self.stopping)

    def run_step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run a step, or give back what it gave before."""
        if name not in self.remembered:
            self.remembered[name] = work()
        return self.remembered[name]

    def run(self) -> str:
        """Run the response to its end."""
        return self.procedure.run(self.response, self.run_step)

    def propose(self) -> None:
        """Run as far as the next wait, then stop."""
        self.stopping.set()
        with pytest.raises(Interrupted):
            self.run()
        self.stopping.clear()

    def verdicts(self, first: int, last: int, state: State = State.GOOD, **changes: Any) -> None:
        """Take verdicts of the new package."""
        for lumisection in range(first, last + 1):
            verdict = make_verdict(lumisection, state, package=NEW_PACKAGE, **changes)
            take_verdict(self.engine, self.site, verdict, now=self.clock())

    def told(self, kind: str, incident: str = "anomaly-1") -> list[str]:
        """Give the texts of a kind in an incident's history."""
        return [event.text for event in queries.incident(self.engine, incident).events if event.kind == kind]


def states_of(bench: Bench) -> dict[str, StepState]:
    """Give the states of a response's steps."""
    return {step.name: step.state for step in queries.response(bench.engine, bench.response).steps}
