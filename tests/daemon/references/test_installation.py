"""An installation whose broker is full says so; its boards start with what was proven on them."""

import json
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from daemon.operations import utc_now
from daemon.process.broker import bootstrap_of
from daemon.process.readiness import broker_check
from daemon.references.installation import Installation
from daemon.site.settings import load_site
from daemon.store.database import open_database, transaction
from hw.apply import apply
from hw.board import BoardIdentity
from hw.boards.fabric import Configuration
from hw.boards.flash import Flash
from hw.boards.ipbus import IPbusBoard
from hw.records import record_package
from streams.topics import BATCHES
from tests.support.board_site import MODEL

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


def identity_at(address: str) -> BoardIdentity:
    with closing(IPbusBoard(address)) as board:
        return board.identify()


@pytest.mark.slow
def test_a_board_starts_with_what_was_proven_on_it_and_with_nothing_of_another_life(
    board_site, tmp_path: Path
):
    folder, packages = board_site
    site = load_site(Path(shutil.copytree(folder, tmp_path / "site")))
    first = site.packages_dir / f"{packages.first.id}.lwpkg"
    said: list[str] = []

    # given a board that was loaded with another package, of which no record tells
    with Installation(site.folder, {"console": {"port": 0}}, said.append) as installation:
        address = installation.start_board(MODEL, first)
        assert identity_at(address).package_id == packages.first.id
        with closing(IPbusBoard(address)) as board:
            assert apply(packages.second, board, packages.trusted).ok
        (child,) = installation._supervisor.children
        child.process.kill()
        child.process.wait()

        # when it is started again
        deadline = time.monotonic() + 30
        while f"board-{MODEL} was started again" not in said or not site.board_file(MODEL).exists():
            assert time.monotonic() < deadline, said
            installation.check()
            time.sleep(0.05)
        again = json.loads(site.board_file(MODEL).read_text())["address"]

        # then it runs what was proven
        assert identity_at(again).package_id == packages.second.id

    # a site that knows the package goes on with it; one that does not starts with its own
    engine = open_database(site.database_url)
    with Installation(site.folder, {"console": {"port": 0}}, said.append) as installation:
        address = installation.start_last_board(MODEL)
        assert address is not None
        assert identity_at(address).package_id == packages.first.id
    assert any("its flash is erased, it held package" in line for line in said)
    with transaction(engine) as session:
        record_package(session, packages.second, packages.second.path, now=utc_now())
    engine.dispose()
    Flash(site.board_flash(MODEL)).store(Configuration.of(packages.second))
    with Installation(site.folder, {"console": {"port": 0}}, said.append) as installation:
        address = installation.start_last_board(MODEL)
        assert address is not None
        assert identity_at(address).package_id == packages.second.id

    # and a board that is to start with a package starts with it, whatever its flash holds
    with Installation(site.folder, {"console": {"port": 0}}, said.append) as installation:
        assert identity_at(installation.start_board(MODEL, first)).package_id == packages.first.id


def test_a_flash_that_is_damaged_is_not_started_with(site_folder: Path):
    site = load_site(site_folder)
    flash = site.board_flash(MODEL)
    flash.mkdir(parents=True)
    (flash / "configuration.zip").write_bytes(b"noise")
    stranger = Installation(site_folder)._stranger_in_flash(MODEL)
    assert stranger is not None
    assert "cannot be used" in stranger
