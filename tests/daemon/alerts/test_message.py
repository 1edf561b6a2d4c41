import pytest

from daemon.alerts.message import (
    AlertMessage,
    Comparison,
    Proposal,
    RunConditions,
    Stage,
)
from daemon.alerts.rendering import MARKDOWN_LIMIT, render_markdown, render_text


def alarm(**changes):
    values = {
        "incident_id": "anomaly-3",
        "stage": Stage.ALARM,
        "model": "anomaly",
        "site": "CMS P5",
        "reason": "Accept rate 12.4 % instead of 10.0 % (+24 %); 2 of the last 3 judged lumisections exceed.",
        "story": "The energy scale of jet is x1.05 \u00b1 0.002.",
        "onset_lumisection": 61,
        "exceeded": ("score", "rate"),
        "conditions": RunConditions(
            run=362616,
            first_lumisection=61,
            last_lumisection=63,
            luminosity_hz_cm2=1.85e34,
            pileup=52.34,
            beam_mode="STABLE BEAMS",
            prescale_column=2,
        ),
        "comparisons": (
            Comparison.of_rate(0.124, 0.100),
            Comparison(
                quantity="jet[0].pt mean",
                actual=64.2,
                expected=61.1,
                unit="GeV",
                deviation=0.0507,
                note="KS D 0.041",
            ),
        ),
        "proposal": Proposal(
            response_id="anomaly-3-r1",
            strategies=("input_recalibration", "bias"),
            summary="Retrain on LS 61-63.",
            approvers=("ada", "emmy"),
        ),
        "console_url": "http://127.0.0.1:8642/incidents/anomaly-3",
    }
    return AlertMessage(**(values | changes))


@pytest.mark.parametrize("render", [render_markdown, render_text])
def test_a_message_says_everything_a_shifter_needs(render):
    said = render(alarm()).replace("\\", "").replace("**", "")

    for needed in (
        "ALARM",
        "Likely: The energy scale of jet is x1.05 \u00b1 0.002.",
        "anomaly",
        "362616",
        "61-63",
        "LS 61",
        "1.85e+34 Hz/cm2",
        "52.3",
        "STABLE BEAMS",
        "prescale column",
        "score, rate",
        "accept rate",
        "12.4 %",
        "10 %",
        "+24.0 %",
        "jet[0].pt mean",
        "64.2 GeV",
        "61.1 GeV",
        "+5.1 %",
        "KS D 0.041",
        "Retrain on LS 61-63.",
        "input_recalibration, bias",
        "lumiwatch approve anomaly-3-r1",
        "prescale out",
        "http://127.0.0.1:8642/incidents/anomaly-3",
        "ada, emmy",
        "CMS P5",
    ):
        assert needed in said, needed


def test_the_table_has_the_shape_of_ratemon():
    lines = render_markdown(alarm()).splitlines()

    conditions = lines.index("| run | LS | luminosity | pileup | beam mode | prescale column |")
    assert lines[conditions + 2] == "| 362616 | 61-63 | 1.85e+34 Hz/cm2 | 52.3 | STABLE BEAMS | 2 |"
    inputs = lines.index("| input or path | actual | expected | deviation |")
    assert inputs > conditions
    assert lines[inputs + 2] == "| accept rate | 12.4 % | 10 % | +24.0 % |"


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("render", [render_markdown, render_text])
def test_marked_data_is_marked_in_every_message(stage, render):
    assert "REPLAY" in render(alarm(stage=stage, replay=True))
    assert "SIMULATED DATA" in render(alarm(stage=stage, simulated=True))
    assert "REPLAY" not in render(alarm(stage=stage))
    assert "SIMULATED" not in render(alarm(stage=stage))


def test_text_from_outside_cannot_mention_people_or_break_the_table():
    hostile = "@channel | x\n```\n[click](http://evil)"
    conditions = RunConditions(run=1, first_lumisection=1, last_lumisection=1, beam_mode=hostile)

    said = render_markdown(alarm(reason=hostile, conditions=conditions, proposal=None))

    assert "@channel" not in said
    assert "```" not in said
    assert "](http://evil)" not in said.replace("\\](", "")
    row = next(line for line in said.splitlines() if line.startswith("| 1 | 1 |"))
    assert row.replace("\\|", "").count("|") == 7


def test_a_message_is_never_longer_than_the_server_takes():
    said = render_markdown(alarm(details=tuple("x" * 300 for _ in range(200))))

    assert len(said) <= MARKDOWN_LIMIT
    assert said.endswith("(shortened: the whole message is in the console)")


def test_unknown_conditions_are_said_to_be_unknown():
    said = render_text(alarm(conditions=RunConditions(run=7, first_lumisection=3, last_lumisection=3)))

    assert "unknown" in said
    assert "None" not in said


def test_a_rate_without_expectation_has_no_deviation():
    assert Comparison.of_rate(0.1, 0.0).cells() == ("accept rate", "10 %", "0 %", "")
