"""A generated detector: lumisections of trigger objects for backtests and benchmarks. Knows no judgement.

Generated data, and honest about it: the shapes are drawn by hand after a Level-1 trigger's (see
`streams.backtest.event_kernels` and `streams.backtest.shapes`) and show what a judge has to bear with in good
data. Pileup decays within a fill and is known to 1 % only; numbers and spectra of objects follow it; objects
of one event belong together; rare objects are rare; and every energy scale wanders a little, within a fill
and from fill to fill. On demand fills differ in their number of colliding bunches, and energies follow it, as
with out-of-time pileup. Nothing here is a simulation of a detector, and no number found with it is a
statement about one.

Everything is a function of seed, run and lumisection: no call depends on the calls before it.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import signal

from streams.backtest.event_kernels import KINDS, QUANTITIES, add_squares, make_events
from streams.backtest.shapes import object_counts, quantiles
from streams.conditions import Conditions
from streams.contracts.contract import Contract, ObjectGroup
from streams.counting.summary import Summary, summarise
from streams.effects.effect import Effect
from streams.errors import ContractError
from streams.events.batch import Batch

PACKAGE: Final = hashlib.sha256(b"lumiwatch generated detector").hexdigest()
"""Package that is said to have scored generated events."""
SOURCE: Final = "generated"
N_EVENTS: Final = 20_000
PILEUP_JITTER: Final = 0.005
"""Relative rms of the pileup about its decay, for each lumisection."""
PILEUP_ERROR: Final = 0.01
"""Relative rms of the error of the measured pileup, for each lumisection."""
WANDER_LUMISECTIONS: Final = 20.0
"""Correlation time of the energy scale within a fill: after it, the correlation is 1/e."""
BUNCHES: Final = "bunches"
"""Under this name conditions tell the number of colliding bunches, where it is asked for."""
USUAL_BUNCHES: Final = 2400.0
BUNCH_SLOPES: Final = {"met": 0.06, "egamma": 0.01, "tau": 0.03, "jet": 0.04}
"""Relative change of the energy of each kind of object from no bunch to the usual number of them."""
ACCEPTED_SHARE: Final = 0.08
ACCEPTED_PILEUP: Final = 40.0
"""The threshold accepts this share of the events at this pileup."""

_WEIGHTS: Final = {"met": 4, "egamma": 2, "muon": 2, "tau": 1, "jet": 1}
_SCORE_SHIFT: Final = 6
_UNITS: Final = {"pt": "GeV", "eta": "", "phi": "rad"}
_PILEUP, _MEASUREMENT, _FILL_GAIN, _GAINS, _EVENTS, _EFFECTS = range(6)
"""What a seed is for. None is ever given a new meaning, so that seeds keep theirs."""
_INT32_MAXIMUM: Final = 2**31 - 1


class GeneratedDetector:
    """A detector whose lumisections are generated under a contract.

    Parameters
    ----------
    contract
        Its objects are among met (one), egamma, muon, tau and jet; its quantities among pt (in GeV), eta
        and phi (in rad), pt for every object; none is staged by firmware.
    seed
        Of everything. Two seeds give independent detectors.
    gain_wander
        Relative rms of the energy scale of each kind of object. Half of the variance is drawn once for
        a fill; half is an autoregression of first order over its lumisections, with a correlation time of
        `WANDER_LUMISECTIONS`.
    pileup_start, pileup_end
        Mean number of interactions at the first and the last lumisection of a fill: an exponential decay.
    lumisections_per_fill
        A fill is a run; its first lumisection has number 1. Beyond the last one the pileup stays.
    bunches
        Numbers of colliding bunches that runs have in turn, the first for run 1; none: it is as usual
        everywhere, and conditions do not tell.
    model
        Name of the monitored model; None: that of the contract.

    Raises
    ------
    ContractError
        The contract asks for what this detector does not make.
    """

    def __init__(
        self,
        contract: Contract,
        seed: int,
        *,
        gain_wander: float = 0.0005,
        pileup_start: float = 65.0,
        pileup_end: float = 20.0,
        lumisections_per_fill: int = 600,
        bunches: Sequence[float] = (),
        model: str | None = None,
    ) -> None:
        _check(contract)
        self.contract = contract
        self.seed = seed
        self.gain_wander = gain_wander
        self.pileup_start = pileup_start
        self.pileup_end = pileup_end
        self.lumisections_per_fill = lumisections_per_fill
        self._bunches = tuple(bunches)
        self.model = contract.name if model is None else model
        self._plan = _Plan(contract)
        self._wander_of = lru_cache(maxsize=64)(self._wander)

    def pileup(self, run: int, lumisection: int) -> float:
        """Return the true mean number of interactions: an exponential decay, with `PILEUP_JITTER`."""
        steps = max(self.lumisections_per_fill - 1, 1)
        elapsed = min(max(lumisection - 1, 0), steps) / steps
        decayed = self.pileup_start * (self.pileup_end / self.pileup_start) ** elapsed
        return float(decayed * (1 + PILEUP_JITTER * self._rng(_PILEUP, run, lumisection).standard_normal()))

    def conditions(self, run: int, lumisection: int) -> Conditions:
        """Return the last message of conditions of a lumisection, its pileup with `PILEUP_ERROR`."""
        error = PILEUP_ERROR * self._rng(_MEASUREMENT, run, lumisection).standard_normal()
        return Conditions(
            model=self.model,
            run=run,
            lumisection=lumisection,
            pileup=max(self.pileup(run, lumisection) * (1 + error), 0.0),
            simulated=True,
            end_of_lumisection=True,
            expected={SOURCE: 1},
            values={BUNCHES: self.bunches(run)} if self._bunches else {},
        )

    def bunches(self, run: int) -> float:
        """Return the number of colliding bunches of a run."""
        return self._bunches[(run - 1) % len(self._bunches)] if self._bunches else USUAL_BUNCHES

    def gains(self, run: int, lumisection: int) -> dict[str, float]:
        """Return the factor on the energy of each kind of object in a lumisection."""
        length = self.lumisections_per_fill
        while length <= lumisection:  # a longer series begins with the shorter one
            length *= 2
        wander = self._wander_of(run, length)[lumisection]
        more = self.bunches(run) / USUAL_BUNCHES - 1.0
        factors = zip(KINDS, (1.0 + self.gain_wander * wander).tolist(), strict=True)
        return {kind: factor * (1.0 + BUNCH_SLOPES.get(kind, 0.0) * more) for kind, factor in factors}

    def events(
        self,
        run: int,
        lumisection: int,
        n_events: int = N_EVENTS,
        *,
        pileup: float | None = None,
        gains: Mapping[str, float] | None = None,
    ) -> npt.NDArray[np.int16]:
        """Return the events of a lumisection.

        Parameters
        ----------
        pileup
            Instead of that of the lumisection.
        gains
            Kind of object -> a further factor on its pt before it is digitised, for example
            ``{"jet": 1.01}``: a miscalibration, exactly as it happens in a detector.

        Returns
        -------
        int16, shape (n_events, n_inputs), column-contiguous. Objects are sorted by falling pt; missing ones
        hold the padding of their inputs. The first events of a longer block are those of a shorter one.

        Raises
        ------
        ContractError
            `gains` names an unknown kind of object.
        """
        strange = sorted(set(gains or {}) - set(KINDS))
        if strange:
            raise ContractError(f"no object '{strange[0]}' has a gain: use {', '.join(KINDS)}")
        own = self.gains(run, lumisection)
        factors = np.array([own[kind] * (gains or {}).get(kind, 1.0) for kind in KINDS])
        mean = self.pileup(run, lumisection) if pileup is None else pileup
        return self._plan.events(self._state(_EVENTS, run, lumisection), mean, factors, n_events)

    def scores(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int32]:
        """Return an anomaly-like score of each event: a weighted sum of squares of pt and eta codes.

        Parameters
        ----------
        inputs
            int16, shape (n_events, n_inputs).

        Returns
        -------
        int32, shape (n_events,): ``sum(weight * (code - padding)**2) >> 6``, at most ``2**31 - 1``. A missing
        object adds nothing.
        """
        return self._plan.scores(inputs)

    @property
    def threshold(self) -> int:
        """An event is accepted from this score on: `ACCEPTED_SHARE` of the events at `ACCEPTED_PILEUP`."""
        return self._plan.threshold

    def batch(
        self,
        run: int,
        lumisection: int,
        n_events: int = N_EVENTS,
        *,
        effects: Sequence[Effect] = (),
        pileup: float | None = None,
        gains: Mapping[str, float] | None = None,
    ) -> Batch:
        """Return the events of a lumisection, after the effects, with score and decision.

        Raises as `events`; also `EffectError` where an effect does not fit the contract, and
        `MalformedMessage` where there are more events than a batch may hold.
        """
        inputs = self.events(run, lumisection, n_events, pileup=pileup, gains=gains)
        rng = self._rng(_EFFECTS, run, lumisection)
        for effect in effects:
            inputs = effect.apply(inputs, self.contract, lumisection, rng)
        inputs = np.asfortranarray(inputs)
        score = self.scores(inputs)
        return Batch(
            model=self.model,
            contract_name=self.contract.name,
            contract_version=self.contract.version,
            contract_hash=self.contract.hash,
            run=run,
            lumisection=lumisection,
            source=SOURCE,
            sequence=lumisection,
            package=PACKAGE,
            simulated=True,
            inputs=inputs,
            score=score,
            accept=score >= self.threshold,
            input_names=self.contract.input_names,
        )

    def summary(
        self,
        run: int,
        lumisection: int,
        n_events: int = N_EVENTS,
        *,
        effects: Sequence[Effect] = (),
        pileup: float | None = None,
        gains: Mapping[str, float] | None = None,
    ) -> Summary:
        """Return the counts of `batch`, which takes and raises the same."""
        batch = self.batch(run, lumisection, n_events, effects=effects, pileup=pileup, gains=gains)
        return summarise(batch, self.contract)

    def _wander(self, run: int, length: int) -> npt.NDArray[np.float64]:
        """Return the wander of each kind in units of its rms, from lumisection 0: shape (length, kinds)."""
        fill = self._rng(_FILL_GAIN, run).standard_normal(len(KINDS))
        steps = self._rng(_GAINS, run).standard_normal((length, len(KINDS)))
        memory = math.exp(-1.0 / WANDER_LUMISECTIONS)
        steps[1:] *= math.sqrt(1.0 - memory**2)  # the first step is drawn from the stationary distribution
        within = signal.lfilter([1.0], [1.0, -memory], steps, axis=0)
        return np.asarray(math.sqrt(0.5) * (fill + within))

    def _sequence(self, *key: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(self._sequence(*key))

    def _state(self, *key: int) -> int:
        return int(self._sequence(*key).generate_state(1, np.uint64)[0])


class _Plan:
    """A contract as the tables of the compiled loop."""

    def __init__(self, contract: Contract) -> None:
        self.padding = np.array([spec.padding for spec in contract.inputs], dtype=np.int16)
        self.capacity = np.zeros(len(KINDS), dtype=np.int64)
        most = max(group.count for group in contract.objects)
        self.columns = np.full((len(KINDS), most, 3), -1, dtype=np.int64)
        self.lsbs = np.ones((len(KINDS), 3))
        self.rules = np.zeros((len(KINDS), 3, 7), dtype=np.int64)
        for group in contract.objects:
            self._add(contract, group)
        self.weights = [
            0 if spec.quantity == "phi" else _WEIGHTS[spec.object] << (2 if spec.quantity == "pt" else 0)
            for spec in contract.inputs
        ]

    def _add(self, contract: Contract, group: ObjectGroup) -> None:
        kind = KINDS.index(group.name)
        self.capacity[kind] = group.count
        for item, name in enumerate(QUANTITIES):
            quantity = group.quantity(name)
            if quantity is None:
                continue
            self.lsbs[kind, item] = quantity.lsb
            self.rules[kind, item] = (
                quantity.minimum,
                quantity.maximum,
                quantity.wrap or 0,
                quantity.offset,
                quantity.shift,
                quantity.rounding == "nearest",
                quantity.padding(),
            )
            for index in range(group.count):
                self.columns[kind, index, item] = contract.input_index(f"{group.name}[{index}].{name}")

    def events(
        self, state: int, pileup: float, gains: npt.NDArray[np.float64], n_events: int
    ) -> npt.NDArray[np.int16]:
        codes = np.empty((len(self.padding), n_events), dtype=np.int16)
        codes[:] = self.padding[:, None]
        make_events(
            np.uint64(state),
            pileup,
            gains,
            quantiles(),
            object_counts(),
            self.capacity,
            self.columns,
            self.lsbs,
            self.rules,
            codes,
        )
        return codes.T

    def scores(self, inputs: npt.NDArray[np.int16]) -> npt.NDArray[np.int32]:
        total = np.zeros(len(inputs), dtype=np.int64)
        columns = np.ascontiguousarray(inputs.T)
        for column, weight, padding in zip(columns, self.weights, self.padding.tolist(), strict=True):
            if weight:
                add_squares(column, weight, padding, total)
        return np.asarray(np.minimum(total >> _SCORE_SHIFT, _INT32_MAXIMUM), dtype=np.int32)

    @cached_property
    def threshold(self) -> int:
        inputs = self.events(0, ACCEPTED_PILEUP, np.ones(len(KINDS)), 100_000)
        return int(np.quantile(self.scores(inputs), 1 - ACCEPTED_SHARE, method="higher"))


def _check(contract: Contract) -> None:
    """Raise `ContractError` where a contract asks for what is not made here."""
    contract.require_events("a generated detector")
    for group in contract.objects:
        if group.name not in KINDS:
            raise ContractError(
                f"no object '{group.name}' is generated: use a contract of {', '.join(KINDS)}"
            )
        if group.name == "met" and group.count != 1:
            raise ContractError(f"met has count = {group.count}: an event has one missing momentum")
        if group.quantity("pt") is None:
            raise ContractError(
                f"object '{group.name}' has no pt: it tells whether an object is there, add it"
            )
        for quantity in group.quantities:
            label = f"{group.name}.{quantity.name}"
            if quantity.name not in QUANTITIES:
                raise ContractError(f"no quantity '{label}' is generated: use {', '.join(QUANTITIES)}")
            if quantity.stage is not None:
                raise ContractError(f"'{label}' is staged by firmware: use a contract of raw codes")
            if quantity.unit != _UNITS[quantity.name]:
                raise ContractError(
                    f"'{label}' is in '{quantity.unit}': a generated one is in '{_UNITS[quantity.name]}'"
                )
