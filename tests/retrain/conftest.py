from pathlib import Path

import numpy as np
import pytest
from skhep_testdata import data_path

from hw.network import FirmwareModel
from retrain.train import train
from retrain.train_settings import TrainSettings
from streams.contracts.contract import load_contract
from streams.conversion.convert import convert
from streams.effects.effect import parse_effect
from streams.events.dataset import dataset_of
from streams.events.resample import resample

CONTRACT_FILE = Path(__file__).parents[2] / "deploy" / "site" / "models" / "anomaly" / "contract.toml"
EVENTS = 60_000


@pytest.fixture(scope="session")
def contract():
    return load_contract(CONTRACT_FILE)


@pytest.fixture(scope="session")
def recorded(contract, tmp_path_factory):
    """2421 simulated Higgs events, as converted from ROOT."""
    out = tmp_path_factory.mktemp("recorded") / "recorded.npz"
    return convert([Path(data_path("uproot-HZZ.root"))], contract, out)


@pytest.fixture(scope="session")
def trained(recorded, contract):
    return train(recorded, contract, name="anomaly", settings=TrainSettings())


@pytest.fixture(scope="session")
def firmware(trained) -> FirmwareModel:
    return trained.firmware


@pytest.fixture(scope="session")
def detector(recorded, contract):
    """Draws events of a detector with an effect, as a dataset of ten lumisections of run 5."""

    def draw(effect="none", *, seed, n_events=EVENTS):
        rng = np.random.default_rng(seed)
        inputs = resample(recorded, contract, n_events, rng)
        inputs = parse_effect(effect).apply(inputs, contract, 1, rng)
        return dataset_of(
            contract,
            inputs,
            made_by=f"test {effect} seed={seed}",
            run=np.full(n_events, 5, dtype=np.int64),
            lumisection=61 + np.arange(n_events, dtype=np.int64) * 10 // n_events,
            event=np.arange(n_events, dtype=np.int64),
        )

    return draw


@pytest.fixture(scope="session")
def reference(detector):
    return detector(seed=100)


@pytest.fixture(scope="session")
def drifted(detector):
    return detector("jet_gain=1.05", seed=200)


@pytest.fixture(scope="session")
def dead(detector):
    return detector("jet_dead=0", seed=300)
