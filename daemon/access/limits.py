"""How often somebody may try: tries within a sliding window, per key, in bounded memory. Knows no login."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil
from threading import Lock

from daemon.errors import TooManyTries


class Limit:
    """Admits so many tries of a key within a window.

    A try counts from the moment it begins, so that many at once are not one.

    Parameters
    ----------
    clock
        Gives aware UTC.
    tries
        Admitted within the window.
    window
        After which a try is forgotten.
    most_keys
        That are remembered; the one that was tried longest ago is forgotten first.
    """

    def __init__(
        self, clock: Callable[[], datetime], *, tries: int, window: timedelta, most_keys: int = 4096
    ) -> None:
        self._clock = clock
        self._tries = tries
        self._window = window
        self._most_keys = most_keys
        self._seen: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._lock = Lock()

    def admit(self, key: str) -> None:
        """Count a try.

        Raises
        ------
        TooManyTries
            There were enough within the window; this one does not count.
        """
        now = self._clock()
        with self._lock:
            times = self._seen.setdefault(key, deque())
            self._seen.move_to_end(key)
            while times and times[0] <= now - self._window:
                times.popleft()
            if len(times) >= self._tries:
                wait = times[0] + self._window - now
                raise TooManyTries(max(ceil(wait.total_seconds()), 1))
            times.append(now)
            if len(self._seen) > self._most_keys:
                self._seen.popitem(last=False)

    def take_back(self, key: str) -> None:
        """Uncount the latest try of a key: it was a good one."""
        with self._lock:
            times = self._seen.get(key)
            if times:
                times.pop()
            if not times:
                self._seen.pop(key, None)

    def __len__(self) -> int:
        """Count the keys that are remembered."""
        return len(self._seen)
