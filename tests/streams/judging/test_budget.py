"""A budget of false alarms is read as people write it, and said as they say it."""

import pytest

from streams.errors import ReferenceProblem
from streams.judging.budget import describe_budget, parse_budget

LUMISECTIONS_PER_DAY = 86400 / 23.3104


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("1/1000LS", 1e-3),
        ("1/1000 LS", 1e-3),
        ("1 per 1000 lumisections", 1e-3),
        ("2.5/1e4ls", 2.5e-4),
        ("0.001", 1e-3),
        (" 1e-3 ", 1e-3),
        (".5/LS", 0.5),
        ("2/day", 2 / LUMISECTIONS_PER_DAY),
        ("1/2 day", 0.5 / LUMISECTIONS_PER_DAY),
        ("1/d", 1 / LUMISECTIONS_PER_DAY),
        ("1/week", 1 / (7 * LUMISECTIONS_PER_DAY)),
    ],
)
def test_a_budget_is_false_alarms_per_lumisections_or_time_or_a_probability(text: str, budget: float) -> None:
    assert parse_budget(text) == pytest.approx(budget, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "few", "1/1000", "-1/day", "1/1000 events", "nan", "1e-3/", "1/day/day", "1,5/day", "1" * 50 + "x"],
)
def test_what_is_no_budget_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ReferenceProblem, match=r"is not understood: write it as 1/1000LS, 2/day or 0\.001"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["0", "1", "5", "1/0LS", "0/day", "9999/day", "1e999", "1/1e999LS"])
def test_a_budget_that_is_no_probability_is_refused(text: str) -> None:
    with pytest.raises(ReferenceProblem, match="must lie between 0 and 1"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (1e-3, "1 false alarm per 1000 lumisections (3.7 a day)"),
        (1e-4, "1 false alarm per 10000 lumisections (0.37 a day)"),
        (2 / LUMISECTIONS_PER_DAY, "1 false alarm per 1853 lumisections (2 a day)"),
        (0.01, "1 false alarm per 100 lumisections (37 a day)"),
        (1e-7, "1 false alarm per 10000000 lumisections (0.00037 a day)"),
        (0.4, "1 false alarm per 2.5 lumisections (1483 a day)"),
    ],
)
def test_a_budget_is_said_in_lumisections_and_days(budget: float, words: str) -> None:
    assert describe_budget(budget) == words
