"""What a person or a detector can do wrong while a site runs: one line, or a dead letter, and it goes on."""

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer
from skhep_testdata import data_path

from daemon.references.commissioning import Commissioning
from daemon.site.settings import load_site
from daemon.site.state_dir import prepare_state_dir
from daemon.store.database import open_database
from daemon.store.room_queries import windows
from retrain.records import record_result
from retrain.train_settings import MINIMUM_EVENTS, TrainSettings
from streams.conversion.convert import convert
from streams.topics import BATCHES, CONDITIONS, DEAD_LETTERS, SUMMARIES
from tests.support.commands import RunningCommand, lumiwatch, running
from tests.support.daemon import copy_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
EVENTS = 2000


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A site with a dataset, a (poor) training and its package."""
    folder = copy_site(tmp_path_factory.mktemp("bad-input"))
    loaded = load_site(folder)
    model = loaded.models["anomaly"]
    convert([Path(data_path("uproot-HZZ.root"))], model.contract, folder / "hzz.npz")
    commissioning = Commissioning(loaded)
    settings = TrainSettings(epochs=1, training_events=MINIMUM_EVENTS, threshold_events=MINIMUM_EVENTS)
    training = commissioning.train(model, [folder / "hzz.npz"], settings, _quiet)
    commissioning.build(model, training, folder / "hzz.npz", _quiet)
    return folder


@pytest.fixture(scope="module")
def up(site) -> RunningCommand:
    with running(site.with_name("up.screen"), "up", "--site", site, "--port", 0) as command:
        command.wait_for("running; Ctrl-C")
        yield command
        assert command.process.poll() is None, command.screen


@pytest.fixture
def bootstrap(site, up) -> str:
    return load_site(site).broker_file.read_text().strip()


def test_malformed_messages_are_put_aside_with_their_reason_and_the_stream_goes_on(site, bootstrap):
    noise = bytes(range(256))
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for topic in (BATCHES, CONDITIONS, SUMMARIES):
        producer.send(topic, key=b"noise", value=noise).get(10)
    producer.close()

    replay = ("replay", site / "hzz.npz", "--model", "anomaly", "--site", site, "--rate", 0)
    ended = lumiwatch(*map(str, (*replay, "--run", 7, "--last", 3, "--events", EVENTS)))
    assert ended.returncode == 0, ended.stderr

    engine = open_database(load_site(site).database_url)
    _wait(lambda: len([w for w in windows(engine, "anomaly", run=7) if w.state == "closed"]) == 3)
    assert [w.n_events for w in windows(engine, "anomaly", run=7)] == [EVENTS] * 3
    consumer = KafkaConsumer(
        DEAD_LETTERS, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=2000
    )
    letters = [json.loads(message.value) for message in consumer]
    consumer.close()
    assert {letter["topic"] for letter in letters} == {BATCHES, CONDITIONS, SUMMARIES}
    assert all(letter["reason"] for letter in letters)


def test_a_wrong_token_is_refused(site, up, tmp_path):
    token = tmp_path / "token"
    token.write_text("not-the-token-of-anybody")
    said = lumiwatch("approve", "anomaly-1-r1", "--site", str(site), LUMIWATCH_TOKEN_FILE=str(token))
    assert said.returncode == 2
    assert _line(said.stderr).startswith("lumiwatch: unknown token: use the login link")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("approve", "anomaly-9-r1"), "no response 'anomaly-9-r1'"),
        (("reject", "../../metrics"), "'../../metrics' is no id"),
        (("incidents", "ack", "anomaly-9"), "no incident 'anomaly-9'"),
        (("incidents", "respond", "anomaly-9", "--json"), "no incident 'anomaly-9'"),
    ],
)
def test_the_daemon_names_what_it_does_not_know(site, up, command, said):
    ended = lumiwatch(*command, "--site", str(site))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert said in _line(ended.stderr)


def test_a_replay_is_interrupted_and_the_site_goes_on(site, up, tmp_path):
    replay = ("replay", site / "hzz.npz", "--model", "anomaly", "--site", site, "--rate", 0.2)
    options = (*replay, "--run", 8, "--last", 10_000, "--events", EVENTS)
    engine = open_database(load_site(site).database_url)
    with running(tmp_path / "screen", *options) as command:
        _wait(lambda: len(windows(engine, "anomaly", run=8)) > 1)
        assert command.interrupt() == 130
    assert up.process.poll() is None


def test_a_fresh_site_comes_up_without_a_package_and_goes_on_ctrl_c(tmp_path):
    site = copy_site(tmp_path)
    with running(tmp_path / "screen", "up", "--site", site, "--port", 0) as command:
        command.wait_for("no package yet; build one with `lumiwatch hw build`")
        command.wait_for("running; Ctrl-C")
        assert len(command.family()) >= 4  # itself, broker, daemon, worker
        assert command.interrupt() == 130
    assert "Traceback" not in command.screen


def test_what_a_killed_site_started_goes_with_it(tmp_path):
    site = copy_site(tmp_path)
    with running(tmp_path / "screen", "up", "--site", site, "--port", 0) as command:
        command.wait_for("running; Ctrl-C")
        started = command.descendants()

        command.process.kill()
        command.process.wait()

        _, alive = psutil.wait_procs(started, timeout=10)
    assert len(started) >= 3  # broker, daemon, worker
    assert alive == []


@pytest.mark.parametrize(
    ("arguments", "begun"),
    [
        (("train", "{site}/hzz.npz", "--model", "anomaly"), "jobs/*-train-*/job.log"),
        (("hw", "build", "--model", "anomaly"), "jobs/*-build-*/work-*/lumiwatch-build-*"),
        (("serve",), "daemon-address"),
    ],
)
def test_ctrl_c_ends_a_long_command_and_all_it_started(site, tmp_path, arguments, begun):
    folder = _trained_copy(site, tmp_path)
    options = [part.format(site=folder) for part in arguments]
    before = set((folder / "state").glob(begun))
    with running(tmp_path / "screen", *options, "--site", folder, LUMIWATCH_CONSOLE__PORT="0") as command:
        _wait(lambda: set((folder / "state").glob(begun)) - before)
        assert command.interrupt() == 130
    assert "Traceback" not in command.screen
    assert list((folder / "state").glob("jobs/*/work-*")) == []
    assert not (folder / "state" / "daemon-address").exists()


def _trained_copy(site: Path, folder: Path) -> Path:
    """Make a site of its own that has the data and the training of another."""
    copied = copy_site(folder)
    shutil.copy(site / "hzz.npz", copied)
    training = Commissioning(load_site(site)).latest_training("anomaly")
    loaded = load_site(copied)
    prepare_state_dir(loaded)
    record_result(open_database(loaded.database_url), training, finished_at=datetime.now(UTC))
    return copied


def _quiet(_fraction: float, _message: str = "") -> None:
    pass


def _line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def _wait(look, timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)
