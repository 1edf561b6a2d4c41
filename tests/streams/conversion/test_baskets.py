"""What is put together from baskets is what uproot makes of them; whatever is not plain is left to it."""

from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
import uproot

from streams.conversion import baskets
from streams.conversion.baskets import between_borders
from tests.support.root_files import coffea_file, write_l1_nano


@pytest.mark.parametrize(
    ("name", "tree", "at_least"),
    [("nano_dimuon.root", "Events", 1000), ("PHYSLITE_example.root", "CollectionTree", 50)],
)
def test_every_branch_of_a_file_that_root_wrote_is_as_uproot_reads_it(name, tree, at_least):
    with uproot.open(coffea_file(name)) as file:
        branches = [
            one for one in file[tree].branches if type(one.interpretation).__name__ in {"AsDtype", "AsJagged"}
        ]
        taken = 0
        for branch in branches:
            found = between_borders(branch, 0, branch.num_entries)
            if found is not None:
                taken += 1
                expected = ak.to_layout(branch.array())
                assert ak.array_equal(found, expected, dtype_exact=True), branch.name
    assert taken >= at_least


def test_slices_between_borders_are_those_of_the_whole(tmp_path):
    path = write_l1_nano(tmp_path / "nano.root", 250, chunk=100)
    with uproot.open(path) as file:
        for name in ("L1EG_hwPt", "event"):
            branch = file["Events"][name]
            assert branch.entry_offsets == [0, 100, 200, 250]
            for first, last in [*pairwise(branch.entry_offsets), (0, 200), (100, 250), (100, 100)]:
                found = between_borders(branch, first, last)
                assert ak.array_equal(
                    found, branch.array(entry_start=first, entry_stop=last), dtype_exact=True
                )
            assert between_borders(branch, 0, 150) is None


def test_lists_within_lists_and_numbers_in_rows_are_left_to_uproot(tmp_path):
    with uproot.recreate(tmp_path / "odd.root") as file:
        columns = {"rows": np.ones((5, 3)), "plain": np.arange(5)}
        file.mktree("t", {"rows": "3 * float64", "plain": "int64"})
        file["t"].extend(columns)
    with uproot.open(tmp_path / "odd.root") as file:
        assert between_borders(file["t"]["rows"], 0, 5) is None
        assert between_borders(file["t"]["plain"], 0, 5) is not None


@pytest.mark.parametrize("change", ["falls", "starts late", "ends early", "number"])
def test_baskets_whose_offsets_are_no_offsets_are_left_to_uproot(tmp_path, monkeypatch, change):
    path = write_l1_nano(tmp_path / "nano.root", 100)
    with uproot.open(path) as file:
        branch = file["Events"]["L1EG_hwPt"]
        broken = branch.basket(0)
        offsets = broken.byte_offsets
        if change == "falls":
            offsets[50] = offsets[52] + 2
        elif change == "starts late":
            offsets[0] = 2
        elif change == "ends early":
            offsets[-1] = offsets[-2]
        else:
            broken._members["fNevBuf"] = 99
        monkeypatch.setattr(type(branch), "basket", lambda *_: broken)
        assert between_borders(branch, 0, 100) is None


def test_zlib_is_unpacked_by_isa_l_where_that_is_installed(monkeypatch):
    unpacker = uproot.compression._decompress_ZLIB
    monkeypatch.setattr(unpacker, "library", "zlib")
    for installed, library in ((None, "zlib"), (object(), "isal")):
        monkeypatch.setattr(baskets, "find_spec", lambda *_, answer=installed: answer)
        baskets.unpack_quickly.__wrapped__()
        assert unpacker.library == library
