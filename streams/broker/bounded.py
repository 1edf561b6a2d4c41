"""The embedded broker with a bound on what it holds: broker, gate and rolling, started and stopped together.

Knows how they fit together, and nothing of what any of them does.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from streams.broker.embedded import EmbeddedBroker
from streams.broker.gate import Gate
from streams.broker.limits import default_limit_bytes
from streams.broker.rolling import MASTER, Rolling, RollingStatus

EXEMPT_CLIENTS: Final = ("lumiwatch-worker", "lumiwatch-daemon")
"""Client ids that are never made to wait: they empty the broker, and send little."""


def resident_bytes(process_id: int | None) -> int | None:
    """Return the resident memory of a process, or None where that cannot be told."""
    try:
        pages = Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class BoundedBroker:
    """A broker process on loopback that never holds much more than a limit. A context manager.

    Parameters
    ----------
    port
        TCP port for clients; 0 takes a free one.
    log
        File that the broker's own output is appended to.
    limit_bytes
        What it may hold; default: `default_limit_bytes`.
    group
        Consumer group of the workers: what they have committed may be forgotten.
    say
        Called with a line for people when producers must wait for long.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        log: Path,
        group: str,
        limit_bytes: int | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._port = port
        self._log = log
        self._group = group
        self._limit = limit_bytes or default_limit_bytes()
        self._say = say
        self._stack = ExitStack()
        self._gate: Gate | None = None
        self._broker: EmbeddedBroker | None = None
        self._rolling: Rolling | None = None

    def __enter__(self) -> Self:
        """Start the broker.

        Raises
        ------
        PortInUse
            Another program has the port.
        BrokerError
            The broker does not start.
        """
        with ExitStack() as stack:
            self._gate = stack.enter_context(Gate(self._port, exempt=EXEMPT_CLIENTS, master=MASTER))
            self._broker = stack.enter_context(EmbeddedBroker(log=self._log, advertised_port=self._gate.port))
            self._gate.upstream_port = self._broker.port
            self._rolling = stack.enter_context(
                Rolling(
                    self._gate,
                    limit_bytes=self._limit,
                    group=self._group,
                    memory=lambda: resident_bytes(self.process_id),
                    say=self._say,
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def bootstrap(self) -> str:
        """Address for clients, ``127.0.0.1:port``."""
        return "" if self._gate is None else self._gate.bootstrap

    @property
    def process_id(self) -> int | None:
        """Process id while the broker runs."""
        return None if self._broker is None else self._broker.process_id

    @property
    def running(self) -> bool:
        """Whether the broker is alive."""
        return self._broker is not None and self._broker.running

    @property
    def status(self) -> RollingStatus:
        """How full it is."""
        return RollingStatus() if self._rolling is None else self._rolling.status
