"""Which story is told for which effect: the confusion tables of docs/explanations.md.

Usage: python -m tests.benchmarks.explanations [TRIALS]
Every trial is a fresh lumisection, assessed alone; what tells most in it stands for the verdict's suspect.
"""

# ruff: noqa: T201 - a program prints

import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import skhep_testdata

from streams.backtest.generator import GeneratedDetector
from streams.contracts.contract import load_contract
from streams.conversion.convert import convert
from streams.counting.summary import summarise
from streams.effects.effect import parse_effect
from streams.explaining.causes import Cause
from streams.explaining.explanation import explain
from streams.judging.assessment import AssessmentSettings, assess
from streams.judging.reference import build_reference
from tests.support.streams import Detector, StandInScore, conditions

CONTRACT = Path("deploy/site/models/anomaly/contract.toml")
GENERATED = {
    Cause.GAIN: (
        "jet_gain=1.01",
        "jet_gain=0.97",
        "jet_gain=1.2",
        "met_gain=1.03",
        "egamma_gain=1.02",
        "muon_gain=1.05",
    ),
    Cause.OFFSET: ("jet_offset=1.5", "jet_offset=-1", "met_offset=2.5", "egamma_offset=1"),
    Cause.RESOLUTION: ("met_resolution=0.2", "jet_resolution=0.2"),
    Cause.TAIL: ("met_tail=3:fraction=0.005", "met_tail=3:fraction=0.01", "jet_tail=2:fraction=0.02"),
    Cause.DEAD_REGION: (
        "jet_hole=1.2,0.6:width=0.435,0.262",
        "jet_hole=-2.5,3:width=1,0.6",
        "egamma_hole=1.2,0.6:width=0.4,0.3",
    ),
    Cause.HOT_TOWER: ("jet_noise=60:fraction=0.005:at=1.2,0.6", "egamma_noise=30:fraction=0.01:at=-1.2,2.6"),
    Cause.NOISE: ("jet_noise=60:fraction=0.02", "egamma_noise=20:fraction=0.02"),
    Cause.NUMBER: ("jet_pileup=0.7:below=40",),
    Cause.DEAD_CHANNEL: ("jet[0].pt_stuck=padding", "met[0].pt_stuck=40", "jet[1].eta_stuck=7"),
    Cause.DEAD_SLOT: ("jet_dead=2", "egamma_dead=0"),
    Cause.STUCK_BIT: ("jet[0].pt_bit=3:at=1", "egamma[0].eta_bit=2:at=0", "met[0].phi_bit=0:at=0"),
    Cause.SWAP: (
        "jet[0].pt_swap=jet[1].pt",
        "met[0].pt_swap=jet[0].pt",
        "jet[0].eta_swap=jet[0].phi",
        "jet[0].eta_swap=jet[1].eta",
    ),
    Cause.PILEUP: ("pileup x1.12", "pileup x0.9"),
    Cause.OUTPUT: ("score x1.3",),
}
REAL = {
    Cause.GAIN: ("jet_gain=1.08", "muon_gain=1.06", "met_gain=1.2"),
    Cause.OFFSET: ("jet_offset=6", "met_offset=5"),
    Cause.TAIL: ("met_tail=5:fraction=0.1",),
    Cause.DEAD_REGION: ("jet_hole=0.5,0.6:width=1.2,1", "muon_hole=0.5,0.6:width=0.6,0.6"),
    Cause.HOT_TOWER: ("jet_noise=60:fraction=0.03:at=1.2,0.6",),
    Cause.NOISE: ("jet_noise=60:fraction=0.1",),
    Cause.NUMBER: ("jet_pileup=0.7:below=60",),
    Cause.DEAD_CHANNEL: ("met[0].pt_stuck=padding",),
    Cause.DEAD_SLOT: ("jet_dead=0",),
    Cause.STUCK_BIT: ("jet[0].pt_bit=3:at=1",),
    Cause.SWAP: ("muon[0].pt_swap=jet[0].pt", "muon[0].phi_swap=muon[0].eta"),
}


def main():
    """Print both tables."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    contract = load_contract(CONTRACT)
    _table("generated detector, 20 000 events", GENERATED, _generated(contract), trials)
    _table("HZZ sample, 2000 events", REAL, _real(contract), trials)


def _generated(contract):
    made = GeneratedDetector(contract, 7, lumisections_per_fill=60)
    places = [(run, lumisection) for run in (1, 2, 3, 4) for lumisection in range(1, 61)]
    reference = build_reference(
        [made.summary(*place) for place in places],
        contract,
        pileups=[made.conditions(*place).pileup for place in places],
        built_from="four generated fills",
    )

    def window(effect, trial):
        place = (100 + trial, 5 + 13 * trial % 50)
        known = made.conditions(*place)
        if effect.startswith("pileup"):
            factor = float(effect.split("x")[1])
            return made.summary(*place, pileup=factor * made.pileup(*place)), known
        if effect.startswith("score"):
            batch = made.batch(*place)
            score = (batch.score * 1.3).astype(np.int32)
            return summarise(replace(batch, score=score, accept=score >= made.threshold), contract), known
        return made.summary(*place, effects=[parse_effect(effect)]), known

    return window, reference, contract


def _real(contract):
    with tempfile.TemporaryDirectory() as folder:
        root = skhep_testdata.data_path("uproot-HZZ.root")
        dataset = convert([root], contract, Path(folder) / "hzz.npz")
    made = Detector(dataset, contract, StandInScore(dataset))
    parts = [made.summary(lumisection) for lumisection in range(1, 25)]
    reference = build_reference(parts, contract, pileups=[50.0] * 24, built_from="LS 1-24")

    def window(effect, trial):
        return made.summary(100 + trial, effects=[parse_effect(effect)]), conditions(100 + trial)

    return window, reference, contract


def _table(title, effects, source, trials):
    window, reference, contract = source
    settings, seconds = AssessmentSettings(), []
    print(f"\n### {title}\n\n| effect | right | story told |\n|---|---|---|")
    for cause, texts in effects.items():
        for text in texts:
            told = Counter()
            for trial in range(trials):
                counts, known = window(text, trial)
                found = assess(counts, reference, known, contract, settings)
                suspect = min([*found.channels, *found.extremes], key=lambda one: one.p_value).name
                begin = time.process_time()
                story = explain(found, counts, reference.expectation, contract, suspects=[suspect])
                seconds.append(time.process_time() - begin)
                told[story.cause] += 1
            others = ", ".join(f"{name} {n}" for name, n in told.most_common() if name is not cause)
            print(f"| `{text}` | {told[cause]} of {trials} | {cause}{f'; {others}' if others else ''} |")
    median, worst = 1e3 * np.median(seconds), 1e3 * np.max(seconds)
    print(f"\nCPU time of a story: median {median:.0f} ms, at most {worst:.0f} ms.")


if __name__ == "__main__":
    main()
