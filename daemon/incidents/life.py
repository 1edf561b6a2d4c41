"""When a verdict opens, extends, ends or reopens an incident: a pure reducer.

One model has at most one unresolved incident (simulated and real verdicts never meet in one).
Knows no database, no clock and no chat: the verdict comes in, actions come out. docs/incidents.md draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from daemon.errors import NotPossibleNow
from daemon.store.records import IncidentState
from streams.judging.verdict import State, Verdict


@dataclass(frozen=True)
class IncidentFacts:
    """What the reducer needs to know of an incident.

    Parameters
    ----------
    last_position
        (run, lumisection) of its latest alarm, or of the last window that verified its reconfiguration.
    families
        All that it has exceeded so far.
    recovered_position
        (run, lumisection) of the good verdict that ended it; None: unresolved, or something else ended it.
    """

    id: str
    state: IncidentState
    last_position: tuple[int, int]
    families: tuple[str, ...]
    recovered_position: tuple[int, int] | None = None


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


@dataclass(frozen=True)
class Reopen:
    """The alarm is back soon after the incident recovered by itself: it goes on, in the same thread."""

    incident_id: str
    verdict: Verdict


Action = Open | Extend | Recover | Reopen

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
        IncidentState.RESOLVED: frozenset({IncidentState.OPEN}),  # only by an alarm: see `Reopen`
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
    reopen_within: int = 0,
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
    reopen_within
        Lumisections after a recovery within which an alarm of the same run reopens; 0: none does.

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
            if last_resolved is not None and _comes_back(last_resolved, verdict, reopen_within):
                return (Reopen(last_resolved.id, verdict),)
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
        hint = "only an alarm opens it again" if now is IncidentState.RESOLVED else "reload it"
        raise NotPossibleNow(f"incident {incident_id} is {now.value} and cannot become {then.value}: {hint}")


def _covered(resolved: IncidentFacts, verdict: Verdict) -> bool:
    """Whether an alarm is about lumisections that the resolved incident has dealt with.

    A reconfiguration covers all that verified it: windows of the old firmware may still be judged afterwards.
    A recovery covers all before its good verdict. Who resolves by hand covers the alarms seen until then.
    """
    return position(verdict) <= max(resolved.last_position, resolved.recovered_position or (-1, -1))


def _comes_back(resolved: IncidentFacts, verdict: Verdict, within: int) -> bool:
    if resolved.recovered_position is None:
        return False  # a reconfiguration or a person ended it: a later alarm is news
    run, lumisection = resolved.recovered_position
    return verdict.run == run and verdict.lumisection - lumisection <= within
