import numpy as np
import pytest

from daemon.alerts.overlay import overlay


def test_the_reference_is_scaled_to_the_window_and_no_visible_event_is_lost():
    rng = np.random.default_rng(1)
    reference = np.bincount(rng.integers(0, 1000, 50_000), minlength=1024)
    window = np.bincount(rng.integers(0, 1000, 5_000), minlength=1024)

    data = overlay(window, reference, minimum=-100, lsb=0.5)

    assert data.expected.sum() == pytest.approx(data.window.sum(), rel=0.01)
    assert data.window.sum() >= 0.998 * 5000
    assert data.n_window == 5000
    assert data.n_reference == 50_000
    assert len(data.window) <= 48
    assert -51 < data.edges[0] < -49


def test_equal_shapes_have_ratio_one():
    counts = np.array([10, 40, 30, 20])

    data = overlay(counts, 7 * counts, minimum=0, lsb=1.0)

    assert data.ratio == pytest.approx(np.ones(4))
    assert data.ratio_error == pytest.approx(1 / np.sqrt(counts))
    assert data.ratio_band == pytest.approx(1 / np.sqrt(7 * counts))
    assert data.centres == pytest.approx([0, 1, 2, 3])


def test_nothing_expected_is_no_ratio_rather_than_an_infinite_one():
    data = overlay([5, 5], [10, 0], minimum=0, lsb=1.0)

    assert data.ratio[0] == 0.5
    assert np.isnan(data.ratio[1])


@pytest.mark.parametrize("window", [[], [1, 2, 3]])
def test_histograms_must_match(window):
    with pytest.raises(ValueError, match="do not match"):
        overlay(window, [1, 2], minimum=0, lsb=1.0)


def test_an_empty_window_can_be_shown():
    data = overlay([0, 0, 0], [0, 0, 0], minimum=0, lsb=1.0)

    assert data.window.tolist() == [0, 0, 0]
    assert data.expected.tolist() == [0, 0, 0]
