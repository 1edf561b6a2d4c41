"""The channels: the ways in which a window can differ from its expectation, each one number.

A linear channel is a weighted sum over the bins of a window's densities, scaled so that its value is an
effect in a unit that people know: a gain of an object's pt, a shift of a mean, a change of a rate. Its
weights come from the contract and from the reference alone. Knows neither noise nor threshold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from streams.contracts.contract import Contract, InputSpec
from streams.counting.layout import Layout
from streams.counting.summary import Summary
from streams.judging.expectation import Expected

SCALE: Final = "scale"
MEAN: Final = "mean"
TAIL: Final = "tail"
PRESENCE: Final = "presence"
SCORE: Final = "score"
RATE: Final = "rate"
ACCEPT_RATE: Final = "accept rate"
"""Name of the one channel of the rate."""

MINIMUM_ENTRIES: Final = 400
"""Fewer reference entries in a slot say nothing about the shape of its spectrum."""
MINIMUM_TAIL: Final = 20
"""Fewer reference entries make no tail."""
POWER: Final = 0.5
"""A gain is measured by the mean of this power of pt."""
TAIL_SHARES: Final = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Shares of the events above each edge of a tail."""
MINIMUM_TAIL_EVENTS: Final = 8.0
"""Windows that expect fewer events in a tail do not look at it."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Channel:
    """One linear channel.

    Attributes
    ----------
    name
        For people and for the store, for example ``jet gain``.
    family
        Which share of the false-alarm budget it spends.
    object
        The object it is about; empty for the firmware's output.
    unit
        Of its effect; ``""`` for a relative change.
    counted
        Its effect is a relative change of a number of events, whose noise is that of counting.
    """

    name: str
    family: str
    object: str
    unit: str = ""
    counted: bool = False


@dataclass(frozen=True, eq=False)
class Design:
    """The linear channels of a model, with their weights.

    Attributes
    ----------
    channels
        In order.
    weights
        Shape (segments, bins of inputs and score): one row for each input that a channel looks at.
    squares, objects
        The squares of the weights, and ones where they are not 0: what the channel looks at.
    objects_per_event
        Objects, of all events of the reference, that the effect of a channel is a mean over. Shape
        (channels,).
    segment_channel
        Channel of each row. Shape (segments,).
    """

    channels: tuple[Channel, ...]
    weights: sparse.csr_array
    squares: sparse.csr_array
    objects: sparse.csr_array
    objects_per_event: Floats
    segment_channel: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Measured:
    """The linear channels of one window.

    Attributes
    ----------
    effect
        Each channel's effect, in its unit. Shape (channels,).
    variance
        Variance of `effect` times the number of events, if the objects of an event were independent; 0
        where a channel cannot speak. Shape (channels,).
    expected_events
        Events that a `counted` channel expects in the window; 0 for others. Shape (channels,).
    """

    effect: Floats
    variance: Floats
    expected_events: Floats


def design(contract: Contract, pooled: Summary) -> Design:
    """Work out the channels of a model from all events of its reference.

    Histograms that were filled elsewhere come without events, and have no channels.
    """
    rows: list[tuple[Channel, list[_Row]]] = []
    if not pooled.layout.own_totals:
        for group in contract.objects:
            specs = [spec for spec in contract.inputs if spec.object == group.name]
            rows += _object_channels(contract, pooled, specs)
        rows.append(_score_level(pooled))
        rows.append((Channel(ACCEPT_RATE, RATE, "", counted=True), []))
    n_bins = pooled.layout.n_input_bins + len(pooled.score)
    segments = [(index, row) for index, (_, parts) in enumerate(rows) for row in parts]
    weights = sparse.csr_array(
        (
            np.concatenate([row.weights for _, row in segments]) if segments else np.zeros(0),
            np.concatenate([row.bins for _, row in segments]) if segments else np.zeros(0, dtype=np.intp),
            np.cumsum([0, *(len(row.bins) for _, row in segments)]),
        ),
        shape=(len(segments), n_bins),
    )
    objects = (weights != 0).astype(np.float64).tocsr()
    channel_of = np.array([index for index, _ in segments], dtype=np.intp)
    density = np.concatenate([pooled.inputs, pooled.score]) / pooled.n_events
    return Design(
        channels=tuple(channel for channel, _ in rows),
        weights=weights,
        squares=weights.multiply(weights).tocsr(),
        objects=objects,
        objects_per_event=np.bincount(channel_of, objects @ density, minlength=len(rows)).astype(np.float64),
        segment_channel=channel_of,
    )


def measure(made: Design, window: Summary, expected: Expected) -> Measured:
    """Measure all channels of a window.

    Parameters
    ----------
    window
        At least one event, of the contract of the design.
    expected
        What it should hold.
    """
    n_channels = len(made.channels)
    observed = np.concatenate([window.inputs, window.score]) / window.n_events
    density = np.concatenate([expected.inputs, expected.score])

    def per_channel(values: Floats) -> Floats:
        sums: Floats = np.bincount(made.segment_channel, values, minlength=n_channels).astype(np.float64)
        return sums

    level = made.weights @ density
    levels = per_channel(level)
    effect = per_channel(made.weights @ (observed - density))
    variance = per_channel(np.maximum(made.squares @ density - level**2, 0.0))
    # weights share an effect among the objects of all pileups; at this one there may be more or fewer
    here = per_channel(made.objects @ density)
    fewer = np.divide(made.objects_per_event, here, out=np.ones(n_channels), where=here > 0)
    fewer[[channel.counted for channel in made.channels]] = 1.0
    effect, variance = effect * fewer, variance * fewer**2
    expected_events = np.zeros(n_channels)
    for index, channel in enumerate(made.channels):
        if channel.family == RATE:
            seen, share = window.n_accept / window.n_events, expected.rate
        elif channel.counted:  # its weights are ones: a share of events, or a number of objects per event
            share = float(levels[index])
            seen = share + float(effect[index])
        else:
            continue
        expected_events[index] = share * window.n_events
        if share <= 0.0:
            effect[index], variance[index] = (0.0 if seen == 0.0 else 1.0), 0.0
            continue
        spread = share * (1.0 - share) if channel.family == RATE else variance[index]
        effect[index], variance[index] = seen / share - 1.0, spread / share**2
    return Measured(effect, variance, expected_events)


@dataclass(frozen=True, eq=False)
class _Row:
    """Weights of one input's bins, by their place in inputs and score."""

    bins: npt.NDArray[np.intp]
    weights: Floats


def _object_channels(
    contract: Contract, pooled: Summary, specs: list[InputSpec]
) -> Iterator[tuple[Channel, list[_Row]]]:
    name = specs[0].object
    for quantity in dict.fromkeys(spec.quantity for spec in specs):
        slots = [spec for spec in specs if spec.quantity == quantity]
        slots = [spec for spec in slots if _present(contract, pooled, spec).sum() >= MINIMUM_ENTRIES]
        if not slots or quantity == "phi":
            continue  # an angle has no mean: the maps look at it
        if quantity == "pt" and not any(spec.staged for spec in slots):
            yield from _nonempty(Channel(f"{name} gain", SCALE, name), _gain(contract, pooled, slots))
            yield from _tails(contract, pooled, slots)
            yield from _presence(contract, pooled, slots)
        else:
            unit = slots[0].unit or ("LSB" if slots[0].staged else "")
            channel = Channel(f"{name} mean {quantity}", MEAN, name, unit or "1")
            yield from _nonempty(channel, _mean(contract, pooled, slots))


def _nonempty(channel: Channel, rows: list[_Row]) -> Iterator[tuple[Channel, list[_Row]]]:
    if rows:
        yield channel, rows


def _present(contract: Contract, pooled: Summary, spec: InputSpec) -> Floats:
    """Count an input, flow bins included, without what missing objects fill."""
    counts = pooled.histogram(contract.input_index(spec.name)).astype(np.float64)
    return np.where(there_bins(contract, pooled, spec), counts, 0.0)


def there_bins(contract: Contract, pooled: Summary, spec: InputSpec) -> npt.NDArray[np.bool_]:
    """Tell the bins of objects that are there from the one that missing ones fill, where there are any.

    Parameters
    ----------
    pooled
        All events of a reference: where no object is missing in any, all bins are of objects.
    spec
        The input; the result has one entry for each of its bins, flow bins included.
    """
    index = contract.input_index(spec.name)
    there = np.ones(len(pooled.histogram(index)), dtype=np.bool_)
    presence = int(contract.presence[index])
    if presence >= 0 and pooled.histogram(presence)[_bin_of(contract.inputs[presence])]:
        there[_bin_of(spec)] = False
    return there


def _bin_of(spec: InputSpec) -> int:
    """Bin of an input's padding code."""
    return min(max(spec.padding - spec.minimum + 1, 0), spec.maximum - spec.minimum + 2)


def _gain(contract: Contract, pooled: Summary, slots: list[InputSpec]) -> list[_Row]:
    """Weights whose sum over a window is its relative gain of pt.

    A gain g multiplies the sum of ``pt ** POWER`` by ``g ** POWER``, whatever the spectrum. The square root
    has a variance 9 % (exponential spectrum) to 26 % (Rayleigh's) above the smallest possible, does
    not lean on rare large values, and sees no edge that a threshold leaves.
    """
    parts = []
    for spec in slots:
        counts = _present(contract, pooled, spec)
        half = 0.0 if spec.rounding == "nearest" else 0.5
        codes = spec.minimum - 1 + np.arange(len(counts)) + half
        value = np.maximum(codes + spec.offset / 2**spec.shift, 0.0) ** POWER
        parts.append((spec, counts, value))
    total = sum(float(counts.sum()) for _, counts, _ in parts)
    mean = sum(float(counts @ value) for _, counts, value in parts) / total
    scale = pooled.n_events / (POWER * mean * total) if mean > 0 else 0.0
    return [
        _row(
            contract,
            pooled.layout,
            spec,
            np.where(there_bins(contract, pooled, spec), (value - mean) * scale, 0.0),
        )
        for spec, counts, value in parts
        if scale > 0 and np.count_nonzero(counts) > 1
    ]


def _mean(contract: Contract, pooled: Summary, slots: list[InputSpec]) -> list[_Row]:
    """Weights whose sum over a window is the shift of the mean of the objects that are there."""
    parts = [(spec, _present(contract, pooled, spec)) for spec in slots]
    total = sum(float(counts.sum()) for _, counts in parts)
    values = [np.arange(len(counts)) * spec.lsb for spec, counts in parts]
    mean = sum(float(counts @ value) for (_, counts), value in zip(parts, values, strict=True)) / total
    rows = []
    for (spec, counts), value in zip(parts, values, strict=True):
        if np.count_nonzero(counts) < 2:
            continue
        weights = np.where(there_bins(contract, pooled, spec), (value - mean) * pooled.n_events / total, 0.0)
        rows.append(_row(contract, pooled.layout, spec, weights))
    return rows


def _tails(
    contract: Contract, pooled: Summary, slots: list[InputSpec]
) -> Iterator[tuple[Channel, list[_Row]]]:
    """Count the events whose leading object lies in the tail of its spectrum."""
    spec = slots[0]
    index = contract.input_index(spec.name)
    counts = pooled.histogram(index)
    above = np.cumsum(counts[::-1])[::-1]
    known: set[int] = set()
    for share in TAIL_SHARES:
        first = int(np.searchsorted(-above, -share * pooled.n_events))
        first = max(first, _bin_of(spec) + 1)
        if first >= len(counts) or above[first] < MINIMUM_TAIL or first in known:
            continue
        known.add(first)
        start = pooled.layout.starts[index]
        bins = np.arange(start + first, start + len(counts), dtype=np.intp)
        value = (spec.minimum - 1 + first) * spec.lsb
        channel = Channel(
            f"{spec.object} tail above {value:g} {spec.unit}".strip(), TAIL, spec.object, counted=True
        )
        yield channel, [_Row(bins, np.ones(len(bins)))]


def _presence(
    contract: Contract, pooled: Summary, slots: list[InputSpec]
) -> Iterator[tuple[Channel, list[_Row]]]:
    """Count the objects that are there, where not all always are."""
    rows = []
    for spec in slots:
        index = contract.input_index(spec.name)
        start, end = pooled.layout.starts[index], pooled.layout.starts[index + 1]
        bins = np.delete(np.arange(start, end, dtype=np.intp), _bin_of(spec))
        rows.append(_Row(bins, np.ones(len(bins))))
    there = sum(float(_present(contract, pooled, spec).sum()) for spec in slots)
    if there < len(slots) * pooled.n_events - MINIMUM_ENTRIES:
        yield Channel(f"number of {slots[0].object}", PRESENCE, slots[0].object, counted=True), rows


def _score_level(pooled: Summary) -> tuple[Channel, list[_Row]]:
    """Mean score bin, in bins; a bin is at most 1/128 of its score wide."""
    filled = np.flatnonzero(pooled.score)
    bins = np.arange(filled[0], len(pooled.score), dtype=np.intp)
    mean = float(np.average(filled, weights=pooled.score[filled]))
    weights = (bins.astype(np.float64) - mean) / 128
    return Channel("score level", SCORE, "", "octaves"), [_Row(bins + pooled.layout.n_input_bins, weights)]


def _row(contract: Contract, layout: Layout, spec: InputSpec, weights: Floats) -> _Row:
    """Place the weights of all bins of an input."""
    start = layout.starts[contract.input_index(spec.name)]
    return _Row(np.arange(start, start + len(weights), dtype=np.intp), weights)
