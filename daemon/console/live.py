"""Keeps a page up to date: asks in a thread, draws only what changed, and says so when it cannot.

Refuses to know what is asked and how it is drawn. The event loop never waits for the database.
"""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from nicegui import run, ui
from sqlalchemy.exc import SQLAlchemyError

from daemon.errors import DaemonError
from streams.errors import StreamsError

_log = logging.getLogger(__name__)
_Data = TypeVar("_Data")


class Live(Generic[_Data]):
    """One part of a page that follows the database.

    Parameters
    ----------
    fetch
        Reads; runs in a thread and may take its time.
    show
        Draws; runs on the event loop, with the part emptied before.
    interval_s
        Time between two looks.
    keep
        True for parts that `show` updates itself: they are not emptied.
    """

    def __init__(
        self,
        fetch: Callable[[], _Data],
        show: Callable[[_Data], None],
        *,
        interval_s: float = 2.0,
        keep: bool = False,
    ) -> None:
        self._fetch = fetch
        self._show = show
        self._keep = keep
        self._last: _Data | None = None
        self._busy = False
        self._again = False
        self._problem = ui.label().classes("lw-notice").props('role="alert"')
        self._problem.set_visibility(False)
        self._part = ui.element("div").classes("lw-stack")
        ui.timer(interval_s, self.refresh, immediate=False)

    def start(self) -> None:
        """Look as soon as the page has a moment: for what may take seconds."""
        ui.timer(0.01, self.refresh, once=True)

    async def refresh(self) -> None:
        """Look now; while a look is under way, once more when it has ended."""
        self._again = True
        if self._busy:
            return
        self._busy = True
        try:
            while self._again:
                self._again = False
                await self._look()
        finally:
            self._busy = False

    async def _look(self) -> None:
        try:
            data = await run.io_bound(self._fetch)
        except (DaemonError, StreamsError, SQLAlchemyError, OSError) as error:
            _log.warning("console: a page could not be brought up to date: %s", error)
            self._tell(error)
            return
        except Exception as error:  # noqa: BLE001 - a fault of one part must neither hide nor end the others
            _log.exception("console: a part of a page cannot be made")
            self._tell(error)
            return
        self._problem.set_visibility(False)
        if data is None or data == self._last:
            return
        self._last = data
        if not self._keep:
            self._part.clear()
        with self._part:
            self._show(data)

    def _tell(self, error: Exception) -> None:
        if isinstance(error, DaemonError | StreamsError):
            words = str(error)
        elif isinstance(error, SQLAlchemyError | OSError):
            words = f"The database cannot be read ({type(error).__name__})."
        else:
            words = f"This cannot be shown ({type(error).__name__}): the daemon's log says why."
        stale = "" if self._last is None else " What you see below is old."
        self._problem.set_text(words + stale)
        self._problem.set_visibility(True)
