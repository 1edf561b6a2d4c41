"""The ranking of runs as a reference: the same luminosity, firmware and prescales, good and recent."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.references.choice import BEST, RunFacts, rank_runs
from daemon.references.recorded import RunRange, describe_left_out, parse_run_range

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CONTRACT, PACKAGE = "c" * 64, "a" * 64
RUN = RunFacts(
    run=100,
    packages=(PACKAGE,),
    contracts=(CONTRACT,),
    prescale_columns=frozenset({2, 3}),
    n_lumisections=400,
    n_events=8_000_000,
    pileup=50.0,
    luminosity_hz_cm2=1.8e34,
    incidents=(),
    alarms=0,
    last_at=NOW,
)


def _rank(*candidates):
    return rank_runs(RUN, candidates, CONTRACT, NOW)


def _excluded(**changes):
    return _rank(replace(RUN, run=99, **changes)).ranking[0].excluded


def test_a_run_like_it_suits():
    assert _excluded() == ()
    assert _excluded(luminosity_hz_cm2=1.8e34 * 1.14, prescale_columns=frozenset({2})) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"luminosity_hz_cm2": 1.8e34 * 1.16}, "luminosity 1.16 times that of run 100"),
        ({"luminosity_hz_cm2": None, "pileup": 40.0}, "pileup 0.80 times that of run 100"),
        ({"luminosity_hz_cm2": None, "pileup": None}, "pileup unknown"),
        ({"packages": ("b" * 64,)}, "another package"),
        ({"packages": (PACKAGE, "b" * 64)}, "several packages"),
        ({"contracts": ("d" * 64,)}, "another contract"),
        ({"prescale_columns": frozenset({2, 7})}, "prescale column 7"),
        ({"n_lumisections": 15}, "15 usable lumisections, 16 are needed"),
        ({"incidents": ("anomaly-3",)}, "incident anomaly-3"),
        ({"alarms": 4}, "4 windows in alarm"),
        ({"last_at": NOW - timedelta(days=61)}, "61 days old"),
    ],
)
def test_every_exclusion_has_its_reason(changes, said):
    assert _excluded(**changes) == (said,)


def test_where_a_second_condition_is_followed_the_pileup_counts_and_its_values_are_reached():
    target = replace(RUN, values=(1800.0, 1800.0))
    near = [replace(target, run=number, luminosity_hz_cm2=1e33) for number in range(1, 6)]
    few = replace(target, run=90, pileup=55.0, values=(1200.0, 1200.0))
    many = replace(target, run=91, pileup=56.0, values=(2400.0, 2400.0))

    def ranked(*runs):
        return rank_runs(target, runs, CONTRACT, NOW, "bunches")

    same = ranked(*near, few, many)
    assert [one.facts.run for one in same.best] == [5, 4, 3, 2, 1]
    assert same.uncovered == ""

    lower = [replace(one, values=(1500.0, 1600.0)) for one in near]
    assert [one.facts.run for one in ranked(*lower, few, many).best] == [5, 4, 3, 2, 1, 91]
    assert ranked(*lower, few).uncovered == (
        "no run suits whose bunches is as high as in run 100 (1800): not all of its windows would be judged"
    )
    assert "as low or as high" in ranked(*(replace(one, values=None) for one in near)).uncovered


def test_a_run_is_never_its_own_reference():
    assert _rank(RUN).ranking == ()


def test_nearer_and_younger_runs_come_first_and_excluded_ones_last():
    far = replace(RUN, run=99, luminosity_hz_cm2=2.0e34)
    near = replace(RUN, run=98)
    old = replace(RUN, run=97, last_at=NOW - timedelta(days=30))
    bad = replace(RUN, run=96, alarms=1)
    choice = _rank(bad, far, old, near)
    assert [one.facts.run for one in choice.ranking] == [98, 97, 99, 96]
    assert [one.facts.run for one in choice.best] == [98, 97, 99]
    assert not choice.too_few_to_hold_out


def test_a_reference_is_built_from_a_few_runs():
    choice = _rank(*(replace(RUN, run=number) for number in range(1, 12)))
    assert len(choice.best) == BEST
    assert _rank(replace(RUN, run=99)).too_few_to_hold_out


@pytest.mark.parametrize(
    ("text", "made"),
    [("355100", RunRange(355100)), (" 7:20-400 ", RunRange(7, 20, 400)), ("7:3-3", RunRange(7, 3, 3))],
)
def test_ranges_of_lumisections_are_read(text, made):
    assert parse_run_range(text) == made
    assert str(made) == text.strip()


def test_what_is_left_out_is_told_by_number():
    assert (
        describe_left_out({"incomplete": 2, "without conditions": 5}) == "5 without conditions, 2 incomplete"
    )
    assert describe_left_out({}) == "none"
