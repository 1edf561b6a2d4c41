"""Windows judged where a second condition changes what they hold, beside the pileup."""

import dataclasses
import io
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.backtest.generator import BUNCHES, GeneratedDetector
from streams.contracts.contract import parse_contract
from streams.counting.codec import encode_summary
from streams.effects.effect import parse_effect
from streams.errors import ReferenceProblem
from streams.explaining.causes import Cause
from streams.explaining.explanation import explain
from streams.judging.assessment import AssessmentSettings, Judgement, assess
from streams.judging.comparison import compare
from streams.judging.detectable import detectable_effects
from streams.judging.judge import Judge, MonitoredModel
from streams.judging.reference import (
    Reference,
    build_reference,
    decode_reference,
    encode_reference,
    successor_reference,
)
from streams.judging.reference_header import ReferenceHeader
from streams.judging.reference_store import register_reference
from streams.judging.second_condition import SecondCondition, second_condition
from streams.judging.verdict import State, VerdictChain
from streams.store.database import open_engine, write_session
from streams.store.records import WindowRow, create_tables
from tests.streams.conftest import FILL_EVENTS
from tests.support.streams import MODEL, OTHER_PACKAGE, conditions
from tests.support.summaries import summary_of_counts

SETTINGS = AssessmentSettings()
LUMISECTIONS = 16
FILLS = (1, 2, 3, 4)
GAIN = parse_effect("jet_gain=1.01")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def _detector(contract, *bunches):
    return GeneratedDetector(
        contract,
        7,
        pileup_start=44.0,
        pileup_end=36.0,
        lumisections_per_fill=LUMISECTIONS,
        bunches=bunches,
        model=MODEL,
    )


def _learnt(contract, bunches, fills=FILLS):
    """Return summaries, pileups and numbers of bunches of fills that have these in turn."""
    made = _detector(contract, *bunches)
    places = [(run, number) for run in fills for number in range(1, LUMISECTIONS + 1)]
    known = [made.conditions(*place) for place in places]
    parts = [made.summary(*place, FILL_EVENTS) for place in places]
    return parts, [one.pileup for one in known], [one.values[BUNCHES] for one in known]


def _reference(contract, learnt, name=BUNCHES):
    parts, pileups, values = learnt
    second = None if name is None else SecondCondition(name, values)
    return build_reference(parts, contract, pileups=pileups, built_from="test", second=second)


@pytest.fixture(scope="module")
def learnt(contract):
    return _learnt(contract, (1200.0, 2400.0))


@pytest.fixture(scope="module")
def following(contract, learnt):
    return _reference(contract, learnt)


@pytest.fixture(scope="module")
def ignorant(contract, learnt):
    return _reference(contract, learnt, None)


def _alarms(contract, reference, bunches, effects=(), fills=(101, 102, 103, 104)):
    """Return in how many fills of so many bunches there was an alarm, and what raised the first ones."""
    made, suspects = _detector(contract, bunches), set()
    alarmed = 0
    for run in fills:
        chain = VerdictChain()
        for number in range(1, LUMISECTIONS + 1):
            window = made.summary(run, number, FILL_EVENTS, effects=effects)
            found = assess(window, reference, made.conditions(run, number), contract, SETTINGS)
            verdict = chain.update(found)
            if verdict.state is State.ALARM:
                suspects |= set(verdict.suspects)
                alarmed += 1
                break
    return alarmed, suspects


def _judged(contract, reference, bunches=1800.0, **changes):
    made = _detector(contract, bunches)
    return assess(
        made.summary(101, 5, FILL_EVENTS),
        reference,
        made.conditions(101, 5).model_copy(update=changes),
        contract,
        SETTINGS,
    )


def test_an_undeclared_condition_is_a_false_alarm_where_it_was_not_seen(contract):
    ignorant = _reference(contract, _learnt(contract, (2400.0,)), None)
    assert _alarms(contract, ignorant, 2400.0)[0] == 0
    assert _alarms(contract, ignorant, 1200.0)[0] == 4


@pytest.mark.parametrize("bunches", [1200.0, 1800.0, 2400.0])
def test_an_undeclared_condition_hides_small_gains_where_it_was_seen(contract, ignorant, bunches):
    assert _alarms(contract, ignorant, bunches, [GAIN])[0] <= 1


@pytest.mark.parametrize("bunches", [1200.0, 1500.0, 1800.0, 2400.0])
def test_a_declared_one_is_in_control_and_hides_nothing(contract, following, bunches):
    assert _alarms(contract, following, bunches)[0] == 0
    found, suspects = _alarms(contract, following, bunches, [GAIN])
    assert found == 4
    assert "jet gain" in suspects


def test_the_story_of_a_window_between_strata_is_that_of_any_other(contract, following):
    made, gain = _detector(contract, 1800.0), parse_effect("jet_gain=1.05")
    window = made.summary(101, 5, FILL_EVENTS, effects=[gain])
    found = assess(window, following, made.conditions(101, 5), contract, SETTINGS)
    story = explain(found, window, following.expectation.at_value(1800.0), contract)
    assert (story.cause, story.object) == (Cause.GAIN, "jet")
    assert story.size == pytest.approx(1.05, abs=0.01)


def test_how_inputs_go_together_is_mixed_too(following):
    low, between, high = (
        following.expectation.at_value(value).at(40.0).marks for value in (1200.0, 1500.0, 2400.0)
    )
    wanted = 0.75 * low.marks.correlations + 0.25 * high.marks.correlations
    np.testing.assert_allclose(between.marks.correlations, wanted)
    assert between.size == pytest.approx(1 / (0.75**2 / low.size + 0.25**2 / high.size))


def test_what_it_covers_is_told(following):
    header = following.header
    assert (header.interpolated, header.value_coverage) == ("bunches", "1200 to 2400")
    assert header.coverage_in_words == f"bunches 1200 to 2400, pileup {header.coverage}"
    assert [one.value for one in header.strata] == [1200.0, 2400.0]
    assert header.calibration.n_lumisections == 4 * LUMISECTIONS
    assert header.calibration.n_folds == 4


def test_a_judged_window_tells_its_value(contract, following, ignorant):
    found = _judged(contract, following)
    assert (found.judgement, found.second_value) == (Judgement.JUDGED, 1800.0)
    assert _judged(contract, ignorant).second_value is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "The conditions name no bunches, which the reference follows."),
        ({"bunch": 1800.0}, "The conditions name no bunches, which the reference follows."),
        ({"bunches": 1199.0}, "Bunches 1199 is outside of the reference's 1200 to 2400."),
        ({"bunches": 2400.5}, "Bunches 2400.5 is outside of the reference's 1200 to 2400."),
        ({"bunches": -1e15}, "Bunches -1e+15 is outside of the reference's 1200 to 2400."),
        ({"bunches": 1e308}, "Bunches 1e+308 is outside of the reference's 1200 to 2400."),
        ({"bunches": float("nan")}, "Bunches nan is outside of the reference's 1200 to 2400."),
        ({"bunches": float("inf")}, "Bunches inf is outside of the reference's 1200 to 2400."),
    ],
)
def test_what_is_not_covered_is_named(contract, following, values, reason):
    found = _judged(contract, following, values=values)
    assert (found.judgement, found.reason) == (Judgement.NOT_JUDGED, reason)
    assert found.channels == found.extremes == ()


def test_a_pileup_that_one_of_two_strata_does_not_cover_is_named(contract, following):
    header = following.header
    low, high = header.strata
    parted = Reference(
        header.model_copy(update={"strata": (low, high.model_copy(update={"covered": ((36.0, 40.0),)}))}),
        following.expectation,
    )
    assert _judged(contract, parted, 1200.0, pileup=43.0).judgement is Judgement.JUDGED
    found = _judged(contract, parted, 1800.0, pileup=43.0)
    assert found.reason.startswith("Pileup 43.0 is outside of the reference's 36.")
    assert found.reason.endswith("to 40.0 at bunches 1800.")
    apart = Reference(
        header.model_copy(update={"strata": (low, high.model_copy(update={"covered": ((99.0, 99.0),)}))}),
        following.expectation,
    )
    assert _judged(contract, apart, 1800.0).reason == "At bunches 1800 the reference covers no pileup."


def test_a_margin_lets_a_window_lie_outside_by_a_part_of_the_distance(contract, following):
    made = _detector(contract, 2500.0)
    window, known = made.summary(101, 5, FILL_EVENTS), made.conditions(101, 5)
    assert not assess(window, following, known, contract, SETTINGS).judged
    wide = SETTINGS.model_copy(update={"value_margin": 0.1})
    assert assess(window, following, known, contract, wide).judged


def test_one_value_gives_what_the_pileup_alone_gives(contract):
    learnt = _learnt(contract, (1800.0,))
    following, plain = _reference(contract, learnt), _reference(contract, learnt, None)
    assert following.header.calibration == plain.header.calibration
    assert following.header.slices == plain.header.slices
    assert following.header.value_coverage == "1800"
    for effects in ((), (GAIN,)):
        made = _detector(contract, 1800.0)
        window = made.summary(101, 3, FILL_EVENTS, effects=effects)
        found, wanted = (
            assess(window, one, made.conditions(101, 3), contract, SETTINGS).model_dump(
                exclude={"reference_id", "second_value"}
            )
            for one in (following, plain)
        )
        assert found == wanted


def test_a_reference_without_one_is_written_as_ever(ignorant):
    written = json.loads(ignorant.header.model_dump_json())
    assert not {"interpolated", "strata"} & set(written)
    assert list(written) == [
        "version",
        "model",
        "contract_hash",
        "package",
        "runs",
        "n_lumisections",
        "covered",
        "slices",
        "calibration",
        "effect_floors",
        "budget",
        "matched",
        "parent_id",
        "built_from",
    ]


def test_bytes_and_identity_come_from_the_content(following, contract):
    payload = encode_reference(following)
    again = decode_reference(payload)
    assert again.id == following.id
    assert encode_reference(again) == payload
    for value in (1200.0, 1700.0, 2400.0):
        got, wanted = (one.expectation.at_value(value).at(40.0) for one in (again, following))
        np.testing.assert_array_equal(got.inputs, wanted.inputs)
    header = following.header.model_copy(update={"interpolated": "trains"})
    assert Reference(header, following.expectation).id != following.id


@pytest.mark.parametrize(
    ("fills", "folds", "bunches"),
    [((1200.0, 1200.0, 2400.0), 6, 2400.0), ((1200.0, 2400.0, 1800.0), 4, 1500.0)],
)
def test_a_value_that_one_fill_had_is_held_out_in_blocks(contract, fills, folds, bunches):
    reference = _reference(contract, _learnt(contract, fills, (1, 2, 3)))
    calibration = reference.header.calibration
    assert (calibration.n_lumisections, calibration.n_folds) == (3 * LUMISECTIONS, folds)
    for at in (bunches, 1800.0):
        assert _alarms(contract, reference, at)[0] == 0


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("bunches", {0: float("nan")}, "a lumisection has no value of bunches, or one beyond 1e.15"),
        ("bunches", {3: float("inf")}, "a lumisection has no value of bunches"),
        ("bunches", {3: -1e300}, "a lumisection has no value of bunches"),
        ("bunches", {3: 9000.0}, "1 lumisections of bunches 9000 are far from all others, and too few"),
        ("Bunches", {}, "a condition cannot be named 'Bunches'"),
        ("", {}, "a condition cannot be named ''"),
    ],
)
def test_absurd_values_make_no_reference(contract, learnt, name, change, said):
    parts, pileups, values = learnt
    changed = [change.get(index, value) for index, value in enumerate(values)]
    with pytest.raises(ReferenceProblem, match=said):
        _reference(contract, (parts, pileups, changed), name)


def test_every_lumisection_has_a_value(contract, learnt):
    parts, pileups, values = learnt
    with pytest.raises(ReferenceProblem, match="64 lumisections with 63 values of bunches"):
        _reference(contract, (parts, pileups, values[1:]))
    told = [conditions(1, values={"bunches": 5.0}), conditions(2)]
    assert second_condition(None, told) is None
    assert np.isnan(second_condition("bunches", told).values[1])


def test_a_successor_covers_what_its_windows_had(contract, following):
    made = _detector(contract, 1800.0)
    windows = [
        dataclasses.replace(made.summary(101, number, FILL_EVENTS), package=OTHER_PACKAGE)
        for number in range(1, 6)
    ]
    values = [1800.0, 1800.0, None, 1800.0, 1800.0]
    made_of = {"built_from": "verification", "pileups": [40.0] * 5}
    successor = successor_reference(following, windows, OTHER_PACKAGE, values=values, **made_of)
    assert successor.header.n_lumisections == 4
    assert successor.header.coverage_in_words == "bunches 1800, pileup 40.0"
    assert decode_reference(encode_reference(successor)).id == successor.id
    with pytest.raises(ReferenceProblem, match="the conditions of no window name bunches"):
        successor_reference(following, windows, OTHER_PACKAGE, values=[None] * 5, **made_of)
    with pytest.raises(ReferenceProblem, match="the conditions of no window name bunches"):
        successor_reference(following, windows, OTHER_PACKAGE, **made_of)
    with pytest.raises(ReferenceProblem, match="5 windows with 4 values"):
        successor_reference(following, windows, OTHER_PACKAGE, values=values[1:], **made_of)


def test_detectable_effects_are_those_at_a_value(contract, following):
    known = {"n_events": FILL_EVENTS, "pileup": 40.0}
    typical, between = (
        {one.name: one for one in detectable_effects(following, contract, value=value, **known)}
        for value in (None, 1800.0)
    )
    assert typical["jet gain"].at_once == pytest.approx(between["jet gain"].at_once, rel=0.2)
    assert typical["jet gain"] != between["jet gain"]
    with pytest.raises(ReferenceProblem, match="at bunches 3000 is outside of the reference's bunches 1200"):
        detectable_effects(following, contract, value=3000.0, **known)


def test_references_are_compared_where_both_cover(contract, following, ignorant):
    others = _reference(contract, _learnt(contract, (1800.0, 2400.0), (21, 22, 23, 24)))
    found = compare(following, others, contract)
    assert found.verdict == "They agree within their noise." or "less than 10 windows" in found.verdict
    assert {one.value for one in found.channels} <= {1800.0, 2100.0, 2400.0}
    # one that follows nothing is too high at 1200 bunches, where the jets are lower
    gain = next(one for one in compare(following, ignorant, contract).channels if one.name == "jet gain")
    assert abs(gain.effect) > 0.004
    assert gain.value in {1200.0, 2400.0}

    far = _reference(contract, _learnt(contract, (3000.0,), (21, 22, 23)))
    assert compare(following, far, contract).verdict == (
        "They cover no bunches and pileup in common, and cannot be compared."
    )
    header = far.header.model_copy(update={"interpolated": "crossing_angle"})
    assert compare(following, Reference(header, far.expectation), contract).verdict == (
        "They follow different conditions, bunches and crossing angle, and cannot be compared."
    )


def test_a_reference_of_another_package_judges_what_its_own_does_not_cover(contract, following, tmp_path):
    elsewhere = _reference(contract, _learnt(contract, (3000.0,), (21, 22, 23)))
    elsewhere = Reference(
        elsewhere.header.model_copy(update={"package": OTHER_PACKAGE}), elsewhere.expectation
    )
    engine = open_engine(f"sqlite:///{tmp_path}/site.db")
    create_tables(engine)
    register_reference(engine, following, "alice", NOW)
    register_reference(engine, elsewhere, "alice", NOW + timedelta(hours=1))
    judge = Judge({MODEL: MonitoredModel(contract, SETTINGS)})
    wanted = {1800.0: following.id, 3000.0: elsewhere.id, 5000.0: following.id}
    for run, (bunches, reference_id) in enumerate(wanted.items(), 101):
        made = _detector(contract, bunches)
        window = made.summary(run, 5, FILL_EVENTS)
        row = WindowRow(
            model=MODEL,
            run=run,
            lumisection=5,
            package=window.package,
            contract_hash=window.contract_hash,
            summary=encode_summary(window),
            n_events=window.n_events,
            opened_at=NOW,
            updated_at=NOW,
        )
        with write_session(engine, lock=MODEL) as session:
            session.add(row)
            session.flush()
            (verdict,) = judge.judge(session, [(row, made.conditions(run, 5))], NOW)
        assert verdict.reference_id == reference_id
        assert (verdict.state is State.NOT_JUDGED) is (bunches == 5000.0)
    engine.dispose()


def _rewritten(reference, change):
    """Encode a reference with a header that was changed by hand."""
    with np.load(io.BytesIO(encode_reference(reference))) as parts:
        kept = dict(parts)
    header = json.loads(kept["header"].tobytes())
    change(header)
    kept["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **kept)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(strata=[]),
        lambda header: header.pop("interpolated"),
        lambda header: header.update(interpolated="Bunches!"),
        lambda header: header["strata"].reverse(),
        lambda header: header["strata"].append(header["strata"][1]),
        lambda header: header["strata"].pop(),
        lambda header: header["strata"][0].update(n_slices=2**40),
        lambda header: header["strata"][0].update(n_slices=0),
        lambda header: header["strata"][0].update(value=9000.0),
        lambda header: header["strata"][0].update(value=float("nan")),
        lambda header: header["strata"][0].update(highest=float("inf")),
        lambda header: header["strata"][0].update(covered=[]),
        lambda header: header["slices"].pop(),
    ],
)
def test_a_header_that_contradicts_itself_is_no_reference(following, change):
    with pytest.raises(ReferenceProblem, match="build it again"):
        decode_reference(_rewritten(following, change))


VALUE = st.floats(-1e15, 1e15, allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(
    levels=st.lists(VALUE, min_size=1, max_size=3, unique=True),
    name=st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True),
    pileups=st.lists(st.floats(0, 1000), min_size=51, max_size=51),
    shares=st.lists(st.floats(0.2, 0.8), min_size=51, max_size=51),
)
def test_any_reference_survives_being_written(small_text, levels, name, pileups, shares):
    contract = parse_contract(small_text)
    parts = []
    for number, share in enumerate(shares):
        met = np.zeros(103, dtype=np.int64)
        met[11], met[21] = round(share * 100), 100 - round(share * 100)
        parts.append(summary_of_counts(contract, 100, {"met[0].pt": met}, lumisection=number))
    values = [levels[number % len(levels)] for number in range(len(parts))]
    try:
        made = build_reference(
            parts, contract, pileups=pileups, built_from="x", second=SecondCondition(name, values)
        )
    except ReferenceProblem as problem:
        assert "nothing scatters" in str(problem)  # noqa: PT017
        return
    payload = encode_reference(made)
    again = decode_reference(payload)
    assert (again.id, encode_reference(again)) == (made.id, payload)
    assert ReferenceHeader.model_validate_json(made.header.model_dump_json()) == made.header
    low, high = made.header.strata[0].lowest, made.header.strata[-1].highest
    assert {low, high} <= set(levels)
    for value in (low, high, low / 2 + high / 2):
        expected = again.expectation.at_value(value).at(made.header.typical_pileup)
        assert np.isfinite(expected.inputs).all()
        assert expected.size > 0


def test_a_stratum_holds_its_mean():
    with pytest.raises(ValidationError, match="lies between"):
        ReferenceHeader.model_fields["strata"].annotation.__args__[0](
            value=3.0, lowest=1.0, highest=2.0, n_lumisections=1, n_slices=1, covered=((1.0, 2.0),)
        )
