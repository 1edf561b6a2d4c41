"""When a verdict opens, extends or ends an incident: a pure reducer.

One model has at most one unresolved incident (simulated and real verdicts never meet in one).
Knows no database, no clock and no chat: the verdict comes in, actions come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from daemon.errors import NotPossibleNow
from daemon.records import IncidentState
from streams.judging.verdict import State, Verdict


@dataclass(frozen=True)
class IncidentFacts:
    """What the reducer needs to know of an incident."""

    id: str
    state: IncidentState
    last_position: tuple[int, int]
    families: tuple[str, ...]


@dataclass(frozen=True)
class Open:
    """Open an incident and prepare a response to it."""

    verdict: Verdict
    onset_lumisection: int


@dataclass(frozen=True)
class Extend:
    """The alarm goes on: move the end of the incident's range, and name new families."""

    incident_id: str
    verdict: Verdict
    families: tuple[str, ...]
    new_families: tuple[str, ...]


@dataclass(frozen=True)
class Recover:
    """The model is good again without a reconfiguration: resolve, and withdraw a waiting proposal."""

    incident_id: str
    verdict: Verdict


Action = Open | Extend | Recover

_TRANSITIONS: Mapping[IncidentState, frozenset[IncidentState]] = MappingProxyType(
    {
        IncidentState.OPEN: frozenset(
            {IncidentState.ACKNOWLEDGED, IncidentState.RESPONDING, IncidentState.RESOLVED}
        ),
        IncidentState.ACKNOWLEDGED: frozenset(
            {IncidentState.OPEN, IncidentState.RESPONDING, IncidentState.RESOLVED}
        ),
        IncidentState.RESPONDING: frozenset(
            {IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED}
        ),
        IncidentState.RESOLVED: frozenset(),
    }
)


def position(verdict: Verdict) -> tuple[int, int]:
    """Order in data time: (run, lumisection)."""
    return verdict.run, verdict.lumisection


def on_verdict(
    current: IncidentFacts | None,
    verdict: Verdict,
    *,
    last_resolved: IncidentFacts | None = None,
) -> tuple[Action, ...]:
    """Decide what one verdict means for the incidents of its model.

    Parameters
    ----------
    current
        The model's unresolved incident, if any.
    verdict
        The verdict, in any order and possibly late.
    last_resolved
        The model's latest resolved incident: alarms about data it already covers open nothing new.

    Returns
    -------
    tuple of Action
        Nothing for `warning`, `insufficient` and `not_judged`: they are never bad. Nothing either for a
        verdict revised after late data: it mends the history of its window and says nothing about now.
    """
    if verdict.revision > 1:
        return ()
    if verdict.state is State.ALARM:
        if current is None:
            if last_resolved is not None and _covered(last_resolved, verdict):
                return ()
            onset = verdict.onset_lumisection
            return (Open(verdict, verdict.lumisection if onset is None else onset),)
        if position(verdict) < current.last_position:
            return ()
        new = tuple(family for family in verdict.families if family not in current.families)
        return (Extend(current.id, verdict, (*current.families, *new), new),)
    if (
        verdict.state is State.GOOD
        and current is not None
        and current.state is not IncidentState.RESPONDING
        and position(verdict) > current.last_position
    ):
        return (Recover(current.id, verdict),)
    return ()


def check_transition(incident_id: str, now: IncidentState, then: IncidentState) -> None:
    """Refuse a change of state that makes no sense.

    Raises
    ------
    NotPossibleNow
        For instance anything on a resolved incident.
    """
    if then not in _TRANSITIONS[now]:
        hint = (
            "it is final; a new alarm opens a new incident" if now is IncidentState.RESOLVED else "reload it"
        )
        raise NotPossibleNow(f"incident {incident_id} is {now.value} and cannot become {then.value}: {hint}")


def _covered(resolved: IncidentFacts, verdict: Verdict) -> bool:
    # Windows of the old firmware may still be judged after the new one was verified.
    return position(verdict) <= resolved.last_position
