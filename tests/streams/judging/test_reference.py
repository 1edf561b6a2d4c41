"""A reference: lumisections in slices of pileup, a calibration, and an identity that is its content."""

import dataclasses
import io

import numpy as np
import pytest

from streams.errors import ReferenceProblem
from streams.judging.reference import (
    Reference,
    build_reference,
    decode_reference,
    encode_reference,
    successor_reference,
)
from tests.support.streams import OTHER_PACKAGE


def test_all_lumisections_give_counts_and_are_held_out_in_turn(reference):
    assert reference.header.n_lumisections == 24
    assert reference.counts.n_events == 24 * 2000
    assert reference.counts.lumisection == 0
    assert reference.counts.batch is None
    assert reference.header.calibration.n_lumisections == 24
    assert reference.header.calibration.n_folds == 4
    assert reference.header.covered == ((50.0, 50.0),)


def test_the_budget_is_told_as_false_alarms_of_a_day(reference):
    assert reference.header.budget == 1e-3
    assert reference.header.false_alarms_per_day == pytest.approx(3.706, abs=1e-3)


def test_bytes_and_identity_come_from_the_content(reference):
    payload = encode_reference(reference)
    again = decode_reference(payload)
    assert again.id == reference.id
    assert encode_reference(again) == payload
    changed = Reference(reference.header.model_copy(update={"built_from": "else"}), reference.expectation)
    assert changed.id != reference.id


@pytest.mark.parametrize("payload", [b"", b"junk", b"PK\x03\x04" + b"\0" * 60])
def test_other_bytes_are_refused(payload):
    with pytest.raises(ReferenceProblem, match="build it again"):
        decode_reference(payload)


def test_a_pickle_inside_is_refused():
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array([{"a": 1}], dtype=object), summary=np.zeros(1, dtype=np.uint8))
    with pytest.raises(ReferenceProblem):
        decode_reference(buffer.getvalue())


def test_too_few_lumisections_are_refused(detector, contract):
    parts = [detector.summary(ls, n_events=50) for ls in range(1, 6)]
    with pytest.raises(ReferenceProblem, match="give 16 or more"):
        build_reference(parts, contract, pileups=[50.0] * 5, built_from="x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"package": OTHER_PACKAGE}, "several models"),
        ({"contract_hash": "0" * 64}, "convert it again"),
        ({"lumisection": 2}, "stands twice"),
    ],
)
def test_lumisections_that_do_not_belong_together_are_refused(detector, contract, change, said):
    parts = [detector.summary(ls, n_events=50) for ls in range(1, 17)]
    parts[0] = dataclasses.replace(parts[0], **change)
    with pytest.raises(ReferenceProblem, match=said):
        build_reference(parts, contract, pileups=[50.0] * 16, built_from="x")


def test_a_reference_of_an_earlier_version_says_so():
    buffer = io.BytesIO()
    old = np.frombuffer(b'{"version": 1, "thresholds": {}}', dtype=np.uint8)
    np.savez(buffer, header=old, summary=np.zeros(1, dtype=np.uint8))
    with pytest.raises(ReferenceProblem, match="another version"):
        decode_reference(buffer.getvalue())


@pytest.mark.parametrize("pileup", [float("nan"), float("inf"), -1.0])
def test_a_lumisection_without_a_pileup_is_refused(detector, contract, pileup):
    parts = [detector.summary(ls, n_events=50) for ls in range(1, 17)]
    with pytest.raises(ReferenceProblem, match="has no pileup"):
        build_reference(parts, contract, pileups=[50.0] * 15 + [pileup], built_from="x")


def test_a_successor_inherits_the_calibration_and_names_its_parent(reference, detector):
    parts = [detector.summary(ls, package=OTHER_PACKAGE) for ls in range(71, 75)]
    successor = successor_reference(
        reference, parts, OTHER_PACKAGE, built_from="LS 71-74, approved by local", pileups=[48.0, 50, 50, 50]
    )
    assert successor.package == OTHER_PACKAGE
    assert successor.parent_id == reference.id
    assert successor.header.calibration == reference.header.calibration
    assert successor.header.covered == ((48.0, 50.0),)
    assert successor.counts.n_events == 8000
    with pytest.raises(ReferenceProblem, match="windows of package"):
        successor_reference(reference, [detector.summary(75)], OTHER_PACKAGE, built_from="x", pileups=[50.0])


def test_three_fills_show_how_large_a_bias_is(reference, fill_reference):
    assert len(fill_reference.header.runs) == 3
    assert fill_reference.header.bias_learnt
    assert not reference.header.bias_learnt
