"""The engine's Kafka transport, told what was handled, with a short wait for new messages.

The engine commits the end of the first run of acknowledged messages of a partition. After a rebalance it
acknowledges messages of before without handing them on, and such a run can begin behind one that is still
being handled: a kill would lose that one. Here nothing is committed but what was handled to its end.

The engine asks brokers to hold a fetch for 1.5 s when there is nothing new. Kafka answers as soon as
something arrives, but the embedded broker looks only twice within that time, which would delay every
hop by three quarters of a second. Knows nothing of what travels.
"""

from collections.abc import Iterable
from typing import Any, Final

import faust
from faust.transport.drivers import aiokafka

FETCH_WAIT_MS: Final = 100


class _ConsumerThread(aiokafka.AIOKafkaConsumerThread):  # type: ignore[misc] # the engine has no types
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # the engine passes a fixed number and offers no setting
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        return consumer


class Handled:
    """Where each partition's messages are handled to, by this worker."""

    def __init__(self) -> None:
        self._next: dict[Any, int] = {}

    def add(self, message: Any) -> None:
        """Take note that a message, and all before it in its partition, are handled to their end."""
        self._next[message.tp] = message.offset + 1

    def offset(self, partition: Any) -> int | None:
        """Return the offset that may be committed; None while nothing was handled."""
        return self._next.get(partition)

    def forget(self, partitions: Iterable[Any]) -> None:
        """Forget partitions that others have now."""
        for partition in partitions:
            self._next.pop(partition, None)


class _Consumer(aiokafka.Consumer):  # type: ignore[misc] # the engine has no types
    transport: "_Transport"

    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: Any) -> int | None:
        super()._new_offset(tp)  # keeps the engine's lists short
        return self.transport.handled.offset(tp)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget what others have from now on."""
        self.transport.handled.forget(revoked)
        await super().on_partitions_revoked(revoked)


class _Transport(aiokafka.Transport):  # type: ignore[misc] # the engine has no types
    Consumer = _Consumer

    def __init__(self, url: Any, app: faust.App) -> None:
        super().__init__(url, app)
        self.handled = Handled()


def use_transport(app: faust.App) -> Handled:
    """Give an app this transport, before it starts; return what must be told of every message handled."""
    app.transport = _Transport(app.conf.broker_consumer, app)
    handled: Handled = app.transport.handled
    return handled
