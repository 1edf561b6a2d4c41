"""Retraining without an alarm: who may ask, what it opens, and how it lives beside alarms."""

import pytest
from sqlalchemy.engine import Engine

from daemon.errors import DecisionRefused, NotFound, NotPossibleNow
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.records import IncidentKind, IncidentState, ResponseState
from streams.judging.verdict import State
from tests.support.daemon import Everybody, HandClock, NoWorkflows, make_verdict
from tests.support.procedure import Bench

INCIDENT, RESPONSE = "anomaly-1", "anomaly-1-r1"


def judge(engine: Engine, site: Site, clock: HandClock, lumisection: int, state: State = State.GOOD) -> None:
    take_verdict(engine, site, make_verdict(lumisection, state), now=clock())


@pytest.fixture
def workflows() -> NoWorkflows:
    return NoWorkflows()


@pytest.fixture
def operations(engine: Engine, site: Site, workflows: NoWorkflows, clock: HandClock) -> Operations:
    return Operations(engine, site, workflows, clock, access=Everybody())


@pytest.fixture
def bench(engine: Engine, site: Site, clock: HandClock, operations: Operations) -> Bench:
    """A request that waits for its approval."""
    for lumisection in (58, 59, 60):
        judge(engine, site, clock, lumisection)
    operations.request_retrain("anomaly", operator="eve", reason="slow drift of the rate")
    made = Bench(engine, site, clock)
    made.propose()
    return made


def test_a_request_opens_an_incident_of_its_own_kind(bench: Bench):
    incident = queries.incident(bench.engine, INCIDENT)
    response = queries.response(bench.engine, RESPONSE)

    assert incident.kind is IncidentKind.REQUESTED
    assert (incident.state, incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "eve")
    assert incident.reason == "Retraining asked for by eve: slow drift of the rate"
    assert (incident.onset_lumisection, incident.last_lumisection) == (41, 60)
    assert incident.latest_verdict["lumisection"] == 60
    assert response.requested_by == "eve"
    assert response.state is ResponseState.PROPOSED
    kinds = [event.kind for event in incident.events]
    assert kinds[0] == "incident.requested"
    assert "incident.opened" not in kinds


def test_a_request_takes_the_same_path_to_a_verified_package(bench: Bench):
    bench.operations.approve(RESPONSE, operator="local")
    bench.verdicts(70, 79)

    assert bench.run() == ResponseState.SUCCEEDED
    assert bench.workshop.calls == ["retrain", "build", "bench", "apply", "successor_reference"]
    assert queries.incident(bench.engine, INCIDENT).state is IncidentState.RESOLVED


def test_in_a_short_run_lumisections_stay_to_compare_with(
    engine: Engine, site: Site, clock: HandClock, operations: Operations
):
    judge(engine, site, clock, 10)
    operations.request_retrain("anomaly", operator="eve", reason="why not")

    assert queries.incident(engine, INCIDENT).onset_lumisection == 6


def test_good_verdicts_do_not_end_a_request(bench: Bench):
    judge(bench.engine, bench.site, bench.clock, 70)

    assert queries.incident(bench.engine, INCIDENT).state is IncidentState.ACKNOWLEDGED
    assert queries.response(bench.engine, RESPONSE).state is ResponseState.PROPOSED


def test_an_alarm_opens_its_own_incident_and_takes_the_place_of_a_waiting_request(bench: Bench):
    result = take_verdict(bench.engine, bench.site, make_verdict(71), now=bench.clock())

    assert result.opened == "anomaly-2"
    assert result.start_responses == ("anomaly-2-r1",)
    assert result.wake_responses == (RESPONSE,)
    request = queries.incident(bench.engine, INCIDENT)
    assert request.state is IncidentState.RESOLVED
    assert "anomaly-2" in (request.resolution or "")
    assert queries.response(bench.engine, RESPONSE).state is ResponseState.WITHDRAWN
    assert queries.incident(bench.engine, "anomaly-2").kind is IncidentKind.ALARM


def test_an_alarm_beside_a_request_at_work_waits_for_its_end(bench: Bench):
    bench.operations.approve(RESPONSE, operator="local")
    take_verdict(bench.engine, bench.site, make_verdict(71), now=bench.clock())
    alarm = Bench(bench.engine, bench.site, bench.clock)
    alarm.response = "anomaly-2-r1"
    alarm.propose()

    with pytest.raises(DecisionRefused, match=f"response {RESPONSE} is at work on anomaly"):
        bench.operations.approve("anomaly-2-r1", operator="local")

    bench.verdicts(72, 81)
    assert bench.run() == ResponseState.SUCCEEDED
    assert queries.incident(bench.engine, "anomaly-2").state is IncidentState.RESOLVED  # good again
    assert queries.response(bench.engine, "anomaly-2-r1").state is ResponseState.WITHDRAWN


@pytest.mark.parametrize("end", ["reject", "time", "failure"])
def test_a_request_ends_with_its_response(bench: Bench, end: str):
    if end == "reject":
        bench.operations.reject(RESPONSE, operator="local")
    elif end == "time":
        bench.clock.move(7 * 86400)
    else:
        bench.operations.approve(RESPONSE, operator="local")
        bench.workshop.fail_at = "retrain"
    bench.run()

    incident = queries.incident(bench.engine, INCIDENT)
    assert incident.state is IncidentState.RESOLVED
    assert (incident.resolution or "").startswith("The request has ended.")


def test_a_request_that_leaves_an_unproven_board_stays_open(bench: Bench):
    bench.operations.approve(RESPONSE, operator="local")
    bench.verdicts(70, 71, State.ALARM, families=("rate",))
    bench.workshop.fail_at = "roll_back"

    assert bench.run() == ResponseState.FAILED
    assert queries.incident(bench.engine, INCIDENT).state is IncidentState.ACKNOWLEDGED


def test_one_response_of_a_model_at_a_time(bench: Bench):
    with pytest.raises(NotPossibleNow, match=f"{RESPONSE} of anomaly is proposed"):
        bench.operations.request_retrain("anomaly", operator="eve", reason="again")


def test_an_unresolved_alarm_gets_the_response(
    engine: Engine, site: Site, clock: HandClock, operations: Operations, workflows: NoWorkflows
):
    judge(engine, site, clock, 63, State.ALARM)
    Bench(engine, site, clock).propose()
    operations.reject(RESPONSE, operator="local")

    assert operations.request_retrain("anomaly", operator="eve", reason="now") == "anomaly-1-r2"
    assert workflows.started == ["anomaly-1-r2"]
    assert queries.incident(engine, INCIDENT).kind is IncidentKind.ALARM


def test_what_was_never_judged_is_not_retrained(
    engine: Engine, site: Site, clock: HandClock, operations: Operations
):
    judge(engine, site, clock, 63, State.NOT_JUDGED)

    with pytest.raises(NotPossibleNow, match="approve a reference"):
        operations.request_retrain("anomaly", operator="eve", reason="now")
    with pytest.raises(NotFound, match="known models: anomaly"):
        operations.request_retrain("muons", operator="eve", reason="now")
    assert queries.incidents(engine) == []
