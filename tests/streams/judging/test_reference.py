"""A reference: half gives counts, half calibrates, and its identity is its content."""

import dataclasses
import io

import numpy as np
import pytest

from streams.errors import ReferenceProblem
from streams.judging.comparison import FAMILIES, compare
from streams.judging.reference import (
    Reference,
    build_reference,
    decode_reference,
    encode_reference,
    successor_reference,
)
from tests.support.streams import OTHER_PACKAGE


def test_half_of_the_lumisections_give_the_counts(reference):
    assert reference.header.n_lumisections == 12
    assert reference.counts.n_events == 12 * 2000
    assert reference.counts.lumisection == 0
    assert reference.counts.batch is None


def test_thresholds_cover_the_held_out_half(reference, detector):
    held_out = [compare(detector.summary(ls), reference.counts) for ls in range(2, 25, 2)]
    for family in FAMILIES:
        assert reference.header.thresholds[family] >= max(one.value(family) for one in held_out)


def test_bytes_and_identity_come_from_the_content(reference):
    payload = encode_reference(reference)
    again = decode_reference(payload)
    assert again.id == reference.id
    assert encode_reference(again) == payload
    changed = Reference(reference.header.model_copy(update={"built_from": "else"}), reference.counts)
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


def test_a_successor_inherits_thresholds_and_names_its_parent(reference, detector):
    parts = [detector.summary(ls, package=OTHER_PACKAGE) for ls in range(71, 75)]
    successor = successor_reference(
        reference, parts, OTHER_PACKAGE, built_from="LS 71-74, approved by local", pileups=[48.0, 50, 50, 50]
    )
    assert successor.package == OTHER_PACKAGE
    assert successor.parent_id == reference.id
    assert successor.header.thresholds == reference.header.thresholds
    assert successor.header.pileup_minimum == 48.0
    assert successor.counts.n_events == 8000
    with pytest.raises(ReferenceProblem, match="windows of package"):
        successor_reference(reference, [detector.summary(75)], OTHER_PACKAGE, built_from="x")
