"""An operator sees what was refused, and why, over the real broker."""

import json
from datetime import UTC, datetime, timedelta

from kafka import KafkaProducer

from streams.broker.embedded import EmbeddedBroker, ensure_topics
from streams.dead_letter import encode_dead_letter, refuse
from streams.topics import BATCHES, DEAD_LETTERS

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_the_newest_letters_are_shown_with_their_reasons(lumiwatch, site, tmp_path, monkeypatch):
    with EmbeddedBroker(log=tmp_path / "broker.log") as broker:
        ensure_topics(broker.bootstrap)
        monkeypatch.setenv("LUMIWATCH_KAFKA__BOOTSTRAP", broker.bootstrap)
        assert lumiwatch("dead-letters", "--site", site).out.strip() == "dead letters: none"

        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        for offset in range(5):
            letter = refuse(
                b"x" * offset,
                f"reason {offset}",
                topic=BATCHES,
                partition=0,
                offset=offset,
                at=NOW + timedelta(seconds=offset),
            )
            producer.send(DEAD_LETTERS, encode_dead_letter(letter), key=BATCHES.encode()).get(timeout=60)
        producer.send(DEAD_LETTERS, b"no letter at all").get(timeout=60)
        producer.close()

        said = lumiwatch("dead-letters", "--site", site, "--limit", 3, "--json")
        table = lumiwatch("dead-letters", "--site", site)

    assert [letter["reason"] for letter in json.loads(said.out)][-2:] == ["reason 3", "reason 4"]
    assert len(json.loads(said.out)) <= 3
    for offset in range(5):
        assert f"reason {offset}" in table.out


def test_without_a_broker_it_says_so(lumiwatch, site, monkeypatch):
    monkeypatch.setenv("LUMIWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    assert "no broker answers at 127.0.0.1:1" in lumiwatch("dead-letters", "--site", site).line
