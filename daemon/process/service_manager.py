"""Tells systemd how the daemon is, by its notification protocol (sd_notify(3)); without systemd, nobody.

The watchdog is fed only while every thread that must run does and the database answers, so that systemd
starts a daemon again that hangs. Refuses to know what the threads do.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from threading import Event, Thread
from typing import Final

logger = logging.getLogger(__name__)

STATUS_EVERY_S: Final = 10.0
_LONGEST_STATUS: Final = 400


class ServiceManager:
    """The manager that started this process, if it wants to be told.

    Parameters
    ----------
    environment
        ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are taken out of it: children must not
        speak for us.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        interval = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "")
        mine = process in {"", str(os.getpid())}
        self.watchdog_s = int(interval) / 1e6 if interval.isdigit() and mine else None

    def tell(self, *assignments: str) -> None:
        """Send assignments such as ``READY=1``; a manager that does not listen is no error of ours."""
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.connect(address)
                speaker.sendall("\n".join(assignments).encode())
        except OSError as error:
            logger.warning("the service manager cannot be told (%s)", error.strerror)

    def ready(self) -> None:
        """Say that the daemon serves."""
        self.tell("READY=1")

    def reloading(self, begun: bool) -> None:
        """Say that the configuration is read again, or that it has been."""
        if begun:
            self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        else:
            self.tell("READY=1")

    def stopping(self) -> None:
        """Say that the daemon stops."""
        self.tell("STOPPING=1")


class Watchdog:
    """Feeds the manager's watchdog and its status line, in a thread of its own from `start` to `stop`.

    Parameters
    ----------
    manager
        Whom to tell.
    problem
        What is so wrong that the daemon should be started again; None: nothing.
    status
        One sentence for people.
    """

    def __init__(
        self, manager: ServiceManager, problem: Callable[[], str | None], status: Callable[[], str]
    ) -> None:
        self._manager = manager
        self._problem = problem
        self._status = status
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="watchdog", daemon=True)
        watchdog_s = manager.watchdog_s
        self._interval_s = STATUS_EVERY_S if watchdog_s is None else min(watchdog_s / 3, STATUS_EVERY_S)

    def start(self) -> None:
        """Begin to feed."""
        self._thread.start()

    def stop(self) -> None:
        """Stop feeding."""
        self._stopping.set()
        self._thread.join(1.0)

    def feed(self) -> None:
        """Tell once how the daemon is."""
        problem = self._problem()
        if problem is not None:
            logger.error("the watchdog is not fed: %s", problem)
            self._manager.tell(f"STATUS={_one_line(problem)}")
            return
        fed = () if self._manager.watchdog_s is None else ("WATCHDOG=1",)
        self._manager.tell(*fed, f"STATUS={_one_line(self._status())}")

    def _run(self) -> None:
        self.feed()
        while not self._stopping.wait(self._interval_s):
            self.feed()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_STATUS]
