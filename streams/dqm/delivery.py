"""Delivery of what a watcher finds: summaries, then conditions, to the broker. Knows no file."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.broker.security import PLAINTEXT, KafkaSecurity, check_reachable
from streams.counting.codec import MAX_SUMMARY_BYTES
from streams.errors import BrokerError, ReplayError
from streams.topics import CONDITIONS, SUMMARIES

DELIVERY_TIMEOUT_S: Final = 30.0
IN_FLIGHT: Final = 256
"""Messages that are sent before the first of them must have arrived."""


class DqmDelivery:
    """Sends messages of one model and waits until the broker has them. Use it as a context.

    Parameters
    ----------
    bootstrap
        Kafka addresses, ``host:port``, separated by commas.
    model
        Name of the monitored model: the key of all messages, so that one worker merges them in order.
    security
        How to speak to the broker.
    """

    def __init__(self, bootstrap: str, model: str, security: KafkaSecurity = PLAINTEXT) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._key = model.encode()
        self._producer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, summaries: Sequence[bytes], conditions: Sequence[bytes]) -> None:
        """Deliver summaries, then conditions; returns when the broker has all of them.

        Raises
        ------
        ReplayError
            The broker cannot be reached, or does not take a message: all of it may be sent again.
        """
        try:
            if self._producer is None:
                self._producer = self._connect()
            for topic, messages in ((SUMMARIES, summaries), (CONDITIONS, conditions)):
                for start in range(0, len(messages), IN_FLIGHT):
                    part = messages[start : start + IN_FLIGHT]
                    futures = [self._producer.send(topic, key=self._key, value=one) for one in part]
                    for future in futures:
                        future.get(timeout=DELIVERY_TIMEOUT_S)
        except BrokerError as error:
            raise ReplayError(str(error)) from error
        except (KafkaError, ValueError) as error:
            self._close()
            raise ReplayError(
                f"broker {self._bootstrap} does not take messages ({type(error).__name__}): "
                "check that it runs and that its topics exist"
            ) from error

    def _connect(self) -> Any:
        # asked first, because the client alone would try for long
        check_reachable(self._bootstrap, self._security)
        return KafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id="lumiwatch-watch",
            max_request_size=MAX_SUMMARY_BYTES + 64 * 1024,
            delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
            request_timeout_ms=int(DELIVERY_TIMEOUT_S * 500),
            **self._security.client_options(),
        )

    def _close(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=DELIVERY_TIMEOUT_S)
            self._producer = None
