import pytest
from sqlalchemy.engine import Engine

from daemon.errors import DecisionRefused, InvalidChoice, NotFound, NotPermitted, NotPossibleNow
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations
from daemon.responses.policy import propose
from daemon.site.settings import Site
from daemon.store import queries
from daemon.store.database import transaction
from daemon.store.records import IncidentState, ResponseRecord, ResponseState
from streams.judging.verdict import State, Verdict
from tests.support.daemon import Everybody, HandClock, NoWorkflows, make_verdict


@pytest.fixture
def workflows() -> NoWorkflows:
    return NoWorkflows()


@pytest.fixture
def operations(engine: Engine, site: Site, workflows: NoWorkflows, clock: HandClock) -> Operations:
    return Operations(engine, site, workflows, clock, access=Everybody())


@pytest.fixture
def response_id(engine: Engine, site: Site, clock: HandClock) -> str:
    """A proposal that waits, as the workflow leaves it."""
    verdict = make_verdict(63, onset_lumisection=61)
    return proposed(engine, site, clock, verdict)


def proposed(engine: Engine, site: Site, clock: HandClock, verdict: Verdict) -> str:
    (identity,) = take_verdict(engine, site, verdict, now=clock()).start_responses
    with transaction(engine) as session:
        response = session.get(ResponseRecord, identity)
        assert response is not None
        proposal = propose(site.models["anomaly"].policy, verdict, onset_lumisection=61)
        response.proposal = proposal.model_dump(mode="json")
        response.state = ResponseState.PROPOSED
    return identity


def test_an_approval_starts_the_response(
    operations: Operations, engine: Engine, response_id: str, workflows: NoWorkflows
):
    operations.approve(response_id, operator="local", strategy="bias", comment="go")

    response = queries.response(engine, response_id)
    assert response.state is ResponseState.RUNNING
    assert response.strategy_requested == "bias"
    assert response.decided_by == "local"
    assert queries.incident(engine, response.incident_id).state is IncidentState.RESPONDING
    assert workflows.woken == [response_id]


def test_a_decision_is_single_use(operations: Operations, engine: Engine, response_id: str):
    operations.approve(response_id, operator="local")

    with pytest.raises(DecisionRefused, match="running"):
        operations.reject(response_id, operator="local")
    assert len(queries.response(engine, response_id).decisions) == 1


def test_a_stranger_decides_nothing(operations: Operations, engine: Engine, response_id: str):
    with pytest.raises(NotPermitted, match="eve"):
        operations.approve(response_id, operator="eve")
    assert queries.response(engine, response_id).state is ResponseState.PROPOSED


def test_a_strategy_outside_the_policy_is_refused(operations: Operations, response_id: str):
    with pytest.raises(InvalidChoice):
        operations.approve(response_id, operator="local", strategy="batchnorm")


def test_a_rejection_leaves_the_incident_open(operations: Operations, engine: Engine, response_id: str):
    operations.reject(response_id, operator="local", comment="not now")

    response = queries.response(engine, response_id)
    assert response.state is ResponseState.REJECTED
    assert "not touched" in (response.outcome or "")
    assert queries.incident(engine, response.incident_id).state is IncidentState.OPEN


def test_prescale_out_instructs_the_shift_and_acknowledges(
    operations: Operations, engine: Engine, response_id: str
):
    operations.prescale_out(response_id, operator="local")

    response = queries.response(engine, response_id)
    incident = queries.incident(engine, response.incident_id)
    assert response.state is ResponseState.PRESCALED_OUT
    assert incident.state is IncidentState.ACKNOWLEDGED
    assert "Prescale the anomaly trigger out" in (incident.instruction or "")
    assert incident.acknowledged_by == "local"


def test_a_resolved_incident_needs_no_decision(
    operations: Operations, engine: Engine, response_id: str, workflows: NoWorkflows
):
    incident_id = queries.response(engine, response_id).incident_id
    operations.resolve(incident_id, operator="local", comment="cable fixed")

    assert queries.response(engine, response_id).state is ResponseState.WITHDRAWN
    assert workflows.woken == [response_id]
    with pytest.raises(DecisionRefused, match="already resolved"):
        operations.approve(response_id, operator="local")


def test_an_incident_under_response_is_not_resolved_by_hand(
    operations: Operations, engine: Engine, response_id: str
):
    operations.approve(response_id, operator="local")

    with pytest.raises(NotPossibleNow, match="at work"):
        operations.resolve("anomaly-1", operator="local", comment="")


def test_acknowledging_names_the_person_once(operations: Operations, engine: Engine, response_id: str):
    operations.acknowledge("anomaly-1", operator="eve", comment="looking")

    incident = queries.incident(engine, "anomaly-1")
    assert (incident.state, incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "eve")
    assert "looking" in incident.events[-1].text
    with pytest.raises(NotPossibleNow, match="eve"):
        operations.acknowledge("anomaly-1", operator="local")


def test_a_second_response_comes_only_after_the_first_has_ended(
    operations: Operations, response_id: str, workflows: NoWorkflows
):
    with pytest.raises(NotPossibleNow, match="decide it first"):
        operations.propose("anomaly-1", operator="local")
    operations.reject(response_id, operator="local")

    assert operations.propose("anomaly-1", operator="local") == "anomaly-1-r2"
    assert workflows.started == ["anomaly-1-r2"]


def test_what_is_not_there_is_said(operations: Operations):
    with pytest.raises(NotFound, match="anomaly-9"):
        operations.acknowledge("anomaly-9", operator="local")
    with pytest.raises(NotFound, match="anomaly-9-r1"):
        operations.approve("anomaly-9-r1", operator="local")


def test_recovery_withdraws_the_proposal(engine: Engine, site: Site, clock: HandClock, response_id: str):
    result = take_verdict(engine, site, make_verdict(70, State.GOOD), now=clock())

    assert result.wake_responses == (response_id,)
    assert queries.incident(engine, "anomaly-1").state is IncidentState.RESOLVED
    assert queries.response(engine, response_id).state is ResponseState.WITHDRAWN
