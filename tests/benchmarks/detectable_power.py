"""How often effects of the stated detectable size are found, on the generated detector.

Run it as ``python -m tests.benchmarks.detectable_power 100``; the number is that of repetitions. Prints the
size, how many were found and how many were tried, at 95 % and at 50 %.
"""

import dataclasses
import sys

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


def main() -> None:
    repeated = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    contract = load_contract(CONTRACT_PATH)
    detector = GeneratedDetector(contract, 7)
    reference = build_reference(
        [detector.summary(*place, N_EVENTS) for place in PLACES],
        contract,
        pileups=[detector.conditions(*place).pileup for place in PLACES],
        built_from="four generated fills",
    )
    header = reference.header
    yardstick = Yardstick(
        design=reference.design(contract),
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
                reference, contract, n_events=N_EVENTS, pileup=PILEUP, rate_band=RATE_BAND, power=power
            )
        }
        for kind in ("jet", "met", "egamma"):
            found = effects[f"{kind} gain"]
            for n_windows, size in ((1, found.at_once), (N_WINDOWS, found.in_ten)):
                effect = parse_effect(f"{kind}_gain={1 + size:.6f}")
                tried = repeated if n_windows == 1 else max(repeated // 4, 1)
                hits = sum(
                    _alarm(detector, yardstick, found.name, fill, n_windows, _acted(effect, contract))
                    for fill in range(100, 100 + tried)
                )
                sys.stdout.write(
                    f"{found.name}, {n_windows} windows, {power:.0%}: {size:.4f}, {hits} of {tried}\n"
                )
        for name in ("jet[0].pt", "jet[3].eta", "met[0].pt"):
            by = effects[name].shift_lsb
            hits = sum(
                _alarm(detector, yardstick, "inputs", fill, 1, _shifted(contract, name, by))
                for fill in range(100, 100 + repeated)
            )
            sys.stdout.write(f"{name}, 1 window, {power:.0%}: {by:.3f} codes, {hits} of {repeated}\n")


def _acted(effect, contract):
    return lambda inputs, lumisection, rng: effect.apply(inputs, contract, lumisection, rng)


def _shifted(contract, name, by):
    """Move one input up where its object is there, by a number of codes that need not be whole."""
    index = contract.input_index(name)
    presence, top = int(contract.presence[index]), contract.inputs[index].maximum

    def move(inputs, _lumisection, rng):
        there = np.ones(len(inputs), dtype=bool)
        if presence >= 0:
            there = inputs[:, presence] != contract.inputs[presence].padding
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
        found = find(summarise(changed, detector.contract), measured, yardstick)
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
