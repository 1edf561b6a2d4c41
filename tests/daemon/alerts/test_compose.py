"""What a head and a reply say of a response: from views of a real database."""

from threading import Event

import pytest

from daemon.alerts import compose
from daemon.alerts.message import Answer, Stage
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations
from daemon.responses.approval import Approval
from daemon.responses.patience import Patience
from daemon.responses.steps import StepLog
from daemon.store import queries
from daemon.store.database import transaction
from daemon.store.records import ResponseRecord, ResponseState
from streams.judging.verdict import State
from tests.support.daemon import Everybody, NoWorkflows, make_verdict


@pytest.fixture
def operations(engine, site, clock):
    return Operations(engine, site, NoWorkflows(), clock, access=Everybody())


@pytest.fixture
def proposed(engine, site, clock):
    (response_id,) = take_verdict(engine, site, make_verdict(62), now=clock()).start_responses
    Approval(engine, site, clock, Patience(Event())).propose(response_id, StepLog(engine, response_id, clock))
    return response_id


def change(engine, response_id, **values):
    with transaction(engine) as session:
        session.get(ResponseRecord, response_id).sqlmodel_update(values)


def head_of(engine, incident_id="anomaly-1"):
    incident = queries.incident(engine, incident_id)
    response = queries.response(engine, incident.responses[-1].id)
    return compose.head(incident, response, site="P5", console_url="http://x", conditions=None, means={})


def reply_to(engine, kind, incident_id="anomaly-1"):
    incident = queries.incident(engine, incident_id)
    event = [event for event in queries.events(engine) if event.kind == kind][-1]
    response = queries.response(engine, incident.responses[-1].id)
    return compose.reply(incident, event, response, console_url="http://x")


def answers(engine):
    return [offer.answer for offer in compose.offers_of(queries.incident(engine, "anomaly-1"))]


def test_before_the_board_is_touched_head_and_reply_ask_about_the_package(engine, proposed, operations):
    operations.approve(proposed, operator="local")
    plan = {"summary": "Load bbbb: weights only."}
    change(engine, proposed, state=ResponseState.HARDWARE_PROPOSED, hardware=plan)

    head = head_of(engine)

    assert head.stage is Stage.PROPOSED
    assert (head.proposal.summary, head.proposal.strategies) == ("Load bbbb: weights only.", ())
    assert {offer.stage for offer in head.offers if offer.response_id} == {"hardware"}


def test_an_estimate_is_a_line_of_the_head(engine, proposed):
    change(engine, proposed, estimate={"summary": "about 4 min; bias brought it back twice"})

    assert "anomaly-1-r1: about 4 min; bias brought it back twice" in head_of(engine).details


def test_a_retraining_that_was_asked_for_is_no_alarm(engine, site, clock, operations):
    take_verdict(engine, site, make_verdict(60, State.GOOD), now=clock())
    operations.request_retrain("anomaly", operator="local", reason="new calibration")

    assert head_of(engine).stage is Stage.PROPOSED
    assert "new calibration" in reply_to(engine, "incident.requested").reason


def test_answers_follow_the_state(engine, proposed, operations):
    decisions = [Answer.APPROVE, Answer.REJECT, Answer.PRESCALE_OUT]
    assert answers(engine) == [Answer.ACKNOWLEDGE, *decisions, Answer.SILENCE]

    operations.acknowledge("anomaly-1", operator="local")
    assert answers(engine) == [*decisions, Answer.SILENCE]

    operations.reject(proposed, operator="local")
    assert answers(engine) == [Answer.SILENCE]

    operations.resolve("anomaly-1", operator="local", comment="")
    assert answers(engine) == []
