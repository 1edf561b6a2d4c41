"""Charts, strips, lineage drawings and wording: pure functions."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from daemon.alerts.evidence import HeatMap
from daemon.alerts.overlay import overlay
from daemon.alerts.pull_map import PullMap
from daemon.alerts.rate_curve import RateCurve
from daemon.console import charts, wording
from daemon.console.heat_figure import chosen, heat_map
from daemon.console.lineage_page import MOST_IN_COLUMN, drawing, page_of
from daemon.console.looks import DARK, INCIDENTS, LIGHT, NOTIFICATIONS, RESPONSES, STEPS, STYLE, VERDICTS
from daemon.console.map_figure import map_of_pulls
from daemon.console.rate_figure import rate_against_pileup
from daemon.console.ratio_chart import ratio
from daemon.console.strips import rate_svg, strip_svg
from daemon.incidents.silencing import FAMILIES
from daemon.store import views
from daemon.store.records import IncidentState, NotificationState, ResponseState, StepState
from streams.explaining.causes import Place
from streams.judging.assessment import Assessment, FamilyResult
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


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [DARK, LIGHT])
def test_alarm_and_good_differ_in_brightness_and_stand_out_from_the_ground(colours):
    for colour in (colours.good, colours.warning, colours.alarm, colours.ink, colours.muted):
        assert contrast(colour, colours.ground) > 3
    assert contrast(colours.ink, colours.ground) > 12


@pytest.mark.parametrize("theme", [":root", "body.body--dark"])
def test_words_can_be_read_on_every_ground_of_the_style_sheet(theme):
    def declared(selector):
        return dict(
            re.findall(r"--([a-z-]+):(#[0-9a-f]{6})", STYLE.split(f"{selector} {{", 1)[1].split("}", 1)[0])
        )

    colours = {**declared(":root"), **declared(theme)}
    for tone in ("good", "alarm", "quiet", "active"):
        assert contrast("#ffffff", colours[f"{tone}-fill"]) >= 4.5, tone
    assert contrast(colours["on-warning"], colours["warning-fill"]) > 7
    for ground in ("ground", "panel", "code"):
        for ink in ("ink", "muted", "good", "warning", "alarm", "quiet", "active", "focus"):
            assert contrast(colours[ink], colours[ground]) >= (3 if ink == "focus" else 4.5), (ink, ground)


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


def test_every_family_has_a_line_with_a_symbol_of_its_own():
    sizes = {"effect": 0.1, "effect_floor": 0.1, "minimum_detectable": 0.1}
    families = tuple(
        FamilyResult(name=name, value=1.0, threshold=2.0, exceeded=False, judged=True, **sizes)
        for name in FAMILIES
    )
    assessment = Assessment.model_construct(lumisection=1, families=families)

    figure = charts.timeline([seen(1)], [assessment], band=0.1, colours=DARK)

    lines = [trace for trace in figure["data"] if trace.get("yaxis") == "y4"]
    assert [line["name"] for line in lines] == list(FAMILIES)
    assert len({line["marker"]["symbol"] for line in lines}) == len(FAMILIES)


def test_an_empty_timeline_can_be_drawn():
    assert charts.timeline([], [], band=0.1, colours=LIGHT)["layout"]["xaxis"]["range"] == [0.0, 1.0]


def test_the_heat_map_has_one_row_for_each_input():
    data = HeatMap((1, 2), ("a", "b", "c"), np.array([[0.0, 0.1], [0.2, np.nan], [0.0, 0.0]]))

    figure = heat_map(data, [seen(1), seen(2)], DARK)

    assert figure["data"][0]["y"] == ["a", "b", "c"]
    assert figure["data"][0]["zmax"] == pytest.approx(0.2)


def test_what_is_unknown_in_a_heat_map_is_a_gap_and_equal_to_itself():
    data = HeatMap((1, 2), ("a",), np.array([[np.nan, 0.12345]]))

    figure = heat_map(data, [seen(1), seen(2)], DARK)

    assert figure["data"][0]["z"] == [[None, 0.123]]
    assert figure == heat_map(data, [seen(1), seen(2)], DARK)


def test_a_choice_is_marked_as_a_column_and_a_row():
    column, row = chosen(7, 2, DARK)

    assert (column["x0"], column["x1"], column["yref"]) == (6.5, 7.5, "paper")
    assert (row["y0"], row["y1"], row["xref"]) == (1.5, 2.5, "paper")
    assert chosen(7, None, DARK) == [column]


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


def test_of_a_column_of_very_many_artefacts_the_first_are_drawn_and_the_others_counted():
    files = [views.LineageNode(id=f"file-{number}.root", kind="root_file", depth=1) for number in range(300)]
    root = views.LineageNode(id="d" * 64, kind="dataset", depth=0)
    edges = [views.LineageEdge(child=root.id, parent=one.id, relation="converted") for one in files]

    picture = ET.fromstring(drawing(views.LineageGraph(root=root.id, nodes=[root, *files], edges=edges)))

    assert len([box for box in picture if box.tag == "a"]) == MOST_IN_COLUMN + 1
    assert [text.text for text in picture if text.tag == "text"] == ["and 288 more, see the list"]


@pytest.mark.parametrize(
    ("kind", "identity", "page"),
    [
        ("package", "ab" * 32, f"/packages/{'ab' * 32}"),
        ("incident", "b-tag-3", "/incidents/b-tag-3"),
        ("response", "b-tag-3-r2", "/incidents/b-tag-3"),
        ("run", "b-tag/362439", "/models/b-tag?run=362439"),
        ("root_file", "/eos/a.root", None),
    ],
)
def test_an_artefact_leads_to_its_own_page(kind, identity, page):
    assert page_of(views.LineageNode(id=identity, kind=kind, depth=0)) == page


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
