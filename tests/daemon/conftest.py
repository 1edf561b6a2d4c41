"""A site of its own for every test, with its database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from daemon.site.settings import Site, load_site
from daemon.store.database import open_database
from tests.support.daemon import HandClock, copy_site


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
