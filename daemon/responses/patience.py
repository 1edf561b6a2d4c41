"""Waiting that ends at once: for news, or because the daemon stops. Knows nothing of what is awaited."""

from __future__ import annotations

from threading import Condition, Event
from typing import Final

from daemon.process.children import Interrupted

_LOOK_AGAIN_S: Final = 0.5


class Patience:
    """Lets any number of threads wait for "something changed".

    Parameters
    ----------
    stopping
        Set when the daemon stops.
    """

    def __init__(self, stopping: Event) -> None:
        self._stopping = stopping
        self._changed = Condition()

    def wake(self) -> None:
        """Let all that wait look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self) -> None:
        """Return after news, or after half a second: news of other processes come without a call.

        Raises
        ------
        Interrupted
            The daemon stops.
        """
        if not self._stopping.is_set():
            with self._changed:
                self._changed.wait(_LOOK_AGAIN_S)
        if self._stopping.is_set():
            raise Interrupted
