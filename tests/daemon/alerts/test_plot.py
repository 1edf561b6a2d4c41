import struct

import matplotlib.image
import numpy as np
import pytest

from daemon.alerts.overlay import overlay
from daemon.alerts.plot import ratio_plot


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
