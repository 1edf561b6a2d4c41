"""The command line in this process, and a site with data, a training and signed packages to misuse."""

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from skhep_testdata import data_path

from daemon.cli.main import main
from daemon.references.commissioning import Commissioning
from daemon.site.settings import load_site
from retrain.train_settings import MINIMUM_EVENTS, TrainSettings
from streams.contracts.contract import parse_contract
from streams.conversion.convert import convert
from tests.support.daemon import copy_site
from tests.support.hw import build_packages


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error: exit code 2, nothing else on either stream."""
        assert self.code == 2, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("lumiwatch: ")
        return lines[0]

    @property
    def usage(self) -> str:
        """What is said of an option that the command line refuses by itself."""
        assert self.code == 2, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        return self.err.splitlines()[-1]


@pytest.fixture
def lumiwatch(capsys, monkeypatch):
    """Run one command; returns how it ended."""
    monkeypatch.setenv("COLUMNS", "80")
    at_term = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    yield run
    signal.signal(signal.SIGTERM, at_term)


@pytest.fixture(scope="session")
def root_file() -> Path:
    return Path(data_path("uproot-HZZ.root"))


@pytest.fixture(scope="session")
def trained_site(tmp_path_factory, root_file) -> Path:
    """A site with a dataset `hzz.npz`, one of another contract `other.npz`, and a (poor) training."""
    folder = copy_site(tmp_path_factory.mktemp("trained"))
    site = load_site(folder)
    model = site.models["anomaly"]
    convert([root_file], model.contract, folder / "hzz.npz")
    changed = model.contract_path.read_text().replace("version = 1", "version = 2", 1)
    convert([root_file], parse_contract(changed), folder / "other.npz")
    settings = TrainSettings(epochs=1, training_events=MINIMUM_EVENTS, threshold_events=MINIMUM_EVENTS)
    Commissioning(site).train(model, [folder / "hzz.npz"], settings, lambda _fraction, _message: None)
    return folder


@pytest.fixture
def site(tmp_path) -> Path:
    return copy_site(tmp_path)


@pytest.fixture(scope="session")
def dataset(trained_site) -> Path:
    return trained_site / "hzz.npz"


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    return build_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def trusting_site(site, packages) -> Path:
    """A site that trusts the key that signed the packages."""
    trusted = site / "state" / "trusted-keys"
    trusted.mkdir(parents=True)
    shutil.copy(packages.trusted_path, trusted)
    return site


@pytest.fixture
def no_compiler(monkeypatch, tmp_path) -> None:
    empty = tmp_path / "empty-path"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.delenv("CXX", raising=False)
