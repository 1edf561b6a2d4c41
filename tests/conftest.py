"""What every room's tests share: warnings of libraries that nobody here can mend, each with its reason."""

import pytest

FOREIGN_WARNINGS = (
    # kafka-python 3.0 reads its protocol files with functions that Python 3.11 deprecates
    "ignore:(read|open)_text is deprecated:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", line)
