import json
import re

import httpx
import pytest

from daemon.incidents.intake import take_verdict
from daemon.store import queries
from daemon.store.database import transaction
from daemon.store.records import ResponseRecord, ResponseState
from streams.judging.verdict import State
from tests.daemon.chat.conftest import ADA, CALLBACK, EMMY, EVE, LISE, at_once
from tests.support.daemon import make_verdict

HOSTILE = "<b>bold</b> | @channel '; DROP TABLE daemon_incidents; -- [click](http://evil) `rm -rf`"


@pytest.fixture
def told(room):
    response_id = room.alarm()
    room.deliver()
    return response_id


def open_form(room, user_id, incident="anomaly-1"):
    said = room.server.press(room.head(incident)["id"], "Approve...", user_id)
    assert said == ""
    return room.server.forms[user_id]


def response_of(room, response_id="anomaly-1-r1"):
    return queries.response(room.services.engine, response_id)


def last_reply(room):
    room.deliver()
    return room.server.threads()[0][-1]["message"]


def test_the_form_offers_the_strategies_of_the_proposal_and_a_comment(room, told):
    form = open_form(room, ADA)

    strategy, comment = form["dialog"]["elements"]
    assert form["url"] == f"{CALLBACK}/chat/mattermost/dialogs"
    assert "anomaly-1-r1" in form["dialog"]["introduction_text"].replace("\\", "")
    assert [option["value"] for option in strategy["options"]] == [
        "least_invasive", "input_recalibration", "bias", "last_layer", "layers", "all_weights",
    ]  # fmt: skip
    assert (strategy["default"], comment["type"], comment["optional"]) == ("least_invasive", "textarea", True)


def test_an_approval_with_strategy_and_comment_is_written_with_the_persons_name(room, told):
    open_form(room, ADA)

    assert room.server.submit(ADA, {"strategy": "bias", "comment": " looks right "}) == {}

    response = response_of(room)
    (decision,) = response.decisions
    assert (response.state, response.strategy_requested) == (ResponseState.RUNNING, "bias")
    assert (decision.operator, decision.comment, decision.via) == ("ada", "looks right", "chat")
    assert "ada approved anomaly-1-r1: bias. looks right" in last_reply(room).replace("\\", "")
    assert list(room.server.buttons(room.head()["id"])) == ["Acknowledge", "Silence 1 h"]


@pytest.mark.parametrize("values", [{"strategy": "least_invasive", "comment": None}, {}])
def test_what_stands_first_means_the_least_invasive_that_passes(room, told, values):
    open_form(room, ADA)

    assert room.server.submit(ADA, values) == {}

    assert response_of(room).strategy_requested is None
    assert response_of(room).state is ResponseState.RUNNING


def test_fields_that_cannot_be_taken_are_named_and_the_form_can_be_sent_again(room, told):
    open_form(room, ADA)

    answer = room.server.submit(ADA, {"strategy": "magic", "comment": "x" * 2001})

    assert answer["errors"].keys() == {"strategy", "comment"}
    assert response_of(room).state is ResponseState.PROPOSED
    assert room.refused() == {"invalid": 1}
    assert room.server.submit(ADA, {"strategy": "bias", "comment": ""}) == {}


def test_a_closed_form_does_nothing(room, told):
    open_form(room, ADA)

    assert room.server.submit(ADA, {}, cancelled=True) == {}
    assert response_of(room).state is ResponseState.PROPOSED


def test_one_form_approves_once(room, told):
    open_form(room, ADA)
    room.server.submit(ADA, {"strategy": "bias"})

    assert "used already" in room.server.submit(ADA, {"strategy": "layers"})["error"]
    assert len(response_of(room).decisions) == 1


def test_a_form_counts_for_nobody_but_the_person_it_was_opened_for(room, told):
    form = open_form(room, ADA)
    room.server.forms[EMMY] = form

    assert "not opened for you" in room.server.submit(EMMY, {"strategy": "bias"})["error"]
    assert room.refused() == {"forged": 1}
    assert response_of(room).decisions == []


def test_a_changed_form_is_refused(room, told):
    form = open_form(room, ADA)
    state = json.loads(form["dialog"]["state"])
    room.server.forms[EMMY] = {
        **form,
        "dialog": {**form["dialog"], "state": json.dumps(state | {"person": EMMY})},
    }

    assert "nothing was done" in room.server.submit(EMMY, {"strategy": "bias"})["error"]
    assert room.refused() == {"forged": 1}


def test_the_ticket_of_a_button_is_no_form(room, told):
    context = room.server.buttons(room.head()["id"])["Approve..."]["integration"]["context"]
    form = open_form(room, ADA)
    room.server.forms[ADA] = {**form, "dialog": {**form["dialog"], "state": json.dumps(context)}}

    assert "nothing was done" in room.server.submit(ADA, {"strategy": "bias"})["error"]
    assert room.refused() == {"forged": 1}


def test_the_ticket_of_a_form_is_no_button(room, told):
    context = json.loads(open_form(room, ADA)["dialog"]["state"])

    said = room.server.send_press(room.head()["id"], context, ADA, f"{CALLBACK}/chat/mattermost/actions")

    assert "nothing was done" in said
    assert room.refused() == {"forged": 1}


def test_a_form_counts_whatever_channel_the_persons_window_shows(room, told):
    open_form(room, ADA)

    assert room.server.submit(ADA, {"strategy": "bias"}, channel_id="live-channel") == {}


def test_a_form_left_open_for_too_long_is_refused(room, told):
    open_form(room, ADA)
    room.clock.move(3600)

    assert "has expired" in room.server.submit(ADA, {"strategy": "bias"})["error"]


def test_a_form_sent_after_the_incident_was_resolved_is_refused(room, told):
    open_form(room, ADA)
    take_verdict(room.services.engine, room.services.site, make_verdict(70, State.GOOD), now=room.clock())

    assert "resolved already" in room.server.submit(ADA, {"strategy": "bias"})["error"]
    assert response_of(room).state is ResponseState.WITHDRAWN
    assert room.refused() == {"resolved": 1}


@pytest.mark.parametrize(("user", "said"), [(LISE, "ask ada or emmy"), (EVE, "not listed")])
def test_no_form_opens_for_who_may_not_approve(room, told, user, said):
    assert said in room.server.press(room.head()["id"], "Approve...", user)
    assert room.server.forms == {}


def test_a_chat_that_does_not_open_the_form_says_another_way(room, told):
    room.server.outages.append(httpx.Response(503))

    said = room.server.press(room.head()["id"], "Approve...", ADA)

    assert "`/lumiwatch approve anomaly-1-r1`" in said
    assert room.refused() == {"no_dialog": 1}
    open_form(room, ADA)


def test_two_approvals_at_once_are_one_decision_when_one_is_enough(room, told):
    for user in (ADA, EMMY):
        open_form(room, user)

    answers = at_once(lambda user: room.server.submit(user, {"strategy": "bias"}), ADA, EMMY)

    assert sorted("error" in answer for answer in answers) == [False, True]
    assert len(response_of(room).decisions) == 1


def test_text_from_people_is_plain_in_the_chat(room, told):
    open_form(room, ADA)
    room.server.submit(ADA, {"strategy": "bias", "comment": HOSTILE})

    (line,) = [line for line in last_reply(room).splitlines() if "DROP TABLE" in line]
    assert re.search(r"(?<!\\)[<>`*_~#|\[\]]", line) is None
    assert "@channel" not in line
    assert response_of(room).decisions[0].comment == HOSTILE


@pytest.fixture
def two_approvals(site_folder):
    """A policy that wants two people to agree; before the site is loaded."""
    model = site_folder / "models" / "anomaly" / "model.toml"
    model.write_text(model.read_text().replace("approvals_needed = 1", "approvals_needed = 2"))


def test_the_second_of_two_approvals_comes_from_somebody_else(two_approvals, room, told):
    open_form(room, ADA)
    room.server.submit(ADA, {"strategy": "bias"})
    room.deliver()
    assert response_of(room).state is ResponseState.PROPOSED

    again = room.server.press(room.head()["id"], "Approve...", ADA).replace("\\", "")
    assert "waits for no further answer of ada" in again
    open_form(room, EMMY)
    room.server.submit(EMMY, {"strategy": "bias"})

    assert response_of(room).decided_by == "ada, emmy"


def test_two_approvals_at_once_are_both_written_down(two_approvals, room, told):
    for user in (ADA, EMMY):
        open_form(room, user)

    assert at_once(lambda user: room.server.submit(user, {"strategy": "bias"}), ADA, EMMY) == [{}, {}]

    assert {decision.operator for decision in response_of(room).decisions} == {"ada", "emmy"}
    assert response_of(room).state is ResponseState.RUNNING


@pytest.fixture
def board_policy(site_folder):
    """A policy that asks once more before the board is touched; before the site is loaded."""
    model = site_folder / "models" / "anomaly" / "model.toml"
    text = model.read_text()
    assert "hardware_approvals_needed = 0" in text
    model.write_text(text.replace("hardware_approvals_needed = 0", "hardware_approvals_needed = 1"))


def prove(room, response_id):
    """Leave a response as its workflow does when the package is proved and the board is to be touched."""
    with transaction(room.services.engine) as session:
        response = session.get(ResponseRecord, response_id)
        response.state = ResponseState.HARDWARE_PROPOSED
        response.hardware = {"summary": "Load bbbb: weights only."}
    room.services.operations.note("anomaly-1", operator="ada", text="proved")
    room.deliver()


def test_the_form_before_the_board_names_the_package_and_offers_no_strategy(board_policy, room, told):
    room.services.operations.approve(told, operator="ada")
    prove(room, told)

    assert "Load bbbb" in room.head()["message"]
    form = open_form(room, EMMY)["dialog"]

    assert "Load bbbb" in form["introduction_text"]
    assert [element["name"] for element in form["elements"]] == ["comment"]
    assert room.server.submit(EMMY, {"comment": "go"}) == {}
    assert response_of(room).state is ResponseState.RUNNING
    assert response_of(room).decisions[-1].stage == "hardware"


def test_who_approved_the_response_gets_no_form_for_the_board(board_policy, room, told):
    room.services.operations.approve(told, operator="ada")
    prove(room, told)

    said = room.server.press(room.head()["id"], "Approve...", ADA).replace("\\", "")

    assert "waits for no further answer of ada" in said


def test_a_form_of_the_first_question_does_not_answer_the_second(board_policy, room, told):
    open_form(room, EMMY)
    room.services.operations.approve(told, operator="ada")
    prove(room, told)

    answer = room.server.submit(EMMY, {"strategy": "bias"})

    assert "asks about its hardware now" in answer["error"]
    assert response_of(room).state is ResponseState.HARDWARE_PROPOSED
    assert room.refused() == {"superseded": 1}
