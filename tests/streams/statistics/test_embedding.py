"""Mean embeddings: exact sums, an unbiased discrepancy, and changes that no single histogram shows."""

import numpy as np
import pytest

from streams.statistics.embedding import AMPLITUDE, FeatureMap, FeatureSums, discrepancy

N_INPUTS = 5


@pytest.fixture
def feature_map():
    return FeatureMap(4, 64, np.array([300.0, 20, 5000, 0, 60]), np.array([0, 10, -3000, 0, 5]))


def _inputs(rng, n, correlation=0.0):
    values = rng.normal(size=(n, N_INPUTS))
    values[:, 1] = correlation * values[:, 0] + np.sqrt(1 - correlation**2) * values[:, 1]
    return np.rint(values * [300, 20, 5000, 1, 60] + [0, 10, -3000, 0, 5]).astype(np.int16)


def test_sums_do_not_depend_on_order_layout_or_batches(rng, feature_map):
    inputs = _inputs(rng, 3001)
    whole = feature_map.sums(inputs, products=True)
    shuffled = feature_map.sums(np.asfortranarray(rng.permutation(inputs)), products=True)
    parts = [feature_map.sums(part, products=True) for part in np.split(inputs, [1, 257, 1000])]
    merged = parts[3] + parts[1] + parts[0] + parts[2]
    for other in (shuffled, merged):
        assert other.n_events == 3001
        assert other.squares == whole.squares
        assert np.array_equal(other.sums, whole.sums)
        assert np.array_equal(other.products, whole.products)


def test_sums_are_those_of_the_features_of_each_event(rng, feature_map):
    inputs = _inputs(rng, 700)
    features = feature_map.features(inputs).astype(np.int64)
    got = feature_map.sums(inputs, products=True)
    assert np.array_equal(got.sums, features.sum(axis=0))
    assert got.squares == (features**2).sum()
    assert np.array_equal(got.products, features.T @ features)


def test_products_of_features_are_a_gaussian_kernel(rng):
    scale = np.array([300.0, 20, 5000, 1, 60])
    many = FeatureMap(1, 8192, scale, np.zeros(N_INPUTS, dtype=int), bandwidth=2.0)
    inputs = _inputs(rng, 12)
    features = many.features(inputs) / (AMPLITUDE * np.sqrt(4096))
    apart = (inputs[:, None] - inputs[None]) / scale
    expected = np.exp(-(apart**2).sum(axis=-1) / (2 * 2.0**2))
    assert features @ features.T == pytest.approx(expected, abs=0.06)


def test_codes_at_the_ends_of_their_range_are_exact(feature_map):
    ends = np.array([[-32768, 32767, -32768, 0, 32767]] * 3, dtype=np.int16)
    turns = (ends[0].astype(object) - np.array([0, 10, -3000, 0, 5], dtype=object)) @ np.array(
        [[int(weight) for weight in row] for row in feature_map.weights], dtype=object
    ).T
    places = np.array([int(turn) % 2**32 >> 22 for turn in turns])
    expected = np.rint(AMPLITUDE * np.cos((places + 0.5) * 2 * np.pi / 1024))
    assert np.array_equal(feature_map.features(ends)[0, ::2], expected)


def test_an_input_without_scale_takes_no_part(rng, feature_map):
    inputs = _inputs(rng, 50)
    other = inputs.copy()
    other[:, 3] += 1000
    assert np.array_equal(feature_map.features(inputs), feature_map.features(other))


def test_discrepancy_is_unbiased_with_unit_width_and_a_uniform_probability(rng, feature_map):
    reference = feature_map.sums(_inputs(rng, 20_000), products=True)
    found = [discrepancy(feature_map.sums(_inputs(rng, 1500)), reference) for _ in range(300)]
    pulls = [one.pull for one in found]
    assert abs(np.mean(pulls)) < 0.25
    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    low = np.mean([one.probability < 0.1 for one in found])
    assert low == pytest.approx(0.1, abs=0.06)


def test_a_changed_correlation_is_seen_though_every_histogram_stays(rng, feature_map):
    reference = feature_map.sums(_inputs(rng, 20_000), products=True)
    got = discrepancy(feature_map.sums(_inputs(rng, 5000, correlation=0.6)), reference)
    assert got.pull > 8
    assert got.probability < 1e-5
    assert got.squared > 0


def test_a_map_is_the_same_from_the_same_seed_only(rng):
    scale, offset = np.full(N_INPUTS, 9.0), np.zeros(N_INPUTS, dtype=int)
    one, same = FeatureMap(2, 8, scale, offset), FeatureMap(2, 8, scale, offset)
    assert one.fingerprint == same.fingerprint
    others = [FeatureMap(3, 8, scale, offset), FeatureMap(2, 8, scale, offset + 1)]
    inputs = _inputs(rng, 10)
    for other in others:
        with pytest.raises(ValueError, match="different maps"):
            discrepancy(other.sums(inputs), one.sums(inputs, products=True))
        with pytest.raises(ValueError, match="different maps"):
            other.sums(inputs) + one.sums(inputs)
    with pytest.raises(ValueError, match="products=True"):
        discrepancy(one.sums(inputs), one.sums(inputs))


def test_few_and_constant_events_give_neutral_or_finite_discrepancies(rng, feature_map):
    reference = feature_map.sums(_inputs(rng, 500), products=True)
    for n in (0, 1):
        got = discrepancy(feature_map.sums(_inputs(rng, n)), reference)
        assert (got.squared, got.pull, got.probability) == (0, 0, 1)
    constant = np.tile(np.arange(N_INPUTS, dtype=np.int16), (400, 1))
    same = discrepancy(feature_map.sums(constant), feature_map.sums(constant, products=True))
    assert same.squared == pytest.approx(0, abs=1e-9)
    moved = discrepancy(feature_map.sums(constant + np.int16(200)), feature_map.sums(constant, products=True))
    assert np.isfinite(moved.pull)
    assert moved.pull > 10
    assert moved.probability < 1e-10


def test_merged_sums_keep_products_where_both_have_them(rng, feature_map):
    inputs = _inputs(rng, 20)
    merged = feature_map.sums(inputs) + feature_map.sums(inputs, products=True)
    assert isinstance(merged, FeatureSums)
    assert merged.products is None


@pytest.mark.parametrize(
    ("features", "scale", "offset", "bandwidth", "problem"),
    [
        (7, [1.0], [0], None, "pairs"),
        (0, [1.0], [0], None, "pairs"),
        (8, [1.0, 2.0], [0], None, "scale and an offset"),
        (8, [], [], None, "scale and an offset"),
        (8, [0.0], [0], None, "not all 0"),
        (8, [np.nan], [0], None, "not all 0"),
        (8, [-1.0], [0], None, "not all 0"),
        (8, [1.0], [0], 0.0, "not all 0"),
        (8, [1.0], [0.5], None, "integer codes"),
    ],
)
def test_maps_that_cannot_be_are_refused(features, scale, offset, bandwidth, problem):
    with pytest.raises(ValueError, match=problem):
        FeatureMap(1, features, np.array(scale), np.array(offset), bandwidth=bandwidth)


def test_inputs_that_do_not_fit_are_refused(feature_map):
    with pytest.raises(ValueError, match="int16"):
        feature_map.sums(np.zeros((3, N_INPUTS), dtype=np.int32))
    with pytest.raises(ValueError, match="int16"):
        feature_map.sums(np.zeros((3, N_INPUTS - 1), dtype=np.int16))
