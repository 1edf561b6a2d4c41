"""Causes on one kind of object, or on all: energy, tails, numbers, regions, noise, pileup.

Each fits its size to the window. See `streams.explaining.causes`.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.counting.layout import ObjectMap
from streams.explaining.causes import Candidate, Cause, Place, Scene
from streams.explaining.goodness import Densities, between
from streams.explaining.object_shape import (
    ObjectShape,
    inserted,
    mixed,
    scaled,
    shape_of,
    smeared,
    thinned,
)
from streams.explaining.regions import Region, uniform_angles

TAIL_FACTORS: Final = (1.5, 2.0, 3.0, 5.0, 8.0)
SOFT_SHARES: Final = (0.4, 0.6, 0.8, 1.0)
"""Parts of the objects of a kind, the softest, that may vanish or be added."""
LEAST_MISMATCH: Final = 0.03
"""The pileup is measured to a per cent or so: less than this is no mismatch."""
WITHIN_CODE: Final = 0.04
"""Error of an offset, in codes, from not knowing where in its code a value lies."""
_SMALL_LOSS: Final = 0.02
_PILEUP_STEP: Final = 0.05

Floats = npt.NDArray[np.float64]


def causes_of_object(scene: Scene, name: str) -> Iterator[Candidate]:
    """Fit everything that may have happened to one kind of object."""
    layout = scene.window.layout
    shape = shape_of(scene.contract, layout, scene.base.inputs, name)
    region = scene.region(name)
    if shape is not None and shape.pt.sum() > 0:
        seen = shape_of(scene.contract, layout, scene.window.inputs / scene.window.n_events, name)
        if seen is not None and seen.pt.sum() > 0:
            yield _gain(scene, shape, seen)
            yield _offset(scene, shape, seen)
            yield from _resolution(scene, shape)
            yield from _tails(scene, shape)
            yield from _numbers(scene, shape)
            yield from _added(scene, shape, seen, region)
    place = scene.cells(name)
    if region is not None and place is not None and region.pull < 0:
        yield _dead_region(scene, shape, region, *place)


def pileup_mismatch(scene: Scene) -> Iterator[Candidate]:
    """Fit the pileup, where the reference knows how things change with it."""
    known = scene.expectation.pileups
    if len(known) < 2 or scene.pileup <= 0:
        return
    lowest, highest = known[0], known[-1]
    pileup, error, there = scene.pileup, 0.0, scene.base
    for _ in range(2):
        here = _at(scene, pileup)
        step = _PILEUP_STEP if pileup * (1 + _PILEUP_STEP) <= highest else -_PILEUP_STEP
        other = _at(scene, pileup * (1 + step))
        share, spread = scene.goodness.amplitude(here, other)
        if not np.isfinite(spread):
            return
        there, error = between(here, other, share), spread * _PILEUP_STEP * pileup
        pileup *= max(1 + step * share, 0.5)
        if not lowest <= pileup <= highest:
            break  # beyond what the reference knows, the slope goes on
    if abs(pileup / scene.measured_pileup - 1.0) < LEAST_MISMATCH:
        return
    yield Candidate(
        Cause.PILEUP,
        there,
        1,
        f"All objects look like pileup {pileup:.1f} while the conditions say {scene.measured_pileup:.1f}: "
        "the luminosity measurement or its delivery is off",
        size=pileup,
        error=error,
    )


def _at(scene: Scene, pileup: float) -> Densities:
    expected = scene.expectation.at(pileup)
    return Densities(expected.inputs, expected.maps)


def _gain(scene: Scene, shape: ObjectShape, seen: ObjectShape) -> Candidate:
    """Start from the mean root of pt, which rises with the root of a gain whatever the spectrum."""
    root = np.sqrt(np.maximum(_codes(shape) + _origin(shape) + _half(shape), 0.0))
    start, error = (_mean(seen, root) / _mean(shape, root)) ** 2, 2 * _mean_error(scene, seen, root)
    gain, error = _refined(scene, lambda g: scaled(shape, g), start, error * start / _mean(seen, root))
    return Candidate(
        Cause.GAIN,
        scene.with_shape(scaled(shape, gain)),
        1,
        f"The energy scale of {shape.name} is x{gain:.4g} \u00b1 {error:.2g}",
        object=shape.name,
        size=gain,
        error=error,
    )


def _offset(scene: Scene, shape: ObjectShape, seen: ObjectShape) -> Candidate:
    codes = _codes(shape).astype(np.float64)
    start, error = _mean(seen, codes) - _mean(shape, codes), _mean_error(scene, seen, codes)
    shift, error = _refined(scene, lambda d: scaled(shape, 1.0, d), start, error)
    error = float(np.hypot(error, WITHIN_CODE))
    lsb, unit = shape.spec.lsb, shape.spec.unit
    return Candidate(
        Cause.OFFSET,
        scene.with_shape(scaled(shape, 1.0, shift)),
        1,
        f"The pt of {shape.name} is off by {shift * lsb:+.3g} \u00b1 {error * lsb:.2g} {unit}".rstrip()
        + ": a pedestal or a wrong subtraction of pileup",
        object=shape.name,
        size=shift * lsb,
        error=error * lsb,
        unit=unit,
    )


def _resolution(scene: Scene, shape: ObjectShape) -> Iterator[Candidate]:
    trial = 0.1
    share, error = scene.goodness.amplitude(scene.base, scene.with_shape(smeared(shape, trial)))
    if share <= 0:
        return
    width = trial * float(np.sqrt(share))
    yield Candidate(
        Cause.RESOLUTION,
        scene.with_shape(smeared(shape, width)),
        1,
        f"The pt of {shape.name} is smeared by {width:.1%}: noise or ageing",
        object=shape.name,
        size=width,
        error=trial * error / (2 * float(np.sqrt(share))),
    )


def _tails(scene: Scene, shape: ObjectShape) -> Iterator[Candidate]:
    for factor in TAIL_FACTORS:
        tail = scaled(shape, factor)
        share, error = scene.goodness.amplitude(scene.base, scene.with_shape(tail))
        if 0 < share < 0.5:
            yield Candidate(
                Cause.TAIL,
                scene.with_shape(mixed(shape, tail, share)),
                2,
                f"A tail of {shape.name}: in {share:.2%} \u00b1 {error:.2%} of the events "
                f"its pt is about {factor:g} times as large",
                object=shape.name,
                size=share,
                error=error,
            )


def _numbers(scene: Scene, shape: ObjectShape) -> Iterator[Candidate]:
    """More or fewer objects, all of them or the soft ones only."""
    pooled = np.cumsum(shape.pt.sum(axis=0))
    if shape.missing.max(initial=0.0) <= 0:
        return
    for part in SOFT_SHARES:
        edge = int(np.searchsorted(pooled, part * pooled[-1])) + 1 if part < 1 else len(pooled)
        fewer = scene.with_shape(thinned(shape, _SMALL_LOSS, edge))
        share, error = scene.goodness.amplitude(scene.base, fewer)
        lost = share * _SMALL_LOSS
        if 0 < lost < 1:
            densities = scene.with_shape(thinned(shape, lost, edge))
        elif -1 < lost < 0:
            densities = between(scene.base, fewer, share)
        else:
            continue
        below = (shape.spec.minimum + edge - 1) * shape.spec.lsb
        soft = f" below {below:.3g} {shape.spec.unit}".rstrip() if part < 1 else ""
        yield Candidate(
            Cause.NUMBER,
            densities,
            1 if part == 1 else 2,
            f"{abs(lost):.1%} of the {shape.name} objects{soft} "
            f"{'are missing' if lost > 0 else 'are too many'}, anywhere in eta and phi",
            object=shape.name,
            size=-lost,
            error=error * _SMALL_LOSS,
        )


def _added(scene: Scene, shape: ObjectShape, seen: ObjectShape, region: Region | None) -> Iterator[Candidate]:
    """One more object in some events: at a hot place, or anywhere."""
    n = scene.window.n_events
    here, there = seen.pt.sum(axis=0) * n, shape.pt.sum(axis=0) * n
    spike = int(np.argmax((here - there) / np.sqrt(there + 1.0)))
    if spike <= shape.padding["pt"] or "eta" not in shape.bins or "phi" not in shape.bins:
        return
    pt = (shape.spec.minimum + spike - 1) * shape.spec.lsb
    options: list[tuple[Cause, Region | None]] = [(Cause.NOISE, None)]
    if region is not None and region.pull > 0:
        options.append((Cause.HOT_TOWER, region))
    for cause, place in options:
        angles = place.angles(shape) if place is not None else uniform_angles(shape)
        more = inserted(shape, spike, angles)
        full = scene.with_shape(more, _with_added(scene, shape.name, place))
        if place is None:
            share, error = scene.goodness.amplitude(scene.base, full)
        else:  # the map counts them, whatever their pt
            share, error = place.excess / n, float(np.sqrt(place.observed)) / n
        if not 0 < share < 1:
            continue
        where = f"at {place.words}" if place is not None else "anywhere in eta and phi"
        name = "A hot tower" if place is not None else "Noise"
        yield Candidate(
            cause,
            between(scene.base, full, share),
            2 if place is None else 4,
            f"{name}: {share:.2%} \u00b1 {error:.2%} of the events have one more {shape.name} "
            f"of about {pt:.3g} {shape.spec.unit} {where}",
            object=shape.name,
            size=share,
            error=error,
            place=_placed(place),
        )


def _dead_region(
    scene: Scene, shape: ObjectShape | None, region: Region, entry: ObjectMap, cells: slice
) -> Candidate:
    maps = scene.base.maps.copy()
    grid = maps[cells].reshape(entry.eta.bins, entry.phi.bins)
    total = float(grid.sum())
    missing = -region.excess / (total * scene.window.n_events) if total > 0 else 0.0
    maps[cells] = (grid * region.kept()).ravel()
    densities = Densities(scene.base.inputs, maps)
    if shape is not None:
        n_bins = shape.pt.shape[1]
        fewer = thinned(shape, missing, n_bins, region.kept_angles(shape, grid))
        densities = scene.with_shape(fewer, maps)
    there = min(-region.excess / region.expected, 1.0)
    return Candidate(
        Cause.DEAD_REGION,
        densities,
        3,
        f"A dead region of {region.object} at {region.words}: {there:.0%} of the objects there are missing, "
        f"{missing:.1%} of all",
        object=region.object,
        size=-there,
        error=float(np.sqrt(max(region.observed, 1.0))) / region.expected,
        place=_placed(region),
    )


def _with_added(scene: Scene, name: str, region: Region | None) -> Floats:
    """Return the maps with one more object of a kind in each event."""
    maps = scene.base.maps.copy()
    found = scene.cells(name)
    if found is None:
        return maps
    entry, cells = found
    grid = maps[cells].reshape(entry.eta.bins, entry.phi.bins)
    added = np.ones_like(grid) if region is None else region.inside()
    grid = grid + added / added.sum()
    maps[cells] = grid.ravel()
    return maps


def _refined(
    scene: Scene, make: Callable[[float], ObjectShape], start: float, step: float
) -> tuple[float, float]:
    """Find the minimum of the deviance near a start, with the error from its curvature.

    Parabolas through three points, first as far apart as the start is wrong, then as the minimum is sharp.
    """
    value, error = start, step
    for _ in range(2):
        low, middle, high = (
            scene.goodness.deviance(scene.with_shape(make(value + side * step))) for side in (-1, 0, 1)
        )
        curvature = (low - 2 * middle + high) / step**2
        if curvature <= 0:
            break
        value += float(np.clip((low - high) / (2 * step * curvature), -3 * step, 3 * step))
        error = float(np.sqrt(2.0 / curvature))
        step = max(error, step / 5)
    return value, error


def _mean_error(scene: Scene, shape: ObjectShape, values: Floats) -> float:
    """Return the standard deviation of the mean of some values of the objects in a window."""
    pooled = shape.pt.sum(axis=0)
    mean = float(pooled @ values) / float(pooled.sum())
    variance = float(pooled @ (values - mean) ** 2) / float(pooled.sum())
    return float(np.sqrt(variance / (float(pooled.sum()) * scene.window.n_events)))


def _mean(shape: ObjectShape, values: Floats) -> float:
    pooled = shape.pt.sum(axis=0)
    return float(pooled @ values) / float(pooled.sum())


def _codes(shape: ObjectShape) -> npt.NDArray[np.int64]:
    """Return the code of each bin of pt; flow bins count as one code beyond."""
    return shape.spec.minimum - 1 + np.arange(shape.pt.shape[1])


def _origin(shape: ObjectShape) -> float:
    return float(shape.spec.offset / 2**shape.spec.shift)


def _half(shape: ObjectShape) -> float:
    return 0.0 if shape.spec.rounding == "nearest" else 0.5


def _placed(region: Region | None) -> Place | None:
    if region is None:
        return None
    return Place(region.eta_codes, region.phi_codes, region.eta, region.phi)
