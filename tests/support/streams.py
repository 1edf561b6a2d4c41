"""Lumisections of real events with a stand-in for the firmware's score, for tests of the judging half."""

from dataclasses import dataclass

import numpy as np

from streams.conditions import Conditions
from streams.counting.summary import summarise
from streams.events.batch import Batch, digest, encode_batch
from streams.events.replay import FirmwareOutput, lumisection_events
from streams.judging.findings import ChannelFinding

PACKAGE = "aa" * 32
OTHER_PACKAGE = "bb" * 32
MODEL = "anomaly"
RUN = 5


class StandInScore:
    """A fixed random network on standardised inputs; accepts a tenth of the events."""

    def __init__(self, dataset):
        rng = np.random.default_rng(42)
        self._weight = rng.normal(size=(dataset.inputs.shape[1], 8))
        self._mean = dataset.inputs.mean(axis=0)
        self._scale = 1.0 / (dataset.inputs.std(axis=0) + 1e-3)
        self.threshold = int(np.quantile(self.score(dataset.inputs), 0.9))

    def score(self, inputs):
        latent = np.maximum(((inputs - self._mean) * self._scale) @ self._weight, 0.0)
        return np.minimum(16.0 * (latent**2).sum(axis=1), 2**30).astype(np.int32)

    def __call__(self, inputs, package=PACKAGE):
        score = self.score(inputs)
        return FirmwareOutput(score, score > self.threshold, package)


@dataclass(frozen=True)
class Detector:
    """Makes batches and summaries of lumisections."""

    dataset: object
    contract: object
    firmware: StandInScore

    def batch(
        self, lumisection, *, n_events=2000, effects=(), package=PACKAGE, part=0, seed=0, source="replay"
    ):
        inputs = lumisection_events(
            self.dataset,
            self.contract,
            run=RUN,
            lumisection=lumisection,
            n_events=n_events,
            effects=effects,
            seed=seed + 1000 * part,
        )
        output = self.firmware(inputs, package)
        return Batch(
            model=MODEL,
            contract_name=self.contract.name,
            contract_version=self.contract.version,
            contract_hash=self.contract.hash,
            run=RUN,
            lumisection=lumisection,
            source=source,
            sequence=part,
            package=package,
            simulated=True,
            inputs=inputs,
            score=output.score,
            accept=output.accept,
            input_names=self.contract.input_names,
        )

    def summary(self, lumisection, **options):
        """Count a batch that was never sent."""
        return summarise(self.batch(lumisection, **options), self.contract)

    def sent(self, lumisection, **options):
        """Count a batch as a worker does; `part` is its sequence."""
        batch = self.batch(lumisection, **options)
        return summarise(batch, self.contract, digest(encode_batch(batch)))


def conditions(lumisection, **changes):
    fields = {
        "model": MODEL,
        "run": RUN,
        "lumisection": lumisection,
        "pileup": 50.0,
        "simulated": True,
        "end_of_lumisection": True,
        "expected": {"replay": 1},
    }
    return Conditions(**(fields | changes))


@dataclass
class FakeMessage:
    """What the pipeline reads of a Kafka message."""

    topic: str
    partition: int = 0
    offset: int = 0
    timestamp: float | None = None


@dataclass
class FakeEvent:
    """What the pipeline reads of the engine's event."""

    value: object
    message: FakeMessage


class FakeTopic:
    """Keeps what is sent, or fails."""

    def __init__(self):
        self.sent = []
        self.fails = False

    async def send(self, *, key, value):
        if self.fails:
            raise ConnectionError("the broker is gone")
        self.sent.append((key, value))

        async def delivered():
            return None

        return delivered()


def channel_finding(name, z, **changes):
    """Return what a channel with a fiftieth of the budget says: a deviation of `z`."""
    error = changes.pop("error", 0.002)
    fields = {
        "name": name,
        "family": "scale",
        "object": name.split()[0],
        "share": 0.02,
        "effect": z * error,
        "error": error,
        "z": z,
        "tolerance": 0.0,
        "detectable": 5.5 * error,
    }
    return ChannelFinding(**(fields | changes))
