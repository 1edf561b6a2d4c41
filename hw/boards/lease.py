"""A lock that its holder must keep using: who dies without releasing it loses it after a while.

Refuses to know what is locked.
"""

from __future__ import annotations

from collections.abc import Callable


class Lease:
    """A lock with a token for a holder; 0 means free.

    Parameters
    ----------
    duration_s
        How long it stays taken without use.
    clock
        Monotonic seconds.
    """

    def __init__(self, duration_s: float, clock: Callable[[], float]) -> None:
        self._duration_s = duration_s
        self._clock = clock
        self._holder = 0
        self._until = 0.0

    @property
    def holder(self) -> int:
        """Token of the holder, 0 when free."""
        if self._holder and self._clock() >= self._until:
            self._holder = 0
        return self._holder

    def take(self, token: int) -> bool:
        """Take the lock when it is free, or prolong it for its holder; true when the holder is new."""
        new = self.holder == 0 and token != 0
        if new:
            self._holder = token
        if self._holder == token:
            self._until = self._clock() + self._duration_s
        return new

    def release(self, token: int) -> None:
        """Free the lock when `token` holds it."""
        if self.holder == token:
            self._holder = 0

    def refresh(self) -> bool:
        """Prolong the lock for whoever holds it; false when it is free."""
        if not self.holder:
            return False
        self._until = self._clock() + self._duration_s
        return True
