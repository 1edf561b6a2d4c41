import pytest
from sqlmodel import Session, select

from daemon.chat.records import ChatUseRecord
from daemon.incidents.intake import take_verdict
from daemon.store import queries
from daemon.store.records import IncidentState, NotificationRecord, ResponseState
from streams.judging.verdict import INTEGRITY, State
from tests.daemon.chat.conftest import ADA, EMMY, EVE, LISE, VERA, at_once
from tests.support.daemon import make_verdict

ALL = ["Acknowledge", "Approve...", "Reject", "Prescale out", "Silence 1 h"]


def buttons(room, incident="anomaly-1"):
    return list(room.server.buttons(room.head(incident)["id"]))


def press(room, name, user_id, incident="anomaly-1"):
    return room.server.press(room.head(incident)["id"], name, user_id).replace("\\", "")


def context_of(room, name, incident="anomaly-1"):
    integration = room.server.buttons(room.head(incident)["id"])[name]["integration"]
    return integration["context"], integration["url"]


@pytest.fixture
def told(room):
    """A simulated alarm with its proposal, told in the channel of marked data."""
    response_id = room.alarm()
    room.deliver()
    return response_id


def test_the_head_of_an_alarm_offers_every_answer(room, told):
    head = room.head()

    assert buttons(room) == ALL
    assert head["channel_id"] == "replay-channel"
    assert "SIMULATED DATA" in head["message"]


def test_live_data_have_their_buttons_in_their_own_channel(room):
    room.alarm(simulated=False)
    room.deliver()

    assert room.head()["channel_id"] == "live-channel"
    assert buttons(room) == ALL


def test_an_acknowledgement_is_done_told_and_leaves_the_other_buttons(room, told):
    said = press(room, "Acknowledge", ADA)

    incident = queries.incident(room.services.engine, "anomaly-1")
    assert (said, incident.acknowledged_by) == ("You acknowledged anomaly-1.", "ada")
    assert buttons(room) == ALL[1:]
    assert "Acknowledged by ada" in room.head()["message"]
    room.deliver()
    (thread,) = room.server.threads()
    assert "ada acknowledged the incident" in thread[1]["message"]
    assert buttons(room) == ALL[1:]


class OnePicture:
    """Fake pictures: the same one for every incident."""

    def __init__(self, folder):
        self._file = folder / "ratio.png"
        self._file.write_bytes(b"\x89PNG picture")

    def draw(self, _incident):
        return self._file


def test_the_picture_stays_on_the_post_after_a_press(room, tmp_path, monkeypatch):
    monkeypatch.setattr(room.alerts._notifier, "_pictures", OnePicture(tmp_path))
    room.alarm()
    room.deliver()

    press(room, "Acknowledge", ADA)

    assert room.head()["file_ids"] == ["file1"]


def test_a_rejection_names_the_person_in_the_thread(room, told):
    press(room, "Reject", EMMY)

    response = queries.response(room.services.engine, told)
    assert (response.state, response.decisions[0].operator) == (ResponseState.REJECTED, "emmy")
    assert response.decisions[0].via == "chat"
    assert buttons(room) == ["Acknowledge", "Silence 1 h"]
    room.deliver()
    assert "emmy rejected anomaly-1-r1" in room.server.threads()[0][1]["message"].replace("\\", "")


def test_prescaling_out_instructs_the_shift(room, told):
    press(room, "Prescale out", ADA)

    incident = queries.incident(room.services.engine, "anomaly-1")
    assert "Prescale the anomaly trigger out" in incident.instruction
    assert buttons(room) == ["Silence 1 h"]


def test_a_silence_of_the_model_begins(room, told):
    said = press(room, "Silence 1 h", LISE)

    assert said.startswith("You silenced anomaly until 13:00 UTC (silence-1)")
    incident = queries.incident(room.services.engine, "anomaly-1")
    assert "lise silenced anomaly until 2026-03-01 13:00 UTC" in incident.events[-1].text


def test_a_firmware_fault_is_not_silenced_by_a_button(room, told):
    context, url = context_of(room, "Silence 1 h")
    fault = make_verdict(63, families=("rate", INTEGRITY))
    take_verdict(room.services.engine, room.services.site, fault, now=room.clock())
    room.deliver()

    assert "Silence 1 h" not in buttons(room)
    said = room.server.send_press(room.head()["id"], context, ADA, url)
    assert "only silenced by name" in said
    assert room.refused() == {"not_possible": 1}


def test_buttons_vanish_when_the_incident_is_resolved(room, told):
    room.services.operations.acknowledge("anomaly-1", operator="ada")
    take_verdict(room.services.engine, room.services.site, make_verdict(70, State.GOOD), now=room.clock())
    room.deliver()

    assert queries.incident(room.services.engine, "anomaly-1").state is IncidentState.RESOLVED
    assert room.head()["props"] == {}


def test_replies_have_no_buttons(room, told):
    press(room, "Acknowledge", ADA)
    room.deliver()

    _, reply = room.server.threads()[0]
    assert "props" not in reply


def test_no_ticket_is_kept_where_people_can_read_it(room, told):
    context, _ = context_of(room, "Reject")
    press(room, "Acknowledge", ADA)
    room.deliver()

    with Session(room.services.engine) as session:
        payloads = [str(payload) for payload in session.exec(select(NotificationRecord.payload)).all()]
    assert any("(signed, not kept)" in payload for payload in payloads)
    assert not any(context["nonce"] in payload or "signature" in payload for payload in payloads)


@pytest.mark.parametrize("name", ["Acknowledge", "Approve...", "Reject", "Prescale out", "Silence 1 h"])
def test_a_stranger_is_told_what_to_ask_for_and_nothing_is_done(room, told, name):
    before = queries.incident(room.services.engine, "anomaly-1")

    said = press(room, name, EVE)

    assert EVE in said
    assert "mattermost_user_id" in said
    assert queries.incident(room.services.engine, "anomaly-1") == before
    assert room.refused() == {"unlisted": 1}
    assert room.server.forms == {}


@pytest.mark.parametrize("name", ["Acknowledge", "Reject", "Silence 1 h"])
def test_a_viewer_only_looks(room, told, name):
    said = press(room, name, VERA)

    assert "the role operator is needed" in said
    assert queries.incident(room.services.engine, "anomaly-1").acknowledged_by is None
    assert room.refused() == {"not_permitted": 1}


@pytest.mark.parametrize("name", ["Approve...", "Reject", "Prescale out"])
def test_a_listed_person_who_is_no_approver_decides_nothing_and_uses_nothing_up(room, told, name):
    said = press(room, name, LISE)

    assert "ask ada or emmy" in said
    assert queries.response(room.services.engine, told).state is ResponseState.PROPOSED
    assert room.refused() == {"not_permitted": 1}
    press(room, "Reject", ADA)
    assert queries.response(room.services.engine, told).state is ResponseState.REJECTED


def test_a_replayed_press_is_refused(room, told):
    context, url = context_of(room, "Acknowledge")
    head = room.head()["id"]
    room.server.send_press(head, context, ADA, url)

    said = room.server.send_press(head, context, EMMY, url)

    assert "used already" in said
    assert room.refused() == {"used": 1}
    with Session(room.services.engine) as session:
        (use,) = session.exec(select(ChatUseRecord)).all()
    assert (use.nonce, use.operator, use.act) == (context["nonce"], "ada", "acknowledge")


def test_a_forged_press_is_refused_without_a_word_about_the_incident(room, told):
    context, url = context_of(room, "Acknowledge")

    said = room.server.send_press(room.head()["id"], context | {"act": "reject"}, ADA, url)

    assert "nothing was done" in said
    assert "anomaly" not in said
    assert room.refused() == {"forged": 1}


def test_an_expired_press_is_refused(room, told):
    room.clock.move(12 * 3600)

    said = press(room, "Reject", ADA)

    assert "has expired" in said
    assert queries.response(room.services.engine, told).state is ResponseState.PROPOSED
    assert room.refused() == {"expired": 1}


def test_an_expired_press_brings_fresh_buttons_to_the_post_and_not_to_its_sender(room, told):
    context, _ = context_of(room, "Reject")
    room.clock.move(13 * 3600)
    press(room, "Reject", ADA)
    assert context_of(room, "Reject")[0] == context

    room.deliver()

    assert context_of(room, "Reject")[0] != context
    assert press(room, "Reject", ADA).startswith("You rejected")


@pytest.mark.parametrize(
    ("user", "channel", "reason"), [(EVE, None, "unlisted"), (ADA, "live-channel", "channel")]
)
def test_an_expired_press_that_would_be_refused_anyway_brings_nothing(room, told, user, channel, reason):
    context, url = context_of(room, "Reject")
    room.clock.move(13 * 3600)

    room.server.send_press(room.head()["id"], context, user, url, channel_id=channel)
    room.deliver()

    assert context_of(room, "Reject")[0] == context
    assert room.refused() == {reason: 1}


def test_a_later_edit_of_the_head_has_fresh_buttons(room, told):
    room.clock.move(11 * 3600)
    more = make_verdict(63, families=("rate", "score"))
    take_verdict(room.services.engine, room.services.site, more, now=room.clock())
    room.deliver()
    room.clock.move(2 * 3600)

    assert press(room, "Acknowledge", ADA) == "You acknowledged anomaly-1."


def test_the_ticket_of_another_incident_is_refused(room, told):
    context, url = context_of(room, "Acknowledge")
    room.alarm(simulated=False)
    room.deliver()

    said = room.server.send_press(room.head("anomaly-2")["id"], context, ADA, url)

    assert "not its own" in said
    assert queries.incident(room.services.engine, "anomaly-2").acknowledged_by is None
    assert queries.incident(room.services.engine, "anomaly-1").acknowledged_by is None
    assert room.refused() == {"foreign": 1}


def test_another_channel_is_refused(room, told):
    context, url = context_of(room, "Acknowledge")

    said = room.server.send_press(room.head()["id"], context, ADA, url, channel_id="live-channel")

    assert "not told in this channel" in said
    assert room.refused() == {"channel": 1}


def test_a_button_of_an_earlier_response_is_refused_by_name(room, told):
    context, url = context_of(room, "Reject")
    operations = room.services.operations
    operations.reject(told, operator="ada")
    room.propose(operations.propose("anomaly-1", operator="emmy"))

    said = room.server.send_press(room.head()["id"], context, EMMY, url).replace("\\", "")

    assert "This was for anomaly-1-r1; the present response to anomaly-1 is anomaly-1-r2" in said
    assert queries.response(room.services.engine, "anomaly-1-r2").state is ResponseState.PROPOSED
    assert room.refused() == {"superseded": 1}


def test_a_decided_proposal_is_refused(room, told):
    context, url = context_of(room, "Reject")
    room.services.operations.approve(told, operator="ada")

    said = room.server.send_press(room.head()["id"], context, EMMY, url).replace("\\", "")

    assert "waits for no decision any more (running, decided by ada)" in said
    assert room.refused() == {"decided": 1}


@pytest.mark.parametrize("name", ["Acknowledge", "Reject", "Silence 1 h", "Approve..."])
def test_a_resolved_incident_is_left_alone(room, told, name):
    take_verdict(room.services.engine, room.services.site, make_verdict(70, State.GOOD), now=room.clock())

    said = press(room, name, ADA)

    assert "resolved already" in said
    assert room.refused() == {"resolved": 1}


def test_a_second_acknowledgement_names_the_first(room, told):
    room.services.operations.acknowledge("anomaly-1", operator="emmy")

    said = press(room, "Acknowledge", ADA)

    assert "already acknowledged by emmy" in said
    assert room.refused() == {"not_possible": 1}


def test_two_people_with_one_button_act_once(room, told):
    context, url = context_of(room, "Reject")
    head = room.head()["id"]
    said = at_once(lambda user: room.server.send_press(head, context, user, url), ADA, EMMY)

    assert len(queries.response(room.services.engine, told).decisions) == 1
    assert sorted("You rejected" in text for text in said) == [False, True]
