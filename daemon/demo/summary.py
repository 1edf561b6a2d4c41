"""What really happened in the demo: read from the site's records, checked, and put on one page.

Nothing here believes the script. Detection, times and rates come from incidents, response steps and
windows in the database, and the firmware's identity from the board itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import Engine

from daemon.cli.lineage import lineage_tree
from daemon.demo.stage import RUN
from daemon.journal import lineage
from daemon.responses.steps import APPLY, BENCH, DECIDE, RETRAIN
from daemon.responses.workshop import Applied, Benched, Retrained
from daemon.site.settings import SiteModel
from daemon.store import queries, room_queries
from daemon.store.records import IncidentState, ResponseState
from daemon.store.views import IncidentView, ResponseDetail, StepView, WindowView
from hw.report import BenchReport
from streams.effects.effect import Effect
from streams.judging.verdict import State

RECOVERED_WITHIN = 0.05
"""How close the accept rate must come back to what it was, relative: half of the usual band."""


class Rate(BaseModel):
    """An accept rate over some windows, with its binomial standard error."""

    model_config = ConfigDict(frozen=True)

    value: float
    error: float
    lumisections: str

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} ± {100 * self.error:.2f} %  (LS {self.lumisections})"


class DemoSummary(BaseModel):
    """The outcome of one demo.

    Attributes
    ----------
    effect, onset
        What was done to the data, and from which lumisection on.
    alarm_lumisection, delay_lumisections
        Lumisection of the verdict that opened the incident; 1 is the first bad one.
    alarm_to_reconfigured_s, waited_for_decision_s
        Wall time, and how much of it a person took.
    before, drifted, after
        Accept rates: in control, drifted with the old firmware, with the new firmware.
    bits_compared, bit_mismatches
        Over all stages of the bench, board included.
    failures
        Every check that did not hold; empty means that the demo did what it promises.
    """

    model_config = ConfigDict(frozen=True)

    effect: str
    onset: int | None
    windows_judged: int
    incident_id: str | None = None
    incident_state: IncidentState | None = None
    alarm_lumisection: int | None = None
    delay_lumisections: int | None = None
    response_state: ResponseState | None = None
    outcome: str | None = None
    alarm_to_reconfigured_s: float | None = None
    waited_for_decision_s: float | None = None
    before: Rate | None = None
    drifted: Rate | None = None
    after: Rate | None = None
    retrained: str | None = None
    events_compared: int | None = None
    bit_mismatches: int | None = None
    first_package: str
    board_package: str
    last_verdict: State | None = None
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return not self.failures


@dataclass
class _Checks:
    """Collects what did not hold."""

    failures: list[str] = field(default_factory=list)

    def require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)


def summarise_demo(
    engine: Engine, model: SiteModel, *, effect: Effect | None, first_package: str, board_package: str
) -> DemoSummary:
    """Collect the facts of a demo and check them.

    Parameters
    ----------
    effect
        What was done to the data; None: nothing.
    first_package
        The package before.
    board_package
        What the board says it runs now.
    """
    windows = [
        w for w in room_queries.windows(engine, model.name, run=RUN, limit=5000) if w.state == "closed"
    ]
    verdicts = queries.verdict_timeline(engine, model.name, run=RUN, limit=5000)
    incidents = queries.incidents(engine, model=model.name)
    facts: dict[str, Any] = {
        "effect": "none" if effect is None else str(effect),
        "onset": None if effect is None else effect.first_lumisection,
        "windows_judged": len(verdicts),
        "first_package": first_package,
        "board_package": board_package,
        "last_verdict": verdicts[-1].state if verdicts else None,
    }
    checks = _Checks()
    if effect is None:
        checks.require(not incidents, f"an incident was opened although nothing drifted: {_names(incidents)}")
        checks.require(bool(verdicts), "no window was judged")
        bad = [v.lumisection for v in verdicts if v.state is State.ALARM]
        checks.require(not bad, f"lumisections {bad} alarmed although nothing drifted")
        checks.require(board_package == first_package, "the board does not run its first package any more")
        before = _rate(windows)
        return DemoSummary(**facts, before=before, failures=tuple(checks.failures))
    before = _rate([w for w in windows if w.lumisection < effect.first_lumisection])
    drifted = _rate(
        [w for w in windows if w.lumisection >= effect.first_lumisection and w.package == first_package]
    )
    checks.require(len(incidents) == 1, f"exactly one incident was expected, there are {len(incidents)}")
    facts |= {"before": before, "drifted": drifted}
    if incidents:
        facts |= _incident_facts(incidents[-1], effect)
        answers = queries.responses(engine, incident_id=incidents[-1].id)
        if answers:
            detail = queries.response(engine, answers[-1].id)
            facts |= _response_facts(detail, incidents[-1].opened_at, windows, before, checks)
        else:
            checks.require(False, "the incident got no response")
    checks.require(facts["last_verdict"] is not State.ALARM, "the last verdict is still an alarm")
    checks.require(_reaches_root_file(engine, board_package), "the lineage does not reach a ROOT file")
    return DemoSummary(**facts, failures=tuple(checks.failures))


def _reaches_root_file(engine: Engine, package: str) -> bool:
    return any(node.kind == "root_file" for node in lineage.trace(engine, package).nodes)


def _incident_facts(incident: IncidentView, effect: Effect) -> dict[str, object]:
    return {
        "incident_id": incident.id,
        "incident_state": incident.state,
        "alarm_lumisection": incident.first_lumisection,
        "delay_lumisections": incident.first_lumisection - effect.first_lumisection + 1,
    }


def _response_facts(
    response: ResponseDetail,
    alarm_at: datetime,
    windows: Sequence[WindowView],
    before: Rate | None,
    checks: _Checks,
) -> dict[str, object]:
    steps = {step.name: step for step in response.steps}
    facts: dict[str, object] = {"response_state": response.state, "outcome": response.outcome}
    checks.require(
        response.state is ResponseState.SUCCEEDED,
        f"the response did not succeed: {response.outcome or response.state.value}",
    )
    if response.state is not ResponseState.SUCCEEDED:
        return facts
    applied = Applied.model_validate(steps[APPLY.name].result)
    after = _rate([w for w in windows if w.package == applied.package_id])
    on_the_bench = BenchReport.model_validate(Benched.model_validate(steps[BENCH.name].result).report)
    on_the_board = BenchReport.model_validate(applied.detail["bench"])
    stages = [*on_the_bench.stages[1:], *on_the_board.stages[1:]]  # the first stage is the oracle itself
    mismatches = sum(stage.mismatching_bits for stage in stages)
    checks.require(any("board" in stage.name for stage in stages), "the bench left the board out")
    checks.require(
        on_the_bench.passed and on_the_board.passed and mismatches == 0,
        f"{mismatches} bits differ in the bench",
    )
    if before is None or after is None:
        checks.require(False, "there are no windows of before or of after to compare")
    else:
        change = after.value / before.value - 1
        checks.require(
            abs(change) <= RECOVERED_WITHIN, f"the accept rate did not recover: {100 * change:+.1f} %"
        )
    return facts | {
        "after": after,
        "retrained": _what_was_retrained(Retrained.model_validate(steps[RETRAIN.name].result)),
        "events_compared": sum(stage.events for stage in stages),
        "bit_mismatches": mismatches,
        "alarm_to_reconfigured_s": _seconds(alarm_at, steps[APPLY.name].ended_at),
        "waited_for_decision_s": _duration(steps[DECIDE.name]),
    }


def _rate(windows: Sequence[WindowView]) -> Rate | None:
    events = sum(window.n_events for window in windows)
    if not events:
        return None
    value = sum(window.n_accept or 0 for window in windows) / events
    lumisections = [window.lumisection for window in windows]
    return Rate(
        value=value,
        error=math.sqrt(value * (1 - value) / events),
        lumisections=f"{min(lumisections)}-{max(lumisections)}",
    )


def _what_was_retrained(retrained: Retrained) -> str:
    words = [row.get("words_changed") for row in retrained.table if row.get("strategy") == retrained.strategy]
    size = f" ({words[0]} words of the weight memory)" if words and words[0] is not None else ""
    return f"{retrained.strategy}{size}"


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()


def _duration(step: StepView) -> float | None:
    return _seconds(step.started_at, step.ended_at)


def _names(incidents: Sequence[IncidentView]) -> str:
    return ", ".join(incident.id for incident in incidents)


def print_summary(summary: DemoSummary, engine: Engine, console: Console) -> None:
    """Print the page: facts, lineage of the running firmware, and what did not hold."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for name, value in _lines(summary):
        table.add_row(name, value)
    graph = lineage.trace(engine, summary.board_package)
    parts: list[RenderableType] = [table, "", Text("lineage of the running firmware", style="bold")]
    parts.append(lineage_tree(graph))
    parts.extend(Text(f"did not hold: {failure}", style="bold red") for failure in summary.failures)
    good = "nothing happened, as it should be" if summary.onset is None else "every step really happened"
    verdict = good if summary.passed else "NOT everything happened as it should"
    style = "green" if summary.passed else "red"
    console.print(Panel(Group(*parts), title=f"lumiwatch demo: {verdict}", border_style=style))


def _lines(summary: DemoSummary) -> list[tuple[str, str]]:
    lines = [
        ("effect", summary.effect),
        ("windows judged", f"{summary.windows_judged}, the last one {summary.last_verdict or 'none'}"),
    ]
    if summary.incident_id is None:
        lines.append(("incidents", "none"))
    else:
        lines += [
            ("onset", f"LS {summary.onset}"),
            (
                "alarm",
                f"LS {summary.alarm_lumisection}: delay {summary.delay_lumisections} LS (1 = first bad LS)",
            ),
            ("incident", f"{summary.incident_id}, {summary.incident_state}"),
            ("response", f"{summary.response_state or 'none'}: {summary.outcome or ''}"),
        ]
    if summary.alarm_to_reconfigured_s is not None:
        waited = f", {summary.waited_for_decision_s:.1f} s of it for the decision" * (
            summary.waited_for_decision_s is not None
        )
        lines.append(("alarm to reconfigured", f"{summary.alarm_to_reconfigured_s:.1f} s{waited}"))
    rates = (("before", summary.before), ("drifted", summary.drifted), ("after", summary.after))
    lines += [(f"accept rate {name}", str(rate)) for name, rate in rates if rate is not None]
    if summary.retrained is not None:
        lines.append(("retrained", summary.retrained))
        lines.append(
            ("bit mismatches", f"{summary.bit_mismatches}, {summary.events_compared} scores compared")
        )
    same = "the first one, untouched" if summary.board_package == summary.first_package else "the new one"
    lines.append(("firmware on the board", f"package {summary.board_package[:12]}, {same}"))
    return lines
