"""The pipeline: what an agent does with one message, from decoding to delivery of what follows.

Blocking work runs in threads (one for counting, one for the database), so that heartbeats go on. Knows
of the engine only that a topic has ``send`` and that an event carries a message.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

from streams.batch import Batch, batch_model, decode_batch, digest
from streams.conditions import decode_conditions
from streams.dead_letter import encode_dead_letter, refuse
from streams.errors import MalformedMessage, StreamsError
from streams.integrity import IntegrityCheck
from streams.judge import MonitoredModel
from streams.recorder import Recorder
from streams.summary import Summary, summarise
from streams.summary_codec import decode_summary, encode_summary
from streams.verdict import encode_verdict
from streams.windows import Outcome, WindowStore
from streams.worker_status import Progress

logger = logging.getLogger(__name__)

EXIT_FAILED: Final = 70

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Topics:
    """Topics that results go to: anything with the engine's ``send``."""

    summaries: Any
    verdicts: Any
    dead_letters: Any


@dataclass
class Counters:
    """What the pipeline has done since it started."""

    batches: int = 0
    summaries: int = 0
    repeated: int = 0
    late: int = 0
    conditions: int = 0
    verdicts: int = 0
    dead_letters: int = 0


def end_process() -> None:
    """End this process at once, so that the message at hand is delivered again to the next one.

    The engine would acknowledge the message of an agent that raises.
    """
    logging.shutdown()
    os._exit(EXIT_FAILED)


class Pipeline:
    """Handles one message at a time for each agent.

    Parameters
    ----------
    models
        The monitored models by name.
    store
        The windows.
    topics
        Where results go.
    recorder
        Keeper of recent events; None keeps none.
    integrity
        Compares a sample of each batch with the emulator; None: nothing is checked.
    progress
        Told of each batch that was counted.
    fail
        Called when the worker itself fails; must not return in production.
    """

    def __init__(
        self,
        models: Mapping[str, MonitoredModel],
        store: WindowStore,
        topics: Topics,
        recorder: Recorder | None = None,
        integrity: IntegrityCheck | None = None,
        progress: Progress | None = None,
        fail: Callable[[], None] = end_process,
    ) -> None:
        self._models = models
        self._store = store
        self._topics = topics
        self._recorder = recorder
        self._integrity = integrity
        self._progress = progress or Progress()
        self._fail = fail
        self._counting = ThreadPoolExecutor(1, "lumiwatch-counting")
        self._database = ThreadPoolExecutor(1, "lumiwatch-database")
        self._publishing = asyncio.Lock()
        self.counters = Counters()

    async def summarise(self, event: Any) -> None:
        """Turn a batch into its summary."""

        def work() -> tuple[str, bytes]:
            batch, contract = self._decode_batch(event.value)
            summary = self._checked(summarise(batch, contract, digest(event.value)), batch)
            payload = encode_summary(summary)
            self._record(batch)
            self._progress.counted(
                batch.model, batch.run, batch.lumisection, batch.n_events, event.message.timestamp
            )
            return batch.model, payload

        async def deliver(result: tuple[str, bytes]) -> None:
            model, payload = result
            # one model, one partition: its windows are merged by one worker, in order
            await _send(self._topics.summaries, model.encode(), payload)
            self.counters.batches += 1

        await self._handle(event, self._counting, work, deliver)

    async def merge(self, event: Any) -> None:
        """Fold a summary into its window, and close the window if that completed it."""

        async def store(summary: Summary) -> None:
            (folded,) = await self._in_database(
                lambda: self._store.fold_summaries([summary], datetime.now(UTC))
            )
            if folded.outcome is Outcome.REFUSED:
                raise MalformedMessage(folded.reason)
            self.counters.summaries += 1
            self.counters.repeated += folded.outcome is Outcome.REPEATED
            self.counters.late += folded.outcome is Outcome.LATE
            if folded.outcome is Outcome.LATE:
                logger.warning(
                    "late data for %s LS %d of run %d", summary.model, summary.lumisection, summary.run
                )
            await self._close(summary.model, summary.run)

        await self._handle(event, self._counting, lambda: decode_summary(_content(event.value)), store)

    async def conditions(self, event: Any) -> None:
        """Keep conditions, and close the lumisection's windows if that completed them."""
        sent_at = datetime.fromtimestamp(event.message.timestamp, UTC) if event.message.timestamp else None

        async def store(conditions: Any) -> None:
            await self._in_database(
                lambda: self._store.record_conditions(conditions, datetime.now(UTC), sent_at)
            )
            self.counters.conditions += 1
            if conditions.end_of_lumisection:
                await self._close(conditions.model, conditions.run)

        await self._handle(event, self._counting, lambda: decode_conditions(_content(event.value)), store)

    async def sweep(self) -> None:
        """Close what waited long enough, assess late data, publish what is not published yet."""
        try:
            await self._in_database(lambda: self._store.sweep(datetime.now(UTC)))
            await self._publish()
        except Exception:
            logger.exception("the sweep over the windows failed: this worker ends")
            self._fail()

    async def _handle(
        self,
        event: Any,
        pool: ThreadPoolExecutor,
        work: Callable[[], _Result],
        then: Callable[[_Result], Awaitable[None]],
    ) -> None:
        """Decode in a thread, then act. What the message is to blame for goes to the dead letters."""
        message = event.message
        place = f"{message.topic}[{message.partition}]@{message.offset}"
        try:
            reason = await self._reason_to_refuse(event, pool, work, then, place)
            if reason is not None:
                logger.warning("dead letter %s: %s", place, reason)
                await self._dead_letter(event, reason)
        except Exception:
            logger.exception("message %s cannot be handled: this worker ends", place)
            self._fail()

    async def _reason_to_refuse(
        self,
        event: Any,
        pool: ThreadPoolExecutor,
        work: Callable[[], _Result],
        then: Callable[[_Result], Awaitable[None]],
        place: str,
    ) -> str | None:
        try:
            result = await asyncio.get_running_loop().run_in_executor(pool, work)
        except StreamsError as error:
            return str(error)
        except Exception as error:
            # decoding depends on the message alone: ending the worker would only meet it again
            logger.exception("message %s of %d bytes breaks the decoder", place, len(event.value or b""))
            return f"the decoder failed with {type(error).__name__}: report this message"
        try:
            await then(result)
        except MalformedMessage as error:
            return error.reason
        return None

    def _decode_batch(self, payload: Any) -> tuple[Batch, Any]:
        content = _content(payload)
        name = batch_model(content)
        model = self._models.get(name)
        if model is None:
            raise MalformedMessage(f"batch of unknown model '{name:.40}': add it to the site")
        return decode_batch(content, model.contract), model.contract

    def _checked(self, summary: Summary, batch: Batch) -> Summary:
        """Write into a batch's summary how a sample of its events agrees with the emulator."""
        if self._integrity is None:
            return summary
        checked = self._integrity.check(batch)
        return replace(summary, n_checked=checked.n_checked, n_mismatched=checked.n_mismatched)

    def _record(self, batch: Batch) -> None:
        if self._recorder is not None:
            self._recorder.record(batch, self._models[batch.model].contract)

    async def _close(self, model: str, run: int) -> None:
        verdicts = await self._in_database(lambda: self._store.close_ready(model, run, datetime.now(UTC)))
        if verdicts:
            await self._publish()

    async def _publish(self) -> None:
        """Send stored verdicts; they count as published only once the broker has them."""
        async with self._publishing:
            while verdicts := await self._in_database(self._store.unpublished):
                for verdict in verdicts:
                    await _send(self._topics.verdicts, verdict.model.encode(), encode_verdict(verdict))
                    self.counters.verdicts += 1
                    logger.info(
                        "%s LS %d %s: %s", verdict.model, verdict.lumisection, verdict.state, verdict.reason
                    )
                await self._in_database(partial(self._store.mark_published, verdicts))

    async def _dead_letter(self, event: Any, reason: str) -> None:
        message = event.message
        letter = refuse(
            event.value if isinstance(event.value, bytes) else None,
            reason,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            at=datetime.now(UTC),
        )
        await _send(self._topics.dead_letters, message.topic.encode(), encode_dead_letter(letter))
        self.counters.dead_letters += 1

    async def _in_database(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._database, work)


async def _send(topic: Any, key: bytes, value: bytes) -> None:
    """Send and wait until the broker has it."""
    await (await topic.send(key=key, value=value))


def _content(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedMessage("message without content: send what the topic is for")
    return value
