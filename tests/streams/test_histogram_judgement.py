"""Histograms are judged as events are: quiet in control, an alarm when one of them shifts."""

import dataclasses
import itertools

import numpy as np
import pytest
from uproot.writing.identify import to_writable

from streams.conditions import Conditions
from streams.counting.summary import merge
from streams.dqm.files import DqmLumisection
from streams.dqm.root import histogram_of
from streams.dqm.summary import summarise_histograms
from streams.errors import ContractError, StreamsError
from streams.judging.assessment import AssessmentSettings, Judgement, assess
from streams.judging.comparison import compare
from streams.judging.detectable import detectable_effects
from streams.judging.extremes import INPUTS, ks_distances
from streams.judging.reference import build_reference, decode_reference, encode_reference
from streams.judging.verdict import State, VerdictChain
from tests.support import dqm

RUN = 315267


@pytest.fixture(scope="module")
def contract():
    return dqm.contract()


def lumisection(number, contract, events):
    held = {
        path: histogram_of(model, model.classname, path)
        for path, model in ((path, to_writable(one)) for path, one in events.elements().items())
    }
    found = DqmLumisection(RUN, number, "dqm:test", held)
    return summarise_histograms(found, contract, model="calo")


@pytest.fixture(scope="module")
def reference(contract):
    summaries = [lumisection(number, contract, dqm.events(number)) for number in range(1, 41)]
    return build_reference(summaries, contract, pileups=[40.0] * 40, built_from="test")


def conditions(number, **changes):
    known = {"model": "calo", "run": RUN, "lumisection": number, "pileup": 40.0}
    return Conditions(**(known | changes))


def judged(window, reference, contract):
    return assess(window, reference, conditions(window.lumisection), contract, AssessmentSettings())


def test_in_control_lumisections_stay_good(reference, contract):
    chain = VerdictChain()
    for number in range(100, 160):
        assessment = judged(lumisection(number, contract, dqm.events(number)), reference, contract)
        assert assessment.judgement is Judgement.JUDGED
        assert [family.name for family in assessment.families] == [INPUTS]
        assert chain.update(assessment).state is not State.ALARM


def test_a_shifted_energy_scale_is_an_alarm_that_names_the_histogram(reference, contract):
    chain = VerdictChain()
    for number in itertools.count(200):
        window = lumisection(number, contract, dqm.events(number, scale=1.15))
        verdict = chain.update(judged(window, reference, contract))
        if verdict.state is State.ALARM:
            break
        assert number < 206

    assert verdict.families == (INPUTS,)
    worst = verdict.worst_inputs[0]
    assert worst.name == "jet.pt"
    assert worst.mean_shift == pytest.approx(0.15 * 25.0, rel=0.2)
    assert worst.unit == "GeV"
    assert (verdict.expected_rate, verdict.rate_deviation) == (None, None)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        # a mismatch ratio of 15 % instead of 5 %
        (lambda e: {"mismatch": (np.random.default_rng(1).random(len(e.pt)) < 0.15) * 1.0}, "mismatch.level"),
        # everything in one corner of phi: the rows keep their shape in eta
        (lambda e: {"phi": e.phi * 0.8}, "jet.occupancy.y"),
        (lambda e: {"eta": e.eta + 0.3}, "jet.occupancy.x"),
    ],
)
def test_each_kind_of_histogram_shows_its_own_shift(reference, contract, change, name):
    events = dqm.events(300)
    events = dataclasses.replace(events, **change(events))

    assessment = judged(lumisection(300, contract, events), reference, contract)

    assert assessment.exceeded_families == (INPUTS,)
    assert name in {worst.name for worst in assessment.worst_inputs[:3]}


def test_the_level_of_a_profile_shows_the_change_of_its_mean(reference, contract):
    events = dqm.events(300)
    events = dataclasses.replace(events, mismatch=(np.arange(len(events.pt)) % 5 == 0) * 1.0)

    assessment = judged(lumisection(300, contract, events), reference, contract)

    shift = {worst.name: worst.mean_shift for worst in assessment.worst_inputs}["mismatch.level"]
    assert shift == pytest.approx(0.2 - 0.05, abs=0.01)


def test_histograms_of_few_entries_raise_no_alarm_beside_large_ones(contract):
    # given a profile with ten entries beside histograms of thousands
    def few(number):
        events = dqm.events(number)
        elements = events.elements()
        elements[dqm.MISMATCH] = dqm.profile(events.pt[:10] / 20.0, events.mismatch[:10])
        return Few(elements)

    summaries = [lumisection(number, contract, few(number)) for number in range(1, 41)]
    reference = build_reference(summaries, contract, pileups=[40.0] * 40, built_from="test")

    exceeded = [
        bool(judged(lumisection(number, contract, few(number)), reference, contract).exceeded_families)
        for number in range(100, 140)
    ]

    assert sum(exceeded) <= 1


@dataclasses.dataclass(frozen=True)
class Few:
    held: dict

    def elements(self):
        return self.held


def test_an_empty_lumisection_is_insufficient_and_never_bad(reference, contract):
    window = lumisection(1, contract, dqm.events(1, n=0))
    assessment = judged(window, reference, contract)
    assert assessment.judgement is Judgement.INSUFFICIENT
    assert assessment.exceeded_families == ()


def test_a_histogram_that_is_empty_in_the_window_is_not_compared(reference, contract):
    events = dqm.events(5)
    elements = events.elements() | {dqm.MISMATCH: dqm.events(5, n=0).elements()[dqm.MISMATCH]}
    window = lumisection(5, contract, Few(elements))
    distance, size = ks_distances(window, reference.expectation.at(40.0))
    assert np.isfinite(distance).all()
    assert distance[-4:].tolist() == size[-4:].tolist() == [0.0] * 4


def test_counts_too_large_for_exact_products_are_compared_all_the_same(reference, contract):
    window = lumisection(5, contract, dqm.events(5))
    many = 2**40
    large = dataclasses.replace(window, inputs=window.inputs * many, n_events=window.n_events * many)
    expected = reference.expectation.at(40.0)

    assert np.allclose(ks_distances(large, expected)[0], ks_distances(window, expected)[0])


def test_merging_adds_histograms_of_several_files(contract):
    first, second = (lumisection(1, contract, dqm.events(seed)) for seed in (1, 2))
    second = dataclasses.replace(second, batch=second.batch._replace(source="dqm:other"))
    merged = merge(first, second)
    assert (merged.inputs == first.inputs + second.inputs).all()
    assert merged.n_events == 8000


def test_a_reference_of_histograms_is_stored_as_any_other(reference):
    again = decode_reference(encode_reference(reference))
    assert again.id == reference.id
    assert set(again.header.calibration.extremes) == {INPUTS}
    assert again.header.calibration.channels == {}


def test_what_needs_events_refuses_a_contract_of_histograms_with_one_line(contract):
    with pytest.raises(ContractError, match="lists histograms, and a replay needs events"):
        contract.require_events("a replay")
    with pytest.raises(StreamsError, match="no object 'jet'"):
        contract.group("jet")


def test_effects_that_histograms_let_be_noticed_are_told_for_each(reference, contract):
    n_events = round(reference.header.calibration.n_events)
    effects = detectable_effects(reference, contract, n_events=n_events, pileup=40.0)
    assert [one.name for one in effects] == [spec.name for spec in contract.inputs]
    assert all(one.kind == "input" and one.in_ten is None and one.gain is None for one in effects)
    found = [one.shift_lsb for one in effects if one.shift_lsb is not None]
    assert found
    assert all(0 < shift < 1000 for shift in found)
    assert compare(reference, reference, contract).verdict == "They agree within their noise."
