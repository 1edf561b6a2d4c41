"""The compiled loop that makes events. Knows arrays of numbers, no contract and no lumisection.

Every event is made of: a number of interactions; a hard scatter with two jets and sometimes more, back to
back and correlated in eta; pileup jets; e/gamma objects, some of them jets taken for one, and taus likewise;
muons; now and then a W boson with a lepton and a neutrino, or something invisible; and missing momentum: what
nobody saw, what the jets were measured wrongly, and a Gaussian that grows with the root of the transverse
energy.

All momenta are in GeV. The numbers below are set by hand to give spectra and multiplicities of the size of
a Level-1 trigger's; they come from no measurement.

Random numbers are those of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
OOPSLA 2014), whose whole state is one integer: equal seeds give equal events, in any thread and order.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np

from streams.backtest.shapes import (
    CELLS,
    COSINE,
    EGAMMA_END,
    ETA_EGAMMA,
    ETA_HARD,
    ETA_MUON,
    ETA_PILEUP,
    MAX_INTERACTIONS,
    NORMAL,
    PHI,
    PHI_MUON,
    SINE,
)

Function = TypeVar("Function", bound=Callable[..., Any])

KINDS: Final = ("met", "egamma", "muon", "tau", "jet")
MET, EGAMMA, MUON, TAU, JET = range(5)
QUANTITIES: Final = ("pt", "eta", "phi")
MINIMUM, MAXIMUM, WRAP, OFFSET, SHIFT, NEAREST, PADDING = range(7)
"""Columns of the table of digitisation."""

HARD_SCALE: Final = 18.0
HARD_POWER: Final = 3.6
"""The hard scale Q falls as Q**-4.6 above HARD_SCALE."""
MINIMA: Final = (0.0, 4.0, 3.0, 8.0, 7.0)
"""Below this measured pt an object of each of `KINDS` is not found."""
JET_NOISE: Final = 0.9
JET_CONSTANT: Final = 0.08
JET_OFFSET_PER_INTERACTION: Final = 0.02
PILEUP_START: Final = 6.0
PILEUP_SLOPE: Final = 1.5
PILEUP_SLOPE_PER_INTERACTION: Final = 0.02
EGAMMA_START: Final = 2.5
EGAMMA_SLOPE: Final = 3.0
EGAMMA_POWER: Final = 2.6
EGAMMA_POWER_SHARE: Final = 0.1
MUON_START: Final = 2.0
MUON_POWER: Final = 2.2
JET_AS_EGAMMA: Final = 0.12
JET_AS_TAU: Final = 0.2
TAU_END: Final = 2.1
W_SHARE: Final = 0.04
W_HALF_MASS: Final = 40.2
INVISIBLE_SHARE: Final = 0.003
INVISIBLE_SLOPE: Final = 50.0
MET_NOISE: Final = 3.0
MET_STOCHASTIC: Final = 0.6
ENERGY_PER_INTERACTION: Final = 12.0
BEAM_SPOT: Final = (1.2, -0.7)
"""Missing momentum along x and y that an off-axis beam fakes."""


def _compiled(function: Function) -> Function:
    return cast("Function", numba.njit(nogil=True, cache=True, error_model="numpy")(function))


@_compiled
def _uniform(state: Any) -> float:
    """Return the next number strictly between 0 and 1."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return float((np.float64(z >> np.uint64(12)) + 0.5) * 2.0**-52)


@_compiled
def _quantile(table: Any, row: int, u: float) -> float:
    place = u * CELLS
    cell = int(place)
    low = table[row, cell]
    return float(low + (place - cell) * (table[row, cell + 1] - low))


@_compiled
def _folded(u: float) -> float:
    """Return a number beside the unit interval, reflected at its ends: what was flat stays flat."""
    if u < 0.0:
        return -u
    return 2.0 - u if u >= 1.0 else u


@_compiled
def _number(row: Any, u: float) -> int:
    """Return the number of objects at which a cumulative distribution passes `u`."""
    n = 0
    while row[n] < u:
        n += 1
    return n


@_compiled
def _insert(objects: Any, held: Any, take: Any, kind: int, true: float, eta: float, phi: float) -> None:
    """Put a found object into its list, which stays sorted by falling pt and no longer than its capacity."""
    capacity, gains = take
    size, most, pt = held[kind], capacity[kind], true * gains[kind]
    if pt < MINIMA[kind]:
        return
    if size == most:
        if most == 0 or pt <= objects[kind, size - 1, 0]:
            return
        size -= 1
    place = size
    while place > 0 and objects[kind, place - 1, 0] < pt:
        for item in range(3):
            objects[kind, place, item] = objects[kind, place - 1, item]
        place -= 1
    objects[kind, place, 0], objects[kind, place, 1], objects[kind, place, 2] = pt, eta, phi
    held[kind] = size + 1


@_compiled
def code_of(value: float, lsb: float, rule: Any) -> int:
    """Return the code of a value, as `streams.contracts.quantity.digitise` does.

    Parameters
    ----------
    value, lsb
        In the same unit.
    rule
        int64, shape (7,): a row of the table of digitisation.
    """
    scaled = value / lsb
    raw = np.int64(np.rint(scaled) if rule[NEAREST] else np.floor(scaled))
    if rule[WRAP] > 0:
        raw = rule[MINIMUM] + (raw - rule[MINIMUM]) % rule[WRAP]
    raw = min(max(raw, rule[MINIMUM]), rule[MAXIMUM])
    return int((raw - rule[OFFSET]) >> rule[SHIFT])


@_compiled
def _hard_scatter(
    state: Any, table: Any, interactions: int, objects: Any, held: Any, take: Any, missing: Any
) -> None:
    """Add the jets of the hard scatter, what they are taken for, and to `missing` what they lack."""
    scale = HARD_SCALE * _uniform(state) ** (-1.0 / HARD_POWER)
    axis, boost, more = _uniform(state), _uniform(state), _uniform(state)
    n_jets = 2 + (more < 0.35) + (more < 0.10) + (more < 0.03)
    for number in range(n_jets):
        turn, share = axis, 1.0
        if number == 1:
            turn = axis + 0.5 + 0.04 * _quantile(table, NORMAL, _uniform(state))
            share = 1.0 - 0.25 * _uniform(state)
        elif number > 1:
            turn, share = _uniform(state), 0.15 + 0.5 * _uniform(state)
        turn -= np.floor(turn)
        true = scale * share
        width = np.sqrt(JET_NOISE**2 * true + (JET_CONSTANT * true) ** 2)
        measured = true + width * _quantile(table, NORMAL, _uniform(state))
        missing[0] += (true - measured) * _quantile(table, COSINE, turn)
        missing[1] += (true - measured) * _quantile(table, SINE, turn)
        missing[2] += true
        eta = _quantile(table, ETA_HARD, _folded(boost + 0.3 * (2.0 * _uniform(state) - 1.0)))
        phi = _quantile(table, PHI, turn)
        faked, fraction = _uniform(state), _uniform(state)
        measured += JET_OFFSET_PER_INTERACTION * interactions
        _insert(objects, held, take, JET, measured, eta, phi)
        if faked < JET_AS_EGAMMA and abs(eta) < EGAMMA_END:
            _insert(objects, held, take, EGAMMA, measured * (0.4 + 0.6 * fraction), eta, phi)
        elif faked > 1.0 - JET_AS_TAU and abs(eta) < TAU_END:
            _insert(objects, held, take, TAU, measured * (0.6 + 0.4 * fraction), eta, phi)


@_compiled
def _soft_objects(
    state: Any, table: Any, counts: Any, interactions: int, objects: Any, held: Any, take: Any
) -> None:
    """Add pileup jets, e/gamma objects and muons."""
    slope = PILEUP_SLOPE + PILEUP_SLOPE_PER_INTERACTION * interactions
    for _ in range(_number(counts[0, interactions], _uniform(state))):
        pt = PILEUP_START - slope * np.log(_uniform(state) * _uniform(state))
        eta = _quantile(table, ETA_PILEUP, _uniform(state))
        _insert(objects, held, take, JET, pt, eta, _quantile(table, PHI, _uniform(state)))
    for _ in range(_number(counts[1, interactions], _uniform(state))):
        u = _uniform(state)
        if _uniform(state) < EGAMMA_POWER_SHARE:
            pt = EGAMMA_START * u ** (-1.0 / EGAMMA_POWER)
        else:
            pt = EGAMMA_START - EGAMMA_SLOPE * np.log(u)
        eta = _quantile(table, ETA_EGAMMA, _uniform(state))
        _insert(objects, held, take, EGAMMA, pt, eta, _quantile(table, PHI, _uniform(state)))
    for _ in range(_number(counts[2, interactions], _uniform(state))):
        pt = MUON_START * _uniform(state) ** (-1.0 / MUON_POWER)
        eta = _quantile(table, ETA_MUON, _uniform(state))
        _insert(objects, held, take, MUON, pt, eta, _quantile(table, PHI_MUON, _uniform(state)))


@_compiled
def _rare(state: Any, table: Any, objects: Any, held: Any, take: Any, missing: Any) -> None:
    """Add now and then a W boson that decays to a lepton and a neutrino, or something invisible."""
    which = _uniform(state)
    if which < W_SHARE:
        cosine = 2.0 * _uniform(state) - 1.0
        pt = W_HALF_MASS * np.sqrt(1.0 - cosine * cosine) + 0.5
        turn, kind = _uniform(state), int(3.0 * _uniform(state))
        measured = pt * (1.0 + 0.05 * _quantile(table, NORMAL, _uniform(state)))
        if kind == 0:
            eta = _quantile(table, ETA_EGAMMA, _uniform(state))
            _insert(objects, held, take, EGAMMA, measured, eta, _quantile(table, PHI, turn))
        elif kind == 1:
            eta = _quantile(table, ETA_MUON, _uniform(state))
            _insert(objects, held, take, MUON, measured, eta, _quantile(table, PHI, turn))
        else:
            eta = 0.8 * _quantile(table, ETA_EGAMMA, _uniform(state))
            _insert(objects, held, take, TAU, 0.6 * measured, eta, _quantile(table, PHI, turn))
        turn += 0.5 + 0.03 * _quantile(table, NORMAL, _uniform(state))
        turn -= np.floor(turn)
        missing[0] += pt * _quantile(table, COSINE, turn)
        missing[1] += pt * _quantile(table, SINE, turn)
    elif which > 1.0 - INVISIBLE_SHARE:
        pt, turn = -INVISIBLE_SLOPE * np.log(_uniform(state)), _uniform(state)
        missing[0] += pt * _quantile(table, COSINE, turn)
        missing[1] += pt * _quantile(table, SINE, turn)


@_compiled
def _missing_momentum(
    state: Any, interactions: int, gain: float, objects: Any, held: Any, missing: Any
) -> None:
    """Smear the missing momentum (Box and Muller) and put it down as the one object of its kind."""
    energy = ENERGY_PER_INTERACTION * interactions + missing[2]
    width = np.sqrt(MET_NOISE**2 + MET_STOCHASTIC**2 * energy)
    radius, turn = width * np.sqrt(-2.0 * np.log(_uniform(state))), math.tau * _uniform(state)
    x = missing[0] + BEAM_SPOT[0] + radius * np.cos(turn)
    y = missing[1] + BEAM_SPOT[1] + radius * np.sin(turn)
    objects[MET, 0, 0], objects[MET, 0, 1], objects[MET, 0, 2] = gain * np.hypot(x, y), 0.0, np.arctan2(y, x)
    held[MET] = 1


@_compiled
def _write(codes: Any, event: int, found: Any, columns: Any, lsbs: Any, rules: Any) -> None:
    """Digitise one object. Without a pt code it is a missing object."""
    for item in range(3):
        column = columns[item]
        if column < 0:
            continue
        code = code_of(found[item], lsbs[item], rules[item])
        if item == 0 and code == rules[item, PADDING]:
            return
        codes[column, event] = code


@_compiled
def make_events(
    seed: Any,
    pileup: float,
    gains: Any,
    table: Any,
    counts: Any,
    capacity: Any,
    columns: Any,
    lsbs: Any,
    rules: Any,
    codes: Any,
) -> None:
    """Make the events of one block.

    Parameters
    ----------
    seed
        uint64.
    pileup
        Mean number of interactions; that of an event is Gaussian about it with the width of a Poisson.
    gains
        float64, shape (5,): factor on the pt of each of `KINDS`, before it is compared with `MINIMA` and
        digitised.
    table, counts
        `streams.backtest.shapes.quantiles` and `object_counts`.
    capacity
        int64, shape (5,): how many objects of each kind the contract takes.
    columns
        int64, shape (5, most, 3): which input is pt, eta and phi of each object, or -1.
    lsbs, rules
        float64, shape (5, 3), and int64, shape (5, 3, 7): how each quantity becomes a code.
    codes
        int16, shape (n_inputs, n_events), filled with the padding of each input; written.
    """
    state = np.array([seed], dtype=np.uint64)
    objects = np.zeros((5, columns.shape[1] + 1, 3))
    held, missing = np.zeros(5, dtype=np.int64), np.zeros(3)
    take = (capacity, gains)
    for event in range(codes.shape[1]):
        held[:], missing[:] = 0, 0.0
        drawn = pileup + np.sqrt(pileup) * _quantile(table, NORMAL, _uniform(state))
        interactions = int(min(max(np.rint(drawn), 0.0), MAX_INTERACTIONS - 1.0))
        _hard_scatter(state, table, interactions, objects, held, take, missing)
        _soft_objects(state, table, counts, interactions, objects, held, take)
        _rare(state, table, objects, held, take, missing)
        _missing_momentum(state, interactions, gains[MET], objects, held, missing)
        for kind in range(5):
            for index in range(min(held[kind], capacity[kind])):
                found, places = objects[kind, index], columns[kind, index]
                _write(codes, event, found, places, lsbs[kind], rules[kind])


@_compiled
def add_squares(codes: Any, weight: int, centre: int, total: Any) -> None:
    """Add ``weight * (code - centre)**2`` of every event to `total` (int64)."""
    for event in range(codes.shape[0]):
        distance = np.int64(codes[event]) - centre
        total[event] += weight * distance * distance
