"""What every room's tests share: a PostgreSQL server, and warnings of libraries that nobody here can mend."""

import gc
import warnings

import pytest

with warnings.catch_warnings():
    # kafka-python 3.0 reads its protocol files with functions that Python 3.11 deprecates, once, on import
    warnings.filterwarnings("ignore", r"(read|open)_text is deprecated", DeprecationWarning)
    import kafka  # noqa: F401 - imported for the silence above

    from tests.support.postgres import any_server, fresh_database

# beside every room's libraries, looking for garbage is a third of the work of tests of the database otherwise
gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items):
    """Put the few tests that take longest first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def postgres_server():
    """Return the URL of a PostgreSQL server, started when the first test asks for it."""
    with any_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server):
    """Return the URL of an empty PostgreSQL database of this test alone."""
    with fresh_database(postgres_server) as url:
        yield url
