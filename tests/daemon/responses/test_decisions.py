"""Decisions on responses: two stages, several people, races on both databases, and every wrong answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy.engine import Engine

from daemon.errors import DaemonError, DecisionRefused, InvalidChoice, NotPermitted, NotPossibleNow
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations
from daemon.responses.policy import propose
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.database import open_database, transaction
from daemon.store.records import DecisionKind, DecisionStage, IncidentState, ResponseRecord, ResponseState
from streams.judging.verdict import State
from tests.support.daemon import Everybody, HandClock, NoWorkflows, make_verdict, with_policy

RESPONSE = "anomaly-1-r1"
PEOPLE = ("ada", "max", "eva")


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, site: Site) -> Iterator[Engine]:
    """The site's database, on either engine."""
    url = site.database_url if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = open_database(url)
    yield opened
    opened.dispose()


def operations_of(engine: Engine, site: Site, clock: HandClock) -> Operations:
    return Operations(engine, site, NoWorkflows(), clock, access=Everybody())


def proposed(engine: Engine, site: Site, clock: HandClock, **policy: object) -> Operations:
    """A proposal that waits, under a policy, as the workflow leaves it."""
    site = with_policy(site, **{"approvers": PEOPLE, **policy})
    verdict = make_verdict(63, onset_lumisection=61)
    take_verdict(engine, site, verdict, now=clock())
    with transaction(engine) as session:
        response = session.get(ResponseRecord, RESPONSE)
        assert response is not None
        proposal = propose(site.models["anomaly"].policy, verdict, onset_lumisection=61)
        response.proposal = proposal.model_dump(mode="json")
        response.state = ResponseState.PROPOSED
    return operations_of(engine, site, clock)


def ask_before_board(engine: Engine) -> None:
    """Move an approved response to its second question, as the workflow does after the bench."""
    with transaction(engine) as session:
        response = session.get(ResponseRecord, RESPONSE)
        assert response is not None
        assert response.state == ResponseState.RUNNING
        response.state = ResponseState.HARDWARE_PROPOSED


def decided(engine: Engine) -> list[tuple[str, str]]:
    events = queries.incident(engine, "anomaly-1").events
    return [(event.actor, event.detail["stage"]) for event in events if event.kind == "response.decided"]


def race(operations: Operations, acts: list[tuple[str, DecisionKind]]) -> list[Exception | None]:
    """Let everybody decide at the same moment; gives what each was told."""
    barrier = Barrier(len(acts))

    def act(operator: str, kind: DecisionKind) -> Exception | None:
        barrier.wait()
        try:
            operations.decide(RESPONSE, kind, operator=operator)
        except DaemonError as error:
            return error
        return None

    with ThreadPoolExecutor(len(acts)) as pool:
        return [one.result() for one in [pool.submit(act, *each) for each in acts]]


def test_two_who_approve_at_once_are_both_counted(both: Engine, site: Site, clock: HandClock):
    operations = proposed(both, site, clock, approvals_needed=2)

    told = race(operations, [("ada", DecisionKind.APPROVE), ("max", DecisionKind.APPROVE)])

    assert told == [None, None]
    response = queries.response(both, RESPONSE)
    assert response.state is ResponseState.RUNNING
    assert set((response.decided_by or "").split(", ")) == {"ada", "max"}
    assert sorted(decided(both)) == [("ada", "response"), ("max", "response")]


def test_where_one_approval_is_enough_the_second_of_a_race_is_refused(
    both: Engine, site: Site, clock: HandClock
):
    operations = proposed(both, site, clock)

    told = race(operations, [(name, DecisionKind.APPROVE) for name in PEOPLE])

    assert sum(error is None for error in told) == 1
    assert all(isinstance(error, DecisionRefused) for error in told if error is not None)
    assert len(queries.response(both, RESPONSE).decisions) == 1


def test_one_person_in_two_places_decides_once(both: Engine, site: Site, clock: HandClock):
    operations = proposed(both, site, clock, approvals_needed=2)

    told = race(operations, [("ada", DecisionKind.APPROVE), ("ada", DecisionKind.APPROVE)])

    (refused,) = [error for error in told if error is not None]
    assert "single-use" in str(refused)
    assert queries.response(both, RESPONSE).state is ResponseState.PROPOSED


def test_an_approval_and_a_rejection_at_once_leave_one_outcome(both: Engine, site: Site, clock: HandClock):
    operations = proposed(both, site, clock)

    told = race(operations, [("ada", DecisionKind.APPROVE), ("max", DecisionKind.REJECT)])

    (kept,) = queries.response(both, RESPONSE).decisions
    assert [error is None for error in told] == [kept.operator == "ada", kept.operator == "max"]
    state = queries.response(both, RESPONSE).state
    assert state is (ResponseState.RUNNING if kept.operator == "ada" else ResponseState.REJECTED)


def test_an_approval_races_with_the_recovery_of_the_model(both: Engine, site: Site, clock: HandClock):
    operations = proposed(both, site, clock)
    barrier = Barrier(2)

    def recover() -> None:
        barrier.wait()
        take_verdict(both, site, make_verdict(70, State.GOOD), now=clock())

    def approve() -> Exception | None:
        barrier.wait()
        try:
            operations.approve(RESPONSE, operator="ada")
        except DecisionRefused as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        recovery = pool.submit(recover)
        refused = pool.submit(approve).result()
        recovery.result()

    incident = queries.incident(both, "anomaly-1")
    response = queries.response(both, RESPONSE)
    if refused is None:
        assert (incident.state, response.state) == (IncidentState.RESPONDING, ResponseState.RUNNING)
    else:
        assert (incident.state, response.state) == (IncidentState.RESOLVED, ResponseState.WITHDRAWN)
        assert response.decisions == []


def test_the_board_needs_a_second_decision_by_somebody_else(both: Engine, site: Site, clock: HandClock):
    operations = proposed(both, site, clock, hardware_approvals_needed=1)
    operations.approve(RESPONSE, operator="ada", strategy="bias")
    ask_before_board(both)

    waits = queries.response(both, RESPONSE).waits_for
    assert waits is not None
    assert (waits.stage, waits.needed, waits.missing) == (DecisionStage.HARDWARE, 1, ["max", "eva"])
    with pytest.raises(NotPermitted, match="max or eva"):
        operations.approve(RESPONSE, operator="ada")
    with pytest.raises(InvalidChoice, match="name no strategy"):
        operations.approve(RESPONSE, operator="max", strategy="bias")
    operations.approve(RESPONSE, operator="max")

    response = queries.response(both, RESPONSE)
    assert response.state is ResponseState.RUNNING
    assert response.decided_by == "ada, max"
    assert response.strategy_requested == "bias"
    assert decided(both) == [("ada", "response"), ("max", "hardware")]
    with pytest.raises(DecisionRefused, match="running"):
        operations.approve(RESPONSE, operator="eva")


def test_one_person_may_answer_both_where_the_policy_allows_it(engine: Engine, site: Site, clock: HandClock):
    operations = proposed(engine, site, clock, hardware_approvals_needed=1, distinct_approvers=False)
    operations.approve(RESPONSE, operator="ada")
    ask_before_board(engine)

    operations.approve(RESPONSE, operator="ada")

    assert queries.response(engine, RESPONSE).state is ResponseState.RUNNING
    assert [one.stage for one in queries.response(engine, RESPONSE).decisions] == [
        DecisionStage.RESPONSE,
        DecisionStage.HARDWARE,
    ]


def test_who_began_it_may_still_stop_it_before_the_board(engine: Engine, site: Site, clock: HandClock):
    operations = proposed(engine, site, clock, hardware_approvals_needed=1)
    operations.approve(RESPONSE, operator="ada")
    ask_before_board(engine)

    operations.reject(RESPONSE, operator="ada")

    response = queries.response(engine, RESPONSE)
    assert response.state is ResponseState.REJECTED
    assert "not touched" in (response.outcome or "")
    assert queries.incident(engine, "anomaly-1").state is IncidentState.OPEN


def test_a_firmware_fault_withdraws_what_waits_before_the_board(engine: Engine, site: Site, clock: HandClock):
    operations = proposed(engine, site, clock, hardware_approvals_needed=1)
    operations.approve(RESPONSE, operator="ada")
    ask_before_board(engine)

    fault = make_verdict(64, families=("integrity",), reason="Firmware fault.")
    result = take_verdict(engine, site, fault, now=clock())

    assert result.wake_responses == (RESPONSE,)
    assert result.start_responses == ("anomaly-1-r2",)
    assert queries.response(engine, RESPONSE).state is ResponseState.WITHDRAWN
    assert queries.incident(engine, "anomaly-1").state is IncidentState.OPEN


def test_after_the_time_limit_nobody_decides(engine: Engine, site: Site, clock: HandClock):
    operations = proposed(engine, site, clock)
    with transaction(engine) as session:
        response = session.get(ResponseRecord, RESPONSE)
        assert response is not None
        response.decide_by = clock()

    with pytest.raises(DecisionRefused, match="incidents respond anomaly-1"):
        operations.approve(RESPONSE, operator="ada")

    assert queries.response(engine, RESPONSE).decisions == []


def test_people_and_strategies_that_are_not_listed_change_nothing(
    engine: Engine, site: Site, clock: HandClock
):
    operations = proposed(engine, site, clock, strategies=("bias",))

    with pytest.raises(NotPermitted, match="ada or max or eva"):
        operations.approve(RESPONSE, operator="joe")
    with pytest.raises(InvalidChoice, match="least_invasive, bias"):
        operations.approve(RESPONSE, operator="ada", strategy="all_weights")

    response = queries.response(engine, RESPONSE)
    assert (response.state, response.decisions) == (ResponseState.PROPOSED, [])


def test_an_incident_of_a_model_that_is_gone_says_how_to_go_on(engine: Engine, site: Site, clock: HandClock):
    proposed(engine, site, clock)
    without = Site(site.folder, site.settings, site.state_dir, site.database_url, {})

    with pytest.raises(NotPossibleNow, match="put models/anomaly back"):
        operations_of(engine, without, clock).resolve("anomaly-1", operator="ada", comment="")
