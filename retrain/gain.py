"""The gain of a detector object: by which factor recent transverse momenta differ from the reference's.

Compares distributions of integer codes, states its uncertainty by a bootstrap over events, and says when
the difference is no gain. Refuses to know models, strategies and why a gain may have changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import special

Floats = npt.NDArray[np.float64]
Finding = Literal["gain", "compatible_with_one", "not_a_gain", "too_few_entries"]

_LEAST_VARIANCE = 1e-8
"""Of a log ratio: no quantile of integer codes is known better than to a part in ten thousand."""


class GainSettings(BaseModel):
    """How a gain is estimated and when it counts.

    Attributes
    ----------
    minimum_entries
        Fewer present objects in either sample: no estimate.
    quantile_margin
        Quantiles from `quantile_margin` to `1 - quantile_margin` are compared; the tails are left out
        because the largest code saturates and noise sits at the smallest.
    quantiles
        How many of them.
    replicas
        Bootstrap replicas.
    significance
        A gain closer to 1 than so many standard deviations leaves the object alone.
    minimum_effect
        So does a gain closer to 1 than this, however significant.
    maximum_residual
        Kolmogorov-Smirnov distance that may remain after the gain is undone, beside what statistics explain:
        integer codes move by whole steps, so even a pure gain leaves a little.
    maximum_occupancy_shift
        Relative change of the mean number of objects per event that a gain may bring with it.
    shape_significance
        How many standard deviations (or the probability of so many) residual and occupancy may be off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_entries: int = Field(default=500, ge=50)
    quantile_margin: float = Field(default=0.05, gt=0, lt=0.5)
    quantiles: int = Field(default=61, ge=5)
    replicas: int = Field(default=100, ge=20)
    significance: float = Field(default=3.0, gt=0)
    minimum_effect: float = Field(default=0.003, ge=0)
    maximum_residual: float = Field(default=0.02, gt=0)
    maximum_occupancy_shift: float = Field(default=0.03, gt=0)
    shape_significance: float = Field(default=4.0, gt=0)


class GainEstimate(BaseModel):
    """What was found for one object.

    Attributes
    ----------
    gain, uncertainty
        Estimate and its bootstrap standard deviation; 1 and 0 without enough entries.
    entries_reference, entries_recent
        Present objects in each sample.
    distance_before, distance_after
        Kolmogorov-Smirnov distance of the codes as they are, and with the gain undone.
    occupancy_shift
        Relative change of the mean number of objects per event.
    finding
        `gain` is the only one that justifies a correction.
    reason
        One sentence for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    object: str
    gain: float
    uncertainty: float
    entries_reference: int
    entries_recent: int
    distance_before: float
    distance_after: float
    occupancy_shift: float
    finding: Finding
    reason: str


@dataclass(frozen=True)
class _Present:
    """The present objects of one sample: their codes and the events they belong to."""

    codes: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]
    n_events: int

    def counts(self, bins: int, weights: Floats | None = None) -> Floats:
        per_entry = None if weights is None else weights[self.events]
        return np.bincount(self.codes, per_entry, minlength=bins).astype(np.float64)

    @property
    def occupancy(self) -> tuple[float, float]:
        """Mean number of objects per event, and its standard error."""
        per_event = np.bincount(self.events, minlength=self.n_events)
        return float(per_event.mean()), float(per_event.std() / np.sqrt(self.n_events))


def estimate_gain(
    reference: npt.NDArray[np.integer],
    recent: npt.NDArray[np.integer],
    *,
    name: str,
    settings: GainSettings,
    rng: np.random.Generator,
    padding: int = 0,
    first_edge: float = 0.0,
) -> GainEstimate:
    """Estimate the factor between the transverse momenta of recent and reference events.

    Parameters
    ----------
    reference, recent
        Integer codes, (n_events, n_slots), one column per slot of the object.
    name
        The object, for messages.
    settings
        When an estimate counts.
    rng
        Drives the bootstrap.
    padding
        Code of an absent object, the smallest one.
    first_edge
        Momentum at the lower edge of the padding code, in LSB: 0 where codes are rounded down, -0.5 where
        they are rounded to the nearest.

    Returns
    -------
    GainEstimate

    Notes
    -----
    A gain g moves every quantile by the same factor, so ln g is a mean log ratio of quantiles of the
    two distributions, taken as flat within a code, each weighted with its inverse variance: the steep part
    of a spectrum knows the scale far better than its tail. The uncertainty is the standard deviation over
    Poisson bootstrap replicas of whole events (Hanley & MacGibbon 2006), which keep the objects of one event
    together.
    """
    one, two = _present(reference, padding), _present(recent, padding)
    if min(one.codes.size, two.codes.size) < settings.minimum_entries:
        fewest = min(one.codes.size, two.codes.size)
        return GainEstimate(
            object=name, gain=1.0, uncertainty=0.0, entries_reference=one.codes.size,
            entries_recent=two.codes.size, distance_before=0.0, distance_after=0.0, occupancy_shift=0.0,
            finding="too_few_entries",
            reason=f"{name}: {fewest} entries, {settings.minimum_entries} are needed: untouched",
        )  # fmt: skip
    bins = int(max(one.codes.max(), two.codes.max())) + 1
    counts_one, counts_two = one.counts(bins), two.counts(bins)
    edges: Floats = np.arange(bins + 1, dtype=np.float64) + first_edge
    replicas = _replicas(one, two, edges, settings, rng)
    weights = _weights(replicas)
    gain = float(np.exp(weights @ _log_ratios(counts_one, counts_two, edges, settings)))
    uncertainty = gain * float(np.std(replicas @ weights, ddof=1))
    before = _distance(counts_one, counts_two, edges, 1.0)
    after = _distance(counts_one, counts_two, edges, gain)
    shift, shift_error = _occupancy_shift(one, two)
    finding, reason = _judge(name, gain, uncertainty, (counts_one.sum(), counts_two.sum()), before, after,
                             (shift, shift_error), settings)  # fmt: skip
    return GainEstimate(
        object=name, gain=gain, uncertainty=uncertainty, entries_reference=one.codes.size,
        entries_recent=two.codes.size, distance_before=before, distance_after=after, occupancy_shift=shift,
        finding=finding, reason=reason,
    )  # fmt: skip


def _judge(
    name: str,
    gain: float,
    uncertainty: float,
    entries: tuple[float, float],
    before: float,
    after: float,
    occupancy: tuple[float, float],
    settings: GainSettings,
) -> tuple[Finding, str]:
    """Decide what the numbers mean."""
    n, m = entries
    statistical = float(special.kolmogi(2 * special.ndtr(-settings.shape_significance)))
    limit = settings.maximum_residual + statistical * float(np.sqrt((n + m) / (n * m)))
    shift, shift_error = occupancy
    number = f"{name}: gain {gain:.4f} +- {uncertainty:.4f}"
    if abs(shift) > settings.maximum_occupancy_shift + settings.shape_significance * shift_error:
        return (
            "not_a_gain",
            f"{number}, but the number of objects per event moved by {shift:+.1%}: not a gain",
        )
    if after > limit:
        return "not_a_gain", f"{number} leaves a KS distance of {after:.4f} (limit {limit:.4f}): not a gain"
    pull = abs(np.log(gain)) / uncertainty if uncertainty > 0 else np.inf
    if abs(gain - 1) < settings.minimum_effect or pull < settings.significance:
        return "compatible_with_one", f"{number} is compatible with 1: untouched"
    return "gain", f"{number} ({pull:.0f} sigma; KS distance {before:.4f} -> {after:.4f})"


def _present(codes: npt.NDArray[np.integer], padding: int) -> _Present:
    values = codes.astype(np.int64) - padding
    events, slots = np.nonzero(values > 0)
    return _Present(values[events, slots], events.astype(np.int64), len(codes))


def _cumulative(counts: Floats) -> Floats:
    """Distribution function at the edges of the codes."""
    running = np.concatenate([[0.0], np.cumsum(counts)])
    return np.asarray(running / running[-1])


def _log_ratios(one: Floats, two: Floats, edges: Floats, settings: GainSettings) -> Floats:
    """Log ratio of each quantile of the second sample over that of the first: (quantiles,)."""
    levels = np.linspace(settings.quantile_margin, 1 - settings.quantile_margin, settings.quantiles)
    first, second = (np.interp(levels, _cumulative(counts), edges) for counts in (one, two))
    return np.log(second) - np.log(first)


def _replicas(
    one: _Present, two: _Present, edges: Floats, settings: GainSettings, rng: np.random.Generator
) -> Floats:
    """Log ratios of bootstrap replicas: (replicas, quantiles)."""
    bins = len(edges) - 1
    return np.array(
        [
            _log_ratios(
                one.counts(bins, rng.poisson(1.0, one.n_events).astype(np.float64)),
                two.counts(bins, rng.poisson(1.0, two.n_events).astype(np.float64)),
                edges,
                settings,
            )
            for _ in range(settings.replicas)
        ]
    )


def _weights(replicas: Floats) -> Floats:
    """Inverse variances of the quantiles, adding up to 1: (quantiles,).

    Correlations are left out: weights that use them lean on single steps of the spectrum.
    """
    inverse = 1.0 / (replicas.var(axis=0, ddof=1) + _LEAST_VARIANCE)
    return np.asarray(inverse / inverse.sum())


def _distance(one: Floats, two: Floats, edges: Floats, gain: float) -> float:
    """KS distance of the two samples when the second one's momenta are divided by `gain`."""
    moved = np.interp(edges * gain, edges, _cumulative(two))
    return float(np.abs(moved - _cumulative(one)).max())


def _occupancy_shift(one: _Present, two: _Present) -> tuple[float, float]:
    (mean_one, error_one), (mean_two, error_two) = one.occupancy, two.occupancy
    return mean_two / mean_one - 1.0, float(np.hypot(error_one / mean_one, error_two / mean_two))
