import numpy as np
import pytest

from daemon.alerts.evidence import SCORE, Evidence
from daemon.alerts.pictures import Pictures
from daemon.database import open_database
from daemon.intake import take_verdict
from daemon.operations import utc_now
from daemon.queries import incident
from daemon.settings import load_site
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
