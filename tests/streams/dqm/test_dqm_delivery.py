"""What a watcher finds is with the broker when the delivery returns, or a line says why not."""

import pytest
from kafka import KafkaConsumer

from streams.broker.embedded import EmbeddedBroker, ensure_topics
from streams.dqm.delivery import IN_FLIGHT, DqmDelivery
from streams.errors import ReplayError
from streams.topics import CONDITIONS, SUMMARIES


def read(bootstrap, topic):
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=2000
    )
    try:
        return [(message.key, message.value) for message in consumer]
    finally:
        consumer.close()


def test_summaries_and_conditions_arrive_in_order_under_the_models_key(tmp_path):
    summaries = [b"summary %d" % number for number in range(IN_FLIGHT + 3)]
    with EmbeddedBroker(log=tmp_path / "broker.log") as broker:
        ensure_topics(broker.bootstrap)
        with DqmDelivery(broker.bootstrap, "calo") as deliver:
            deliver(summaries, [b"conditions"])
            deliver([b"later"], [])

        assert read(broker.bootstrap, SUMMARIES) == [(b"calo", one) for one in [*summaries, b"later"]]
        assert read(broker.bootstrap, CONDITIONS) == [(b"calo", b"conditions")]


def test_without_a_broker_it_says_so_in_one_line():
    with DqmDelivery("127.0.0.1:1", "calo") as deliver, pytest.raises(ReplayError) as caught:
        deliver([b"summary"], [])
    assert "no broker answers at 127.0.0.1:1" in str(caught.value)
    assert "\n" not in str(caught.value)
