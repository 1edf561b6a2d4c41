import pytest

from hw.boards.emulated import start_emulated_board
from hw.boards.ipbus import IPbusBoard
from tests.support.hw import build_packages
from tests.support.plain_images import partitioned_packages


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    return build_packages(tmp_path_factory.mktemp("packages"), other=True)


@pytest.fixture(scope="session")
def partitioned(packages, tmp_path_factory):
    """Build packages of two partitions; `other` differs from `first` in one of them."""
    manifest = packages.first.manifest
    return partitioned_packages(tmp_path_factory.mktemp("partitioned"), manifest.bench, manifest.toolchain)


@pytest.fixture
def running(packages):
    """Start a board that runs `packages.first`."""
    with start_emulated_board(packages.first.path, packages.trusted_path) as process:
        yield process


@pytest.fixture
def board(running):
    client = IPbusBoard(running.address)
    yield client
    client.close()
