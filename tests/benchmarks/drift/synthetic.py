"""River's synthetic streams with a known change, and how soon detectors see it in a model's errors.

A model is trained on the first `TRAINED` instances and then left as it is, as one in a trigger would be.
What a detector sees is the error of each prediction: 0 or 1 for classes, the absolute error for numbers. Left
out is river's drifting hyperplane, which drifts from the first instance on and so has no point of change; two
hyperplanes joined at one point stand in for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from river import linear_model, naive_bayes, preprocessing
from river.datasets import synth

from tests.benchmarks.drift.scoring import Share

TRAINED: Final = 1000
CHANGE: Final = 4000
"""Instances before the change, those of the training included."""
AFTER: Final = 1000
"""Instances after the change in which an alarm counts as a detection."""

Stream = Iterator[tuple[dict[Any, Any], Any]]
Make = Callable[[], Callable[[float], bool]]


def _joined(before: Any, after: Any, seed: int, width: int = 50) -> Stream:
    # river's exponential overflows for a change of one instance so far from the start
    return iter(synth.ConceptDriftStream(before, after, seed=seed, position=CHANGE, width=width))


def _friedman(kind: str) -> Callable[[int], Stream]:
    # only the first change is looked at: the others lie behind what is read
    far = {"lea": (CHANGE, 10**6, 2 * 10**6), "gra": (CHANGE, 10**6), "gsg": (CHANGE, 10**6)}[kind]
    window = 500 if kind == "gsg" else 0
    return lambda seed: iter(
        synth.FriedmanDrift(drift_type=kind, position=far, transition_window=window, seed=seed)
    )


STREAMS: Final[Mapping[str, Callable[[int], Stream]]] = {
    "SEA, threshold 8 to 9.5": lambda seed: _joined(
        synth.SEA(variant=0, seed=seed), synth.SEA(variant=3, seed=seed + 1), seed
    ),
    "SEA, 8 to 9.5 over 500": lambda seed: _joined(
        synth.SEA(variant=0, seed=seed), synth.SEA(variant=3, seed=seed + 1), seed, width=500
    ),
    "Sine, reversed": lambda seed: _joined(
        synth.Sine(classification_function=0, seed=seed),
        synth.Sine(classification_function=1, seed=seed + 1),
        seed,
    ),
    "Mixed, reversed": lambda seed: _joined(
        synth.Mixed(classification_function=0, seed=seed),
        synth.Mixed(classification_function=1, seed=seed + 1),
        seed,
    ),
    "Hyperplane to another": lambda seed: _joined(
        synth.Hyperplane(seed=seed, n_features=5, mag_change=0.0),
        synth.Hyperplane(seed=seed + 1, n_features=5, mag_change=0.0),
        seed,
    ),
    "LED, 3 segments swapped": lambda seed: _joined(
        synth.LED(seed=seed, noise_percentage=0.1, irrelevant_features=True),
        synth.LEDDrift(seed=seed + 1, noise_percentage=0.1, irrelevant_features=True, n_drift_features=3),
        seed,
    ),
    "Friedman, everywhere": _friedman("gra"),
    "Friedman, in two regions": _friedman("lea"),
    "Friedman, over 500": _friedman("gsg"),
}
"""Name -> stream of a seed whose one change lies at `CHANGE`."""


@dataclass(frozen=True)
class Result:
    """One detector on all seeds of one stream.

    Attributes
    ----------
    false_per_1000
        Alarms in 1000 instances before the change, training left out.
    share
        Seeds in which an alarm came within `AFTER` instances of the change.
    delay
        Median of the instances until then, over the seeds in which it came; None where it never did.
    """

    stream: str
    detector: str
    false_per_1000: float
    share: Share
    delay: float | None


def errors(stream: Stream) -> list[float]:
    """Return the errors of a model that stopped learning after `TRAINED` instances."""
    rows = list(islice(stream, CHANGE + AFTER))
    regression = isinstance(rows[0][1], float)
    learner = (
        preprocessing.StandardScaler() | linear_model.LinearRegression()
        if regression
        else naive_bayes.GaussianNB()
    )
    for x, y in rows[:TRAINED]:
        learner.learn_one(x, y)
    predicted = [(learner.predict_one(x), y) for x, y in rows[TRAINED:]]
    if regression:
        return [abs(guess - y) for guess, y in predicted]
    return [float(guess != y) for guess, y in predicted]


def results(detectors: Mapping[str, Make], seeds: Sequence[int]) -> list[Result]:
    """Run every detector on every stream."""
    table = []
    for stream, begin in STREAMS.items():
        sequences = [errors(begin(seed)) for seed in seeds]
        table += [_result(stream, name, make, sequences) for name, make in detectors.items()]
    return table


def _result(stream: str, name: str, make: Make, sequences: Sequence[Sequence[float]]) -> Result:
    before = CHANGE - TRAINED
    false, delays = 0, []
    for values in sequences:
        detector = make()
        places = [place for place, value in enumerate(values) if detector(value)]
        false += sum(place < before for place in places)
        delays += [place - before + 1 for place in places if place >= before][:1]
    return Result(
        stream=stream,
        detector=name,
        false_per_1000=1000 * false / (before * len(sequences)),
        share=Share(len(delays), len(sequences)),
        delay=float(np.median(delays)) if delays else None,
    )
