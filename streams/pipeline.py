"""The pipeline: what an agent does with messages, from decoding to delivery of what follows.

Blocking work runs in threads (one for counting, one for the database), so that heartbeats go on. Knows
of the engine only that a topic has ``send`` and that an event carries a message.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from streams.conditions import decode_conditions
from streams.contracts.contract import Contract
from streams.counting.codec import decode_summary, encode_summary
from streams.counting.summary import Summary, summarise
from streams.dead_letter import encode_dead_letter, refuse
from streams.errors import MalformedMessage, StreamsError
from streams.events.batch import Batch, batch_model, decode_batch, digest
from streams.events.recorder import Recorder
from streams.integrity import IntegrityCheck
from streams.judging.judge import MonitoredModel
from streams.judging.verdict import encode_verdict
from streams.store.windows import Folded, Outcome, WindowStore
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


class _Decoded(NamedTuple):
    """A message and what it says, or why it is refused."""

    event: Any
    reason: str
    content: Any = None


class _Counted(NamedTuple):
    """A batch's message and its summary, or why it is refused."""

    event: Any
    reason: str
    model: str
    payload: bytes


def end_process() -> None:
    """End this process at once, so that the message at hand is delivered again to the next one.

    The engine would acknowledge the message of an agent that raises.
    """
    logging.shutdown()
    os._exit(EXIT_FAILED)


class Pipeline:
    """Handles the messages of each agent, in groups (`streams.lane`); a group of one will do.

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
        self.refused: dict[str, int] = {}  # topic -> messages of it that became dead letters

    async def count(self, events: Sequence[Any]) -> list[_Counted]:
        """Turn batches into their summaries; `deliver` does the rest."""
        return await self._in_thread(self._counting, lambda: [self._count(event) for event in events])

    async def deliver(self, counted: Sequence[_Counted]) -> None:
        """Send summaries, and dead letters where there are none; return when the broker has them all."""
        async with self._guarded([item.event for item in counted]):
            # one model, one partition: its windows are merged by one worker, in order
            receipts = [
                await self._topics.summaries.send(key=item.model.encode(), value=item.payload)
                for item in counted
                if not item.reason
            ]
            for receipt in receipts:
                await receipt
            self.counters.batches += len(receipts)
            await self._refuse((item.event, item.reason) for item in counted)

    async def summarise(self, events: Sequence[Any]) -> None:
        """Turn batches into their summaries and send them."""
        await self.deliver(await self.count(events))

    async def read(self, events: Sequence[Any]) -> list[_Decoded]:
        """Decode summaries; `fold` does the rest."""
        return await self._in_thread(
            self._counting, lambda: [self._decoded(event, decode_summary) for event in events]
        )

    async def fold(self, decoded: Sequence[_Decoded]) -> None:
        """Fold summaries into their windows, all at once, and close the windows that are complete by it."""
        async with self._guarded([item.event for item in decoded]):
            items = [item for item in decoded if not item.reason]
            summaries = [item.content for item in items]
            folded = await self._in_database(lambda: self._store.fold_summaries(summaries, datetime.now(UTC)))
            for item, one in zip(items, folded, strict=True):
                self._note(item.content, one)
            refused = zip((item.event for item in items), (one.reason for one in folded), strict=True)
            await self._refuse([*((item.event, item.reason) for item in decoded), *refused])
            for model, run in sorted({(summary.model, summary.run) for summary in summaries}):
                await self._close(model, run)

    async def merge(self, events: Sequence[Any]) -> None:
        """Fold summaries into their windows."""
        await self.fold(await self.read(events))

    async def read_conditions(self, events: Sequence[Any]) -> list[_Decoded]:
        """Decode conditions; `keep_conditions` does the rest."""
        return await self._in_thread(
            self._counting, lambda: [self._decoded(event, decode_conditions) for event in events]
        )

    async def keep_conditions(self, decoded: Sequence[_Decoded]) -> None:
        """Keep conditions, and close the windows of a lumisection whose end they announce."""
        for item in decoded:
            async with self._guarded([item.event]):
                await self._refuse([(item.event, item.reason or await self._keep(item))])

    async def conditions(self, events: Sequence[Any]) -> None:
        """Keep conditions."""
        await self.keep_conditions(await self.read_conditions(events))

    async def sweep(self) -> None:
        """Close what waited long enough, assess late data, publish what is not published yet."""
        try:
            await self._in_database(lambda: self._store.sweep(datetime.now(UTC)))
            await self._publish()
        except Exception:
            logger.exception("the sweep over the windows failed: this worker ends")
            self._fail()

    @asynccontextmanager
    async def _guarded(self, events: Sequence[Any]) -> AsyncIterator[None]:
        """End the worker when something fails that no message is to blame for."""
        try:
            yield
        except Exception:
            places = ", ".join(_place(event.message) for event in events[:1])
            logger.exception(
                "%d messages from %s on cannot be handled: this worker ends", len(events), places
            )
            self._fail()

    def _count(self, event: Any) -> _Counted:
        def work(content: bytes) -> tuple[str, bytes]:
            batch, contract = self._decode_batch(content)
            summary = self._checked(summarise(batch, contract, digest(content)), batch)
            payload = encode_summary(summary)
            self._record(batch)
            self._progress.counted(
                batch.model, batch.run, batch.lumisection, batch.n_events, event.message.timestamp
            )
            return batch.model, payload

        done = self._decoded(event, work)
        model, payload = done.content or ("", b"")
        return _Counted(event, done.reason, model, payload)

    def _decoded(self, event: Any, work: Callable[[bytes], Any]) -> _Decoded:
        """Return what a message says, or why it is refused."""
        try:
            return _Decoded(event, "", work(_content(event.value)))
        except StreamsError as error:
            return _Decoded(event, str(error) or type(error).__name__)
        except Exception as error:
            # decoding depends on the message alone: ending the worker would only meet it again
            logger.exception(
                "%s of %d bytes breaks the decoder", _place(event.message), len(event.value or b"")
            )
            reason = f"the decoder failed with {type(error).__name__}: report this message"
            return _Decoded(event, reason)

    async def _keep(self, item: _Decoded) -> str:
        conditions, sent = item.content, item.event.message.timestamp
        sent_at = datetime.fromtimestamp(sent, UTC) if sent else None
        try:
            await self._in_database(
                lambda: self._store.record_conditions(conditions, datetime.now(UTC), sent_at)
            )
        except MalformedMessage as error:
            return error.reason
        self.counters.conditions += 1
        if conditions.end_of_lumisection:
            await self._close(conditions.model, conditions.run)
        return ""

    def _note(self, summary: Summary, folded: Folded) -> None:
        self.counters.summaries += folded.outcome is not Outcome.REFUSED
        self.counters.repeated += folded.outcome is Outcome.REPEATED
        self.counters.late += folded.outcome is Outcome.LATE
        if folded.outcome is Outcome.LATE:
            logger.warning(
                "late data for %s LS %d of run %d", summary.model, summary.lumisection, summary.run
            )

    def _decode_batch(self, content: bytes) -> tuple[Batch, Contract]:
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

    async def _refuse(self, refused: Iterable[tuple[Any, str]]) -> None:
        """Send the dead letters of those messages that have a reason."""
        for event, reason in refused:
            if reason:
                logger.warning("dead letter %s: %s", _place(event.message), reason)
                await self._dead_letter(event, reason)

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
        self.refused[message.topic] = self.refused.get(message.topic, 0) + 1

    async def _in_database(self, work: Callable[[], _Result]) -> _Result:
        return await self._in_thread(self._database, work)

    @staticmethod
    async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


async def _send(topic: Any, key: bytes, value: bytes) -> None:
    """Send and wait until the broker has it."""
    await (await topic.send(key=key, value=value))


def _place(message: Any) -> str:
    return f"{message.topic}[{message.partition}]@{message.offset}"


def _content(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedMessage("message without content: send what the topic is for")
    return value
