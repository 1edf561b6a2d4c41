"""The replay: recorded events sent again as if lumisections were passing. Knows no board and no judgement.

Whoever starts a replay hands in a function that scores events, so that the same code replays through an
emulator or through a board in the data path. The events are a function of seed, run and lumisection
alone; an effect changes events but never which ones are drawn.
"""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Batch, encode_batch
from streams.conditions import STABLE_BEAMS, Conditions, encode_conditions
from streams.contract import Contract
from streams.dataset import Dataset
from streams.effects import Effect
from streams.errors import ReplayError
from streams.resample import resample
from streams.topics import BATCHES, CONDITIONS

LUMISECTION_S = 23.3104
DELIVERY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0


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
    seconds_per_lumisection
        Pace (`LUMISECTION_S` is real time); 0 is as fast as the broker takes it.
    simulated
        Marks every message, so that nobody mistakes a replay for collisions.

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
    pileup: float = 50.0
    luminosity_hz_cm2: float | None = 2.0e34
    beam_mode: str = STABLE_BEAMS
    prescale_column: int = 0
    subsystems: tuple[str, ...] = ()
    simulated: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.last:
            raise ReplayError(
                f"lumisections {self.first} to {self.last}: give a range that begins at 1 or later"
            )
        if self.run < 0 or self.seed < 0:
            raise ReplayError(f"run {self.run}, seed {self.seed}: give 0 or more")
        if not 0 <= self.seconds_per_lumisection < math.inf:
            raise ReplayError(f"rate {self.seconds_per_lumisection} s per lumisection: give 0 or more")
        _check_split(self.events_per_lumisection, self.batches_per_lumisection)


@dataclass(frozen=True)
class ReplayReport:
    """What was sent. `last` is the last lumisection sent whole, or None."""

    lumisections: int
    batches: int
    events: int
    last: int | None


def lumisection_events(
    dataset: Dataset,
    contract: Contract,
    *,
    run: int,
    lumisection: int,
    n_events: int,
    effects: Sequence[Effect] = (),
    seed: int = 0,
) -> npt.NDArray[np.int16]:
    """Return the events of one lumisection: int16, shape (n_events, n_inputs).

    The same seed, run and lumisection give the same events.
    """
    rng = np.random.default_rng([seed, run, lumisection])
    inputs = resample(dataset, contract, n_events, rng)
    for effect in effects:
        inputs = effect.apply(inputs, contract, lumisection, rng)
    return inputs


def replay_lumisections(
    dataset: Dataset,
    contract: Contract,
    *,
    run: int,
    first: int,
    last: int,
    events_per_lumisection: int,
    batches_per_lumisection: int = 1,
    effects: Sequence[Effect] = (),
    seed: int = 0,
) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
    """Yield ``(lumisection, inputs)`` for every batch, lumisections `first` to `last` included.

    Raises
    ------
    ReplayError
        Events and batches do not fit together.
    """
    _check_split(events_per_lumisection, batches_per_lumisection)
    for lumisection in range(first, last + 1):
        inputs = lumisection_events(
            dataset,
            contract,
            run=run,
            lumisection=lumisection,
            n_events=events_per_lumisection,
            effects=effects,
            seed=seed,
        )
        for part in np.array_split(inputs, batches_per_lumisection):
            yield lumisection, part


class Replayer:
    """Sends replayed batches and, after each lumisection, its conditions to Kafka.

    Parameters
    ----------
    bootstrap
        Address of the broker, ``host:port``.
    score
        Scores a block of events; called once for each batch, in order.
    """

    def __init__(
        self, bootstrap: str, dataset: Dataset, contract: Contract, settings: ReplaySettings, score: Score
    ) -> None:
        dataset.check_contract(contract)
        for effect in settings.effects:
            effect.check(contract)
        self._bootstrap = bootstrap
        self._dataset = dataset
        self._contract = contract
        self._settings = settings
        self._score = score

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
        sent = 0
        producer = self._connect()
        try:
            for lumisection in range(settings.first, settings.last + 1):
                begun_s = time.monotonic()
                if stop.is_set():
                    break
                self._send_lumisection(producer, lumisection)
                sent += 1
                if progress is not None:
                    progress(lumisection)
                stop.wait(max(0.0, settings.seconds_per_lumisection - (time.monotonic() - begun_s)))
        finally:
            producer.close(timeout=DELIVERY_TIMEOUT_S)
        return ReplayReport(
            lumisections=sent,
            batches=sent * settings.batches_per_lumisection,
            events=sent * settings.events_per_lumisection,
            last=settings.first + sent - 1 if sent else None,
        )

    def _connect(self) -> KafkaProducer:
        if not any(_answers(address) for address in self._bootstrap.split(",")):
            # asked first, because the client would try for long and leave its sockets open
            raise ReplayError(f"no broker answers at {self._bootstrap}: start it, or mend the address")
        try:
            return KafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id=f"lumiwatch-{self._settings.source}",
                max_request_size=MAX_BATCH_BYTES + 64 * 1024,
                delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
                request_timeout_ms=int(DELIVERY_TIMEOUT_S * 500),
            )
        except (KafkaError, ValueError) as error:
            raise ReplayError(
                f"no broker answers at {self._bootstrap} ({type(error).__name__}): start it first"
            ) from error

    def _send_lumisection(self, producer: KafkaProducer, lumisection: int) -> None:
        """Deliver all batches first, then the conditions that say how many there were."""
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
        for index, part in enumerate(np.array_split(inputs, settings.batches_per_lumisection)):
            batch = self._batch(lumisection, index, part)
            key = f"{batch.model}/{batch.source}/{batch.sequence}"
            messages.append((key, encode_batch(batch)))
        self._deliver(producer, BATCHES, messages)
        self._deliver(
            producer, CONDITIONS, [(settings.model, encode_conditions(self._conditions(lumisection)))]
        )

    def _batch(self, lumisection: int, index: int, inputs: npt.NDArray[np.int16]) -> Batch:
        settings = self._settings
        output = self._score(inputs)
        return Batch(
            model=settings.model,
            contract_name=self._contract.name,
            contract_version=self._contract.version,
            contract_hash=self._contract.hash,
            run=settings.run,
            lumisection=lumisection,
            source=settings.source,
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
            expected={settings.source: settings.batches_per_lumisection},
        )

    def _deliver(self, producer: KafkaProducer, topic: str, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send messages and wait until the broker has every one."""
        try:
            futures = [producer.send(topic, key=key.encode(), value=value) for key, value in messages]
            for future in futures:
                future.get(timeout=DELIVERY_TIMEOUT_S)
        except KafkaError as error:
            raise ReplayError(
                f"broker {self._bootstrap} does not take messages on '{topic}' ({type(error).__name__}): "
                "check that it runs and that its topics exist"
            ) from error


def _answers(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S):
            return True
    except (OSError, ValueError):
        return False


def _check_split(events: int, batches: int) -> None:
    if not 1 <= batches <= events:
        raise ReplayError(f"{events} events in {batches} batches: give at least one event for each batch")
    if -(-events // batches) > MAX_BATCH_EVENTS:
        raise ReplayError(
            f"{events} events in {batches} batches: a batch holds {MAX_BATCH_EVENTS}, send more of them"
        )
