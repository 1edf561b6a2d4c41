import itertools
import json
from pathlib import Path

import boost_histogram as bh
import numpy as np
import pytest
import uproot
from skhep_testdata import data_path
from uproot.writing.identify import to_TAxis, to_TH1x

from streams.contracts.contract import parse_contract
from streams.contracts.histograms import AxisSpec, HistogramSpec
from streams.counting.codec import decode_summary, encode_summary
from streams.dqm.dqmio import read_values
from streams.dqm.files import read_dqm, source_of
from streams.dqm.histogram_counts import count
from streams.dqm.root import histogram_of
from streams.dqm.summary import read_summaries
from streams.errors import DqmFileError, HistogramError, StreamsError
from tests.support import dqm


def summaries(path, contract=None):
    contract = contract or dqm.contract()
    return read_summaries(path, contract, model="calo")


def by_hand(events):
    """The counts of `dqm.CONTRACT`, from the events themselves."""
    pt, _ = np.histogram(events.pt, bins=[-np.inf, *range(0, 101, 5), np.inf])
    rows = np.digitize(events.phi, [0, 2, 4, 6])
    columns = np.digitize(events.eta, [-2, -1, 0, 1, 2])
    cells = np.zeros((5, 6), dtype=int)
    np.add.at(cells, (rows, columns), 1)
    bins = np.digitize(events.pt / 20.0, [0, 1, 2, 3, 4, 5])
    entries, high = (np.bincount(bins, weights=w, minlength=7) for w in (None, events.mismatch))
    low = entries - high
    return np.concatenate(
        [
            pt,
            [0, *cells.ravel(), 0],
            cells.sum(axis=0),
            cells.sum(axis=1),
            *(entries, high, low),
            [0, low.sum(), high.sum(), 0],
        ]
    )


def test_a_classic_file_becomes_summaries_of_run_and_lumisections(tmp_path):
    # given a file with elements of the whole run and of two lumisections
    run, first, second = (dqm.events(seed) for seed in range(3))
    lumisections = {0: run.elements(), 12: first.elements(), 13: second.elements()}
    path = dqm.write_classic(tmp_path / "DQM_V0003_L1T_R000315267.root", 315267, lumisections)

    found = summaries(path)

    assert [(one.run, one.lumisection) for one in found] == [(315267, 0), (315267, 12), (315267, 13)]
    for one, events in zip(found, (run, first, second), strict=True):
        assert one.inputs.tolist() == by_hand(events).tolist()
        assert (one.n_events, one.n_accept, one.package) == (4000, 0, "dqm")
        assert one.batch is not None
        assert one.batch.source == "dqm:L1T_R000315267"
        assert encode_summary(decode_summary(encode_summary(one))) == encode_summary(one)


@pytest.mark.parametrize("layout", ["whole", "named", "headless"])
def test_a_dqmio_file_becomes_summaries_however_root_wrote_its_objects(tmp_path, layout):
    # given lumisections out of order, one without elements, and elements nobody asked for
    first, second, run = (dqm.events(seed) for seed in range(3))
    other = {"L1T/other": bh.Histogram(bh.axis.Regular(3, 0, 1))}
    rows = [
        (315267, 13, other | second.elements()),
        (315267, 14, {}),
        (315267, 12, first.elements() | other),
        (315267, 0, run.elements()),
    ]
    path = dqm.write_dqmio(tmp_path / "A1C9-7269.root", rows, layout=layout)

    found = summaries(path)

    assert [(one.run, one.lumisection) for one in found] == [(315267, 0), (315267, 12), (315267, 13)]
    for one, events in zip(found, (run, first, second), strict=True):
        assert one.inputs.tolist() == by_hand(events).tolist()


def test_a_histogram_that_root_wrote_into_a_branch_is_read_as_the_one_beside_it():
    # given a file of ROOT with a TH2F in a branch of its own, which refers to classes named before
    with uproot.open(data_path("uproot-issue-tbranch-of-th2.root")) as file:
        beside = file["g4SimHits/h"].values(flow=True).T
        ((_, unread),) = read_values(file["g4SimHits/tree"]["histogram"], [0], "TH2F")
        found = histogram_of(unread.model(), "TH2F", "S/h")

    assert found.kind == "th2"
    assert found.contents.shape == beside.shape
    assert found.contents.sum() > 0
    assert (found.contents == beside).all()


def test_histograms_that_root_wrote_are_counted(tmp_path):
    # given the TH1F, TH2F and TProfile that a ROOT of 2006 wrote, in a DQM folder
    with uproot.open(data_path("uproot-hepdata-example.root")) as file:
        hpx, hpxpy, hprof = (file[name] for name in ("hpx", "hpxpy", "hprof"))
        contract = parse_contract(
            """
            name = "example"
            version = 1
            [[histograms]]
            name = "hprof"
            path = "S/hprof"
            kind = "tprofile"
            x = { bins = 100, low = -4.0, high = 4.0 }
            values = { low = 0.0, high = 20.0 }
            """
        )
        path = dqm.write_classic(tmp_path / "x.root", 1, {0: {"S/hprof": hprof}})
        (summary,) = summaries(path, contract)
        entries, mean = np.asarray(hprof.member("fBinEntries")), hprof.values(flow=True)
        read = {name: read_one(model) for name, model in (("hpx", hpx), ("hpxpy", hpxpy))}
        expected = {"hpx": hpx.values(flow=True), "hpxpy": hpxpy.values(flow=True).T}

    assert summary.histogram(0).tolist() == entries.tolist()
    assert np.abs(summary.histogram(1) - entries * np.nan_to_num(mean) / 20.0).max() <= 0.5
    assert summary.n_events == entries.sum() > 70_000
    for name, values in expected.items():
        assert (read[name] == values).all()


def read_one(model):
    kind = "th2" if model.classname == "TH2F" else "th1"
    y = axis(model, "y") if kind == "th2" else None
    spec = HistogramSpec(name="h", path="S/h", kind=kind, x=axis(model, "x"), y=y)
    counts = count(spec, histogram_of(model, model.classname, "S/h"))
    return counts if kind == "th1" else counts[1 : 1 + spec.n_cells].reshape(spec.shape)


def axis(model, name):
    edges = model.axis(name).edges()
    return AxisSpec(bins=len(edges) - 1, low=float(edges[0]), high=float(edges[-1]))


def test_dials_records_become_summaries_without_flow_bins(tmp_path):
    rng = np.random.default_rng(3)
    contents = {lumisection: rng.integers(0, 500, 20) for lumisection in (8, 7)}
    records = [dqm.dials_record(370000, number, values) for number, values in contents.items()]
    path = dqm.write_dials(tmp_path / "page.json", [*records, dqm.dials_record(1, 1, [1.0], me="S/other")])

    found = summaries(path, dqm.pt_contract())

    assert [(one.run, one.lumisection) for one in found] == [(370000, 7), (370000, 8)]
    for one in found:
        assert one.inputs.tolist() == [0, *contents[one.lumisection], 0]
        assert one.batch is not None
        assert one.batch.source == "dials:/ZeroBias/Run2024C-PromptReco-v1/DQMIO"


def test_dials_rows_are_y_bins(tmp_path):
    data = np.arange(12.0).reshape(3, 4)
    record = dqm.dials_record(1, 1, data, me=dqm.OCCUPANCY)
    record |= {"x_min": -2.0, "x_max": 2.0, "x_bin": 4.0, "y_min": 0.0, "y_max": 6.0, "y_bin": 3.0}

    (found,) = read_dqm(dqm.write_dials(tmp_path / "h2d.json", [record]), [dqm.OCCUPANCY])

    spec = dqm.contract().histograms[1]
    counts = count(spec, found.histograms[dqm.OCCUPANCY])
    assert counts[-5:].tolist() == [0, *data.sum(axis=1), 0]


def test_the_same_content_gives_the_same_identity_whatever_the_version_of_its_file(tmp_path):
    elements, changed = dqm.events(1).elements(), dqm.events(2).elements()
    names = [f"DQM_V000{version}_R000315267__ZeroBias__DQMIO.root" for version in (1, 2, 3)]
    first, again, other = (
        summaries(dqm.write_classic(tmp_path / name, 315267, {0: held}))[0].batch
        for name, held in zip(names, (elements, elements, changed), strict=True)
    )

    assert first == again
    assert first[:2] == other[:2]
    assert first.digest != other.digest


def test_a_long_name_stays_unique_and_short(tmp_path):
    names = [tmp_path / f"{'x' * 200}{number}.root" for number in range(2)]
    first, second = (source_of(name) for name in names)

    assert first != second
    assert len(first) <= 120


def th1f(contents):
    return to_TH1x(
        fName=None,
        fTitle="",
        data=np.array(contents, dtype=np.float32),
        fEntries=1.0,
        fTsumw=1.0,
        fTsumw2=1.0,
        fTsumwx=0.0,
        fTsumwx2=0.0,
        fSumw2=np.zeros(0),
        fXaxis=to_TAxis("xaxis", "", len(contents) - 2, 0.0, 100.0),
    )


def test_a_float_that_stopped_counting_is_refused(tmp_path):
    full = th1f([0.0] * 5 + [2.0**24] + [0.0] * 16)
    path = dqm.write_classic(tmp_path / "full.root", 1, {0: {dqm.PT: full}})

    with pytest.raises(HistogramError, match=r"holds 1\.67772e\+07: its type counts exactly up to"):
        summaries(path, dqm.pt_contract())


def test_other_bins_than_the_contracts_are_refused_with_both(tmp_path):
    wrong = bh.Histogram(bh.axis.Regular(10, 0, 50))
    path = dqm.write_classic(tmp_path / "bins.root", 5, {7: {dqm.PT: wrong}})

    with pytest.raises(
        HistogramError, match=r"run 5, LS 7: .*10 bins from 0 to 50, the contract says 20 bins"
    ):
        summaries(path, dqm.pt_contract())


def test_a_missing_element_is_named(tmp_path):
    elements = dqm.events(1).elements()
    del elements[dqm.OCCUPANCY]
    path = dqm.write_classic(tmp_path / "less.root", 5, {0: elements})

    with pytest.raises(DqmFileError, match=f"run 5, LS 0 has no {dqm.OCCUPANCY} \\(1 of 3 missing\\)"):
        summaries(path)


def test_an_element_that_stands_twice_is_refused(tmp_path):
    rows = [(1, 1, dqm.events(1).elements()), (1, 1, dqm.events(1).elements())]
    with pytest.raises(DqmFileError, match="stands twice in run 1, LS 1"):
        summaries(dqm.write_dqmio(tmp_path / "twice.root", rows))


def test_a_dqmio_index_beyond_its_tree_is_refused(tmp_path):
    rows = [(1, 1, dqm.events(1).elements())]
    with pytest.raises(DqmFileError, match="points at entry 1 of TH1Ds, which has 1"):
        summaries(dqm.write_dqmio(tmp_path / "beyond.root", rows, last_index_plus=1))


def test_a_class_that_cannot_be_counted_is_named(tmp_path):
    cube = bh.Histogram(*(bh.axis.Regular(2, 0, 1) for _ in range(3)))
    path = dqm.write_classic(tmp_path / "cube.root", 1, {0: {dqm.PT: cube}})
    with pytest.raises(DqmFileError, match="a TH3D cannot be counted"):
        summaries(path, dqm.pt_contract())


def test_a_file_without_any_of_the_elements_is_refused(tmp_path):
    path = dqm.write_classic(tmp_path / "none.root", 1, {0: {"L1T/x": dqm.events(1).elements()[dqm.PT]}})
    with pytest.raises(DqmFileError, match="has none of the 3 monitor elements"):
        summaries(path)


def good_record(**more):
    return dqm.dials_record(1, 1, np.ones(20)) | more


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b'"text"',
        b"[" * 100_000,
        json.dumps([good_record(x_bin=1e12)]).encode(),
        json.dumps([good_record(x_bin=1e6)]).encode(),
        json.dumps([good_record(x_bin=19.5)]).encode(),
        json.dumps([good_record(x_min=100.0, x_max=0.0)]).encode(),
        json.dumps([good_record(data=[[1.0] * 20])]).encode(),
        json.dumps([good_record(data=["a"] * 20)]).encode(),
        json.dumps([good_record(data=[float("nan")] * 20)]).encode(),
        json.dumps([good_record(data=[-1.0] * 20)]).encode(),
        json.dumps([good_record(data=[0.5] * 20)]).encode(),
        json.dumps([good_record(run_number=-1)]).encode(),
        json.dumps([good_record(run_number=2**40)]).encode(),
        json.dumps([good_record(), good_record()]).encode(),
        json.dumps([good_record(y_bin=2.0)]).encode(),
        b'{"results": {}}',
        b"\xff\xfe\x00",
    ],
)
def test_hostile_json_is_refused_with_one_line_that_names_the_file(tmp_path, content):
    path = tmp_path / "hostile.json"
    path.write_bytes(content)
    with pytest.raises(StreamsError) as caught:
        summaries(path, dqm.pt_contract())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def tried(path):
    try:
        return summaries(path), ""
    except StreamsError as error:
        return None, str(error)


def test_a_root_file_cut_anywhere_is_read_whole_or_refused(tmp_path):
    # given every file between nothing and all of it, in steps
    whole = dqm.write_classic(tmp_path / "whole.root", 1, {0: dqm.events(1).elements()})
    content = whole.read_bytes()
    expected = summaries(whole)[0].inputs.tolist()
    refused = 0
    for size in itertools.chain(range(0, len(content), 397), [len(content) - 1]):
        cut = tmp_path / "cut.root"
        cut.write_bytes(content[:size])
        found, reason = tried(cut)
        refused += bool(reason)
        assert found is None or found[0].inputs.tolist() == expected
        assert found is not None or (str(cut) in reason and "\n" not in reason)
    assert refused > 3


def test_broken_bytes_in_a_root_file_are_refused_or_change_nothing_silently(tmp_path):
    # given single flipped bytes in the compressed histograms and the folders around them
    whole = dqm.write_classic(tmp_path / "whole.root", 1, {0: dqm.events(1).elements()})
    content = whole.read_bytes()
    rng = np.random.default_rng(7)
    for position in rng.integers(0, len(content), 60):
        broken = bytearray(content)
        broken[position] ^= 0x5A
        path = tmp_path / "broken.root"
        path.write_bytes(broken)
        found, reason = tried(path)
        assert "\n" not in reason
        assert all((one.inputs >= 0).all() for one in found or ())


@pytest.mark.parametrize("name", ["uproot-Zmumu.root", "uproot-empty.root"])
def test_another_kind_of_root_file_is_refused(name):
    with pytest.raises(DqmFileError, match="holds neither DQMData nor Indices"):
        read_dqm(Path(data_path(name)), [dqm.PT])


def test_a_contract_of_objects_is_refused(tmp_path, contract):
    path = dqm.write_classic(tmp_path / "a.root", 1, {0: dqm.events(1).elements()})
    with pytest.raises(DqmFileError, match="lists no histograms"):
        read_summaries(path, contract, model="m")
