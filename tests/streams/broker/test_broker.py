"""The embedded broker serves on loopback only, refuses a taken port and dies with its parent."""

import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams import topics
from streams.broker.embedded import EmbeddedBroker, ensure_topics, free_port, require_topics
from streams.errors import BrokerError, PortInUse


@pytest.fixture
def broker(tmp_path):
    with EmbeddedBroker(log=tmp_path / "broker.log") as running:
        yield running


def _listening_addresses(process_id):
    inodes = set()
    for link in Path(f"/proc/{process_id}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process_id}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                addresses.append(fields[1].split(":")[0])
    return addresses


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_listens_on_loopback_only(broker):
    assert _listening_addresses(broker.process_id) == ["0100007F"]


def test_topics_are_created_once_and_messages_pass(broker):
    ensure_topics(broker.bootstrap, {topics.BATCHES: 2})
    ensure_topics(broker.bootstrap, 3)
    require_topics(broker.bootstrap)

    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(topics.VERDICTS, b"hello").get(timeout=60)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    try:
        assert consumer.partitions_for_topic(topics.BATCHES) == {0, 1}
        assert consumer.partitions_for_topic(topics.DEAD_LETTERS) == {0}
        consumer.assign([TopicPartition(topics.VERDICTS, 0)])
        assert next(consumer).value == b"hello"
    finally:
        consumer.close()


def test_a_missing_topic_is_named(broker):
    with pytest.raises(BrokerError, match=r"has no topic lumiwatch\.batches"):
        require_topics(broker.bootstrap)


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            EmbeddedBroker(port, log=tmp_path / "broker.log").start()


def test_stop_ends_the_process(tmp_path):
    broker = EmbeddedBroker(log=tmp_path / "broker.log").start()
    broker.stop()
    assert not broker.running
    assert broker.process_id is None


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_dies_with_its_parent(tmp_path):
    script = textwrap.dedent(
        """
        import pathlib, sys, time
        from streams.broker.embedded import EmbeddedBroker
        broker = EmbeddedBroker(log=pathlib.Path(sys.argv[1])).start()
        print(broker.process_id, flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "broker.log")], stdout=subprocess.PIPE, text=True
    )
    try:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 60
        while _alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _alive(child)
    finally:
        parent.kill()
        parent.stdout.close()


def test_no_broker_is_said_in_one_line():
    port = free_port()
    with pytest.raises(BrokerError, match="start it"):
        ensure_topics(f"127.0.0.1:{port}")


def _alive(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
