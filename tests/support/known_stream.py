"""A stream of batches with known counts: two models, runs and sources, out of order, now and then twice."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from streams import topics
from streams.conditions import Conditions, encode_conditions
from streams.counting.summary import summarise
from streams.events.batch import Batch, encode_batch

ANNOUNCED, SILENT = "announced", "silent"  # models with and without conditions
PACKAGE = "cd" * 32
RUNS = (401, 402)
SOURCES = ("east", "west")
LUMISECTIONS = 18
SEQUENCES = 15
EVENTS = 40

CONTRACT = """
name = "small"
version = 1
tree = "events"

[[objects]]
name = "met"
count = 1
[[objects.quantities]]
name = "pt"
expression = "MET_pt"
lsb = 0.5
minimum = 0
maximum = 100

[[objects]]
name = "jet"
count = 2
sort_by = "pt"
[[objects.quantities]]
name = "pt"
expression = "Jet_pt"
lsb = 0.5
minimum = 0
maximum = 255
[[objects.quantities]]
name = "eta"
expression = "Jet_eta"
lsb = 0.0435
minimum = -115
maximum = 115
[[objects.quantities]]
name = "phi"
expression = "Jet_phi"
lsb = 0.0436
minimum = 0
maximum = 143
"""


@dataclass(frozen=True)
class Message:
    """One message to send, and the lumisection that it is about."""

    topic: str
    value: bytes
    partition: int
    place: tuple


class Stream:
    """The messages of the game, in the order in which they are sent, and what they add up to."""

    def __init__(self, contract, seed):
        self._contract = contract
        self._draw = random.Random(seed)
        self._events = np.random.default_rng(seed)
        self.batches = defaultdict(list)
        for model in (ANNOUNCED, SILENT):
            for run in RUNS:
                for lumisection in range(1, LUMISECTIONS + 1):
                    for source in SOURCES:
                        for sequence in range(SEQUENCES):
                            batch = self._batch(model, run, lumisection, source, sequence)
                            self.batches[model, run, lumisection].append(batch)
        self.count = sum(len(batches) for batches in self.batches.values())

    def messages(self):
        """Return what is sent during the game, and what only after its windows have closed."""
        timed, held_back = [], []
        for place, batches in self.batches.items():
            model, run, lumisection = place
            start = (RUNS.index(run) * LUMISECTIONS + lumisection) * 1.0
            # now and then a whole lumisection comes much later than its neighbours
            start += 3.0 if self._draw.random() < 0.15 else 0.0
            for batch in batches:
                at = start + self._draw.random() * 1.5 + (0.7 if batch.source == "west" else 0.0)
                message = self._message(batch)
                if self._draw.random() < 0.02:
                    held_back.append(message)
                    continue
                timed.append((at, message))
                if self._draw.random() < 0.08:
                    timed.append((at + self._draw.random(), message))
                if self._draw.random() < 0.03:
                    held_back.append(message)
            if model == ANNOUNCED:
                expected = dict(Counter(batch.source for batch in batches))
                value = encode_conditions(
                    Conditions(
                        model=model, run=run, lumisection=lumisection, pileup=40.0, simulated=True,
                        end_of_lumisection=True, expected=expected,
                    )
                )  # fmt: skip
                timed.append((start + 2.0, Message(topics.CONDITIONS, value, 0, place)))
        return [message for _, message in sorted(timed, key=lambda entry: entry[0])], held_back

    def expected(self, place):
        """Count everything of a lumisection directly."""
        batches = self.batches[place]
        inputs, score, accept = (
            np.concatenate([getattr(batch, name) for batch in batches])
            for name in ("inputs", "score", "accept")
        )
        first = batches[0]
        whole = self._made(first.model, first.run, first.lumisection, "all", 0, (inputs, score, accept))
        return summarise(whole, self._contract), inputs

    def _message(self, batch):
        partition = self._draw.randrange(3)
        place = (batch.model, batch.run, batch.lumisection)
        return Message(topics.BATCHES, encode_batch(batch), partition, place)

    def _batch(self, model, run, lumisection, source, sequence):
        columns = [
            self._events.integers(spec.minimum, spec.maximum + 1, EVENTS, dtype=np.int16)
            for spec in self._contract.inputs
        ]
        score = self._events.integers(0, 2**20, EVENTS, dtype=np.int32)
        arrays = np.stack(columns, axis=1), score, score > 900_000
        return self._made(model, run, lumisection, source, sequence, arrays)

    def _made(self, model, run, lumisection, source, sequence, arrays):
        inputs, score, accept = arrays
        return Batch(
            model=model, contract_name=self._contract.name, contract_version=self._contract.version,
            contract_hash=self._contract.hash, run=run, lumisection=lumisection, source=source,
            sequence=sequence, package=PACKAGE, simulated=True, inputs=inputs, score=score, accept=accept,
            input_names=self._contract.input_names,
        )  # fmt: skip
