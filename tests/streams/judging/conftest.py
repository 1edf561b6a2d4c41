"""A generated detector, and a reference of three of its fills."""

import pytest

from streams.backtest.generator import GeneratedDetector
from streams.judging.reference import build_reference
from tests.support.streams import MODEL

N_EVENTS = 5000
PLACES = tuple((run, lumisection) for run in (1, 2, 3) for lumisection in range(1, 17))


@pytest.fixture(scope="session")
def generated(contract):
    return GeneratedDetector(
        contract, 7, pileup_start=44.0, pileup_end=36.0, lumisections_per_fill=16, model=MODEL
    )


@pytest.fixture(scope="session")
def fills(generated):
    """Return summaries and measured pileups of 48 lumisections of three fills, from pileup 44 to 36."""
    parts = [generated.summary(run, lumisection, N_EVENTS) for run, lumisection in PLACES]
    return parts, [generated.conditions(run, lumisection).pileup for run, lumisection in PLACES]


@pytest.fixture(scope="session")
def fill_reference(fills, contract):
    parts, pileups = fills
    return build_reference(parts, contract, pileups=pileups, built_from="three generated fills")
