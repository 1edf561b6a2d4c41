import struct

import matplotlib.image
import numpy as np
import pytest

from daemon.alerts.overlay import overlay
from daemon.alerts.plot import map_plot, rate_plot, ratio_plot
from daemon.alerts.pull_map import PullMap
from daemon.alerts.rate_curve import RateCurve
from streams.explaining.causes import Place


def pixels(content, tmp_path):
    path = tmp_path / "plot.png"
    path.write_bytes(content)
    return matplotlib.image.imread(path)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(1)
    window = np.bincount(np.clip(rng.exponential(84, 4000), 0, 1000).astype(int), minlength=1024)
    reference = np.bincount(np.clip(rng.exponential(80, 40_000), 0, 1000).astype(int), minlength=1024)
    return overlay(window, reference, minimum=0, lsb=0.5)


def test_a_ratio_plot_is_a_png_of_the_promised_size(counts):
    content = ratio_plot(counts, quantity="jet[0].pt", unit="GeV", title="anomaly, LS 61")

    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (900, 750)


def test_marks_are_written_into_the_picture(counts, tmp_path):
    plain = pixels(ratio_plot(counts, quantity="x", unit="", title="t"), tmp_path)
    marked = pixels(ratio_plot(counts, quantity="x", unit="", title="t", marks=("REPLAY",)), tmp_path)

    assert not np.array_equal(plain, marked)


def test_names_from_outside_are_not_read_as_formulas(counts):
    assert ratio_plot(counts, quantity="$bad", unit="$", title="$\\frac{$").startswith(b"\x89PNG")


def test_an_empty_window_can_be_drawn():
    data = overlay([0, 0, 0], [0, 0, 0], minimum=0, lsb=1.0)

    assert ratio_plot(data, quantity="x", unit="", title="t").startswith(b"\x89PNG")


def pulls(place=None):
    grid = np.zeros((4, 6))
    grid[1, 2] = -8.0
    return PullMap("jet", np.linspace(-2, 2, 5), np.linspace(-np.pi, np.pi, 7), grid, "rad", place)


def test_a_map_is_drawn_with_a_frame_around_its_place(tmp_path):
    place = Place((0, 1), (2, 3), (-1.0, 0.0), (-1.0, 0.0))

    plain, framed_ = (
        map_plot(pulls(where), title="anomaly, LS 61", marks=("REPLAY",)) for where in (None, place)
    )

    assert struct.unpack(">II", framed_[16:24]) == (900, 750)
    assert not np.array_equal(pixels(plain, tmp_path), pixels(framed_, tmp_path))


def test_a_place_that_wraps_around_phi_has_two_frames():
    frames = pulls(Place((0, 1), (2, 3), (-1.0, 0.5), (2.8, -2.9))).frames()

    assert frames == [((-1.0, 2.8), (0.5, np.pi)), ((-1.0, -np.pi), (0.5, -2.9))]
    assert pulls().frames() == []


def test_the_rate_is_drawn_against_pileup():
    curve = RateCurve(
        pileup=np.linspace(20, 60, 9),
        expected=np.linspace(0.03, 0.12, 9),
        band=0.1,
        lumisections=np.array([1, 2]),
        at=np.array([30.0, 40.0]),
        rate=np.array([0.05, 0.09]),
        rate_error=np.array([0.002, 0.002]),
    )

    content = rate_plot(curve, title="anomaly", marks=("REPLAY",))

    assert struct.unpack(">II", content[16:24]) == (900, 750)
