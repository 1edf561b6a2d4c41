from types import SimpleNamespace

import numpy as np
import pytest
from sqlmodel import select

from daemon.alerts.evidence import SCORE, Evidence
from daemon.alerts.pictures import Pictures
from daemon.alerts.pull_map import pull_map
from daemon.incidents.intake import take_verdict
from daemon.operations import utc_now
from daemon.site.settings import load_site
from daemon.store.database import open_database
from daemon.store.queries import incident
from streams.counting.layout import layout_of
from streams.explaining.causes import Cause
from streams.judging.expectation import Expected
from streams.judging.verdict import decode_verdict
from streams.store.database import read_session
from streams.store.records import AssessmentRow
from tests.support.console_server import MODEL, OLD, RUN, Feed, Source
from tests.support.daemon import copy_site, make_verdict


class NobodyResponds:
    """Fake: the feed's responses go nowhere."""

    def start(self, response_id):
        pass

    def wake(self):
        pass


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    site = load_site(copy_site(folder))
    engine = open_database(site.database_url)
    feed = Feed(site, engine, Source(site, folder), NobodyResponds())
    feed.approve_reference(16)
    for lumisection in (39, 40, 41, 42):
        feed.send(lumisection)
    yield site, engine
    engine.dispose()


@pytest.fixture
def evidence(fed):
    site, engine = fed
    return Evidence(engine, site)


def test_conditions_come_from_the_end_of_the_range(evidence):
    found = evidence.conditions(MODEL, RUN, 40, 42)

    assert (found.lumisections, found.pileup, found.prescale_column) == ("40-42", 52.3, 2)
    assert found.beam_mode == "STABLE BEAMS"
    assert evidence.conditions(MODEL, RUN, 100, 101) is None


def test_means_show_the_gain_that_was_applied(evidence):
    before = evidence.means(MODEL, RUN, 40, OLD, ("jet[0].pt", "jet[0].phi", "unknown"))
    after = evidence.means(MODEL, RUN, 42, OLD, ("jet[0].pt",))

    assert before.keys() == {"jet[0].pt", "jet[0].phi"}
    assert before["jet[0].pt"].actual == pytest.approx(before["jet[0].pt"].expected, rel=0.03)
    assert after["jet[0].pt"].actual == pytest.approx(1.10 * after["jet[0].pt"].expected, rel=0.03)
    assert after["jet[0].pt"].unit == "GeV"
    assert not before["jet[0].phi"].relative


@pytest.mark.parametrize("quantity", ["jet[0].pt", "muon[0].eta", SCORE])
def test_an_overlay_holds_all_events_of_window_and_reference(evidence, quantity):
    counts, unit = evidence.overlay(MODEL, RUN, 42, OLD, quantity)

    assert (counts.n_window, counts.n_reference) == (4000, 16 * 4000)
    assert counts.window.sum() == pytest.approx(4000, rel=0.01)
    assert unit or quantity == "muon[0].eta"


def test_what_is_gone_or_unknown_has_no_overlay(evidence):
    assert evidence.overlay(MODEL, RUN, 999, OLD, "jet[0].pt") is None
    assert evidence.overlay(MODEL, RUN, 42, "another package", "jet[0].pt") is None
    assert evidence.overlay(MODEL, RUN, 42, OLD, "jet[77].pt") is None


def test_the_heat_map_glows_where_the_jets_drift(evidence):
    found = evidence.heat_map(MODEL, RUN)

    assert found.lumisections == (39, 40, 41, 42)
    row = found.inputs.index("jet[0].pt")
    assert found.distance.shape == (57, 4)
    assert found.distance[row, 2:].min() > 2 * found.distance[row, :2].max()
    assert np.argmax(found.distance[:, 3]) == row


def test_the_picture_of_an_alarm_is_drawn_once_into_its_folder(evidence, fed, tmp_path):
    site, engine = fed
    verdict = make_verdict(42, run=RUN, package=OLD, worst_inputs=_worst(evidence))
    opened = take_verdict(engine, site, verdict, now=utc_now()).opened
    found = incident(engine, opened or "anomaly-1")

    path = Pictures(evidence, tmp_path / "pictures").draw(found)

    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def _worst(evidence):
    return evidence.assessments(MODEL, RUN)[-1].worst_inputs


def test_the_story_of_a_window_is_the_gain_that_was_applied(evidence):
    story = evidence.story(MODEL, RUN, 42, OLD, ("jet gain",))

    assert (story.cause, story.object) == (Cause.GAIN, "jet")
    assert abs(story.size - 1.10) < 5 * story.error
    assert evidence.story(MODEL, RUN, 999, OLD, ()) is None


def test_a_map_spans_its_detector_in_physical_units(evidence):
    found = evidence.pull_map(MODEL, RUN, 40, OLD, "jet")

    assert found.pulls.shape == (len(found.eta) - 1, len(found.phi) - 1)
    assert (found.phi[0], found.phi[-1]) == pytest.approx((-np.pi, np.pi))
    assert -5.1 < found.eta[0] < -4.9 < 4.9 < found.eta[-1] < 6
    assert np.abs(found.pulls).max() < 6
    assert evidence.pull_map(MODEL, RUN, 40, OLD, "tau") is None


def test_a_map_shows_a_region_where_it_is(fed, evidence):
    site, _ = fed
    contract = site.models[MODEL].contract
    layout = layout_of(contract)
    maps = np.full(layout.n_map_bins, 0.05)
    expected = Expected(np.zeros(0), np.zeros(0), maps, 0.1, 1e9, np.zeros(layout.n_inputs))
    counts = np.full(layout.n_map_bins, 500)
    entry = next(one for one in layout.maps if one.object == "jet")
    first = sum(one.size for one in layout.maps[: layout.maps.index(entry)])
    eta, phi = (30 - entry.eta.minimum) // entry.eta.width, (100 - entry.phi.minimum) // entry.phi.width
    counts[first + eta * entry.phi.bins + phi] = 5000

    found = pull_map(SimpleNamespace(layout=layout, maps=counts, n_events=10_000), expected, contract, "jet")

    row, column = np.unravel_index(np.argmax(found.pulls), found.pulls.shape)
    assert found.eta[row] - 0.03 <= 30 * 0.0435 <= found.eta[row + 1]
    assert found.phi[column] <= 100.5 * np.pi / 72 - 2 * np.pi <= found.phi[column + 1]


def test_the_rate_curve_passes_through_windows_in_control(evidence):
    found = evidence.rate_curve(MODEL, RUN)

    assert found.lumisections.tolist() == [39, 40, 41, 42]
    at = np.interp(found.at, found.pileup, found.expected)
    assert found.rate[:2] == pytest.approx(at[:2], rel=0.15)
    assert found.rate[-1] > at[-1] * 1.1
    assert 0 < found.band < 1


def test_the_stream_stores_the_story_of_an_alarm_and_of_nothing_else(fed):
    _, engine = fed
    with read_session(engine) as session:
        documents = session.exec(select(AssessmentRow.verdict)).all()
    stories = {(one := decode_verdict(text.encode())).lumisection: one.story for text in documents}

    assert stories[39] == ""
    assert stories[42].startswith("The energy scale of jet is x1.")
