"""A site with a viewer, an operator, an expert and an admin."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from daemon.access.control import AccessControl
from daemon.site.settings import Site, load_site
from daemon.store.database import open_database
from tests.support.access import CHEAP, declare, make_services, served
from tests.support.daemon import HandClock


@pytest.fixture
def site(site_folder: Path) -> Site:
    declare(site_folder)
    return load_site(site_folder)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory) -> Path:
    """A database of today's schema without content: to copy is faster than to make."""
    file = tmp_path_factory.mktemp("database") / "new.sqlite"
    open_database(f"sqlite:///{file}").dispose()
    return file


@pytest.fixture
def engine(site: Site, new_database: Path) -> Iterator[Engine]:
    site.state_dir.mkdir()
    shutil.copy(new_database, site.state_dir / "lumiwatch.sqlite")
    opened = open_database(site.database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def access(engine: Engine, site: Site, clock: HandClock) -> AccessControl:
    return AccessControl(engine, site, clock, CHEAP)


@pytest.fixture
def api(engine: Engine, site: Site, clock: HandClock):
    with served(make_services(engine, site, clock)) as running:
        yield running
