"""What is said in the life of an incident: reopened, over, said again; and where marked data speak."""

import httpx
import pytest
from sqlmodel import Session, select

from daemon.alerts.channels import LOG, Addresses
from daemon.incidents.transitions import close_incident
from daemon.journal.happenings import ACTOR, record_happening
from daemon.store.database import transaction
from daemon.store.records import IncidentRecord, NotificationRecord, ResponseRecord, ResponseState
from streams.judging.verdict import State
from tests.support.control_room import REPEAT, ControlRoom

HOUR = 3600.0


@pytest.fixture
def room(engine, site, clock):
    made = ControlRoom(engine, site, clock)
    yield made
    made.close()


def away(room, times=1):
    room.server.outages += [httpx.ConnectError("no route") for _ in range(times)]


# reopened


def test_an_alarm_soon_after_a_recovery_goes_on_in_the_same_thread(room):
    room.alarm(62)
    room.follow()
    room.good(70)
    room.follow(1)

    room.alarm(80)
    room.follow(1)

    (thread,) = room.server.threads()
    assert room.words() == ["ALARM", "RESOLVED", "REOPENED"]
    assert "Approve" in thread[2]["message"]
    assert "lumiwatch approve anomaly-1-r2" in thread[0]["message"].replace("\\", "")
    room.restart()
    assert room.follow(1) == 0


def test_a_reopened_incident_that_recovers_again_says_so_again(room):
    for lumisection in (62, 80, 98):
        room.alarm(lumisection)
        room.follow()
        room.good(lumisection + 8)
        room.follow(1)

    assert room.words() == ["RESOLVED", "RESOLVED", "REOPENED", "RESOLVED", "REOPENED", "RESOLVED"]


# resolved


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_the_end_is_said_exactly_once(room, restart, by_hand):
    room.alarm(62)
    room.follow()
    if by_hand:
        room.operations.resolve("anomaly-1", operator="local", comment="fixed")
    else:
        room.good(70)
    if restart:
        room.restart()
    room.follow(1)
    room.restart()
    room.follow(1)

    assert room.words() == ["RESOLVED", "RESOLVED"]


def test_a_reconfiguration_that_resolves_is_said_exactly_once(room):
    room.alarm(62)
    room.follow()
    room.operations.approve("anomaly-1-r1", operator="local")
    room.follow(1)
    with transaction(room.engine) as session:
        response = session.get(ResponseRecord, "anomaly-1-r1")
        response.state, response.outcome = ResponseState.SUCCEEDED, "Resolved by bias."
        incident = session.get(IncidentRecord, "anomaly-1")
        words = {"now": room.clock(), "response_id": "anomaly-1-r1"}
        record_happening(session, incident, "response.ended", "Resolved by bias.", **words)
        close_incident(session, incident, "Resolved by bias.", actor=ACTOR, now=room.clock())

    room.follow(1)
    room.restart()
    room.follow(1)

    assert room.words() == ["RESOLVED", "APPROVED", "RESOLVED"]


@pytest.mark.parametrize("restart", [False, True])
def test_an_alarm_that_ends_before_anybody_heard_of_it_is_one_message_that_says_both(room, restart):
    away(room)
    room.alarm(62)
    room.follow()
    room.good(70)
    if restart:
        room.restart()
    room.follow(HOUR)
    room.follow(1)

    ((head,),) = room.server.threads()
    assert "RESOLVED | anomaly" in head["message"].replace("\\", "")
    assert "Alarm at 2026-03-01 12:00 UTC: Accept rate 11.9 % instead" in head["message"]
    assert "Back to good by itself at LS 70" in head["message"]


def test_an_alarm_and_its_end_that_were_missed_together_are_one_message(room):
    room.alarm(62)
    room.good(70)
    room.follow(1)
    room.restart()
    room.follow(1)

    assert room.words() == ["RESOLVED"]


# said again


def test_an_incident_that_nobody_acknowledges_is_said_again_and_again(room):
    room.alarm(62)
    room.follow()
    room.follow(REPEAT.total_seconds() - 1)
    assert room.words() == ["ALARM"]

    room.follow(1)
    room.restart()
    room.follow(1)
    assert room.words() == ["ALARM", "STILL AN ALARM"]

    room.follow(REPEAT.total_seconds())
    assert room.words() == ["ALARM", "STILL AN ALARM", "STILL AN ALARM"]


def test_a_day_away_is_made_up_for_by_one_message(room):
    room.alarm(62)
    room.follow()

    room.restart()
    room.follow(24 * HOUR)
    room.follow(1)

    assert room.words() == ["ALARM", "STILL AN ALARM"]


def test_while_the_chat_is_away_nothing_piles_up(room):
    room.alarm(62)
    away(room, times=300)
    for _ in range(200):
        room.follow(HOUR / 4)
    room.server.outages.clear()
    room.follow(HOUR)
    room.follow(1)

    assert room.words() == ["ALARM"]


def test_what_is_acknowledged_is_not_said_again(room):
    room.alarm(62)
    room.follow()
    room.operations.acknowledge("anomaly-1", operator="local")
    room.follow(1)

    room.follow(10 * HOUR)

    assert room.words() == ["ACKNOWLEDGED", "ACKNOWLEDGED"]


@pytest.mark.parametrize("state", [State.NOT_JUDGED, State.INSUFFICIENT])
def test_without_beams_an_open_incident_neither_recovers_nor_is_said_again(room, state):
    room.alarm(62)
    room.follow()
    room.good(63, state)

    room.follow(10 * HOUR)
    assert room.words() == ["ALARM"]
    assert room.incident().state == "open"

    room.alarm(70)
    room.follow(1)
    assert room.words() == ["ALARM", "STILL AN ALARM"]


# inhibited


def test_drift_beside_a_firmware_fault_is_not_said(room):
    room.fault(62)
    room.follow()
    room.alarm(63, families=("rate", "inputs"))
    room.follow(1)

    assert room.words() == ["ALARM"]
    assert room.incident().families == ["integrity", "rate", "inputs"]


def test_a_firmware_fault_beside_drift_is_said(room):
    room.alarm(62)
    room.follow()
    room.fault(63)
    room.follow(1)

    assert room.words()[:2] == ["ALARM", "FIRMWARE FAULT"]


# marked data


@pytest.mark.parametrize(
    "addresses",
    [
        Addresses(bot=True, webhook=True, channel_id="live-channel"),
        Addresses(webhook=True),
        Addresses(bot=True, webhook=True, channel_id="live-channel", replay_channel_id="replay-channel"),
    ],
)
def test_marked_data_never_reach_people_who_watch_live_data(engine, site, clock, addresses):
    room = ControlRoom(engine, site, clock, addresses)
    room.alarm(62, simulated=True)
    room.follow()
    room.good(70, simulated=True)
    room.follow(1)
    room.alarm(72, simulated=True)
    room.follow(1)
    room.follow(REPEAT.total_seconds() + 1)
    room.silence(1)
    room.follow(1)
    room.follow(2 * HOUR)
    room.close()

    said = [post["channel_id"] for post in room.server.posts.values()]
    assert room.server.webhook_texts == []
    assert set(said) <= {"replay-channel"}
    with Session(engine) as session:
        log = session.exec(select(NotificationRecord)).all()
    replies = [one for one in log if one.action == "reply"]
    assert [one.key.split(":")[1] for one in replies] == ["event", "reopened", "repeat", "event", "speaks"]
    assert {one.channel for one in log} == {"mattermost" if addresses.replay_channel_id else LOG}


def test_a_simulation_and_collisions_have_a_thread_each(room):
    room.alarm(62)
    room.alarm(62, simulated=True)
    room.follow(3)

    assert [len(room.headlines(channel)) for channel in ("live-channel", "replay-channel")] == [1, 1]
