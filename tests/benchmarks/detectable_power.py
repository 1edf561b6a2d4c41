"""How often effects of the stated detectable size are found, on the generated detector.

Run it as ``python -m tests.benchmarks.detectable_power 50 8``: repetitions with each reference, and how many
references, each learnt from a detector of its own, for the noise of one is common to all that it judges.
Prints the stated size (the mean over the references), how many effects of it were found and how many were
tried, at 95 % and at 50 %.
"""

import dataclasses
import sys
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from streams.backtest.generator import GeneratedDetector
from streams.contracts.contract import load_contract
from streams.counting.summary import summarise
from streams.effects.effect import parse_effect
from streams.judging.detectable import N_WINDOWS, detectable_effects
from streams.judging.evidence import Evidence, Linear, Rare
from streams.judging.findings import Yardstick, find
from streams.judging.reference import build_reference
from tests.streams.conftest import CONTRACT_PATH

N_EVENTS = 20_000
PILEUP = 40.0
PILEUP_ERROR = 0.01
RATE_BAND = 0.1
POWERS = (0.95, 0.5)
PLACES = [(run, lumisection) for run in (1, 2, 3, 4) for lumisection in range(1, 601, 15)]
FIRST_SEED = 7
CONTRACT = load_contract(CONTRACT_PATH)


class Tried(NamedTuple):
    """What came of the effects of one size with one reference."""

    size: float
    hits: int
    repetitions: int


def main() -> None:
    repeated, references = (int(said) for said in [*sys.argv[1:], "20", "1"][:2])
    results: dict[str, list[Tried]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + references):
        for what, tried in _one_reference(GeneratedDetector(CONTRACT, seed), repeated):
            results[what].append(tried)
    for what, tried in results.items():
        size = np.mean([one.size for one in tried])
        hits, repetitions = (sum(counts) for counts in zip(*(one[1:] for one in tried), strict=True))
        sys.stdout.write(f"{what}: {size:.4f}, {hits} of {repetitions}\n")


def _one_reference(detector, repeated):
    """Yield the name of each effect and what came of it."""
    reference = build_reference(
        [detector.summary(*place, N_EVENTS) for place in PLACES],
        CONTRACT,
        pileups=[detector.conditions(*place).pileup for place in PLACES],
        built_from="four generated fills",
    )
    header = reference.header
    yardstick = Yardstick(
        design=reference.design(CONTRACT),
        expectation=reference.expectation,
        calibration=header.calibration,
        budget=header.budget,
        floors=header.effect_floors,
        rate_band=RATE_BAND,
    )
    for power in POWERS:
        effects = {
            one.name: one
            for one in detectable_effects(
                reference, CONTRACT, n_events=N_EVENTS, pileup=PILEUP, rate_band=RATE_BAND, power=power
            )
        }
        for kind in ("jet", "met", "egamma"):
            found = effects[f"{kind} gain"]
            for n_windows, size in ((1, found.at_once), (N_WINDOWS, found.in_ten)):
                effect = parse_effect(f"{kind}_gain={1 + size:.6f}")
                tried = repeated if n_windows == 1 else max(repeated // 4, 1)
                hits = sum(
                    _alarm(detector, yardstick, found.name, fill, n_windows, _acted(effect))
                    for fill in range(100, 100 + tried)
                )
                yield f"{found.name}, {n_windows} windows, {power:.0%}", Tried(size, hits, tried)
        for name in ("jet[0].pt", "jet[3].eta", "met[0].pt"):
            by = effects[name].shift_lsb
            hits = sum(
                _alarm(detector, yardstick, "inputs", fill, 1, _shifted(name, by))
                for fill in range(100, 100 + repeated)
            )
            yield f"{name}, 1 window, {power:.0%}, codes", Tried(by, hits, repeated)


def _acted(effect):
    return lambda inputs, lumisection, rng: effect.apply(inputs, CONTRACT, lumisection, rng)


def _shifted(name, by):
    """Move one input up where its object is there, by a number of codes that need not be whole."""
    index = CONTRACT.input_index(name)
    presence, top = int(CONTRACT.presence[index]), CONTRACT.inputs[index].maximum

    def move(inputs, _lumisection, rng):
        there = np.ones(len(inputs), dtype=bool)
        if presence >= 0:
            there = inputs[:, presence] != CONTRACT.inputs[presence].padding
        moved = np.array(inputs, order="F")
        steps = int(by) + (rng.random(len(inputs)) < by % 1)
        moved[there, index] = np.minimum(moved[there, index] + steps[there], top)
        return moved

    return move


def _alarm(detector, yardstick, name, fill, n_windows, act):
    """Tell whether one channel by itself raises an alarm within some windows."""
    rng, evidence = np.random.default_rng(fill), Evidence()
    for lumisection in range(10, 10 + n_windows):
        batch = detector.batch(fill, lumisection, N_EVENTS, pileup=PILEUP)
        inputs = np.asfortranarray(act(batch.inputs, lumisection, rng))
        score = detector.scores(inputs)
        changed = dataclasses.replace(batch, inputs=inputs, score=score, accept=score >= detector.threshold)
        measured = PILEUP * (1 + PILEUP_ERROR * rng.standard_normal())
        found = find(summarise(changed, CONTRACT), measured, yardstick)
        level, _ = evidence.update(
            [Linear(one.name, one.share, one.z, one.tolerance) for one in found.channels if one.name == name],
            [Rare(one.name, one.share, one.p_value) for one in found.extremes if one.name == name],
            yardstick.budget,
            (fill, lumisection),
        )
        if level >= 0:
            return True
    return False


if __name__ == "__main__":
    main()
