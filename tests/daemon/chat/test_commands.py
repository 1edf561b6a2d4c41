import re

import pytest

from daemon.store import queries
from daemon.store.records import IncidentKind, ResponseState
from tests.daemon.chat.conftest import ADA, CALLBACK, COMMAND_TOKEN, EMMY, EVE, LISE, VERA

URL = f"{CALLBACK}/chat/mattermost/commands"


@pytest.fixture
def type_in(room):
    """Type a command as a person; gives the answer without its escapes."""

    def run(text, user_id=ADA):
        return room.server.command(URL, COMMAND_TOKEN, user_id, text).replace("\\", "")

    return run


@pytest.mark.parametrize("text", ["status", "status anomaly", "STATUS  "])
def test_status_is_a_table(room, type_in, text):
    room.alarm()

    lines = type_in(text, VERA).splitlines()

    assert lines[0] == "| model | state | run | LS | accept rate | incident | response |"
    assert lines[2] == "| anomaly | alarm | 1 | 62 | 11.9 % | anomaly-1 (open) | anomaly-1-r1 (proposed) |"


def test_status_of_a_model_that_was_not_judged_yet(type_in):
    assert type_in("status").splitlines()[2] == "| anomaly | not judged yet |  |  |  |  |  |"


def test_status_is_for_listed_people_only(room, type_in):
    said = type_in("status", EVE)

    assert "not listed" in said
    assert "anomaly" not in said
    assert room.refused() == {"unlisted": 1}


def test_a_model_that_is_not_there_is_said(room, type_in):
    assert "is not watched at this site" in type_in("status nothing")
    assert room.refused() == {"unknown": 1}


@pytest.mark.parametrize("text", ["", "help", "dance", "approve-everything now"])
def test_words_that_are_not_known_get_the_help(room, type_in, text):
    assert "`/lumiwatch silence MODEL DURATION REASON`" in type_in(text)
    assert room.refused() == {}


def test_acknowledging_with_a_comment(room, type_in):
    room.alarm()

    assert type_in("ack anomaly-1 I am on it") == "You acknowledged anomaly-1."

    incident = queries.incident(room.services.engine, "anomaly-1")
    assert incident.acknowledged_by == "ada"
    assert "I am on it" in incident.events[-1].text


@pytest.mark.parametrize(("text", "strategy"), [("approve {}", None), ("approve {} bias", "bias")])
def test_approving(room, type_in, text, strategy):
    response_id = room.alarm()

    assert type_in(text.format(response_id)) == f"You approved {response_id}."

    response = queries.response(room.services.engine, response_id)
    assert (response.state, response.strategy_requested) == (ResponseState.RUNNING, strategy)
    assert response.decisions[0].via == "chat"


def test_a_strategy_that_is_not_offered_is_refused(room, type_in):
    response_id = room.alarm()

    assert "is not offered; choose one of" in type_in(f"approve {response_id} magic")
    assert room.refused() == {"invalid": 1}


def test_rejecting_with_a_comment(room, type_in):
    response_id = room.alarm()

    type_in(f"reject {response_id} wait for the expert")

    (decision,) = queries.response(room.services.engine, response_id).decisions
    assert (decision.operator, decision.comment, decision.via) == ("ada", "wait for the expert", "chat")


@pytest.mark.parametrize("text", ["approve {}", "reject {}"])
def test_who_is_no_approver_decides_nothing(room, type_in, text):
    response_id = room.alarm()

    assert "ask ada or emmy" in type_in(text.format(response_id), LISE)
    assert room.refused() == {"not_permitted": 1}


@pytest.mark.parametrize(
    ("text", "user"),
    [("ack anomaly-1", VERA), ("silence anomaly 1h works", VERA), ("retrain anomaly new run", LISE)],
)
def test_a_role_that_does_not_suffice_is_said(room, type_in, text, user):
    room.alarm()

    assert "is needed" in type_in(text, user)
    assert room.refused() == {"not_permitted": 1}


@pytest.mark.parametrize(
    ("duration", "until"),
    [("30m", "2026-03-01 12:30"), ("2h", "2026-03-01 14:00"), ("1d", "2026-03-02 12:00")],
)
def test_silencing_a_model(type_in, duration, until):
    said = type_in(f"silence anomaly {duration} detector work until noon", LISE)

    assert said == f"You silenced anomaly until {until} UTC (silence-1)."


INCOMPLETE = """ack
approve
reject
retrain anomaly
silence
silence anomaly
silence anomaly 1h
silence anomaly soon why
silence anomaly 0h why
silence anomaly -1h why"""


@pytest.mark.parametrize("text", INCOMPLETE.splitlines())
def test_what_is_incomplete_gets_its_usage(room, type_in, text):
    assert type_in(text, EMMY).startswith(f"Write `/lumiwatch {text.split()[0]} ")
    assert room.refused() == {"invalid": 1}


def test_a_silence_for_too_long_is_refused(room, type_in):
    assert "at most 30 days" in type_in("silence anomaly 31d holidays")
    assert room.refused() == {"invalid": 1}


def test_a_retraining_is_asked_for(room, type_in):
    room.alarm()
    room.services.operations.reject("anomaly-1-r1", operator="ada")

    assert type_in("retrain anomaly new calibration", EMMY).startswith("anomaly-1-r2 is being prepared")

    response = queries.response(room.services.engine, "anomaly-1-r2")
    assert response.requested_by == "emmy"
    assert queries.incident(room.services.engine, "anomaly-1").kind is IncidentKind.ALARM


def test_a_text_that_is_too_long_is_refused(room, type_in):
    room.alarm()

    assert "At most 2000 characters" in type_in("ack anomaly-1 " + "x" * 2100)
    assert queries.incident(room.services.engine, "anomaly-1").acknowledged_by is None


@pytest.mark.parametrize("name", ["<script>", "'; DROP TABLE x; --", "`rm`", "@all", "[a](http://b)"])
def test_what_was_typed_comes_back_as_plain_text(room, name):
    said = room.server.command(URL, COMMAND_TOKEN, ADA, f"status {name}")

    assert "is not watched" in said
    assert re.search(r"(?<!\\)[<>`*_~#|\[\]]", said) is None
    assert "@all" not in said
