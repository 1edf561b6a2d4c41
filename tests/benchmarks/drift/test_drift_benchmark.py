"""The drift benchmark's own arithmetic, and that its parts fit together."""

import hashlib
import json
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from streams.backtest.generator import GeneratedDetector
from streams.contracts.contract import load_contract
from streams.effects.effect import parse_effect
from streams.judging.verdict import State
from tests.benchmarks.drift import change_points, lumisections, run, scoring, sequential, synthetic
from tests.benchmarks.drift.cases import CASES, Case, Wanted
from tests.benchmarks.drift.peer_runner import read_block
from tests.benchmarks.drift.peers import peers

GOOD, ALARM, WARNING, NOT_JUDGED = State.GOOD, State.ALARM, State.WARNING, State.NOT_JUDGED
SMALL = run.Size(fills=2, every=40, control=3, repetitions=1)
CONTRACT = load_contract(run.CONTRACT)


@pytest.fixture(scope="module")
def detector():
    return GeneratedDetector(CONTRACT, 1)


def test_an_episode_is_a_change_into_alarm():
    found = scoring.quiet([ALARM, ALARM, GOOD, WARNING, ALARM, NOT_JUDGED]) + scoring.quiet([GOOD])

    assert (found.lumisections, found.episodes, found.alarmed, found.warned) == (7, 2, 3, 1)
    assert found.not_judged == 1
    assert scoring.Quiet(10_000, 0, 0, 0, 0).interval == (0.0, pytest.approx(0.369, abs=1e-3))


def test_a_delay_counts_from_the_first_bad_lumisection():
    found = scoring.detection([[GOOD, GOOD, ALARM], [GOOD, ALARM, ALARM], [GOOD, GOOD, GOOD]], onset=1)

    assert found.delays == (2, 1, None)
    assert str(found.share) == "67 % (9-99), 2 of 3"
    assert found.median_delay == 2


def test_no_alarm_is_an_infinite_delay():
    assert scoring.detection([[GOOD, GOOD], [GOOD, GOOD], [GOOD, ALARM]], onset=1).median_delay is None


def test_a_repetition_in_alarm_before_the_onset_tells_nothing():
    found = scoring.detection([[ALARM, ALARM], [GOOD, ALARM]], onset=1)

    assert (found.delays, found.spoiled) == ((1,), 1)


def test_lumisections_that_nobody_could_learn_to_judge_are_counted_apart():
    states = [[GOOD, NOT_JUDGED, GOOD], [ALARM, GOOD, GOOD]]
    found = scoring.detection(states, onset=1, strange=[[False, True, False], [False, True, True]])

    assert (found.spoiled, found.after.lumisections) == (1, 2)
    assert (found.outside.lumisections, found.outside.not_judged) == (1, 1)
    assert scoring.detection(states, onset=1).outside == scoring.NOTHING


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_can_act_and_has_a_target_or_says_what_is_right(case):
    effect = parse_effect(case.effect_from(50))

    effect.check(CONTRACT)
    assert bool(case.effect) != (case.pileup_factor != 1.0)
    assert (case.detected_percent is None) == (case.delay is None)
    if case.wanted is not Wanted.ALARM:
        assert case.delay is None


def test_peers_see_the_lumisection_that_a_repetition_ends_with(detector):
    case = Case(name="short", effect="jet_gain=1.05", horizon=1)
    sequence = lumisections.repetition(detector, case, 0, 3)
    inputs = lumisections.bad_events(detector, case, 0, 3)

    assert len(sequence.summaries) == len(sequence.conditions) == lumisections.BEFORE_ONSET + 1
    index = CONTRACT.input_index("jet[0].pt")
    counts = sequence.summaries[-1].codes(index)
    np.testing.assert_array_equal(counts, np.bincount(inputs[:, index], minlength=len(counts)))
    assert inputs.shape == (20_000, 57)


def test_a_changed_pileup_is_told_by_the_conditions(detector):
    case = Case(name="less", pileup_factor=0.7, horizon=1)
    told = [one.pileup for one in lumisections.repetition(detector, case, 0, 3).conditions]

    assert told[-1] / np.mean(told[-4:-1]) == pytest.approx(0.7, rel=0.06)


def test_lumisections_in_control_go_on_with_the_next_fill(detector):
    short = GeneratedDetector(CONTRACT, 1, lumisections_per_fill=2)
    places = [
        [(one.run, one.lumisection) for one in part.summaries] for part in lumisections.in_control(short, 3)
    ]
    first = lumisections.CONTROL_RUNS

    assert places == [[(first, 1), (first, 2)], [(first + 1, 1)]]
    assert lumisections.sample(detector, 3000).shape == (3000, 57)


def test_the_table_of_the_judge_says_what_was_reached():
    cases = [
        Case(name="dead", effect="jet[0].pt_stuck=padding", horizon=3, detected_percent=99, delay=3),
        Case(name="half", effect="events_prescale=0.25", horizon=1, wanted=Wanted.QUIET),
        Case(name="far", pileup_factor=3.0, horizon=2, wanted=Wanted.NOT_JUDGED),
    ]
    lines = run.Bench(SMALL, 1, cases=cases).judged().splitlines()

    assert lines[2].startswith("| in control, 3 LS | ")
    assert lines[3].startswith("| dead | 100 % (3-100), 1 of 1 | ")
    assert lines[3].endswith("| >= 99 %, <= 3 LS | yes |")
    assert lines[4].startswith("| half | 0.00 per 1000 LS")
    assert lines[5].endswith("| 0 of 2, 2; 2 of 2 outside | outside not judged, no alarm | yes |")


def test_a_block_arrives_as_it_was_sent():
    block = np.arange(6, dtype=np.int16).reshape(3, 2)
    stream = BytesIO(b"3\n" + block.tobytes())

    np.testing.assert_array_equal(read_block(stream, 2), block)
    assert read_block(stream, 2) is None


@pytest.mark.parametrize("n_events", [10, 200_000])
def test_peers_that_cannot_start_are_told(n_events):
    block = np.zeros((n_events, 2), dtype=np.int16)
    with (
        pytest.raises(RuntimeError, match="the peers ended with 1"),
        peers(Path(sys.executable), ["a", "b"], block) as asked,
    ):
        asked.decide(block)


def test_what_peers_once_answered_is_not_asked_again(tmp_path):
    block, answers = np.ones((10, 2), dtype=np.int16), tmp_path / "answers.jsonl"
    ask = hashlib.sha256(b'["a", "b"]\n' + block.tobytes() + block.tobytes()).hexdigest()
    answers.write_text(json.dumps({ask: {"some tool": [True, 1.5]}}) + "\n")

    with peers(Path(sys.executable), ["a", "b"], block, answers) as asked:
        assert asked.decide(block) == {"some tool": (True, 1.5)}


def test_scores_of_change_points_are_those_of_the_paper_s_own_code():
    assert change_points.f1([[10, 20], [11, 20], [10], [0, 5]], [10, 20]) == pytest.approx(1.0)
    assert change_points.f1([[], [10], [50]], [10]) == pytest.approx(0.9090909090909091)
    assert change_points.f1([[], [10], [50]], []) == pytest.approx(0.8)
    assert change_points.covering([[10, 20], [10], [0, 5]], [10, 20], 45) == pytest.approx(0.7962962962962963)
    assert change_points.covering([[], [10], [40]], [], 45) == pytest.approx(0.8189300411522634)


def test_series_have_the_lengths_of_the_paper_and_hold_their_marks():
    series = change_points.all_series()

    assert {one.name: one.values.shape for one in series} == {
        "airline passengers": (468, 1),
        "Apple": (622, 2),
        "bitcoin": (774, 1),
        "Brent": (500, 1),
        "occupancy": (509, 4),
        "run log": (376, 2),
        "UK coal": (105, 1),
    }
    for one in series:
        assert len(one.annotations) == 5
        assert all(0 < mark < len(one.values) for marks in one.annotations for mark in marks)


def test_an_alarm_at_every_number_scores_worse_than_none():
    rows = {(series, name): f1 for series, name, f1, _ in change_points.scores(sequential.BASELINES)}

    assert rows["mean", "always"] < rows["mean", "never"]


@pytest.mark.parametrize("name", ["Sine, reversed", "Friedman, everywhere"])
def test_the_errors_of_a_trained_model_grow_at_the_change(name):
    values = synthetic.errors(synthetic.STREAMS[name](1))
    change = synthetic.CHANGE - synthetic.TRAINED

    assert len(values) == change + synthetic.AFTER
    assert np.mean(values[change + 100 :]) > 1.5 * np.mean(values[:change])


def test_tables_are_recorded_between_their_markers(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- begin drift-turing -->\nold\n<!-- end drift-turing -->\n\nWords.\n")

    assert run.main(["turing", "--write"], page=page) == 0
    text = page.read_text()
    assert "old" not in text
    assert text.index("| Apple | 0.271; 0.492 | ") < text.index("Words.")
    assert "| mean | 0.399; 0.563 | " in capsys.readouterr().out


def test_a_misspelt_part_is_named(capsys):
    with pytest.raises(SystemExit):
        run.main(["tuning"])
    assert "no part 'tuning': there are judge, peers, streams, turing" in capsys.readouterr().err
