"""Charts, strips, lineage drawings and wording: pure functions."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from daemon import views
from daemon.alerts.evidence import HeatMap
from daemon.alerts.overlay import overlay
from daemon.alerts.pull_map import PullMap
from daemon.alerts.rate_curve import RateCurve
from daemon.console import charts, wording
from daemon.console.lineage_page import drawing
from daemon.console.looks import DARK, INCIDENTS, LIGHT, NOTIFICATIONS, RESPONSES, STEPS, VERDICTS
from daemon.console.map_figure import map_of_pulls
from daemon.console.rate_figure import rate_against_pileup
from daemon.console.ratio_chart import ratio
from daemon.console.strips import rate_svg, strip_svg
from daemon.records import IncidentState, NotificationState, ResponseState, StepState
from streams.explaining.causes import Place
from streams.judging.rate_chart import RateChart
from streams.judging.verdict import State
from tests.support.daemon import NEW_PACKAGE, OLD_PACKAGE, make_verdict

NOW = datetime(2026, 7, 1, 3, 0, tzinfo=UTC)


def seen(lumisection, state=State.GOOD, **changes):
    verdict = make_verdict(lumisection, state, **changes)
    return views.VerdictView(received_at=NOW, **verdict.model_dump())


@pytest.mark.parametrize(
    ("looks", "states"),
    [
        (VERDICTS, State),
        (INCIDENTS, IncidentState),
        (RESPONSES, ResponseState),
        (STEPS, StepState),
        (NOTIFICATIONS, NotificationState),
    ],
)
def test_every_state_has_a_word_and_an_icon_of_its_own(looks, states):
    assert set(looks) == {state.value if looks is VERDICTS else state for state in states}
    assert len({look.word for look in looks.values()}) == len(looks)
    assert len({(look.icon, look.word) for look in looks.values()}) == len(looks)


@pytest.mark.parametrize("colours", [DARK, LIGHT])
def test_alarm_and_good_differ_in_brightness_and_stand_out_from_the_ground(colours):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(first, second):
        bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
        return (bright + 0.05) / (dark + 0.05)

    for colour in (colours.good, colours.warning, colours.alarm, colours.ink, colours.muted):
        assert contrast(colour, colours.ground) > 3
    assert contrast(colours.ink, colours.ground) > 12


def test_new_firmware_is_marked_between_two_lumisections_or_inside_one():
    verdicts = [seen(1), seen(2), seen(3, package=NEW_PACKAGE), seen(4, package=NEW_PACKAGE)]
    assert charts.package_changes(verdicts) == [(2.5, NEW_PACKAGE)]

    inside = [seen(1), seen(2), seen(2, package=NEW_PACKAGE), seen(3, package=NEW_PACKAGE)]
    assert charts.package_changes(inside) == [(2, NEW_PACKAGE)]
    assert OLD_PACKAGE not in [package for _, package in charts.package_changes(inside)]


def test_the_timeline_shows_band_rate_and_every_state():
    verdicts = [
        seen(1),
        seen(2, State.WARNING),
        seen(3, State.ALARM),
        seen(4, State.NOT_JUDGED, expected_rate=None),
    ]

    figure = charts.timeline(verdicts, [], band=0.1, colours=DARK)

    by_name = {trace.get("name"): trace for trace in figure["data"]}
    assert {"good", "warning", "alarm", "not judged"} <= by_name.keys()
    assert by_name["accept rate"]["x"] == [1, 2, 3, 4]
    assert by_name["expected"]["x"] == [1, 2, 3]
    assert by_name["expected \u00b110 %"]["y"] == pytest.approx([11.0, 11.0, 11.0])


def test_the_timeline_shows_evidence_against_the_levels_of_warning_and_alarm():
    verdicts = [
        seen(1, evidence=-9.0),
        seen(2, State.WARNING, evidence=-0.3, suspects=("jet gain",)),
        seen(3, State.ALARM, evidence=12.0, suspects=("jet gain", "accept rate")),
        seen(4, State.NOT_JUDGED),
    ]

    figure = charts.timeline(verdicts, [], band=None, colours=LIGHT)

    line = next(trace for trace in figure["data"] if trace.get("name") == "evidence")
    assert line["x"] == [1, 2, 3]
    assert line["y"] == [charts.LOWEST_EVIDENCE, -0.3, charts.HIGHEST_EVIDENCE]
    assert line["customdata"][2] == ["jet gain, accept rate", 12.0]
    levels = {shape["y0"] for shape in figure["layout"]["shapes"] if shape["yref"] == "y3"}
    assert levels == {0.0, charts.WARNING_EVIDENCE}
    assert figure["layout"]["yaxis3"]["range"][1] > charts.HIGHEST_EVIDENCE


def test_the_rate_chart_shows_curve_band_and_windows():
    curve = RateCurve(
        pileup=np.array([20.0, 40.0]),
        expected=np.array([0.04, 0.08]),
        band=0.1,
        lumisections=np.array([7, 8]),
        at=np.array([30.0, 35.0]),
        rate=np.array([0.06, 0.09]),
        rate_error=np.array([0.002, 0.002]),
    )

    figure = rate_against_pileup(curve, DARK)

    by_name = {trace.get("name"): trace for trace in figure["data"]}
    assert by_name["reference"]["y"] == pytest.approx([4.0, 8.0])
    assert by_name["tolerated \u00b110.0 %"]["y"] == pytest.approx([4.4, 8.8])
    assert by_name["windows, the latest brightest"]["customdata"] == [7, 8]


def test_a_map_of_pulls_frames_its_place():
    data = PullMap(
        "jet",
        np.array([-1.0, 0.0, 1.0]),
        np.array([-2.0, 0.0, 2.0]),
        np.array([[0.0, -9.0], [1.0, 0.0]]),
        "rad",
        Place((0, 1), (2, 3), (-1.0, 0.0), (0.0, 2.0)),
    )

    figure = map_of_pulls(data, title="jet map, LS 3", colours=DARK, marks=("REPLAY",))

    assert figure["data"][0]["z"] == [[0.0, 1.0], [-9.0, 0.0]]
    assert (figure["data"][0]["zmin"], figure["data"][0]["zmax"]) == (-9.0, 9.0)
    frame = figure["layout"]["shapes"][0]
    assert (frame["x0"], frame["x1"], frame["y0"], frame["y1"]) == (-1.0, 0.0, 0.0, 2.0)
    assert figure["layout"]["title"]["text"] == "jet map, LS 3, REPLAY"


def test_evidence_and_rate_chart_have_words():
    chart = RateChart(expected=0.1, error=0.01, deviation=0.3, in_a_row=2, speaks=False)

    assert wording.evidence_words(-1.5, ("jet gain",)) == "0.032 of an alarm's level; suspects: jet gain"
    assert wording.evidence_words(20.0, ()) == "10^20 times an alarm's level"
    assert wording.evidence_words(None, ()) == "none: nothing is judged"
    assert wording.rate_chart_words(chart) == "2 in a row deviate, speaks at 5"
    speaking = chart.model_copy(update={"in_a_row": 6, "speaks": True})
    assert wording.rate_chart_words(speaking) == "speaks: 6 in a row deviate; this is no alarm"
    assert wording.rate_chart_words(None) == "no expected rate"


def test_an_empty_timeline_can_be_drawn():
    assert charts.timeline([], [], band=0.1, colours=LIGHT)["layout"]["xaxis"]["range"] == [0.0, 1.0]


def test_the_heat_map_has_one_row_for_each_input():
    data = HeatMap((1, 2), ("a", "b", "c"), np.array([[0.0, 0.1], [0.2, np.nan], [0.0, 0.0]]))

    figure = charts.heat_map(data, [seen(1), seen(2)], DARK)

    assert figure["data"][0]["y"] == ["a", "b", "c"]
    assert figure["data"][0]["zmax"] == pytest.approx(0.2)


def test_the_ratio_chart_leaves_gaps_where_nothing_is_expected():
    figure = ratio(
        overlay([5, 5], [10, 0], minimum=0, lsb=1.0), quantity="x", unit="", colours=DARK, marks=("REPLAY",)
    )

    assert figure["data"][-1]["y"] == [0.5, None]
    assert figure["layout"]["annotations"][0]["text"] == "REPLAY"


@pytest.mark.parametrize(
    "verdicts", [[], [seen(1), seen(2, State.ALARM), seen(3, State.NOT_JUDGED, rate_deviation=None)]]
)
def test_strips_are_well_formed_and_tell_states_by_height(verdicts):
    strip = ET.fromstring(strip_svg(verdicts, DARK))
    rates = ET.fromstring(rate_svg(verdicts, 0.1, DARK))

    heights = [bar.get("height") for bar in strip]
    assert len(set(heights)) == len(verdicts)
    assert len([shape for shape in rates if shape.tag == "path"]) == max(len(verdicts) - 1, 0)


def test_a_lineage_drawing_escapes_names_and_links_every_box():
    hostile = '"><script>alert(1)</script>'
    graph = views.LineageGraph(
        root="p" * 64,
        nodes=[
            views.LineageNode(id="p" * 64, kind="package", depth=0),
            views.LineageNode(id=hostile, kind="root_file", depth=1),
        ],
        edges=[views.LineageEdge(child="p" * 64, parent=hostile, relation="made from")],
    )

    picture = drawing(graph)

    root = ET.fromstring(picture)
    assert "<script" not in picture
    assert len([box for box in root if box.tag == "a"]) == 2
    assert len([line for line in root if line.tag == "path"]) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (99, "99 s"), (240, "4 min"), (7200, "2 h"), (86400 * 3, "3 d"), (-5, "0 s")],
)
def test_ages_use_the_largest_sensible_unit(seconds, words):
    assert wording.age(NOW - timedelta(seconds=seconds), NOW) == words


def test_numbers_and_names_in_words():
    assert wording.short("ab" * 32) == "abababababab"
    assert wording.short("anomaly-3-r1") == "anomaly-3-r1"
    assert wording.short(None) == "none"
    assert wording.percent(0.10241) == "10.24 %"
    assert wording.percent(None) == wording.deviation(None) == "unknown"
    assert wording.deviation(0.041) == "+4.1 %"
    assert wording.duration(NOW, NOW + timedelta(seconds=125)) == "2 min 05 s"
    assert wording.duration(NOW, None) == ""
    assert wording.lumisections(61, 63) == "61 to 63"
