"""Where the lumisections of a backtest come from: a generated detector, or events drawn from a dataset.

A source can be sent to another process, and gives the same lumisection for the same run and number whoever
asks first. Knows no reference and no judgement.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from streams.backtest.generator import PACKAGE as GENERATED_PACKAGE
from streams.backtest.generator import GeneratedDetector
from streams.conditions import Conditions
from streams.contracts.contract import Contract
from streams.counting.summary import Summary, summarise
from streams.effects.effect import Effect
from streams.events.batch import Batch
from streams.events.dataset import Dataset
from streams.events.replay_events import lumisection_events

UNSCORED: Final = hashlib.sha256(b"lumiwatch events without a score").hexdigest()
"""Package of events that no firmware scored."""
_RESAMPLED: Final = "resampled"

Inputs = npt.NDArray[np.int16]
Window = tuple[Summary, Conditions]
Score = Callable[[Inputs], tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]]
"""Scores and decisions of events, int16 of shape (n_events, n_inputs). It is sent to other processes."""


class Source(Protocol):
    """Makes the lumisections of a backtest."""

    @property
    def model(self) -> str:
        """Name of the monitored model."""
        ...

    @property
    def seed(self) -> int:
        """Of everything that is random."""
        ...

    @property
    def contract(self) -> Contract:
        """What the events are made under."""
        ...

    @property
    def package(self) -> str:
        """Identity of what scores the events."""
        ...

    @property
    def n_events(self) -> int:
        """Events of a lumisection."""
        ...

    @property
    def lumisections_per_fill(self) -> int:
        """Lumisections of a run, the first of which has number 1."""
        ...

    @property
    def words(self) -> str:
        """Say what it is, for people."""
        ...

    def window(self, run: int, lumisection: int, effects: Sequence[Effect] = ()) -> Window:
        """Return the counts of a lumisection under effects, and its conditions."""
        ...


@dataclass(frozen=True, eq=False)
class GeneratedSource:
    """The generated detector: pileup decays within a fill, and energy scales wander a little.

    Attributes
    ----------
    model
        Name of the monitored model.
    seed
        Of everything.
    n_events, lumisections_per_fill
        See `Source`.
    bunches
        See `streams.backtest.generator.GeneratedDetector`.

    Raises
    ------
    ContractError
        `detector`: the contract asks for what is not generated.
    """

    contract: Contract
    model: str
    seed: int
    n_events: int = 20_000
    lumisections_per_fill: int = 600
    bunches: tuple[float, ...] = ()

    @property
    def package(self) -> str:
        """See `Source`."""
        return GENERATED_PACKAGE

    @property
    def words(self) -> str:
        """See `Source`."""
        words = f"generated detector, seed {self.seed}, pileup 65 to 20 in {self.lumisections_per_fill} LS"
        return words + (f", {', '.join(f'{one:g}' for one in self.bunches)} bunches" if self.bunches else "")

    @cached_property
    def detector(self) -> GeneratedDetector:
        """The detector, made when it is first asked for."""
        return GeneratedDetector(
            self.contract,
            self.seed,
            lumisections_per_fill=self.lumisections_per_fill,
            bunches=self.bunches,
            model=self.model,
        )

    def window(self, run: int, lumisection: int, effects: Sequence[Effect] = ()) -> Window:
        """See `Source`."""
        counts = self.detector.summary(run, lumisection, self.n_events, effects=effects)
        return counts, self.detector.conditions(run, lumisection)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the detector behind: another process makes its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Events drawn from a dataset, turned and mirrored, at one pileup.

    Attributes
    ----------
    model
        Name of the monitored model.
    seed
        Decides which events are drawn.
    pileup
        What the lumisections claim.
    package, score
        What scores the events; without a score, all have score 0 and none is accepted.
    """

    dataset: Dataset
    contract: Contract
    model: str
    seed: int
    n_events: int = 20_000
    lumisections_per_fill: int = 600
    pileup: float = 50.0
    package: str = UNSCORED
    score: Score | None = None

    @property
    def words(self) -> str:
        """See `Source`."""
        scored = f"scored by package {self.package[:12]}" if self.score is not None else "without a score"
        return f"events drawn from dataset {self.dataset.id[:12]}, seed {self.seed}, {scored}"

    def window(self, run: int, lumisection: int, effects: Sequence[Effect] = ()) -> Window:
        """See `Source`."""
        inputs = lumisection_events(
            self.dataset,
            self.contract,
            run=run,
            lumisection=lumisection,
            n_events=self.n_events,
            effects=effects,
            seed=self.seed,
        )
        score, accept = self._scored(inputs)
        batch = Batch(
            model=self.model,
            contract_name=self.contract.name,
            contract_version=self.contract.version,
            contract_hash=self.contract.hash,
            run=run,
            lumisection=lumisection,
            source=_RESAMPLED,
            sequence=lumisection,
            package=self.package,
            simulated=True,
            inputs=inputs,
            score=score,
            accept=accept,
            input_names=self.contract.input_names,
        )
        return summarise(batch, self.contract), self._conditions(run, lumisection)

    def _scored(self, inputs: Inputs) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        if self.score is not None:
            return self.score(inputs)
        return np.zeros(len(inputs), dtype=np.int32), np.zeros(len(inputs), dtype=np.bool_)

    def _conditions(self, run: int, lumisection: int) -> Conditions:
        return Conditions(
            model=self.model,
            run=run,
            lumisection=lumisection,
            pileup=self.pileup,
            simulated=True,
            end_of_lumisection=True,
            expected={_RESAMPLED: 1},
        )
