"""The replay: recorded events sent again as if lumisections were passing. Knows no board and no judgement.

Whoever starts a replay hands in a function that scores events, so that the same code replays through an
emulator or through a board in the data path. The events are a function of seed, run and lumisection
alone; an effect changes events but never which ones are drawn.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from kafka import KafkaProducer
from kafka.errors import KafkaError
from pydantic import TypeAdapter, ValidationError

from streams.broker.embedded import check_let_in
from streams.broker.security import PLAINTEXT, KafkaSecurity
from streams.conditions import (
    LARGEST_VALUE,
    MAX_VALUES,
    STABLE_BEAMS,
    ConditionName,
    Conditions,
    ConditionValue,
    encode_conditions,
)
from streams.contracts.contract import Contract
from streams.effects.effect import Effect
from streams.errors import BrokerError, ReplayError
from streams.events.batch import MAX_BATCH_BYTES, Batch, encode_batch
from streams.events.dataset import Dataset
from streams.events.replay_events import check_split, lumisection_events, replay_lumisections
from streams.topics import BATCHES, CONDITIONS

__all__ = [
    "FirmwareOutput",
    "ReplayReport",
    "ReplaySettings",
    "Replayer",
    "lumisection_events",
    "parse_rate",
    "parse_values",
    "replay_lumisections",
]

LUMISECTION_S = 23.3104
DELIVERY_TIMEOUT_S = 120.0
"""A broker that is full makes producers wait; after this time a replay says so and ends."""
REQUEST_TIMEOUT_S = 15.0
_NAME: Final[TypeAdapter[str]] = TypeAdapter(ConditionName)
_VALUE: Final[TypeAdapter[float]] = TypeAdapter(ConditionValue)


@dataclass(frozen=True)
class FirmwareOutput:
    """What the firmware said about a block of events.

    Attributes
    ----------
    score
        int32, shape (n_events,), raw score.
    accept
        bool, shape (n_events,).
    package
        Identity of the package that was on the board.
    """

    score: npt.NDArray[np.int32]
    accept: npt.NDArray[np.bool_]
    package: str


Score = Callable[[npt.NDArray[np.int16]], FirmwareOutput]


@dataclass(frozen=True)
class ReplaySettings:
    """What to replay, and under which conditions it claims to be taken.

    Attributes
    ----------
    first, last
        Lumisections, both included.
    events_per_lumisection
        Of all sources together, before the effects.
    effects
        What happens to the detector, one after the other, in this order.
    batches_per_lumisection
        Of each source.
    seconds_per_lumisection
        Pace (`LUMISECTION_S` is real time), over which the batches are spread; 0 is as fast as the broker
        takes them.
    source, sources
        Name of the source; of several, the beginning of their names (``replay-1``, ``replay-2``).
    lookahead
        Lumisections that are scored and encoded while others are sent: for speed, where it does not matter
        that the board sees them earlier.
    simulated
        Marks every message, so that nobody mistakes a replay for collisions.
    values
        Further conditions by name; see `streams.conditions.Conditions`.

    Raises
    ------
    ReplayError
        The numbers make no sense together.
    """

    model: str
    run: int
    first: int
    last: int
    events_per_lumisection: int = 10_000
    batches_per_lumisection: int = 2
    effects: tuple[Effect, ...] = ()
    seed: int = 0
    seconds_per_lumisection: float = 0.0
    source: str = "replay"
    sources: int = 1
    lookahead: int = 0
    pileup: float = 50.0
    luminosity_hz_cm2: float | None = 2.0e34
    beam_mode: str = STABLE_BEAMS
    prescale_column: int = 0
    subsystems: tuple[str, ...] = ()
    simulated: bool = True
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.last:
            raise ReplayError(
                f"lumisections {self.first} to {self.last}: give a range that begins at 1 or later"
            )
        if self.run < 0 or self.seed < 0:
            raise ReplayError(f"run {self.run}, seed {self.seed}: give 0 or more")
        if not 0 <= self.seconds_per_lumisection < math.inf:
            raise ReplayError(f"rate {self.seconds_per_lumisection} s per lumisection: give 0 or more")
        if self.sources < 1 or self.lookahead < 0:
            raise ReplayError(f"{self.sources} sources, lookahead {self.lookahead}: give at least 1, and 0")
        check_split(self.events_per_lumisection, self.sources * self.batches_per_lumisection)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources."""
        if self.sources == 1:
            return (self.source,)
        return tuple(f"{self.source}-{number}" for number in range(1, self.sources + 1))


@dataclass(frozen=True)
class ReplayReport:
    """What was sent, after the effects. `last` is the last lumisection sent whole, or None."""

    lumisections: int
    batches: int
    events: int
    last: int | None


@dataclass(frozen=True)
class _Prepared:
    """One lumisection, ready to be sent: the key and message of each batch, and how many events they hold."""

    lumisection: int
    messages: list[tuple[str, bytes]]
    n_events: int


class Replayer:
    """Sends replayed batches and, after each lumisection, its conditions to Kafka.

    Parameters
    ----------
    bootstrap
        Address of the broker, ``host:port``.
    score
        Scores a block of events; called once for each batch, in order, from one thread.
    security
        How to speak to the broker.
    """

    def __init__(
        self,
        bootstrap: str,
        dataset: Dataset,
        contract: Contract,
        settings: ReplaySettings,
        score: Score,
        security: KafkaSecurity = PLAINTEXT,
    ) -> None:
        dataset.check_contract(contract)
        for effect in settings.effects:
            effect.check(contract)
        self._bootstrap = bootstrap
        self._dataset = dataset
        self._contract = contract
        self._settings = settings
        self._score = score
        self._security = security

    def run(
        self, stop: threading.Event | None = None, progress: Callable[[int], None] | None = None
    ) -> ReplayReport:
        """Send everything, or until `stop` is set; a lumisection once begun is sent whole.

        Parameters
        ----------
        progress
            Called with the lumisection after its conditions are delivered.

        Raises
        ------
        ReplayError
            The broker cannot be reached, or does not take a message.
        """
        stop = stop or threading.Event()
        settings = self._settings
        sent = events = 0
        producer = self._connect()
        try:
            for ready in self._prepared():
                if stop.is_set():
                    break
                self._send_lumisection(producer, ready, stop)
                sent += 1
                events += ready.n_events
                if progress is not None:
                    progress(ready.lumisection)
        finally:
            producer.close(timeout=DELIVERY_TIMEOUT_S)
        return ReplayReport(
            lumisections=sent,
            batches=sent * settings.batches_per_lumisection * settings.sources,
            events=events,
            last=settings.first + sent - 1 if sent else None,
        )

    def _prepared(self) -> Iterator[_Prepared]:
        """Yield the lumisections, encoded; with lookahead by a thread that is ahead."""
        settings = self._settings
        numbers = range(settings.first, settings.last + 1)
        if not settings.lookahead:
            for number in numbers:
                yield self._encoded(number)
            return
        ahead: list[Future[_Prepared]] = []
        with ThreadPoolExecutor(1, "replay-preparing") as pool:
            try:
                for number in numbers:
                    ahead.append(pool.submit(self._encoded, number))
                    if len(ahead) > settings.lookahead:
                        yield ahead.pop(0).result()
                for future in ahead:
                    yield future.result()
            finally:
                for future in ahead:
                    future.cancel()

    def _connect(self) -> KafkaProducer:
        try:
            # asked first, because the client would try for long and leave its sockets open
            check_let_in(self._bootstrap, self._security)
            return KafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id=f"lumiwatch-replay-{self._settings.source}",
                max_request_size=MAX_BATCH_BYTES + 64 * 1024,
                delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
                **self._security.client_options(),
            )
        except BrokerError as error:
            raise ReplayError(str(error)) from error
        except (KafkaError, ValueError) as error:
            raise ReplayError(
                f"no broker answers at {self._bootstrap} ({type(error).__name__}): start it first"
            ) from error

    def _send_lumisection(
        self,
        producer: KafkaProducer,
        ready: _Prepared,
        stop: threading.Event,
    ) -> None:
        """Deliver all batches over the lumisection's time, then the conditions that say how many."""
        begun_s = time.monotonic()
        sent = []
        for index, message in enumerate(ready.messages):
            _wait_until(begun_s + index * self._settings.seconds_per_lumisection / len(ready.messages), stop)
            sent.append(self._send(producer, BATCHES, message))
        _wait_until(begun_s + self._settings.seconds_per_lumisection, stop)
        self._delivered(BATCHES, sent)
        conditions = (self._settings.model, encode_conditions(self._conditions(ready.lumisection)))
        self._delivered(CONDITIONS, [self._send(producer, CONDITIONS, conditions)])

    def _encoded(self, lumisection: int) -> _Prepared:
        """Prepare a lumisection; the sources take turns. An effect may leave a batch without events."""
        settings = self._settings
        inputs = lumisection_events(
            self._dataset,
            self._contract,
            run=settings.run,
            lumisection=lumisection,
            n_events=settings.events_per_lumisection,
            effects=settings.effects,
            seed=settings.seed,
        )
        messages = []
        for number, part in enumerate(
            np.array_split(inputs, settings.sources * settings.batches_per_lumisection)
        ):
            index, source = divmod(number, settings.sources)
            batch = self._batch(lumisection, index, settings.source_names[source], part)
            messages.append((f"{batch.model}/{batch.source}/{batch.sequence}", encode_batch(batch)))
        return _Prepared(lumisection, messages, len(inputs))

    def _batch(self, lumisection: int, index: int, source: str, inputs: npt.NDArray[np.int16]) -> Batch:
        settings = self._settings
        output = self._score(inputs)
        return Batch(
            model=settings.model,
            contract_name=self._contract.name,
            contract_version=self._contract.version,
            contract_hash=self._contract.hash,
            run=settings.run,
            lumisection=lumisection,
            source=source,
            sequence=lumisection * settings.batches_per_lumisection + index,
            package=output.package,
            simulated=settings.simulated,
            inputs=inputs,
            score=output.score,
            accept=output.accept,
            input_names=self._contract.input_names,
        )

    def _conditions(self, lumisection: int) -> Conditions:
        settings = self._settings
        return Conditions(
            model=settings.model,
            run=settings.run,
            lumisection=lumisection,
            pileup=settings.pileup,
            luminosity_hz_cm2=settings.luminosity_hz_cm2,
            beam_mode=settings.beam_mode,
            prescale_column=settings.prescale_column,
            subsystems=list(settings.subsystems),
            simulated=settings.simulated,
            end_of_lumisection=True,
            expected=dict.fromkeys(settings.source_names, settings.batches_per_lumisection),
            values=dict(settings.values),
        )

    def _send(self, producer: KafkaProducer, topic: str, message: tuple[str, bytes]) -> Any:
        key, value = message
        try:
            return producer.send(topic, key=key.encode(), value=value)
        except KafkaError as error:
            raise self._undelivered(topic, error) from error

    def _delivered(self, topic: str, futures: Sequence[Any]) -> None:
        """Wait until the broker has every message."""
        try:
            for future in futures:
                future.get(timeout=DELIVERY_TIMEOUT_S)
        except KafkaError as error:
            raise self._undelivered(topic, error) from error

    def _undelivered(self, topic: str, error: KafkaError) -> ReplayError:
        return ReplayError(
            f"broker {self._bootstrap} does not take messages on '{topic}' ({type(error).__name__}): check "
            "that it runs, that its topics exist, and whether it waits for the workers"
        )


def parse_rate(text: str, events_per_lumisection: int) -> float:
    """Seconds for each lumisection, from ``23.3104s`` (or only the number) or ``750000/s`` (events).

    Raises
    ------
    ReplayError
        It is neither.
    """
    try:
        if text.endswith("/s"):
            return events_per_lumisection / float(text.removesuffix("/s"))
        return float(text.removesuffix("s"))
    except (ValueError, ZeroDivisionError):
        raise ReplayError(
            f"rate '{text}': give seconds for each lumisection (23.3104s), or events a second (750000/s)"
        ) from None


def parse_values(texts: Sequence[str]) -> dict[str, float]:
    """Read conditions as people give them, ``bunches=2400``; of a name given twice, the last counts.

    Raises
    ------
    ReplayError
        One is none.
    """
    values: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            values[_NAME.validate_python(name)] = _VALUE.validate_python(number)
        except ValidationError as error:
            raise ReplayError(
                f"condition '{text:.60}' is not understood: write it as bunches=2400, with a name of small "
                f"letters, digits and underscores (32 at most) and a number up to {LARGEST_VALUE:g}"
            ) from error
    if len(values) > MAX_VALUES:
        raise ReplayError(f"{len(values)} conditions: a message holds {MAX_VALUES} at most")
    return values


def _wait_until(moment_s: float, stop: threading.Event) -> None:
    """Wait for a monotonic moment, or not at all once a stop is wished."""
    left_s = moment_s - time.monotonic()
    if left_s > 0:
        stop.wait(left_s)
