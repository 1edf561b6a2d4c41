"""ROOT files that the tests read: those that can be installed, and those that have to be written."""

import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot


def coffea_file(name):
    """Return a file of coffea's source distribution; the test fails when it was not fetched."""
    path = Path(sys.prefix) / "share" / "lumiwatch-test-data" / name
    if not path.is_file():
        pytest.fail(f"{path} is missing: run deploy/test-data.sh, as `make test` does", pytrace=False)
    return path


def write_l1_ntuple(path, upgrade, event):
    """Write L1 objects as a CMS L1 ntuple lays them out: two trees, in folders, with nested branches.

    uproot writes no nested branches, so the names hold the slash themselves; it reads both alike.
    """
    with uproot.recreate(path) as file:
        for tree, branches in (
            ("l1UpgradeTree/L1UpgradeTree", {f"L1Upgrade/{name}": one for name, one in upgrade.items()}),
            ("l1EventTree/L1EventTree", {f"Event/{name}": one for name, one in event.items()}),
        ):
            file.mktree(tree, {name: str(ak.type(ak.Array(one)).content) for name, one in branches.items()})
            file[tree].extend(branches)
    return path


def write_l1_nano(path, n_events, *, seed=0, chunk=20_000, compression=None):
    """Write events with the L1 objects of NanoAOD, as integers; lists of 0 to 12 objects."""
    rng = np.random.default_rng(seed)
    with uproot.recreate(path, compression=compression or uproot.ZLIB(1)) as file:
        for start in range(0, n_events, chunk):
            n = min(chunk, n_events - start)
            columns = {
                "run": np.full(n, 370_293, np.uint32),
                "luminosityBlock": (1 + (start + np.arange(n)) // 1000).astype(np.uint32),
                "event": (2**53 + 1 + 2 * (start + np.arange(n))).astype(np.uint64),
            }
            lists = {}
            for name, most, pt, eta, phi in (
                ("L1EG", 12, 511, 127, 143), ("L1Mu", 6, 511, 255, 575), ("L1Jet", 12, 2047, 127, 143),
            ):  # fmt: skip
                numbers = rng.integers(0, most + 1, n)
                size = int(numbers.sum())
                momenta = np.minimum(rng.exponential(pt / 16, size), pt).astype(np.int16)
                lists[name] = (
                    {
                        "hwPt": momenta,
                        "hwEta": rng.integers(-eta, eta + 1, size).astype(np.int16),
                        "hwPhi": rng.integers(0, phi + 1, size).astype(np.int16),
                        "bx": np.zeros(size, np.int16),
                    },
                    numbers,
                )
            sums = {
                "hwPt": rng.integers(0, 4096, 2 * n).astype(np.int16),
                "hwPhi": rng.integers(0, 144, 2 * n).astype(np.int16),
                "bx": np.zeros(2 * n, np.int16),
                "etSumType": np.tile(np.array([1, 2], np.int16), n),
            }
            lists["L1EtSum"] = sums, np.full(n, 2)
            for name, (fields, numbers) in lists.items():
                columns[name] = ak.zip({key: ak.unflatten(one, numbers) for key, one in fields.items()})
            if not start:
                types = {name: str(ak.type(ak.Array(one)).content) for name, one in columns.items()}
                file.mktree("Events", types)
            file["Events"].extend(columns)
    return path
