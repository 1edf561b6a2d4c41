import dataclasses

import numpy as np
import pytest

from streams.contracts.contract import parse_contract
from streams.contracts.histograms import AxisSpec, HistogramSpec, ValueRange
from streams.counting.layout import layout_of
from streams.dqm.histogram_counts import Histogram, Profile, count
from streams.errors import ContractError, HistogramError
from tests.support import dqm

X = AxisSpec(bins=3, low=0.0, high=3.0)
EDGES = np.array([0.0, 1.0, 2.0, 3.0])
TH1 = HistogramSpec(name="a", path="S/a", kind="th1", x=X)
TH2 = HistogramSpec(name="b", path="S/b", kind="th2", x=X, y=AxisSpec(bins=2, low=0.0, high=1.0))
PROFILE = HistogramSpec(name="c", path="S/c", kind="tprofile", x=X, values=ValueRange(low=-1.0, high=3.0))


def th1(contents, **more):
    return Histogram("th1", EDGES, None, np.array(contents, dtype=np.float64), **more)


def tprofile(entries, sums, squares=None):
    weights = None if squares is None else np.array(squares, dtype=np.float64)
    return Histogram(
        "tprofile",
        EDGES,
        None,
        np.array(sums, dtype=np.float64),
        profile=Profile(np.array(entries, dtype=np.float64), weights),
    )


def test_a_th1_is_its_contents_with_roots_flow_bins():
    assert count(TH1, th1([1, 2, 0, 4, 5])).tolist() == [1, 2, 0, 4, 5]


def test_a_th2_is_its_cells_and_its_projections():
    contents = np.arange(20.0).reshape(4, 5)
    histogram = Histogram("th2", EDGES, np.array([0.0, 0.5, 1.0]), contents)

    counts = count(TH2, histogram)

    cells, x, y = np.split(counts, [22, 27])
    assert cells.tolist() == [0, *range(20), 0]
    assert x.tolist() == contents.sum(axis=0).tolist()
    assert y.tolist() == contents.sum(axis=1).tolist()


def test_a_profile_is_entries_split_between_both_ends_of_its_range():
    # 4 entries of mean 1 lie half way, 10 of mean 3 at the top, 2 of mean -1 at the bottom
    counts = count(PROFILE, tprofile([0, 4, 10, 2, 0], [0.0, 4.0, 30.0, -2.0, 0.0]))

    entries, high, low, level = np.split(counts, [5, 10, 15])
    assert entries.tolist() == [0, 4, 10, 2, 0]
    assert high.tolist() == [0, 2, 10, 0, 0]
    assert low.tolist() == [0, 2, 0, 2, 0]
    assert level.tolist() == [0, 4, 12, 0]


def test_the_level_of_a_profile_tells_its_mean():
    # given a mean of 0.75 over all entries
    counts = count(PROFILE, tprofile([0, 16, 16, 32, 0], [0.0, 12.0, 12.0, 24.0, 0.0]))
    low, high = counts[-3:-1]

    level = PROFILE.columns()[-1]

    assert high / (low + high) * level.lsb + -1.0 == pytest.approx(0.75)


def test_a_profile_is_rounded_by_half_an_entry_at_most():
    rng = np.random.default_rng(1)
    entries = rng.integers(0, 50, 5)
    parts = rng.random(5)
    sums = entries * (parts * 4.0 - 1.0)

    high = count(PROFILE, tprofile(entries, sums))[5:10]

    assert (np.abs(high - entries * parts) <= 0.5).all()


@pytest.mark.parametrize(
    ("histogram", "said"),
    [
        (th1([0, 1.5, 0, 0, 0]), "holds 1.5 in bin 1: weighted entries"),
        (th1([0, -1, 0, 0, 0]), "holds -1: what is below 0"),
        (th1([0, np.nan, 0, 0, 0]), "NaN"),
        (th1([0, np.inf, 0, 0, 0]), "NaN or infinity"),
        (th1([0, 2.0**24, 0, 0, 0], limit=2.0**24), "counts exactly up to"),
        (th1([0, 2.0**53, 0, 0, 0]), "counts exactly up to"),
        (th1([0, 4, 0, 0, 0], squared_weights=np.array([0.0, 8, 0, 0, 0])), "other weights than 1"),
        (th1([0, 1, 0]), "do not fit its own bins"),
        (
            dataclasses.replace(th1([0, 1, 0, 0]), x=np.array([0.0, 1.5, 3.0])),
            "on x 2 bins from 0 to 3, the contract says 3 bins from 0 to 3",
        ),
        (
            dataclasses.replace(th1([0, 1, 0, 0, 0]), x=np.array([0.0, 0.5, 2.0, 3.0])),
            "3 unequal bins from 0 to 3",
        ),
        (tprofile([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]), "is a tprofile, the contract says th1"),
    ],
)
def test_what_cannot_be_counted_exactly_is_refused_with_both_sides(histogram, said):
    with pytest.raises(HistogramError, match=said) as caught:
        count(TH1, histogram)
    assert str(caught.value).startswith("S/a: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("histogram", "said"),
    [
        (tprofile([0, 2, 0, 0, 0], [0, 7.0, 0, 0, 0]), "averages 3.5 in bin 1, the contract says values"),
        (tprofile([0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]), "a sum and no entries in bin 1"),
        (tprofile([0, 2.5, 0, 0, 0], [0, 0, 0, 0, 0]), "holds 2.5"),
        (tprofile([0, 2, 0, 0, 0], [0, np.nan, 0, 0, 0]), "NaN"),
        (tprofile([0, 4, 0, 0, 0], [0, 0, 0, 0, 0], squares=[0, 8, 0, 0, 0]), "other weights"),
    ],
)
def test_a_profile_that_leaves_its_range_is_refused(histogram, said):
    with pytest.raises(HistogramError, match=said):
        count(PROFILE, histogram)


def test_equal_weights_count_by_the_scale_of_the_contract():
    spec = TH1.model_copy(update={"scale": 4.0})
    weighted = th1([0, 0.5, 0.25, 0, 0], squared_weights=np.array([0, 0.125, 0.0625, 0, 0]))

    assert count(spec, weighted).tolist() == [0, 2, 1, 0, 0]
    with pytest.raises(HistogramError, match=r"holds 0.3 in bin 1"):
        count(spec, th1([0, 0.3, 0, 0, 0]))


def test_unequal_bins_are_those_of_the_contract():
    spec = HistogramSpec(name="a", path="S/a", kind="th1", x=AxisSpec(edges=[0.0, 1.0, 10.0]))
    histogram = Histogram("th1", np.array([0.0, 1.0, 10.0]), None, np.array([0.0, 1.0, 2.0, 0.0]))

    assert count(spec, histogram).tolist() == [0, 1, 2, 0]
    assert (spec.columns()[0].lsb, spec.columns()[0].unit) == (1.0, "bins")


def test_a_contract_of_histograms_lays_its_columns_out_one_after_the_other():
    contract = dqm.contract()
    layout = layout_of(contract)

    assert layout.own_totals
    assert contract.inputs[0].lsb == 5.0
    assert (contract.inputs[0].minimum, contract.inputs[0].maximum) == (1, 20)
    assert contract.input_names[1:4] == ("jet.occupancy", "jet.occupancy.x", "jet.occupancy.y")
    assert layout.n_input_bins == 22 + (30 + 2) + 6 + 5 + 3 * 7 + 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "th1"', 'kind = "th3"', "kind"),
        ("bins = 20, low = 0.0", "bins = 20, low = 200.0", "must lie below"),
        ("bins = 20, low", "bins = 0, low", "bins"),
        ("bins = 20, ", "", "needs bins, low and high"),
        ("bins = 20, low = 0.0, high = 100.0", "edges = [0.0, 2.0, 1.0]", "edges must rise"),
        (f'path = "{dqm.PT}"', f'path = "{dqm.OCCUPANCY}"', "stands twice"),
        (f'path = "{dqm.PT}"', 'path = "/L1T/x"', "full name"),
        (f'path = "{dqm.PT}"', 'path = "L1T/Run summary/x"', "Run summary"),
        ('name = "jet.pt"', 'name = "jet.occupancy.x"', "name"),
        ('name = "jet.pt"', 'name = "mismatch.low"', "stands twice"),
        ("values = { low = 0.0, high = 1.0 }", "", "tprofile has values"),
        ('kind = "th1"', 'kind = "th1"\nvalues = { low = 0.0, high = 1.0 }', "tprofile has values"),
        ("bins = 4, ", "bins = 30000, ", "cells are more than"),
        ('kind = "th1"', 'kind = "th1"\nscale = nan', "scale"),
        ("version = 1", 'version = 1\ntree = "Events"', "about events"),
    ],
)
def test_a_wrong_list_of_histograms_gives_one_line(old, new, said):
    assert old in dqm.CONTRACT
    with pytest.raises(ContractError, match=said) as caught:
        parse_contract(dqm.CONTRACT.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_the_centre_of_a_bin_is_where_its_code_says():
    pt, _, _, phi, *_, level = dqm.contract().inputs
    assert [code * pt.lsb + pt.origin for code in (1, 20)] == [2.5, 97.5]
    assert [code * phi.lsb + phi.origin for code in (1, 3)] == [1.0, 5.0]
    assert [code * level.lsb + level.origin for code in (0, 1)] == [0.0, 1.0]
