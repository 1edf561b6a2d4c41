"""What is said and what is kept back under silences, across restarts."""

import pytest

from tests.support.control_room import ControlRoom

HOUR = 3600.0


@pytest.fixture
def room(engine, site, clock):
    made = ControlRoom(engine, site, clock)
    yield made
    made.close()


def test_a_silence_is_the_last_thing_said_and_its_end_tells_how_it_stands(room):
    room.alarm(62, families=("inputs",))
    room.follow()
    room.silence(2)
    room.follow(1)
    (thread,) = room.server.threads()
    assert room.words() == ["ALARM", "SILENCED"]
    assert (
        "ada silenced everything but firmware faults until 2026-03-01 14:00 UTC: beam tests"
        in (thread[1]["message"])
    )

    room.alarm(63, families=("inputs", "rate"))
    room.operations.note("anomaly-1", operator="local", text="looked at it")
    room.follow(1)
    room.restart()
    room.follow(1.5 * HOUR)
    assert room.words() == ["ALARM", "SILENCED"]

    room.restart()
    room.follow(HOUR)
    room.restart()
    room.follow(1)

    (thread,) = room.server.threads()
    assert room.words() == ["ALARM", "SILENCED", "SILENCE OVER"]
    assert "inputs, rate" in thread[2]["message"]


def test_what_opens_and_ends_under_a_silence_is_never_said(room):
    room.silence(2)
    room.alarm(62)
    room.follow(1)
    room.good(70)
    room.follow(1)

    room.restart()
    room.follow(3 * HOUR)
    room.follow(1)

    assert room.server.posts == {}
    assert room.incident().state == "resolved"


def test_what_opens_under_a_silence_is_said_once_when_it_is_over(room):
    room.silence(2)
    room.alarm(62)
    room.follow(1)

    room.restart()
    room.follow(3 * HOUR)
    room.restart()
    room.follow(1)

    assert room.words() == ["ALARM"]


def test_an_end_under_a_silence_is_no_message_but_the_head_stays_true(room):
    room.alarm(62)
    room.follow()
    room.silence(2)
    room.follow(1)
    room.good(70)
    room.follow(1)
    assert room.words() == ["ALARM", "SILENCED"]

    room.follow(3 * HOUR)

    assert room.words() == ["RESOLVED", "SILENCED"]


def test_of_two_silences_the_longer_counts(room):
    room.silence(1)
    room.silence(3, model="anomaly")
    room.alarm(62)
    room.follow(2 * HOUR)
    assert room.server.posts == {}

    room.follow(2 * HOUR)

    assert room.words() == ["ALARM"]


def test_a_second_silence_over_a_quiet_incident_says_nothing(room):
    room.alarm(62)
    room.follow()
    room.silence(1)
    room.follow(1)
    room.silence(3)
    room.follow(1)
    room.follow(2 * HOUR)
    assert room.words() == ["ALARM", "SILENCED"]

    room.follow(2 * HOUR)

    assert room.words() == ["ALARM", "SILENCED", "SILENCE OVER"]


def test_a_silence_ended_early_lets_speak_at_once(room):
    silence = room.silence(20)
    room.alarm(62)
    room.follow(1)

    room.silences.end(silence, author="max")
    room.follow(1)

    assert room.words() == ["ALARM"]


def test_a_silence_that_begins_later_is_announced_when_it_begins(room):
    room.alarm(62)
    room.follow()
    room.silence(2, after_hours=1)
    room.follow(1)
    assert room.words() == ["ALARM"]

    room.restart()
    room.follow(HOUR)
    room.follow(1)

    assert room.words() == ["ALARM", "SILENCED"]


def test_a_silence_that_came_and_went_while_nobody_followed_still_counts(room):
    room.alarm(62)
    room.follow()
    room.silence(1)
    room.clock.move(60)
    room.operations.note("anomaly-1", operator="local", text="under the silence")
    room.restart()
    room.follow(2 * HOUR)

    assert room.words() == ["ALARM", "SILENCE OVER"]


def test_a_new_family_that_nobody_silenced_ends_the_quiet(room):
    room.silence(5, family="inputs")
    room.alarm(62, families=("inputs",))
    room.follow(1)
    assert room.server.posts == {}

    room.alarm(63, families=("inputs", "rate"))
    room.follow(1)

    assert room.words() == ["ALARM"]


def test_a_firmware_fault_is_only_silenced_by_name(room):
    room.silence(5)
    room.fault(62)
    room.follow(1)
    assert room.words() == ["ALARM"]

    room.silence(5, family="integrity")
    room.follow(1)
    room.operations.note("anomaly-1", operator="local", text="quiet now")
    room.follow(1)
    assert room.words() == ["ALARM", "SILENCED"]


def test_what_is_silenced_is_not_said_again(room):
    room.alarm(62)
    room.follow()
    room.silence(20)
    room.follow(1)

    room.follow(10 * HOUR)

    assert room.words() == ["ALARM", "SILENCED"]
