"""The example contract, the sample it reads, and events made under it."""

from pathlib import Path

import numpy as np
import pytest
import skhep_testdata

from streams.backtest.generator import GeneratedDetector
from streams.contracts.contract import load_contract
from streams.conversion.convert import convert
from streams.events.batch import Batch
from streams.judging.reference import build_reference
from tests.support.streams import MODEL, Detector, StandInScore

CONTRACT_PATH = Path(__file__).parents[2] / "deploy" / "site" / "models" / "anomaly" / "contract.toml"

FILL_EVENTS = 5000
FILL_PLACES = tuple((run, lumisection) for run in (1, 2, 3) for lumisection in range(1, 17))

SMALL_CONTRACT = """
name = "small"
version = 2
tree = "events"

[[objects]]
name = "met"
count = 1
[[objects.quantities]]
name = "pt"
expression = "hypot(MET_px, MET_py)"
lsb = 0.5
unit = "GeV"
minimum = 0
maximum = 100

[[objects]]
name = "jet"
count = 2
sort_by = "pt"
[[objects.quantities]]
name = "pt"
expression = "hypot(Jet_Px, Jet_Py)"
lsb = 0.5
unit = "GeV"
minimum = 0
maximum = 255
[[objects.quantities]]
name = "eta"
expression = "arcsinh(Jet_Pz / hypot(Jet_Px, Jet_Py))"
lsb = 0.0435
minimum = -115
maximum = 115
rounding = "nearest"
[[objects.quantities]]
name = "phi"
expression = "arctan2(Jet_Py, Jet_Px)"
lsb = 0.04363323129985824
unit = "rad"
minimum = 0
maximum = 143
wrap = 144
"""


@pytest.fixture(scope="session")
def contract_path():
    return CONTRACT_PATH


@pytest.fixture(scope="session")
def contract():
    return load_contract(CONTRACT_PATH)


@pytest.fixture(scope="session")
def hzz_path():
    return Path(skhep_testdata.data_path("uproot-HZZ.root"))


@pytest.fixture(scope="session")
def dataset(contract, hzz_path, tmp_path_factory):
    return convert([hzz_path], contract, tmp_path_factory.mktemp("hzz") / "hzz.npz")


@pytest.fixture(scope="session")
def make_batch(contract, dataset):
    """Return a function that makes a batch of real events; every keyword replaces a field."""

    def make(n_events=200, seed=0, **changes):
        rng = np.random.default_rng(seed)
        inputs = dataset.inputs[rng.integers(0, dataset.n_events, n_events)]
        score = rng.integers(0, 2**20, n_events).astype(np.int32)
        fields = {
            "model": "anomaly",
            "contract_name": contract.name,
            "contract_version": contract.version,
            "contract_hash": contract.hash,
            "run": 1,
            "lumisection": 7,
            "source": "replay",
            "sequence": 3,
            "package": "ab" * 32,
            "simulated": True,
            "inputs": inputs,
            "score": score,
            "accept": score > 900_000,
            "input_names": contract.input_names,
        }
        return Batch(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def small_text():
    """Return a contract of 7 inputs, as TOML: missing energy and two jets."""
    return SMALL_CONTRACT


@pytest.fixture(scope="session")
def detector(dataset, contract):
    """Return a maker of lumisections with a stand-in for the firmware."""
    return Detector(dataset, contract, StandInScore(dataset))


@pytest.fixture(scope="session")
def reference(detector, contract):
    """Return a reference of 24 in-control lumisections of 2000 events at pileup 50."""
    parts = [detector.summary(lumisection) for lumisection in range(1, 25)]
    return build_reference(parts, contract, pileups=[50.0] * len(parts), built_from="LS 1-24 of run 5")


@pytest.fixture(scope="session")
def generated(contract):
    return GeneratedDetector(
        contract, 7, pileup_start=44.0, pileup_end=36.0, lumisections_per_fill=16, model=MODEL
    )


@pytest.fixture(scope="session")
def fills(generated):
    """Return summaries and measured pileups of 48 lumisections of three fills, from pileup 44 to 36."""
    parts = [generated.summary(run, lumisection, FILL_EVENTS) for run, lumisection in FILL_PLACES]
    return parts, [generated.conditions(run, lumisection).pileup for run, lumisection in FILL_PLACES]


@pytest.fixture(scope="session")
def fill_reference(fills, contract):
    parts, pileups = fills
    return build_reference(parts, contract, pileups=pileups, built_from="three generated fills")
