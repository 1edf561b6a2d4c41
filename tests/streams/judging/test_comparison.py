"""Two references side by side: what differs, in units of noise, and whether windows would notice."""

import pytest

from streams.contracts.contract import parse_contract
from streams.errors import ReferenceProblem
from streams.judging.comparison import common_pileups, compare
from streams.judging.reference import build_reference
from tests.streams.conftest import FILL_EVENTS


def _reference(generated, contract, run, pileups=None, gains=None):
    places = [(fill, lumisection) for fill in (run, run + 1) for lumisection in range(1, 17)]
    known = [generated.conditions(*place).pileup for place in places]
    parts = [generated.summary(*place, FILL_EVENTS, gains=gains) for place in places]
    return build_reference(parts, contract, pileups=pileups or known, built_from="two more fills")


@pytest.fixture(scope="module")
def alike(generated, contract):
    return _reference(generated, contract, 21)


def test_references_of_one_detector_agree(fill_reference, alike, contract):
    found = compare(fill_reference, alike, contract)
    assert found.verdict == "They agree within their noise." or "less than 10 windows" in found.verdict
    assert len(found.pileups) == 3
    assert abs(found.channels[0].deviations) >= abs(found.channels[-1].deviations)


def test_a_reference_of_another_gain_is_told_apart(generated, fill_reference, contract):
    gained = _reference(generated, contract, 21, gains={"jet": 1.03})
    found = compare(fill_reference, gained, contract)
    assert found.verdict.startswith("They differ, and 10 windows of the other would show it: ")
    gain = next(one for one in found.channels if one.name == "jet gain")
    # soft jets that the gain lifts above the threshold make the mean gain smaller
    assert 0.015 < gain.effect < 0.035
    assert gain.deviations > 5
    assert found.inputs[0].name.startswith("jet[")
    assert found.inputs[0].mean_shift > 0


def test_a_reference_agrees_with_itself(fill_reference, contract):
    found = compare(fill_reference, fill_reference, contract)
    assert found.verdict == "They agree within their noise."
    assert all(abs(one.deviations) < 0.1 for one in found.channels)


def test_references_of_no_common_pileup_cannot_be_compared(generated, fill_reference, contract):
    elsewhere = _reference(generated, contract, 21, pileups=[60.0] * 32)
    assert common_pileups(fill_reference, elsewhere) == ()
    found = compare(fill_reference, elsewhere, contract)
    assert found.verdict == "They cover no pileup in common, and cannot be compared."
    assert found.channels == found.inputs == ()


def test_references_of_another_contract_are_refused(fill_reference, small_text):
    with pytest.raises(ReferenceProblem, match="only references of one contract"):
        compare(fill_reference, fill_reference, parse_contract(small_text))
