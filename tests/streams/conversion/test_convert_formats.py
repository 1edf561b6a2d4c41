"""Each kind of file under the contract shipped for it; codes are worked out by hand or from plain arrays."""

import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import awkward as ak
import fsspec
import numpy as np
import pytest
import uproot

from streams.contracts.contract import load_contract, parse_contract
from streams.contracts.library import FOLDER, find_contract, shipped_contracts
from streams.conversion.convert import convert, convert_files
from streams.counting.layout import layout_of
from streams.effects.effect import parse_effect
from streams.errors import ContractError, ConvertError, EffectError, ResampleError
from streams.events.resample import n_turns
from tests.streams.conftest import CONTRACT_PATH
from tests.support.root_files import coffea_file, write_l1_nano, write_l1_ntuple

BIG = 2**53 + 1


def nano_event(path):
    """Write one event of L1 objects: MET, two e/gamma, a muon (and one of another crossing), one jet."""
    columns = {
        "run": np.array([370293], np.uint32),
        "luminosityBlock": np.array([17], np.uint32),
        "event": np.array([BIG], np.uint64),
    }
    fields = {
        "L1EtSum": {"hwPt": [999, 101], "hwPhi": [1, 100], "bx": [0, 0], "etSumType": [1, 2]},
        "L1EG": {"hwPt": [511, 1], "hwEta": [-100, 20], "hwPhi": [143, 8], "bx": [0, 0]},
        "L1Mu": {"hwPt": [300, 44], "hwEta": [9, -225], "hwPhi": [9, 575], "bx": [1, 0]},
        "L1Jet": {"hwPt": [2047], "hwEta": [115], "hwPhi": [72], "bx": [0]},
    }
    for name, one in fields.items():
        columns[name] = ak.zip({key: ak.Array([np.array(v, np.int16)]) for key, v in one.items()})
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: str(ak.type(ak.Array(one)).content) for name, one in columns.items()})
        file["Events"].extend(columns)
    return path


# x = hwPt // 2, hwEta or hwPhi; s = ((x - offset) * 32) >> shift; v4: s / 8, half to even, -128..127;
# v5: s * 8, -8192..8191. Offsets and shifts are those of the shipped contracts.
BY_HAND = {
    # MET 101 // 2 = 50: 34 * 32 >> 3 = 136
    "met[0]": [(17, 1088), (0, 0), (2, 112)],  # phi 100: 28 * 32 >> 6 = 14, 1.75
    # 511 // 2 = 255: 247 * 32 >> 2 = 1976, both saturate; eta -100: -100, -12.5 to even; phi 143: 35 of 35.5
    "egamma[0]": [(127, 8191), (-12, -800), (4, 280)],
    # 1 // 2 = 0, yet the object is there: -4 * 32 >> 1 = -64; eta 20: 20, 2.5 to even; phi 8: -32
    "egamma[1]": [(-8, -512), (2, 160), (-4, -256)],
    # nothing there: zeros, scaled. -3 * 32 = -96; 0; -72 * 32 >> 6 = -36, -4.5 to even
    "egamma[2]": [(-12, -768), (0, 0), (-4, -288)],
    "egamma[3]": [(-8, -512), (0, 0), (-4, -288)],
    # the muon of crossing 0: 17 * 32 >> 1 = 272; -225 * 32 >> 7 = -57 (-56.25); 287 * 32 >> 8 = 35 (35.875)
    "muon[0]": [(34, 2176), (-7, -456), (4, 280)],
    "muon[1]": [(-12, -768), (0, 0), (-4, -288)],
    "muon[2]": [(-12, -768), (0, 0), (-4, -288)],
    "muon[3]": [(-12, -768), (0, 0), (-4, -288)],
    # 2047 // 2 = 1023: 995 * 32 >> 4 = 1990, both saturate; eta 115: 57 of 57.5, 7.125; phi 72: 0
    "jet[0]": [(127, 8191), (7, 456), (0, 0)],
    "jet[1]": [(-10, -672), (0, 0), (-4, -288)],  # -21 * 32 >> 3 = -84, -10.5 to even
    "jet[2]": [(-8, -544), (0, 0), (-4, -288)],  # -68, -8.5 to even
    "jet[3]": [(-7, -448), (0, 0), (-4, -288)],  # -56
    "jet[4]": [(-6, -384), (0, 0), (-4, -288)],  # -48
    "jet[5]": [(-6, -352), (0, 0), (-4, -288)],  # -44, -5.5 to even
    "jet[6]": [(-5, -320), (0, 0), (-4, -288)],  # -40
    "jet[7]": [(-4, -288), (0, 0), (-4, -288)],  # -36, -4.5 to even
    "jet[8]": [(-8, -512), (0, 0), (-4, -288)],  # -8 * 32 >> 2 = -64
    "jet[9]": [(-8, -512), (0, 0), (-4, -288)],
}


@pytest.mark.parametrize(("name", "which"), [("axol1tl-v4", 0), ("axol1tl-v5", 1)])
def test_the_57_inputs_of_the_anomaly_trigger_are_those_worked_out_by_hand(tmp_path, name, which):
    contract = find_contract(name)
    dataset = convert([nano_event(tmp_path / "a.root")], contract, tmp_path / "a.npz")
    expected = [codes[which] for triple in BY_HAND.values() for codes in triple]
    assert dataset.input_names == tuple(
        f"{slot}.{quantity}" for slot in BY_HAND for quantity in ("pt", "eta", "phi")
    )
    assert dataset.inputs.tolist() == [expected]
    assert (dataset.run[0], dataset.lumisection[0], dataset.event[0]) == (370293, 17, BIG)
    padding = [spec.padding for spec in contract.inputs if spec.object == "jet" and spec.index == 5]
    assert padding == expected[-15:-12]


def test_an_l1_ntuple_gives_its_integers_and_the_ids_of_the_other_tree(tmp_path):
    jets = ak.values_astype(ak.Array([[40, 30, 20], [], [7]]), np.int16)
    crossing = ak.values_astype(ak.Array([[0, -1, 0], [], [0]]), np.int16)
    empty = jets[jets > 99]
    two = ak.values_astype(ak.Array([[8, 9], [1, 4095], [3, 5]]), np.int16)
    upgrade = {f"{kind}{name}": empty for kind in ("eg", "muon") for name in ("IEt", "IEta", "IPhi", "Bx")}
    upgrade |= {"jetIEt": jets, "jetIEta": -jets, "jetIPhi": jets, "jetBx": crossing}
    upgrade |= {"sumIEt": two, "sumIPhi": two % 144, "sumBx": 0 * two, "sumType": 0 * two + [[1, 2]]}
    event = {"run": np.array([5, 5, 5], np.uint32), "lumi": np.array([1, 2, 3], np.uint32)}
    event["event"] = np.array([BIG, BIG + 2, 2**63 - 1], np.uint64)
    source = write_l1_ntuple(tmp_path / "l1.root", upgrade, event)
    dataset = convert([source], find_contract("l1-ntuple"), tmp_path / "l1.npz", step_size=2)
    assert dataset.event.tolist() == [BIG, BIG + 2, 2**63 - 1]
    assert dataset.lumisection.tolist() == [1, 2, 3]
    met, jet = dataset.inputs[:, :3].tolist(), dataset.inputs[:, -30:-24].tolist()
    assert met == [[9, 0, 9], [4095, 0, 4095 % 144], [5, 0, 5]]
    assert jet == [[40, -40, 40, 20, -20, 20], [0, 0, 0, 0, 0, 0], [7, -7, 7, 0, 0, 0]]
    del event["event"]
    short = {name: one[:2] for name, one in event.items()} | {"event": np.array([1, 2], np.uint64)}
    source = write_l1_ntuple(tmp_path / "short.root", upgrade, short)
    with pytest.raises(ConvertError, match="has 3 events, 'l1EventTree/L1EventTree' has 2"):
        convert([source], find_contract("l1-ntuple"), tmp_path / "l1.npz")


def test_nanoaod_jets_agree_with_plain_arithmetic(tmp_path):
    source = coffea_file("nano_tt_v15.root")
    dataset = convert([source], find_contract("nanoaod-jet-tagger"), tmp_path / "o.npz", step_size=37)
    with uproot.open(source) as file:
        arrays = file["Events"].arrays(
            ["Jet_pt", "Jet_eta", "Jet_nConstituents", "Jet_btagDeepFlavB", "event"], library="ak"
        )
    assert dataset.n_events == 200
    assert dataset.event.tolist() == arrays["event"].to_list()
    for event in range(200):
        jets = [
            (pt, eta, n, b)
            for pt, eta, n, b in zip(
                *(arrays[event, f"Jet_{name}"] for name in ("pt", "eta", "nConstituents", "btagDeepFlavB")),
                strict=True,
            )
            if pt > 30 and abs(eta) < 2.5
        ]
        assert dataset.label[event] == sum(b > 0.5 for *_, b in jets)
        jets.sort(key=lambda jet: -jet[0])
        for slot, (pt, eta, n, _) in enumerate(jets[:4]):
            codes = dataset.inputs[event, 6 * slot : 6 * slot + 6].tolist()
            assert codes[0] == min(int(pt / 0.5), 2047)
            assert codes[1] == round(float(eta) / 0.0435)
            assert codes[4] == n
        assert (dataset.inputs[event, 6 * len(jets) :] == 0).all()


def test_an_rntuple_gives_the_events_of_the_tree_it_was_made_from(tmp_path):
    contract = find_contract("nanoaod-jet-tagger")
    tree, ntuple = (
        convert([coffea_file(f"{name}.root")], contract, tmp_path / "o.npz", step_size=20)
        for name in ("nano_dimuon", "nano_dimuon_rntuple")
    )
    assert tree.provenance.dropped == ntuple.provenance.dropped == {"not selected": 7}
    np.testing.assert_array_equal(tree.inputs, ntuple.inputs)
    np.testing.assert_array_equal(tree.event, ntuple.event)
    assert set(tree.run.tolist()) == {315267}


def test_atlas_physlite_agrees_with_plain_arithmetic(tmp_path):
    source = coffea_file("PHYSLITE_example.root")
    dataset = convert([source], find_contract("atlas-physlite"), tmp_path / "o.npz")
    with uproot.open(source) as file:
        pt = file["CollectionTree"]["AnalysisJetsAuxDyn.pt"].array()
        numbers = file["CollectionTree"]["EventInfoAuxDyn.eventNumber"].array()
    assert dataset.event.tolist() == numbers.to_list()
    for event, jets in enumerate(pt.to_list()):
        leading = sorted((one for one in jets if one > 10e3), reverse=True)[:6]
        expected = [min(int(one / 1000 / 0.25), 4095) for one in leading]
        assert dataset.inputs[event, 0:18:3].tolist() == expected + [0] * (6 - len(expected))


@pytest.mark.parametrize("start", [0, 700])
def test_an_amount_of_memory_ends_between_baskets_and_gives_the_same(tmp_path, start):
    source = write_l1_nano(tmp_path / "nano.root", 10_500, chunk=1000)
    contract, plain, out = find_contract("axol1tl-v5"), tmp_path / "plain.npz", tmp_path / "d.npz"
    convert_files([source], contract, plain, step_size=400)
    if start:
        with pytest.raises(KeyboardInterrupt):
            convert_files([source], contract, out, step_size=start, progress=interrupted)
    steps = []
    convert_files(
        [source], contract, out, step_size="400 kB", resume=True, progress=lambda n, _: steps.append(n)
    )
    assert out.read_bytes() == plain.read_bytes()
    assert len(steps) > 3
    assert {n % 1000 for n in steps[:-1]} == {0}
    assert steps[-1] == 10_500


def interrupted(read, total):
    raise KeyboardInterrupt


def test_a_tree_of_benchmarks_keeps_every_event_number(tmp_path):
    source = write_l1_nano(tmp_path / "a.root", 500, chunk=200)
    dataset = convert([source], find_contract("axol1tl-v5"), tmp_path / "a.npz", step_size=64)
    assert dataset.event.tolist() == [BIG + 2 * event for event in range(500)]


class Ranges(SimpleHTTPRequestHandler):
    """Serves one file, whole or in part, as web servers do and Python's own does not."""

    content = b""

    def do_GET(self):
        first, last = 0, len(self.content) - 1
        if asked := self.headers.get("Range"):
            first, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(first), min(int(end or last), last)
        part = self.content[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.end_headers()
        self.wfile.write(part)

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_files_are_read_over_http_and_through_a_cache(contract, hzz_path, dataset, tmp_path, chain):
    handler = type("Handler", (Ranges,), {"content": hzz_path.read_bytes()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        location = f"{chain}http://127.0.0.1:{server.server_port}/uproot-HZZ.root"
        assert convert([location], contract, tmp_path / "d.npz").id == dataset.id
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_files_are_read_from_any_fsspec_store(contract, hzz_path, dataset, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/store/uproot-HZZ.root", hzz_path.read_bytes())
    try:
        assert convert(["memory://store/uproot-HZZ.root"], contract, tmp_path / "d.npz").id == dataset.id
    finally:
        memory.rm("/store", recursive=True)


def test_every_shipped_contract_has_the_name_of_its_file():
    contracts = shipped_contracts()
    assert set(contracts) >= {"axol1tl-v4", "axol1tl-v5", "l1-ntuple", "nanoaod-jet-tagger", "atlas-physlite"}
    assert all(name == contract.name for name, contract in contracts.items())
    assert all(contract.description for contract in contracts.values())


def test_the_contract_of_the_how_to_is_one():
    page = (CONTRACT_PATH.parents[4] / "docs" / "convert.md").read_text()
    example, stage = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert parse_contract(example).n_inputs == 8
    pt_alone = example.split('[[objects.quantities]]\nname = "phi"')[0]
    assert parse_contract(pt_alone + stage).inputs[0].staged


def test_scaled_codes_take_no_gain_no_turn_and_have_no_map():
    contract = find_contract("axol1tl-v5")
    with pytest.raises(EffectError, match="as firmware scales it"):
        parse_effect("jet_gain=1.05").check(contract)
    with pytest.raises(ResampleError):
        n_turns(contract)
    assert layout_of(contract).maps == ()


def test_a_path_wins_over_a_shipped_name(contract_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l1-ntuple").write_text(contract_path.read_text())
    assert find_contract("l1-ntuple").name == "anomaly"
    assert find_contract(str(FOLDER / "l1-ntuple.toml")) == load_contract(FOLDER / "l1-ntuple.toml")
    with pytest.raises(ContractError, match="neither a file nor a shipped contract"):
        find_contract("l1")
