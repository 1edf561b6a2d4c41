"""The engine's Kafka transport with a short wait for new messages. Knows nothing of what travels.

The engine asks brokers to hold a fetch for 1.5 s when there is nothing new. Kafka answers as soon as
something arrives, but the embedded broker looks only twice within that time, which would delay every
hop by three quarters of a second.
"""

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


class _Consumer(aiokafka.Consumer):  # type: ignore[misc] # the engine has no types
    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(aiokafka.Transport):  # type: ignore[misc] # the engine has no types
    Consumer = _Consumer


def use_short_fetches(app: faust.App) -> None:
    """Give an app, before it starts, the transport with short fetches."""
    app.transport = _Transport(app.conf.broker_consumer, app)
