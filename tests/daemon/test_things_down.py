"""The daemon starts while Kafka and the chat are down, says so, and recovers when they come back."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer

from daemon.site.settings import Site
from streams import topics
from streams.broker.embedded import EmbeddedBroker, ensure_topics, free_port
from streams.judging.verdict import encode_verdict
from tests.support.daemon import make_verdict
from tests.support.daemon_process import Served, daemon_process
from tests.support.mattermost import MattermostServer, serving
from tests.support.relay import Relay


def wait_for(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def send(bootstrap: str, lumisection: int) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    content = encode_verdict(make_verdict(lumisection, id=f"verdict-{lumisection}"))
    producer.send(topics.VERDICTS, content).get(timeout=60)
    producer.close()


def published(bootstrap: str) -> list[bytes]:
    consumer = KafkaConsumer(topics.EVENTS, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    found: list[bytes] = []
    wait_for(
        lambda: bool(
            found.extend(one.value for batch in consumer.poll(timeout_ms=200).values() for one in batch)
            or found
        )
    )
    consumer.close()
    return found


def broker_check(daemon: Served) -> str:
    return str(daemon.client.get("/-/ready").json()["checks"]["broker"])


def lumisections(daemon: Served) -> list[int]:
    return [one["lumisection"] for one in daemon.client.get("/api/v1/models/anomaly/verdicts").json()]


@pytest.mark.slow
def test_kafka_comes_after_the_daemon_is_killed_and_comes_back(site: Site, tmp_path: Path):
    port = free_port()
    bootstrap = f"127.0.0.1:{port}"
    with daemon_process(site, tmp_path / "log", LUMIWATCH_KAFKA__BOOTSTRAP=bootstrap) as daemon:
        # given no broker
        assert broker_check(daemon) != "ok"
        assert daemon.client.get("/-/ready").status_code == 503
        assert daemon.client.get("/-/healthy").status_code == 200

        # when it comes
        with EmbeddedBroker(port, log=tmp_path / "broker.log"):
            ensure_topics(bootstrap)
            wait_for(lambda: broker_check(daemon) == "ok")
            send(bootstrap, 63)
            wait_for(lambda: lumisections(daemon) == [63])
            assert b'"hash"' in published(bootstrap)[0]

        # then it is gone, with all that it held
        wait_for(lambda: broker_check(daemon) != "ok")

        # and comes back
        with EmbeddedBroker(port, log=tmp_path / "broker.log"):
            ensure_topics(bootstrap)
            wait_for(lambda: broker_check(daemon) == "ok")
            send(bootstrap, 64)
            wait_for(lambda: lumisections(daemon) == [63, 64])
        assert daemon.process.poll() is None


@pytest.mark.slow
def test_the_chat_is_down_at_the_start_and_hears_all_of_it_later(site: Site, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    chat = MattermostServer()
    port = free_port()
    bootstrap = f"127.0.0.1:{port}"
    with (
        serving(chat) as url,
        Relay(int(url.rsplit(":", 1)[1])) as relay,
        EmbeddedBroker(port, log=tmp_path / "broker.log"),
    ):
        ensure_topics(bootstrap)
        relay.refuse(True)
        with daemon_process(
            site,
            tmp_path / "log",
            LUMIWATCH_KAFKA__BOOTSTRAP=bootstrap,
            LUMIWATCH_MATTERMOST__URL=f"http://127.0.0.1:{relay.port}",
            LUMIWATCH_MATTERMOST__TOKEN_FILE=str(token),
            LUMIWATCH_MATTERMOST__CHANNEL_ID="live-channel",
            LUMIWATCH_MATTERMOST__REPLAY_CHANNEL_ID="replay-channel",
        ) as daemon:
            wait_for(lambda: broker_check(daemon) == "ok")
            send(bootstrap, 63)
            wait_for(lambda: "chat" in daemon.client.get("/-/ready").json()["notes"])
            health = daemon.client.get("/-/ready")
            assert (health.status_code, health.json()["ready"]) == (200, True)
            assert "wait for the chat" in health.json()["notes"]["chat"]
            assert chat.posts == {}

            relay.refuse(False)

            wait_for(lambda: bool(chat.posts))
            wait_for(lambda: "chat" not in daemon.client.get("/-/ready").json()["notes"])
            assert "secret" not in daemon.log.read_text()
