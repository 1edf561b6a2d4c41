"""What is said to be detectable is detected, as often as it is said."""

import dataclasses

import numpy as np
import pytest

from streams.counting.summary import summarise
from streams.effects.effect import parse_effect
from streams.errors import ReferenceProblem
from streams.judging.detectable import describe_size, detectable_effects, most_useful
from streams.judging.evidence import Evidence, Linear, Rare
from streams.judging.findings import Yardstick, find
from tests.streams.conftest import FILL_EVENTS

PILEUP = 40.0
REPEATED = 20


@pytest.fixture(scope="module")
def yardstick(fill_reference, contract):
    header = fill_reference.header
    return Yardstick(
        fill_reference.design(contract),
        fill_reference.expectation,
        header.calibration,
        header.budget,
        header.effect_floors,
    )


def _effects(reference, contract, **changes):
    found = detectable_effects(reference, contract, **({"n_events": FILL_EVENTS, "pileup": PILEUP} | changes))
    return {one.name: one for one in found}


def _found(yardstick, name, summaries):
    """Tell whether one channel by itself raises an alarm."""
    evidence = Evidence()
    for number, summary in enumerate(summaries):
        findings = find(summary, PILEUP, yardstick)
        level, _ = evidence.update(
            [
                Linear(one.name, one.share, one.z, one.tolerance)
                for one in findings.channels
                if one.name == name
            ],
            [Rare(one.name, one.share, one.p_value) for one in findings.extremes if one.name == name],
            yardstick.budget,
            (1, number),
        )
        if level >= 0:
            return True
    return False


def _gained(generated, factor, fill, n_windows=1):
    effect = parse_effect(f"jet_gain={factor:.6f}")
    return [
        generated.summary(fill, lumisection, FILL_EVENTS, effects=(effect,), pileup=PILEUP)
        for lumisection in range(8, 8 + n_windows)
    ]


def _shifted(generated, contract, name, by, fill):
    """Move one input up by a number of codes that need not be whole, where its object is there."""
    batch = generated.batch(fill, 8, FILL_EVENTS, pileup=PILEUP)
    index, rng = contract.input_index(name), np.random.default_rng(fill)
    presence = int(contract.presence[index])
    there = batch.inputs[:, presence] != contract.inputs[presence].padding
    inputs = np.array(batch.inputs, order="F")
    inputs[there, index] += int(by) + (rng.random(there.sum()) < by % 1)
    return summarise(dataclasses.replace(batch, inputs=inputs), contract)


@pytest.mark.parametrize(("power", "least", "most"), [(0.95, 17, 20), (0.5, 4, 16)])
def test_a_gain_is_found_at_once_as_often_as_said(
    generated, fill_reference, contract, yardstick, power, least, most
):
    size = _effects(fill_reference, contract, power=power)["jet gain"].at_once
    found = [
        _found(yardstick, "jet gain", _gained(generated, 1 + size, fill))
        for fill in range(100, 100 + REPEATED)
    ]
    assert least <= sum(found) <= most


def test_a_smaller_gain_is_found_in_ten_windows(generated, fill_reference, contract, yardstick):
    gain = _effects(fill_reference, contract)["jet gain"]
    assert gain.in_ten < 0.6 * gain.at_once
    at_once, in_ten = (
        [
            _found(yardstick, "jet gain", _gained(generated, 1 + gain.in_ten, fill, n_windows))
            for fill in range(100, 106)
        ]
        for n_windows in (1, 10)
    )
    assert sum(at_once) <= 1
    assert sum(in_ten) >= 5


def test_a_shift_of_one_input_is_found_at_once(generated, fill_reference, contract, yardstick):
    shift = _effects(fill_reference, contract)["jet[0].pt"].shift_lsb
    large, small = (
        [
            _found(yardstick, "inputs", [_shifted(generated, contract, "jet[0].pt", by, fill)])
            for fill in range(100, 100 + REPEATED)
        ]
        for by in (shift, shift / 2)
    )
    assert sum(large) >= 17
    assert sum(small) <= 4


def test_every_channel_and_every_input_is_told(fill_reference, contract):
    effects = _effects(fill_reference, contract)
    assert {one.name for one in contract.inputs} <= set(effects)
    known = {name for name, one in effects.items() if one.kind == "channel"}
    assert {"jet gain", "number of jet", "jet mean eta", "score level", "accept rate"} <= known
    assert effects["jet[0].pt"].unit == "GeV"
    assert effects["jet[0].pt"].at_once == pytest.approx(effects["jet[0].pt"].shift_lsb * 0.5)
    assert effects["jet[0].pt"].gain < 0.2
    assert effects["jet[0].eta"].gain is None


def test_a_turn_of_an_even_angle_is_never_found(fill_reference, contract):
    assert _effects(fill_reference, contract)["jet[0].phi"].at_once is None


def test_more_events_let_smaller_effects_be_noticed_up_to_the_calibrated_size(fill_reference, contract):
    few, usual, many, most = (
        _effects(fill_reference, contract, n_events=events)["jet gain"].at_once
        for events in (FILL_EVENTS // 4, FILL_EVENTS, 10 * FILL_EVENTS, 100 * FILL_EVENTS)
    )
    assert few > usual > many
    assert most == pytest.approx(many, rel=0.01)


def test_a_wider_budget_lets_smaller_effects_be_noticed(fill_reference, contract):
    wide = dataclasses.replace(
        fill_reference, header=fill_reference.header.model_copy(update={"budget": 0.1})
    )
    strict, loose = (_effects(one, contract) for one in (fill_reference, wide))
    sizes = [(strict[name].at_once, loose[name].at_once) for name in strict]
    assert all(one > other for one, other in sizes if one is not None)


def test_the_most_useful_are_few_and_begin_with_the_gains(fill_reference, contract):
    effects = detectable_effects(fill_reference, contract, n_events=FILL_EVENTS, pileup=PILEUP)
    useful = most_useful(effects)
    assert len(useful) == 10
    assert useful[0].name == "met gain"
    assert all(one.at_once is not None for one in useful)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pileup": 80.0}, "give one inside"),
        ({"n_events": 0}, "give 1 or more"),
        ({"power": 0.3}, "must lie in"),
    ],
)
def test_what_makes_no_sense_is_refused(fill_reference, contract, change, said):
    with pytest.raises(ReferenceProblem, match=said):
        _effects(fill_reference, contract, **change)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.0062, "", "0.62 %"),
        (1.38, "", "138 %"),
        (0.021, "1", "0.021"),
        (0.5, "GeV", "0.5 GeV"),
        (None, "", "-"),
    ],
)
def test_sizes_are_written_for_people(value, unit, said):
    assert describe_size(value, unit) == said
