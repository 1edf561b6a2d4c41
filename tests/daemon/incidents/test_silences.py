"""Silences: what they match, how long they last, and what they leave in the records."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.errors import InvalidChoice, NotFound, NotPossibleNow
from daemon.incidents.intake import take_verdict
from daemon.incidents.silences import LONGEST, Silences, begin_due
from daemon.incidents.silencing import IncidentLabels, object_of
from daemon.store import queries
from streams.judging.assessment import InputShift
from tests.support.daemon import make_verdict

JETS = InputShift(name="jet[0].pt", ks_distance=0.07, mean_shift_lsb=10.2, mean_shift=5.1, unit="GeV")
DRIFT = IncidentLabels("anomaly", frozenset({"inputs", "rate"}), "jet")
FAULT = IncidentLabels("anomaly", frozenset({"integrity", "rate"}))
HOUR = timedelta(hours=1)


@pytest.fixture
def silences(engine, site, clock):
    return Silences(engine, site, clock)


@pytest.fixture
def silence(silences, clock):
    def create(hours=2.0, **changes):
        content = {"author": "ada", "reason": "beam tests", "ends_at": clock() + hours * HOUR}
        return silences.create(**{**content, **changes})

    return create


@pytest.mark.parametrize(
    ("scope", "labels", "matches"),
    [
        ({}, DRIFT, True),
        ({"model": "anomaly"}, DRIFT, True),
        ({"model": "anomaly"}, IncidentLabels("other", frozenset({"rate"})), False),
        ({"object": "jet"}, DRIFT, True),
        ({"object": "met"}, DRIFT, False),
        ({"object": "jet"}, IncidentLabels("anomaly", frozenset({"rate"})), False),
        ({"family": "rate"}, IncidentLabels("anomaly", frozenset({"rate"})), True),
        ({"family": "rate"}, DRIFT, False),
        ({}, FAULT, False),
        ({"model": "anomaly"}, FAULT, False),
        ({"family": "rate"}, FAULT, False),
        ({"family": "integrity"}, FAULT, True),
        ({"family": "integrity"}, DRIFT, False),
    ],
)
def test_what_a_silence_matches(silences, silence, scope, labels, matches):
    silence(**scope)

    assert bool(silences.matching(labels)) is matches


def test_two_silences_together_match_what_neither_does_alone(silences, silence):
    first, second = silence(1, family="rate"), silence(3, family="inputs")

    assert [one.id for one in silences.matching(DRIFT)] == [second, first]


def test_a_silence_holds_from_its_start_to_its_end(silences, silence, clock):
    silence(3, starts_at=clock() + HOUR)
    active = []
    for _ in range(5):
        active.append(bool(silences.matching(DRIFT)))
        clock.move(3600)

    assert active == [False, True, True, False, False]


def test_without_a_start_or_with_a_past_one_it_starts_now(silences, silence, clock):
    silence()
    silence(starts_at=clock() - HOUR)

    assert {one.starts_at for one in silences.list()} == {clock()}


def test_times_of_any_zone_are_kept_in_utc(silences, silence):
    ends = datetime.fromisoformat("2026-03-01T15:00:00+02:00")
    silence(ends_at=ends)

    (one,) = silences.list()
    assert one.ends_at == ends
    assert one.ends_at.tzinfo == UTC


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reason": "  "}, "give a reason"),
        ({"reason": "x" * 501}, "give a reason"),
        ({"model": "stranger"}, "no model 'stranger' at this site; known: anomaly"),
        ({"family": "colour"}, "no family 'colour'; known: scale"),
        ({"object": "photon"}, "no object 'photon' in the contracts; known: egamma, jet"),
        ({"hours": 0}, "has to end after it starts"),
        ({"hours": -1}, "has to end after it starts"),
        ({"hours": 24 * 30 + 1}, "at most 30 days"),
        ({"ends_at": datetime(2027, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 - what is refused
    ],
)
def test_what_makes_no_silence_is_refused_with_the_cure(silences, silence, changes, words):
    with pytest.raises(InvalidChoice, match=words):
        silence(**changes)

    assert silences.list() == ()


def test_the_longest_silence_is_counted_from_its_start(silences, silence, clock):
    later = clock() + timedelta(days=10)

    silence(starts_at=later, ends_at=later + LONGEST)
    with pytest.raises(InvalidChoice, match="at most 30 days"):
        silence(starts_at=later, ends_at=later + LONGEST + HOUR)


def test_ending_early_frees_at_once_and_says_who(silences, silence, clock, engine):
    name = silence(20)
    clock.move(60)

    silences.end(name, author="max")

    assert silences.matching(DRIFT) == ()
    assert silences.list(active_only=True) == ()
    (one,) = silences.list()
    assert (one.author, one.ended_by, one.ends_at) == ("ada", "max", clock())
    assert [event.kind for event in queries.events(engine)] == ["silence.created", "silence.ended"]
    with pytest.raises(NotPossibleNow, match=r"silence-1 has ended at .* by max"):
        silences.end(name, author="ada")


def test_what_waits_can_be_ended_before_it_begins(silences, silence, clock):
    name = silence(20, starts_at=clock() + HOUR)

    silences.end(name, author="ada")
    clock.move(7200)

    assert silences.matching(DRIFT) == ()


def test_an_unknown_silence_is_said_to_be_so(silences):
    with pytest.raises(NotFound, match="no silence 'silence-9'"):
        silences.end("silence-9", author="ada")


def test_an_incident_tells_in_its_history_when_it_fell_quiet(silences, silence, engine, site, clock):
    take_verdict(engine, site, make_verdict(62, worst_inputs=(JETS,)), now=clock())
    silence(2, starts_at=clock() + HOUR, object="jet")
    silence(object="met")
    begin_due(engine, clock())
    assert [line.kind for line in queries.incident(engine, "anomaly-1").events] == ["incident.opened"]

    clock.move(3600)
    begin_due(engine, clock())
    begin_due(engine, clock())

    *_, line = queries.incident(engine, "anomaly-1").events
    assert (line.kind, line.actor) == ("incident.silenced", "ada")
    assert "ada silenced object jet until 2026-03-01 14:00 UTC: beam tests (silence-1)" in line.text
    assert len(queries.incident(engine, "anomaly-1").events) == 2
    assert set(silences.quiet_incidents()) == {"anomaly-1"}


def test_the_object_of_an_incident_is_that_of_its_worst_input():
    verdict = make_verdict(62, worst_inputs=(JETS,)).model_dump(mode="json")

    assert object_of(verdict) == "jet"
    assert object_of({}) is None
