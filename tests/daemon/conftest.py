"""A site of its own for every test, with its database."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from daemon.site.settings import Site, load_site
from daemon.store.database import open_database
from tests.support.board_site import MODEL, SiteBoard, make_board_site
from tests.support.daemon import HandClock, copy_site
from tests.support.fragile import FragileBoard
from tests.support.hw import SignedPackages


@pytest.fixture
def site_folder(tmp_path: Path) -> Path:
    return copy_site(tmp_path)


@pytest.fixture
def site(site_folder: Path) -> Site:
    return load_site(site_folder)


@pytest.fixture
def engine(site: Site) -> Iterator[Engine]:
    opened = open_database(site.database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def board_site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SignedPackages]:
    """A site with cheap firmware, to be copied."""
    return make_board_site(tmp_path_factory.mktemp("board-site"))


@pytest.fixture
def site_board(board_site: tuple[Path, SignedPackages], tmp_path: Path) -> Iterator[SiteBoard]:
    """A copy of that site, and its board, which runs."""
    folder, packages = board_site
    site = load_site(Path(shutil.copytree(folder, tmp_path / "board-site")))
    with FragileBoard(packages, site.board_flash(MODEL)) as board:
        made = SiteBoard(site, packages, board)
        made.announce(board.address)
        yield made
