from dataclasses import replace

import pytest

from daemon.errors import NotPossibleNow
from daemon.incidents.life import Extend, IncidentFacts, Open, Recover, Reopen, check_transition, on_verdict
from daemon.store.records import IncidentState
from streams.judging.verdict import State
from tests.support.daemon import make_verdict


def facts(state: IncidentState = IncidentState.OPEN, last: int = 63) -> IncidentFacts:
    return IncidentFacts(id="anomaly-1", state=state, last_position=(1, last), families=("rate",))


def test_the_first_alarm_opens_at_its_onset():
    verdict = make_verdict(63, onset_lumisection=61)

    assert on_verdict(None, verdict) == (Open(verdict, 61),)


def test_an_alarm_without_onset_opens_at_its_own_lumisection():
    verdict = make_verdict(63, onset_lumisection=None)

    assert on_verdict(None, verdict) == (Open(verdict, 63),)


@pytest.mark.parametrize("state", [State.GOOD, State.WARNING, State.INSUFFICIENT, State.NOT_JUDGED])
def test_nothing_but_an_alarm_opens(state: State):
    assert on_verdict(None, make_verdict(63, state)) == ()


@pytest.mark.parametrize("state", [State.WARNING, State.INSUFFICIENT, State.NOT_JUDGED])
def test_what_is_not_judged_moves_no_incident(state: State):
    assert on_verdict(facts(), make_verdict(64, state)) == ()


def test_a_further_alarm_extends_and_names_new_families():
    verdict = make_verdict(64)

    assert on_verdict(facts(), verdict) == (Extend("anomaly-1", verdict, ("rate", "inputs"), ("inputs",)),)


def test_a_late_alarm_from_before_changes_nothing():
    assert on_verdict(facts(last=70), make_verdict(65)) == ()


def test_good_again_recovers():
    verdict = make_verdict(70, State.GOOD)

    assert on_verdict(facts(), verdict) == (Recover("anomaly-1", verdict),)


def test_good_from_before_the_latest_alarm_does_not_recover():
    assert on_verdict(facts(last=70), make_verdict(69, State.GOOD)) == ()


def test_a_response_at_work_closes_the_incident_itself():
    assert on_verdict(facts(IncidentState.RESPONDING), make_verdict(70, State.GOOD)) == ()


def test_an_alarm_about_data_of_a_resolved_incident_opens_nothing():
    resolved = facts(IncidentState.RESOLVED, last=80)

    assert on_verdict(None, make_verdict(79), last_resolved=resolved) == ()
    assert on_verdict(None, make_verdict(81), last_resolved=resolved) != ()


def recovered(at: int, last: int = 63) -> IncidentFacts:
    return replace(facts(IncidentState.RESOLVED, last), recovered_position=(1, at))


@pytest.mark.parametrize(("lumisection", "reopens"), [(71, True), (90, True), (91, False)])
def test_an_alarm_soon_after_a_recovery_reopens(lumisection: int, reopens: bool):
    verdict = make_verdict(lumisection, onset_lumisection=None)

    actions = on_verdict(None, verdict, last_resolved=recovered(at=70), reopen_within=20)

    assert actions == ((Reopen("anomaly-1", verdict),) if reopens else (Open(verdict, lumisection),))


def test_an_alarm_about_data_from_before_the_recovery_says_nothing():
    assert on_verdict(None, make_verdict(66), last_resolved=recovered(at=70), reopen_within=20) == ()


def test_the_next_run_or_no_lumisections_open_a_new_incident():
    next_run = make_verdict(2, run=2, onset_lumisection=2)
    soon = make_verdict(71, onset_lumisection=71)

    assert on_verdict(None, next_run, last_resolved=recovered(at=70), reopen_within=20) == (
        Open(next_run, 2),
    )
    assert on_verdict(None, soon, last_resolved=recovered(at=70)) == (Open(soon, 71),)


def test_what_a_person_or_a_reconfiguration_resolved_is_not_reopened():
    verdict = make_verdict(64, onset_lumisection=64)

    assert on_verdict(None, verdict, last_resolved=facts(IncidentState.RESOLVED), reopen_within=20) == (
        Open(verdict, 64),
    )


@pytest.mark.parametrize(
    "then", [IncidentState.ACKNOWLEDGED, IncidentState.RESPONDING, IncidentState.RESOLVED]
)
def test_what_is_resolved_can_only_be_opened_by_an_alarm(then: IncidentState):
    with pytest.raises(NotPossibleNow, match="only an alarm opens it again"):
        check_transition("anomaly-1", IncidentState.RESOLVED, then)

    check_transition("anomaly-1", IncidentState.RESOLVED, IncidentState.OPEN)


@pytest.mark.parametrize("state", list(State))
def test_a_verdict_revised_after_late_data_moves_no_incident(state: State):
    revised = make_verdict(99, state).model_copy(update={"revision": 2})

    assert on_verdict(None, revised) == ()
    assert on_verdict(facts(), revised) == ()
