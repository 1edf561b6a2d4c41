"""An installation whose broker is full says so, at the terminal and to the daemon."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.process.broker import bootstrap_of
from daemon.process.readiness import broker_check
from daemon.references.installation import Installation
from daemon.site.settings import load_site
from streams.topics import BATCHES

LIMIT = 16 << 20
SEND = """
import sys
from kafka import KafkaProducer
producer = KafkaProducer(bootstrap_servers=sys.argv[1], max_request_size=2 << 20)
for _ in range(20):
    producer.send(sys.argv[2], bytes(1 << 20))
producer.flush()
"""


class ConsumerThatReads:
    """A stand-in for the reader of verdicts: it has no problem of its own."""

    problem = None


@pytest.mark.slow
def test_a_full_broker_is_said_where_people_look(site_folder: Path):
    # given an installation without a worker, and more than its broker may hold
    said: list[str] = []
    with Installation(site_folder, {"kafka": {"embedded_max_bytes": LIMIT}}, said.append) as installation:
        bootstrap = bootstrap_of(load_site(site_folder))
        producer = subprocess.Popen([sys.executable, "-c", SEND, bootstrap, BATCHES])
        check = broker_check(installation.site, ConsumerThatReads())
        assert check() is None

        # when nobody counts it
        deadline = time.monotonic() + 30
        while not check():
            assert time.monotonic() < deadline, "waited in vain"
            installation.check()
            time.sleep(0.05)

        # then terminal and console say the same
        assert said == [f"broker: {check()}"]
        assert "producers wait until the workers have counted" in said[0]
        producer.kill()
        producer.wait()
    assert not installation.site.broker_problem_file.exists()
