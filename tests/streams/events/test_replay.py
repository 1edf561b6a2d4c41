"""A replay sends the same events again, whole lumisections at a time, through the real broker."""

import itertools
import threading

import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition

from streams.broker.embedded import EmbeddedBroker, ensure_topics, free_port
from streams.conditions import decode_conditions
from streams.contracts.contract import parse_contract
from streams.effects.effect import parse_effect
from streams.errors import DatasetError, ReplayError
from streams.events.batch import decode_batch
from streams.events.replay import (
    FirmwareOutput,
    Replayer,
    ReplaySettings,
    lumisection_events,
    parse_rate,
    parse_values,
    replay_lumisections,
)
from streams.topics import BATCHES, CONDITIONS


def score(inputs):
    total = inputs.astype(np.int32).sum(axis=1, dtype=np.int32)
    return FirmwareOutput(score=total, accept=total > 300, package="ab" * 32)


def settings(**changes):
    fields = {"model": "anomaly", "run": 4, "first": 60, "last": 62, "events_per_lumisection": 101, "seed": 9}
    return ReplaySettings(**(fields | changes))


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory):
    with EmbeddedBroker(log=tmp_path_factory.mktemp("broker") / "broker.log") as broker:
        ensure_topics(broker.bootstrap)
        yield broker.bootstrap


@pytest.fixture
def read(bootstrap):
    """Return a function that reads what arrives on a topic after the fixture was made."""
    consumers = {}
    for topic in (BATCHES, CONDITIONS):
        consumer = consumers[topic] = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=3000)
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek_to_end()
        consumer.position(TopicPartition(topic, 0))

    def values(topic, count):
        return [message.value for _, message in zip(range(count), consumers[topic], strict=False)]

    yield values
    for consumer in consumers.values():
        consumer.close()


def test_the_same_seed_run_and_lumisection_give_the_same_events(dataset, contract):
    def events(**changes):
        fields = {"run": 4, "lumisection": 60, "n_events": 50, "seed": 9}
        return lumisection_events(dataset, contract, **(fields | changes)).tobytes()

    assert events() == events()
    assert len({events(), events(run=5), events(lumisection=61), events(seed=10)}) == 4


def test_an_effect_changes_events_but_not_which_are_drawn(dataset, contract):
    fields = {"run": 4, "lumisection": 61, "n_events": 500, "seed": 9}
    plain = lumisection_events(dataset, contract, **fields)
    drifted = lumisection_events(dataset, contract, **fields, effects=[parse_effect("jet_gain=1.05@LS61")])
    jets = [i for i, spec in enumerate(contract.inputs) if (spec.object, spec.quantity) == ("jet", "pt")]
    assert (plain[:, jets] != drifted[:, jets]).any()
    np.testing.assert_array_equal(np.delete(plain, jets, 1), np.delete(drifted, jets, 1))


def test_effects_act_in_the_order_they_are_given(dataset, contract):
    fields = {"run": 4, "lumisection": 61, "n_events": 500, "seed": 9}
    dead, swap = parse_effect("met[0].pt_stuck=0"), parse_effect("met[0].pt_swap=jet[0].pt")
    column = contract.input_index("met[0].pt")
    assert (lumisection_events(dataset, contract, **fields, effects=[dead, swap])[:, column] != 0).any()
    assert (lumisection_events(dataset, contract, **fields, effects=[swap, dead])[:, column] == 0).all()


def test_batches_are_the_lumisection_cut_in_order(dataset, contract):
    fields = {"run": 4, "seed": 9}
    blocks = list(
        replay_lumisections(
            dataset,
            contract,
            first=3,
            last=4,
            events_per_lumisection=101,
            batches_per_lumisection=3,
            **fields,
        )
    )
    assert [lumisection for lumisection, _ in blocks] == [3, 3, 3, 4, 4, 4]
    whole = lumisection_events(dataset, contract, lumisection=4, n_events=101, **fields)
    np.testing.assert_array_equal(np.concatenate([inputs for _, inputs in blocks[3:]]), whole)


def test_batches_then_conditions_arrive_whole(dataset, contract, bootstrap, read):
    seen = []
    effect = parse_effect("jet_gain=1.5@LS61")
    replay = settings(effects=(effect,), batches_per_lumisection=2, pileup=44.0, values={"bunches": 2400.0})
    report = Replayer(bootstrap, dataset, contract, replay, score).run(progress=seen.append)
    assert (report.lumisections, report.batches, report.events, report.last) == (3, 6, 303, 62)
    assert seen == [60, 61, 62]

    batches = [decode_batch(payload, contract) for payload in read(BATCHES, 6)]
    assert [batch.lumisection for batch in batches] == [60, 60, 61, 61, 62, 62]
    assert [batch.sequence for batch in batches] == [120, 121, 122, 123, 124, 125]
    assert {(b.model, b.run, b.source, b.package, b.simulated) for b in batches} == {
        ("anomaly", 4, "replay", "ab" * 32, True)
    }
    for lumisection in (60, 61, 62):
        inputs = np.concatenate([batch.inputs for batch in batches if batch.lumisection == lumisection])
        expected = lumisection_events(
            dataset, contract, run=4, lumisection=lumisection, n_events=101, effects=[effect], seed=9
        )
        np.testing.assert_array_equal(inputs, expected)
    np.testing.assert_array_equal(batches[3].score, score(batches[3].inputs).score)

    conditions = [decode_conditions(payload) for payload in read(CONDITIONS, 3)]
    assert [one.lumisection for one in conditions] == [60, 61, 62]
    assert all(one.end_of_lumisection and one.expected == {"replay": 2} for one in conditions)
    assert all(one.values == {"bunches": 2400.0} for one in conditions)
    assert {(one.pileup, one.stable_beams, one.simulated) for one in conditions} == {(44.0, True, True)}


def test_a_prescale_sends_fewer_events_in_as_many_batches(dataset, contract, bootstrap, read):
    few = settings(effects=(parse_effect("events_prescale=0.005@LS61-LS61"),), lookahead=1)
    report = Replayer(bootstrap, dataset, contract, few, score).run()
    batches = [decode_batch(payload, contract) for payload in read(BATCHES, 6)]
    sizes = [sum(b.n_events for b in batches if b.lumisection == number) for number in (60, 61, 62)]
    assert report.batches == len(batches) == 6
    assert report.events == sum(sizes)
    assert sizes[0] == sizes[2] == 101
    assert sizes[1] < 5
    assert min(batch.n_events for batch in batches) == 0


def test_a_stopped_replay_ends_with_a_whole_lumisection(dataset, contract, bootstrap, read):
    stop = threading.Event()

    def progress(lumisection):
        if lumisection == 61:
            stop.set()

    slow = settings(last=1000, seconds_per_lumisection=0.01)
    report = Replayer(bootstrap, dataset, contract, slow, score).run(stop, progress)
    assert (report.lumisections, report.last) == (2, 61)
    assert [decode_conditions(payload).lumisection for payload in read(CONDITIONS, 3)] == [60, 61]


def test_the_pauses_within_a_lumisection_end_at_once_when_stopped(dataset, contract, bootstrap, read):
    # given a replay whose batches are an hour apart, that is stopped once the first is scored
    stop = threading.Event()

    def score_and_stop(inputs):
        threading.Timer(0.2, stop.set).start()
        return score(inputs)

    slow = settings(seconds_per_lumisection=7200.0)
    report = Replayer(bootstrap, dataset, contract, slow, score_and_stop).run(stop)

    # then the lumisection once begun is sent whole
    assert report.lumisections == 1
    assert len(read(BATCHES, 2)) == 2
    assert [decode_conditions(payload).lumisection for payload in read(CONDITIONS, 1)] == [60]


def test_batches_are_spread_over_their_lumisection(dataset, contract, bootstrap):
    # given a clock that a producer could read: Kafka's own timestamps
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=3000)
    place = TopicPartition(BATCHES, 0)
    consumer.assign([place])
    consumer.seek_to_end()
    consumer.position(place)
    slow = settings(last=60, seconds_per_lumisection=0.8, batches_per_lumisection=4)
    Replayer(bootstrap, dataset, contract, slow, score).run()

    times = [message.timestamp for _, message in zip(range(4), consumer, strict=False)]
    consumer.close()
    assert all(later - sooner >= 100 for sooner, later in itertools.pairwise(times))


@pytest.mark.parametrize("lookahead", [0, 2])
def test_several_sources_share_the_events(dataset, contract, bootstrap, read, lookahead):
    replay = settings(sources=3, batches_per_lumisection=2, lookahead=lookahead)
    report = Replayer(bootstrap, dataset, contract, replay, score).run()
    assert (report.lumisections, report.batches, report.events) == (3, 18, 303)

    batches = [decode_batch(payload, contract) for payload in read(BATCHES, 18)]
    assert [batch.lumisection for batch in batches] == [60] * 6 + [61] * 6 + [62] * 6
    assert [batch.source for batch in batches[:6]] == ["replay-1", "replay-2", "replay-3"] * 2
    assert [batch.sequence for batch in batches[:6]] == [120] * 3 + [121] * 3
    whole = lumisection_events(dataset, contract, run=4, lumisection=60, n_events=101, seed=9)
    np.testing.assert_array_equal(np.concatenate([batch.inputs for batch in batches[:6]]), whole)
    (first, *_) = [decode_conditions(payload) for payload in read(CONDITIONS, 3)]
    assert first.expected == {"replay-1": 2, "replay-2": 2, "replay-3": 2}


@pytest.mark.parametrize(
    ("text", "seconds"), [("23.3104s", 23.3104), ("2", 2.0), ("0", 0.0), ("750000/s", 0.01)]
)
def test_a_rate_is_a_time_or_a_number_of_events(text, seconds):
    assert parse_rate(text, 7500) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["fast", "0/s", "/s", ""])
def test_another_rate_is_refused(text):
    with pytest.raises(ReplayError, match="events a second"):
        parse_rate(text, 7500)


def test_conditions_are_names_with_numbers():
    assert parse_values([]) == {}
    given = ["bunches=1200", "angle_urad=-1.5e2", "bunches=2400"]
    assert parse_values(given) == {"bunches": 2400.0, "angle_urad": -150.0}


@pytest.mark.parametrize(
    "text", ["", "bunches", "=3", "bunches=", "bunches=many", "bunches=nan", "bunches=1e999", "b=2e15", "B=1"]
)
def test_another_condition_is_refused(text):
    with pytest.raises(ReplayError, match="write it as bunches=2400"):
        parse_values([text])


def test_more_conditions_than_a_message_holds_are_refused():
    with pytest.raises(ReplayError, match="16 at most"):
        parse_values([f"v{number}=1" for number in range(17)])


def test_no_broker_is_said_at_once(dataset, contract):
    with pytest.raises(ReplayError, match="no broker answers"):
        Replayer(f"127.0.0.1:{free_port()}", dataset, contract, settings(), score).run()


def test_another_contract_is_refused_before_anything_is_sent(dataset, small_text):
    with pytest.raises(DatasetError, match="convert it again"):
        Replayer("127.0.0.1:1", dataset, parse_contract(small_text), settings(), score)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"first": 0}, "begins at 1"),
        ({"last": 59}, "begins at 1"),
        ({"batches_per_lumisection": 102}, "at least one event"),
        ({"batches_per_lumisection": 0}, "at least one event"),
        ({"events_per_lumisection": 200_000, "batches_per_lumisection": 2}, "a batch holds"),
        ({"seconds_per_lumisection": -1.0}, "0 or more"),
        ({"sources": 0}, "at least 1"),
        ({"sources": 60, "batches_per_lumisection": 2}, "at least one event"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ReplayError, match=said):
        settings(**changes)
