"""The watchdog of a worker: ends the process when messages wait for it and nothing moves.

After a connection was cut at a bad moment, the engine has been seen alive, in its group, and reading nothing
any more. Nothing is lost by that and nothing goes on, and only a new process is sure to help. So a thread of
its own asks the broker, by a connection of its own, how far the group is; it shares nothing with the engine
that could stand still together with it. Ending is safe at every moment, and the supervisor starts the worker
again. Knows no engine and no content.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from streams.broker.security import KafkaSecurity

logger = logging.getLogger(__name__)

Place = tuple[str, int]
"""Topic and partition."""

LOOK_EVERY: Final = 1 / 10
"""Of the patience."""
_CLIENT_ID: Final = "lumiwatch-watchdog"


class Reach(NamedTuple):
    """How far a group is with a partition.

    Attributes
    ----------
    at
        Offset of the first message that is not known to be handled.
    end
        Offset of the next message to come.
    """

    at: int
    end: int


class GroupReach:
    """Asks the broker how far a consumer group is. Joins no group; for one thread.

    Parameters
    ----------
    bootstrap
        ``host:port`` of the broker; several joined by commas.
    topics
        What the group reads.
    """

    def __init__(self, bootstrap: str, security: KafkaSecurity, group: str, topics: Collection[str]) -> None:
        self._options = {
            "bootstrap_servers": bootstrap,
            "client_id": _CLIENT_ID,
            "group_id": group,
            "enable_auto_commit": False,
            **security.client_options(),
        }
        self._topics = sorted(topics)
        self._consumer: Any = None

    def __call__(self) -> dict[Place, Reach]:
        """Ask. Raises whatever the client raises; the next call connects anew."""
        try:
            if self._consumer is None:
                self._consumer = KafkaConsumer(**self._options)
            return self._ask(self._consumer)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Leave the broker."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(timeout_ms=1000)

    def _ask(self, consumer: Any) -> dict[Place, Reach]:
        partitions = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        # of messages that retention has taken nobody waits
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        return {
            (place.topic, place.partition): Reach(
                max(consumer.committed(place) or 0, begins[place]), ends[place]
            )
            for place in partitions
        }


class Standstill:
    """Tells for how long nothing has moved where messages wait. Pure: whoever looks hands in what is seen.

    A worker that has partitions answers for those; one that has none, for all: it may be the one that the
    group waits for.
    """

    def __init__(self) -> None:
        self._waiting: dict[Place, tuple[int, float]] = {}
        self._own: Collection[Place] = ()

    def seconds(
        self,
        reaches: Mapping[Place, Reach],
        own: Collection[Place],
        handled: Mapping[Place, int],
        now_s: float,
    ) -> float:
        """Take a look; return for how long the partition that waits longest has not moved, in s.

        Parameters
        ----------
        reaches
            Of the whole group.
        own
            This worker's partitions; of one that it had not at the last look, the time begins now.
        handled
            Offset after the last message that this worker handled, by partition; what it has handled and not
            committed is not waiting.
        now_s
            Of a clock that never goes back.
        """
        before, self._waiting = self._waiting, {}
        new, self._own = set(own) - set(self._own), own
        for place, reach in reaches.items():
            at = max(reach.at, handled.get(place, 0)) if place in own else reach.at
            if at < reach.end:
                stands = place not in new and place in before and before[place][0] == at
                self._waiting[place] = (at, before[place][1] if stands else now_s)
        mine = [since for place, (_, since) in self._waiting.items() if not own or place in own]
        return now_s - min(mine) if mine else 0.0

    def forget(self) -> None:
        """Begin anew: the broker did not answer, and a worker cannot be blamed for that."""
        self._waiting.clear()


class Watchdog:
    """Looks every now and then, from a thread of its own, and ends the process that stands still.

    Parameters
    ----------
    reaches
        How far the group is; may raise, which is patience enough for the broker.
    own
        This worker's partitions.
    handled
        As in `Standstill.seconds`.
    patience_s
        How long nothing may move.
    end
        Ends the process.
    clock
        Seconds; never goes back.
    """

    def __init__(
        self,
        reaches: Callable[[], Mapping[Place, Reach]],
        own: Callable[[], Collection[Place]],
        handled: Callable[[], Mapping[Place, int]],
        patience_s: float,
        end: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reaches = reaches
        self._own = own
        self._handled = handled
        self._patience_s = patience_s
        self._end = end
        self._clock = clock
        self._standstill = Standstill()
        self._blind = False

    def start(self) -> None:
        """Look from now on, until the process ends."""
        threading.Thread(target=self._run, name="lumiwatch-watchdog", daemon=True).start()

    def look(self) -> None:
        """Look once, and end the process if nothing has moved for too long."""
        try:
            reaches = self._reaches()
        except Exception as error:  # noqa: BLE001 - a broker that is away is the engine's business
            if not self._blind:
                logger.warning("the watchdog cannot ask the broker: %s", str(error) or type(error).__name__)
            self._blind = True
            self._standstill.forget()
            return
        self._blind = False
        standing_s = self._standstill.seconds(reaches, self._own(), self._handled(), self._clock())
        if standing_s >= self._patience_s:
            logger.error(
                "messages wait, and none was handled for %.0f s: this worker ends, to be started again",
                standing_s,
            )
            self._end()

    def _run(self) -> None:
        while True:
            time.sleep(self._patience_s * LOOK_EVERY)
            self.look()
