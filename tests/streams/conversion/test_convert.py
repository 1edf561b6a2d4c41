"""Conversion gives the codes one works out by hand, and fails with one clear line and no output."""

import math

import awkward as ak
import numpy as np
import pytest
import uproot

from streams.contracts.contract import load_contract, parse_contract
from streams.conversion.convert import convert
from streams.errors import ContractError, ConvertError
from streams.events.dataset import Dataset


def by_hand(arrays, event, kinds, count, eta_lsb, phi_codes, pt_maximum):
    """Work out the codes of one event's objects without the code under test."""
    objects = []
    for kind in kinds:
        for px, py, pz in zip(*(arrays[f"{kind}_P{axis}"][event] for axis in "xyz"), strict=True):
            pt = math.sqrt(px * px + py * py)
            objects.append((pt, math.asinh(pz / pt), math.atan2(py, px)))
    objects.sort(key=lambda one: -one[0])
    codes = []
    for pt, eta, phi in objects[:count]:
        turn = phi if phi >= 0 else phi + 2 * math.pi
        codes += [
            min(int(pt / 0.5), pt_maximum),
            round(eta / eta_lsb),
            int(turn / (2 * math.pi / phi_codes)) % phi_codes,
        ]
    return codes + [0] * (3 * count - len(codes))


def test_real_events_agree_with_plain_arithmetic(dataset, contract, hzz_path):
    with uproot.open(hzz_path) as file:
        arrays = file["events"].arrays(
            filter_name="/(Jet|Muon|Electron|Photon)_P[xyz]|MET_p[xy]|EventWeight/"
        )
    arrays = {name: arrays[name].to_list() for name in ak.fields(arrays)}
    busiest = np.argsort([-len(jets) for jets in arrays["Jet_Px"]], kind="stable")[:20].tolist()
    mixed = [i for i in range(2421) if arrays["Electron_Px"][i] and arrays["Photon_Px"][i]][:20]
    assert mixed
    for event in [*range(200), *busiest, *mixed, 2420]:
        px, py = arrays["MET_px"][event], arrays["MET_py"][event]
        turn = math.atan2(py, px) % (2 * math.pi)
        expected = [int(math.sqrt(px * px + py * py) / 0.5), 0, int(turn / (2 * math.pi / 144)) % 144]
        expected += by_hand(arrays, event, ["Electron", "Photon"], 4, 0.0435, 144, 511)
        expected += by_hand(arrays, event, ["Muon"], 4, 0.010875, 576, 511)
        expected += by_hand(arrays, event, ["Jet"], 10, 0.0435, 144, 2047)
        assert dataset.inputs[event].tolist() == expected, event
        assert dataset.weight[event] == arrays["EventWeight"][event]


def test_provenance_says_what_was_read(dataset, contract):
    provenance = dataset.provenance
    assert (provenance.events_in, provenance.events_kept, provenance.dropped) == (2421, 2421, {})
    assert provenance.sources[0].name == "uproot-HZZ.root"
    assert provenance.sources[0].entries == 2421
    assert len(provenance.sources[0].sha256) == 64
    assert provenance.contract_hash == contract.hash


def test_objects_are_sorted_by_falling_pt(dataset, contract):
    for name, count in (("egamma", 4), ("muon", 4), ("jet", 10)):
        pt = dataset.inputs[:, [contract.input_index(f"{name}[{index}].pt") for index in range(count)]]
        assert (np.diff(pt, axis=1) <= 0).all()


def test_the_chunk_size_does_not_matter(contract, hzz_path, dataset, tmp_path):
    seen = []
    again = convert(
        [hzz_path], contract, tmp_path / "d.npz", step_size=500, progress=lambda *both: seen.append(both)
    )
    assert again.id == dataset.id
    assert seen == [(500, 2421), (1000, 2421), (1500, 2421), (2000, 2421), (2421, 2421)]


def test_the_same_conversion_gives_the_same_bytes(contract, hzz_path, tmp_path):
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    for path in (first, second):
        convert([hzz_path], contract, path)
    assert first.read_bytes() == second.read_bytes()


def test_several_files_are_read_in_order(contract, hzz_path, dataset, tmp_path):
    both = convert([hzz_path, hzz_path], contract, tmp_path / "both.npz")
    np.testing.assert_array_equal(both.inputs, np.concatenate([dataset.inputs, dataset.inputs]))
    assert [source.entries for source in both.provenance.sources] == [2421, 2421]


def write_tree(path, **branches):
    good = {
        "MET_px": np.array([3.0, 0.1, 30.0, 40.0]),
        "MET_py": np.array([4.0, 0.1, 40.0, 30.0]),
        "Jet_Px": ak.Array([[10.0, -30.0, 20.0], [], [0.1], [500.0]]),
        "Jet_Py": ak.Array([[0.0, 0.0, 0.0], [], [0.0], [0.0]]),
        "Jet_Pz": ak.Array([[0.0, 10.0, 0.0], [], [0.1], [-1e6]]),
    }
    with uproot.recreate(path) as file:
        file.mktree(
            "events",
            {name: str(ak.type(ak.Array(array)).content) for name, array in (good | branches).items()},
        )
        file["events"].extend(good | branches)
    return path


def test_sorting_padding_clamping_and_vanishing_objects(small_text, tmp_path):
    dataset = convert([write_tree(tmp_path / "a.root")], parse_contract(small_text), tmp_path / "a.npz")
    eta = round(math.asinh(10 / 30) / 0.0435)
    assert dataset.inputs.tolist() == [
        [10, 60, eta, 72, 40, 0, 0],  # sorted, third jet cut
        [0, 0, 0, 0, 0, 0, 0],  # no jet
        [100, 0, 0, 0, 0, 0, 0],  # a jet below one code is no jet
        [100, 255, -115, 0, 0, 0, 0],  # clamped
    ]


def test_events_without_a_code_are_dropped_and_counted(small_text, tmp_path):
    path = write_tree(
        tmp_path / "a.root",
        MET_px=np.array([3.0, math.nan, 30.0, 40.0]),
        Jet_Pz=ak.Array([[0.0, 10.0, math.inf], [], [0.1], [0.0]]),
    )
    dataset = convert([path], parse_contract(small_text), tmp_path / "a.npz")
    assert dataset.n_events == 2
    assert dataset.provenance.events_in == 4
    assert dataset.provenance.dropped == {"jet.eta is not finite": 1, "met.pt is not finite": 1}


def test_of_an_input_without_any_number_no_event_is_left_and_it_is_named(small_text, tmp_path):
    path = write_tree(tmp_path / "a.root", MET_px=np.full(4, math.nan))
    dataset = convert([path], parse_contract(small_text), tmp_path / "a.npz")
    assert dataset.n_events == 0
    assert dataset.provenance.dropped == {"met.pt is not finite": 4}


def test_run_lumisection_and_event_are_kept(small_text, tmp_path):
    numbers = np.array([2**40 + 1, 2, 3, 4], dtype=np.int64)
    path = write_tree(
        tmp_path / "a.root", r=np.array([7] * 4, dtype=np.int32), ls=np.arange(4, dtype=np.int32), ev=numbers
    )
    text = small_text.replace(
        'tree = "events"', 'tree = "events"\nrun = "r"\nlumisection = "ls"\nevent = "ev"'
    )
    convert([path], parse_contract(text), tmp_path / "a.npz")
    dataset = Dataset.load(tmp_path / "a.npz")
    assert dataset.run.tolist() == [7] * 4
    assert dataset.lumisection.tolist() == [0, 1, 2, 3]
    assert dataset.event.tolist() == numbers.tolist()


def test_selections_choose_objects_and_events_before_anything_is_dropped(small_text, tmp_path):
    path = write_tree(
        tmp_path / "a.root", Jet_Pz=ak.Array([[0.0, math.nan, 0.0], [], [0.1], [0.0]]), n=np.arange(4)
    )
    text = small_text.replace('tree = "events"', 'tree = "events"\nselect = "n != 2"\nlabel = "n > 2"')
    text = text.replace('sort_by = "pt"', 'sort_by = "pt"\nselect = "Jet_Px > 0"')
    dataset = convert([path], parse_contract(text), tmp_path / "a.npz", step_size=3)
    assert dataset.provenance.dropped == {"not selected": 1}
    assert dataset.label.tolist() == [0, 0, 1]
    assert dataset.label.dtype == np.int64
    assert dataset.inputs[:, [1, 4]].tolist() == [
        [40, 20],
        [0, 0],
        [255, 0],
    ]  # the jet with NaN was not chosen


def test_a_number_that_is_not_whole_is_no_event_number(small_text, tmp_path):
    path = write_tree(tmp_path / "a.root", e=np.array([1.0, 2.5, math.nan, 2.0**60]))
    text = small_text.replace('tree = "events"', 'tree = "events"\nevent = "e"')
    dataset = convert([path], parse_contract(text), tmp_path / "a.npz")
    assert dataset.event.tolist() == [1]
    assert dataset.provenance.dropped == {"event is no whole number": 2, "event is not finite": 1}


def test_a_tree_without_events_gives_an_empty_dataset(small_text, tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree(
            "events",
            {"MET_px": "float64", "MET_py": "float64"} | {f"Jet_P{axis}": "var * float64" for axis in "xyz"},
        )
    assert convert([tmp_path / "a.root"], parse_contract(small_text), tmp_path / "a.npz").inputs.shape == (
        0,
        7,
    )


def test_an_ntuple_of_the_new_kind_is_read_like_a_tree(small_text, tmp_path):
    with uproot.open(write_tree(tmp_path / "tree.root")) as file:
        columns = file["events"].arrays(filter_name="/(MET|Jet)_.*/")
    with uproot.recreate(tmp_path / "ntuple.root") as file:
        file.mkrntuple("events", columns)
    contract = parse_contract(small_text)
    first, second = (
        convert([tmp_path / f"{n}.root"], contract, tmp_path / "a.npz") for n in ("tree", "ntuple")
    )
    np.testing.assert_array_equal(first.inputs, second.inputs)


@pytest.fixture
def broken(hzz_path, tmp_path):
    """Files that cannot be converted, and what must be said of each."""
    whole = hzz_path.read_bytes()
    (tmp_path / "text.root").write_text("this is no ROOT file")
    (tmp_path / "empty.root").write_bytes(b"")
    (tmp_path / "short.root").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole) // 3 + 40_000] = b"\xa5" * 40_000
    (tmp_path / "damaged.root").write_bytes(damaged)
    with uproot.recreate(tmp_path / "other.root") as file:
        file.mktree("Events", {"x": np.arange(3.0)})
    with uproot.recreate(tmp_path / "branch.root") as file:
        file.mktree("events", {"MET_px": np.arange(3.0), "MET_phi": np.arange(3.0)})
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.root", "there is no such file"),
        ("text.root", "is not a ROOT file"),
        ("empty.root", "is empty"),
        ("short.root", "copy it again"),
        ("damaged.root", "copy it again"),
        ("other.root", "has no tree 'events': its trees are Events"),
        ("branch.root", "has no branch 'Electron_Px': it has MET_phi, MET_px"),
    ],
)
def test_a_file_that_cannot_be_converted_gives_one_line_and_no_output(contract, hzz_path, broken, name, said):
    before = sorted(broken.iterdir())
    with pytest.raises(ConvertError, match=said) as caught:
        convert([hzz_path, broken / name], contract, broken / "out.npz")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(broken.iterdir()) == before


def test_a_contract_with_a_wrong_key_leaves_no_output(contract_path, tmp_path):
    (tmp_path / "contract.toml").write_text(contract_path.read_text().replace("lsb =", "lbs =", 1))
    with pytest.raises(ContractError, match="did you mean 'lsb'"):
        load_contract(tmp_path / "contract.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"hypot(Jet_Px, Jet_Py)"', '"concat(Jet_Px, Jet_Py)"', "differ in number of objects"),
        ('"hypot(MET_px, MET_py)"', '"concat(MET_px, MET_py)"', "cannot be evaluated"),
        ('tree = "events"', 'tree = "events"\nweight = "Jet_Px"', "give one number"),
        ('tree = "events"', 'tree = "events"\nselect = "MET_px"', "write a comparison"),
        ('sort_by = "pt"', 'sort_by = "pt"\nselect = "MET_px > 0"', "no condition on its objects"),
        ("lsb = 0.0435", "lsb = 0.0435\ncoded = true", "gives floating-point numbers"),
    ],
)
def test_an_expression_that_does_not_fit_the_data_is_named(small_text, tmp_path, old, new, said):
    path = write_tree(tmp_path / "a.root")
    assert old in small_text
    contract = parse_contract(small_text.replace(old, new, 1))
    with pytest.raises(ConvertError, match=said):
        convert([path], contract, tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_an_output_that_cannot_be_written_is_named(contract, hzz_path, tmp_path):
    with pytest.raises(ConvertError, match="check that its folder exists"):
        convert([hzz_path], contract, tmp_path / "nowhere" / "out.npz")


def test_remote_and_no_files_are_refused(contract, tmp_path):
    for location, said in [
        ("root://server/file.root", "fsspec-xrootd"),
        ("s3://bucket/file.root", "Install s3fs"),
        ("simplecache::s3://bucket/file.root", "Install s3fs"),
        ("gopher://server/file.root", "no protocol that fsspec knows"),
        ("memory://nowhere.root", "there is no such file"),
        ("http://127.0.0.1:1/file.root", "check the server"),
    ]:
        with pytest.raises(ConvertError, match=said) as caught:
            convert([location], contract, tmp_path / "out.npz")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConvertError, match="at least one"):
        convert([], contract, tmp_path / "out.npz")
