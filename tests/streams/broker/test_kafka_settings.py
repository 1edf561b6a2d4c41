"""Every client speaks TLS and SASL, end to end; what is wrong is said in one line and at once."""

import signal
import time
from datetime import UTC, datetime

import pytest
from kafka import KafkaConsumer
from pydantic import ValidationError

from streams import topics
from streams.broker.embedded import EmbeddedBroker, ensure_topics, free_port, require_topics
from streams.broker.security import KafkaSecurity, check_reachable
from streams.errors import BrokerError, ReplayError
from streams.events.replay import Replayer, ReplaySettings
from streams.judging.reference_store import register_reference
from streams.judging.verdict import Verdict
from streams.store.database import open_engine
from streams.store.history import closed_windows
from streams.store.records import create_tables
from streams.worker import WorkerSettings, main, start_worker
from tests.support.secure_front import SecureFront, make_certificate
from tests.support.streams import MODEL, RUN

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secure")
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "wrong-password").write_text("open barley")
    return folder


@pytest.fixture(scope="module")
def certificate(folder):
    return make_certificate(folder, "broker")


@pytest.fixture(scope="module")
def other_certificate(folder):
    return make_certificate(folder, "stranger")


@pytest.fixture(scope="module")
def serve(folder):
    """Return a function that starts a broker behind a secure front."""
    running = []

    def start(**options):
        front = SecureFront(**options).__enter__()
        broker = EmbeddedBroker(log=folder / f"broker-{front.port}.log", advertised_port=front.port).start()
        front.upstream_port = broker.port
        running.append((front, broker))
        return front

    yield start
    for front, broker in running:
        front.__exit__()
        broker.stop()


@pytest.fixture(scope="module")
def tls(serve, certificate):
    return serve(certificate=certificate)


@pytest.fixture(scope="module")
def sasl_tls(serve, certificate):
    return serve(certificate=certificate, users={"lumiwatch": PASSWORD})


@pytest.fixture(scope="module")
def secret(folder, certificate):
    """Return a function that makes settings for `sasl_tls`; every keyword replaces one."""

    def make(**changes):
        fields = {
            "protocol": "SASL_SSL",
            "ca_file": certificate.ca,
            "mechanism": "SCRAM-SHA-512",
            "username": "lumiwatch",
            "password_file": folder / "password",
        }
        return KafkaSecurity(**(fields | changes))

    return make


def test_tls_and_a_certificate_of_the_clients_own(serve, certificate, other_certificate):
    # given a broker that asks clients for a certificate
    front = serve(certificate=certificate, client_ca=other_certificate.ca)
    security = KafkaSecurity(
        protocol="SSL",
        ca_file=certificate.ca,
        cert_file=other_certificate.cert,
        key_file=other_certificate.key,
    )
    ensure_topics(front.bootstrap, security=security)
    require_topics(front.bootstrap, security)

    # then one without, and one with a certificate of another authority, is told so
    for files in (
        {},
        {"cert_file": certificate.cert, "key_file": certificate.key},
    ):
        stranger = KafkaSecurity(protocol="SSL", ca_file=certificate.ca, **files)
        with pytest.raises(BrokerError, match=r"kafka\.cert_file"):
            require_topics(front.bootstrap, stranger)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_every_mechanism_lets_in_whoever_knows_the_password(sasl_tls, secret, folder, mechanism):
    ensure_topics(sasl_tls.bootstrap, security=secret(mechanism=mechanism))
    assert mechanism in sasl_tls.mechanisms_used


def test_whoever_does_not_know_the_password_is_told_so(sasl_tls, secret, folder):
    for wrong in ({"password_file": folder / "wrong-password"}, {"username": "stranger"}):
        begun = time.monotonic()
        with pytest.raises(
            BrokerError, match=r"does not let '\w+' in by .*correct kafka\.username"
        ) as caught:
            require_topics(sasl_tls.bootstrap, secret(**wrong))
        assert "\n" not in str(caught.value)
        assert PASSWORD not in str(caught.value)
        assert time.monotonic() - begun < 20  # a client alone may try for minutes


def test_a_certificate_that_nobody_vouches_for_is_named(tls, other_certificate):
    security = KafkaSecurity(protocol="SSL", ca_file=other_certificate.ca)
    with pytest.raises(BrokerError, match=r"stranger-ca\.pem does not vouch for .*correct kafka\.ca_file"):
        ensure_topics(tls.bootstrap, security=security)


def test_the_wrong_protocol_is_named(tls, folder, certificate):
    with pytest.raises(BrokerError, match=r"over PLAINTEXT: correct kafka\.protocol"):
        ensure_topics(tls.bootstrap)
    with EmbeddedBroker(log=folder / "plain.log") as plain:
        security = KafkaSecurity(protocol="SSL", ca_file=certificate.ca)
        with pytest.raises(BrokerError, match=r"does not accept TLS .*correct kafka\.protocol"):
            check_reachable(plain.bootstrap, security)


def test_no_broker_is_said_whatever_the_protocol(certificate):
    security = KafkaSecurity(protocol="SSL", ca_file=certificate.ca)
    with pytest.raises(BrokerError, match="no broker answers"):
        check_reachable(f"127.0.0.1:{free_port()},not-an-address", security)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ca_file": "absent.pem"}, r"kafka\.ca_file"),
        ({"ca_file": "password"}, r"kafka\.ca_file"),
        ({"cert_file": "password", "key_file": "password"}, r"kafka\.cert_file"),
        ({"password_file": "absent"}, r"kafka\.password_file .* cannot be read"),
        ({"password_file": "empty"}, r"kafka\.password_file .* is empty"),
    ],
)
def test_files_that_cannot_be_used_are_named(secret, folder, changes, said):
    (folder / "empty").write_text("\n")
    security = secret(**{key: folder / name for key, name in changes.items()})
    with pytest.raises(BrokerError, match=said):
        security.client_options()


@pytest.mark.parametrize(
    "changes", [{"protocol": "SSL"}, {"protocol": "PLAINTEXT"}, {"username": None}, {"key_file": "x"}]
)
def test_settings_that_contradict_each_other_are_refused(secret, changes):
    with pytest.raises(ValidationError):
        secret(**changes)


def test_a_replay_that_is_not_let_in_says_so(sasl_tls, secret, folder, detector, contract):
    settings = ReplaySettings(model=MODEL, run=RUN, first=1, last=1, events_per_lumisection=100)
    wrong = secret(password_file=folder / "wrong-password")
    with pytest.raises(ReplayError, match=r"kafka\.password_file"):
        Replayer(sasl_tls.bootstrap, detector.dataset, contract, settings, detector.firmware, wrong).run()


@pytest.mark.slow
def test_a_worker_reads_and_writes_over_tls_with_a_password(
    sasl_tls, secret, folder, contract_path, detector, reference, contract, tmp_path
):
    # given a worker that is told where the password is
    ensure_topics(sasl_tls.bootstrap, security=secret())
    settings = WorkerSettings(
        bootstrap=sasl_tls.bootstrap,
        security=secret(mechanism="SCRAM-SHA-256"),
        database_url=f"sqlite:///{tmp_path}/site.db",
        models={MODEL: {"contract": contract_path}},
        state_dir=tmp_path / "worker",
        session_timeout_s=2.0,
    )
    engine = open_engine(settings.database_url)
    create_tables(engine)
    register_reference(engine, reference, "local", datetime.now(UTC))
    worker = start_worker(settings, log=tmp_path / "worker.log")
    try:
        # when events are replayed to it
        replay = ReplaySettings(model=MODEL, run=RUN, first=1, last=3, events_per_lumisection=2000)
        Replayer(
            sasl_tls.bootstrap,
            detector.dataset,
            contract,
            replay,
            detector.firmware,
            secret(mechanism="PLAIN"),
        ).run()
        deadline = time.monotonic() + 60
        while len(closed_windows(engine, MODEL)) < 3:
            assert worker.poll() is None, (tmp_path / "worker.log").read_text()
            assert time.monotonic() < deadline, "the worker did not get there in time"
            time.sleep(0.05)
        # and Ctrl-C ends it as it ends other commands
        worker.send_signal(signal.SIGINT)
        assert worker.wait(60) == 130
    finally:
        worker.kill()
        worker.wait()
        engine.dispose()

    # then verdicts are there for a client that reads them
    consumer = KafkaConsumer(
        topics.VERDICTS,
        bootstrap_servers=sasl_tls.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=2000,
        **secret().client_options(),
    )
    assert len([Verdict.model_validate_json(message.value) for message in consumer]) == 3
    consumer.close()
    # and the password is in no file but its own
    assert PASSWORD not in (settings.state_dir / "worker.json").read_text()
    assert PASSWORD not in (tmp_path / "worker.log").read_text()


def test_a_worker_that_is_not_let_in_says_so_in_one_line(
    sasl_tls, secret, folder, contract_path, tmp_path, capsys
):
    settings = WorkerSettings(
        bootstrap=sasl_tls.bootstrap,
        security=secret(password_file=folder / "wrong-password"),
        database_url=f"sqlite:///{tmp_path}/site.db",
        models={MODEL: {"contract": contract_path}},
        state_dir=tmp_path,
    )
    engine = open_engine(settings.database_url)
    create_tables(engine)
    engine.dispose()
    file = tmp_path / "worker.json"
    file.write_text(settings.model_dump_json())

    assert main([str(file)]) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "does not let 'lumiwatch' in" in line
