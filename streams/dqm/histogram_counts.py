"""From a histogram, as a DQM file holds it, to counts that can be merged: what is counted, what is refused.

Counts are non-negative whole numbers of entries. Whatever cannot be expressed so (other bins than the
contract's, weights, negative or broken contents) is refused with the reason and never rounded away; the
one rounding there is, of profiles, is stated at `count`. Knows no file format and no model.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.contracts.histograms import AxisSpec, HistogramKind, HistogramSpec, ValueRange
from streams.errors import HistogramError

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

EXACT_WHOLE_NUMBERS: Final = 2.0**53
"""Largest content that a double, and hence a count, can hold exactly."""
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Profile:
    """What a profile holds beside its contents, which are sums of weight times y.

    Attributes
    ----------
    entries
        Sums of weights of each bin, flow bins included; float64.
    squared_weights
        Sums of squared weights, or None where ROOT did not keep them (all weights are 1 then).
    """

    entries: Floats
    squared_weights: Floats | None = None


@dataclass(frozen=True, eq=False)
class Histogram:
    """A histogram as it was read.

    Attributes
    ----------
    kind
        Kind, whatever its number type.
    x, y
        Edges of the bins, without flow bins: float64, shape (bins + 1,); `y` for ``th2`` alone.
    contents
        float64 with flow bins, of shape (x bins + 2,) or (y bins + 2, x bins + 2).
    squared_weights
        Sums of squared weights, same shape; None where ROOT did not keep them (all weights are 1 then).
    limit
        Content from which on the number type of the file no longer counts exactly.
    profile
        For ``tprofile`` alone.
    """

    kind: HistogramKind
    x: Floats
    y: Floats | None
    contents: Floats
    squared_weights: Floats | None = None
    limit: float = EXACT_WHOLE_NUMBERS
    profile: Profile | None = None


def count(spec: HistogramSpec, histogram: Histogram) -> Counts:
    """Return the counts of the contract's columns that a histogram becomes, one after the other.

    Each column is laid out as in a summary: one bin below its codes, its codes, one bin above. ROOT's
    underflow and overflow are those two. A column compares as the shape of its own distribution:

    ``th1``
        Bin contents times `scale`.
    ``th2``
        First the cells, numbered as ROOT does (x fastest, flow bins included), then the projections on x and
        on y. The cells show what moves between distant rows; the projections what moves along one axis.
    ``tprofile``
        An entry of value y counts as a part ``f = (y - low) / (high - low)`` of one "high" entry and as
        ``1 - f`` of a "low" one. ``.entries`` are the entries of each bin; ``.high`` is, for each bin, the
        sum of f rounded to the nearest whole entry, so off by half an entry at most; ``.low`` is the rest,
        ``entries - high``; ``.level`` has two codes, the sums of ``.low`` and of ``.high`` over all bins,
        and its mean shift times its LSB is the change of the mean of y. For an efficiency or a mismatch
        ratio (y is 0 or 1) all of it is exact. A spread of y around an unchanged mean does not show.

    Parameters
    ----------
    spec
        From the contract.
    histogram
        As it was read.

    Returns
    -------
    int64, flat.

    Raises
    ------
    HistogramError
        Names the element, what it holds and what the contract says.
    """
    _check_shape(spec, histogram)
    if spec.values is not None:
        return _count_profile(spec, spec.values, histogram)
    entries = _whole(spec, histogram.contents, histogram.squared_weights, histogram.limit)
    if spec.y is None:
        return entries
    nothing = np.zeros(1, dtype=np.int64)
    return np.concatenate([nothing, entries.ravel(), nothing, entries.sum(axis=0), entries.sum(axis=1)])


def _check_shape(spec: HistogramSpec, histogram: Histogram) -> None:
    if histogram.kind != spec.kind:
        raise _refusal(spec, f"is a {histogram.kind}, the contract says {spec.kind}", "mend kind")
    _check_axis(spec, "x", spec.x, histogram.x)
    if spec.y is not None and histogram.y is not None:
        _check_axis(spec, "y", spec.y, histogram.y)
    arrays = [histogram.contents, histogram.squared_weights]
    if histogram.profile is not None:
        arrays += [histogram.profile.entries, histogram.profile.squared_weights]
    if any(array is not None and array.shape != spec.shape for array in arrays):
        raise _refusal(
            spec, "has contents that do not fit its own bins", "the file is broken, write it again"
        )


def _check_axis(spec: HistogramSpec, name: str, axis: AxisSpec, found: Floats) -> None:
    expected = axis.bin_edges()
    near = _TOLERANCE * np.diff(expected).min()
    if len(found) != len(expected) or not np.allclose(found, expected, rtol=0.0, atol=near):
        raise _refusal(
            spec, f"has on {name} {_bins(found)}, the contract says {_bins(expected)}", f"mend {name}"
        )


def _bins(edges: Floats) -> str:
    widths = np.diff(edges)
    equal = len(widths) > 0 and np.allclose(widths, widths[0], rtol=1e-5, atol=0.0)
    text = f"{len(widths)} {'' if equal else 'unequal '}bins"
    return f"{text} from {edges[0]:g} to {edges[-1]:g}" if len(widths) else text


def _whole(spec: HistogramSpec, contents: Floats, squares: Floats | None, limit: float) -> Counts:
    """Turn contents into numbers of entries, exactly or not at all."""
    if not np.isfinite(contents).all():
        raise _refusal(spec, "holds NaN or infinity", "it cannot be counted")
    if (contents < 0).any():
        raise _refusal(spec, f"holds {contents.min():g}", "what is below 0 is no number of entries")
    if (contents >= limit).any():
        raise _refusal(
            spec,
            f"holds {contents.max():g}",
            f"its type counts exactly up to {limit:g} only: use a wider one",
        )
    scaled = contents * spec.scale
    counts = np.rint(scaled)
    slack = _TOLERANCE * np.maximum(counts, 1.0) if spec.scale != 1.0 else 0.0
    odd = np.flatnonzero(np.abs(scaled - counts) > slack)
    if len(odd):
        value = contents.ravel()[odd[0]]
        cure = "weighted entries count only if scale, 1 / weight, makes them whole"
        raise _refusal(spec, f"holds {value:g} in bin {odd[0]}", cure)
    if squares is not None:
        _check_weights(spec, contents, squares)
    if (counts >= EXACT_WHOLE_NUMBERS).any():
        raise _refusal(spec, f"holds {counts.max():g} entries", "that is more than can be counted exactly")
    return counts.astype(np.int64)


def _check_weights(spec: HistogramSpec, contents: Floats, squares: Floats) -> None:
    """All entries must have had the weight 1 / scale, else they are worth less than they look."""
    if not np.allclose(squares * spec.scale, contents, rtol=1e-5, atol=_TOLERANCE):
        raise _refusal(
            spec,
            f"has entries of other weights than {1.0 / spec.scale:g}",
            "only equal weights can be counted, with scale = 1 / weight",
        )


def _count_profile(spec: HistogramSpec, values: ValueRange, histogram: Histogram) -> Counts:
    profile = histogram.profile
    if profile is None:
        raise AssertionError("the reader gives every tprofile its entries")
    entries = _whole(spec, profile.entries, profile.squared_weights, EXACT_WHOLE_NUMBERS)
    sums = histogram.contents
    if not np.isfinite(sums).all():
        raise _refusal(spec, "holds NaN or infinity", "it cannot be counted")
    parts = (sums - values.low * entries) / values.span
    slack = _TOLERANCE * np.maximum(entries, 1)
    outside = np.flatnonzero((parts < -slack) | (parts > entries + slack))
    if len(outside):
        bin_ = outside[0]
        mean = f"averages {sums[bin_] / entries[bin_]:g}" if entries[bin_] else "has a sum and no entries"
        raise _refusal(
            spec,
            f"{mean} in bin {bin_}, the contract says values from {values.low:g} to {values.high:g}",
            "widen values",
        )
    high = np.clip(np.rint(parts).astype(np.int64), 0, entries)
    low = entries - high
    level = np.array([0, low.sum(), high.sum(), 0], dtype=np.int64)
    return np.concatenate([entries, high, low, level])


def _refusal(spec: HistogramSpec, what: str, cure: str) -> HistogramError:
    return HistogramError(f"{spec.path}: {what}: {cure}")
