"""Evaluation: what a firmware model does with recent events, bit by bit, against what it should do.

Uses the bit-accurate emulator only. Refuses to know how a model came about and what a board is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import special

from hw.emulator import Emulator
from hw.network import FirmwareModel
from retrain.errors import TooFewEvents
from streams.statistics.distances import ks_from_counts

Inputs = npt.NDArray[np.int16]
Scores = npt.NDArray[np.int64]


class Criteria(BaseModel):
    """What a candidate must reach on held-out recent events.

    Attributes
    ----------
    maximum_rate_deviation
        Largest relative deviation of the accept rate from the reference's that is of no concern ...
    rate_significance
        ... and how many standard deviations of it are allowed when that is more.
    maximum_score_distance
        Largest Kolmogorov-Smirnov distance of the scores from the reference's that is of no concern ...
    score_probability
        ... and the p-value above which a larger one counts as a fluctuation.
    maximum_rate_uncertainty
        A relative deviation known less well than this proves nothing.
    minimum_order
        Smallest rank correlation of a candidate's scores with the current firmware's on the same events: a
        right rate made of other events is no repair.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    maximum_rate_deviation: float = Field(default=0.03, gt=0, lt=1)
    rate_significance: float = Field(default=2.5, ge=0)
    maximum_score_distance: float = Field(default=0.01, ge=0, lt=1)
    score_probability: float = Field(default=0.01, gt=0, lt=1)
    maximum_rate_uncertainty: float = Field(default=0.04, gt=0, lt=1)
    minimum_order: float = Field(default=0.9, ge=-1, le=1)


class Evaluation(BaseModel):
    """A firmware model on recent events, compared with the reference.

    Attributes
    ----------
    events, reference_events
        Sizes of the two samples.
    accept_rate, accept_rate_error, reference_rate, reference_rate_error
        Accepted over all events, with binomial standard errors.
    rate_deviation, rate_deviation_error
        `accept_rate / reference_rate - 1` and its standard error.
    score_distance, score_p_value
        Two-sample Kolmogorov-Smirnov of the raw scores.
    order
        Spearman's rank correlation with the current firmware's scores of the same events.
    passed, reasons
        The verdict of the criteria, and every one that failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: int
    reference_events: int
    accept_rate: float
    accept_rate_error: float
    reference_rate: float
    reference_rate_error: float
    rate_deviation: float
    rate_deviation_error: float
    score_distance: float
    score_p_value: float
    order: float
    passed: bool
    reasons: list[str]


@dataclass(frozen=True)
class Expectation:
    """What a model is compared with: the current firmware's scores before the drift and on recent events.

    Parameters
    ----------
    recent
        Recent events that no candidate was tuned on: int16, (m, n_inputs).
    scores, recent_scores
        Raw scores of the reference events, int64, (n,), and of the recent ones, int64, (m,).
    threshold_raw
        The threshold they are compared with.
    """

    recent: Inputs
    scores: Scores
    recent_scores: Scores
    threshold_raw: int

    @classmethod
    def of(cls, model: FirmwareModel, reference: Inputs, recent: Inputs) -> Expectation:
        """Compute it from the current firmware and two samples: int16, (n, n_inputs) and (m, n_inputs)."""
        emulator = Emulator(model)
        return cls(
            recent, emulator.scores(reference), emulator.scores(recent), model.score_stage.threshold_raw
        )


def evaluate(model: FirmwareModel, expectation: Expectation, criteria: Criteria) -> Evaluation:
    """Evaluate a firmware model on recent events.

    Parameters
    ----------
    model
        The current firmware or a candidate.
    expectation
        What to compare with, and the events to do it on.
    criteria
        What must be reached.

    Raises
    ------
    TooFewEvents
        When either sample is empty or the reference accepts nothing.
    """
    scores = Emulator(model).scores(expectation.recent)
    if not len(scores) or not len(expectation.scores):
        raise TooFewEvents("there are no events to evaluate on: choose more lumisections")
    rate, rate_error = _rate(scores, model.score_stage.threshold_raw)
    expected, expected_error = _rate(expectation.scores, expectation.threshold_raw)
    if expected == 0.0:
        raise TooFewEvents("the reference accepts no event: take more reference events or another reference")
    deviation = rate / expected - 1.0
    deviation_error = float(np.hypot(rate_error, (1.0 + deviation) * expected_error)) / expected
    distance, p_value = score_distance(scores, expectation.scores)
    order = _order(scores, expectation.recent_scores)
    reasons = _failures(deviation, deviation_error, distance, p_value, order, criteria)
    return Evaluation(
        events=len(scores), reference_events=len(expectation.scores), accept_rate=rate,
        accept_rate_error=rate_error, reference_rate=expected, reference_rate_error=expected_error,
        rate_deviation=deviation, rate_deviation_error=deviation_error, score_distance=distance,
        score_p_value=p_value, order=order, passed=not reasons, reasons=reasons,
    )  # fmt: skip


def score_distance(first: Scores, second: Scores) -> tuple[float, float]:
    """Compare raw scores by Kolmogorov-Smirnov: distance and asymptotic p-value (conservative with ties)."""
    values, where = np.unique(np.concatenate([first, second]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in (where[: len(first)], where[len(first) :])]
    found = ks_from_counts(counts[0], counts[1])
    return found.distance, float(special.kolmogorov(found.scaled))


def _rate(scores: Scores, threshold_raw: int) -> tuple[float, float]:
    """Accept rate and its binomial standard error (of one accepted event where none was)."""
    accepted, events = int(np.count_nonzero(scores > threshold_raw)), len(scores)
    rate = accepted / events
    spread = min(max(rate, 1 / events), 1 - 1 / events) if events > 1 else 0.5
    return rate, float(np.sqrt(spread * (1 - spread) / events))


def _order(first: Scores, second: Scores) -> float:
    """Spearman's rank correlation; of constant scores 1 when both are the same, else 0."""
    if np.array_equal(first, second):
        return 1.0
    if np.all(first == first[0]) or np.all(second == second[0]):
        return 0.0
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(scores: Scores) -> npt.NDArray[np.float64]:
    """Rank scores; equal ones share the mean of their ranks."""
    _, where, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2.0)[where]


def _failures(
    deviation: float, error: float, distance: float, p_value: float, order: float, criteria: Criteria
) -> list[str]:
    reasons = []
    if error > criteria.maximum_rate_uncertainty:
        reasons.append(
            f"the accept rate is known to {error:.1%} only "
            f"({criteria.maximum_rate_uncertainty:.1%} is needed): take more events"
        )
    limit = max(criteria.maximum_rate_deviation, criteria.rate_significance * error)
    if abs(deviation) > limit:
        reasons.append(f"the accept rate deviates by {deviation:+.1%} +- {error:.1%} (limit {limit:.1%})")
    if distance > criteria.maximum_score_distance and p_value < criteria.score_probability:
        reasons.append(
            f"the scores differ: KS distance {distance:.4f} "
            f"(limit {criteria.maximum_score_distance:.4f}), p = {p_value:.1e}"
        )
    if order < criteria.minimum_order:
        reasons.append(
            f"events are ranked anew: rank correlation {order:.3f} with the current firmware "
            f"(limit {criteria.minimum_order:.3f})"
        )
    return reasons
