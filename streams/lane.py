"""The lane of an agent: hands on its messages in order, several at a time. Knows no topic and no content.

Messages that wait are taken as one group, never more than a number of messages and bytes, so that what is
done once for all of them (a transaction, a delivery) is paid once. While a group is finished the next one
begins. A message is acknowledged after its group and all those before are finished: a kill at any moment
only means that it is delivered again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

MOST_BYTES: Final = 8 * 1024 * 1024
"""A group ends with the message that reaches this; as much waits meanwhile, and as much is finished."""


@dataclass(frozen=True)
class Stage(Generic[_Result]):
    """What becomes of a group.

    Attributes
    ----------
    begin
        First half; may run while the group before is in its second half.
    finish
        Second half, given the result of the first.
    most_messages
        In a group.
    """

    begin: Callable[[Sequence[Any]], Awaitable[_Result]]
    finish: Callable[[_Result], Awaitable[None]]
    most_messages: int


class Lane(Generic[_Result]):
    """One agent's messages on their way.

    Parameters
    ----------
    stage
        What is done; it contains its own errors.
    handled
        Called with the message of each event that is finished, in order, before it is acknowledged.
    fail
        Called when the lane itself fails; must not return in production.
    """

    def __init__(
        self, stage: Stage[_Result], handled: Callable[[Any], None], fail: Callable[[], None]
    ) -> None:
        self._stage = stage
        self._handled = handled
        self._fail = fail
        self._waiting: deque[Any] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()

    async def run(self, stream: Any) -> None:
        """Take events from the engine's stream until it ends."""
        stream.enable_acks = False  # the lane acknowledges, once a message is finished
        work = asyncio.create_task(self._work(stream))
        try:
            async for event in stream.events():
                await self._put(event)
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def _put(self, event: Any) -> None:
        async with self._changed:
            await self._changed.wait_for(self._has_room)
            self._waiting.append(event)
            self._bytes += _size(event)
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._bytes < MOST_BYTES and len(self._waiting) < self._stage.most_messages

    async def _work(self, stream: Any) -> None:
        before = asyncio.create_task(asyncio.sleep(0))
        try:
            while True:
                group = await self._take()
                result = await self._stage.begin(group)
                await before
                before = asyncio.create_task(self._finish(stream, group, result))
        except Exception:
            logger.exception("a lane broke: this worker ends")
            self._fail()
        finally:
            before.cancel()  # what is not acknowledged is delivered again

    async def _take(self) -> list[Any]:
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting))
            group: list[Any] = []
            size = 0
            while self._waiting and size < MOST_BYTES and len(group) < self._stage.most_messages:
                group.append(self._waiting.popleft())
                size += _size(group[-1])
            self._bytes -= size
            self._changed.notify_all()
            return group

    async def _finish(self, stream: Any, group: Sequence[Any], result: _Result) -> None:
        try:
            await self._stage.finish(result)
            for event in group:
                self._handled(event.message)
                await stream.ack(event)
        except Exception:
            logger.exception("a lane broke: this worker ends")
            self._fail()


def _size(event: Any) -> int:
    return len(event.value) if isinstance(event.value, bytes) else 0
