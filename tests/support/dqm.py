"""DQM files for tests, written with uproot.

uproot cannot write a branch of ROOT objects. `write_dqmio` writes what such a branch holds instead: a branch
of bytes whose entries are the bytes ROOT would have written, which a reader meets in the same baskets.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import boost_histogram as bh
import numpy as np
import numpy.typing as npt
import uproot
from uproot.writing.identify import to_writable

from streams.contracts.contract import Contract, parse_contract

PT = "L1T/L1TStage2CaloLayer2/Central-Jets/CenJetsRank"
OCCUPANCY = "L1T/L1TStage2CaloLayer2/Central-Jets/CenJetsOcc"
MISMATCH = "L1TEMU/L1TdeStage2CaloLayer2/mismatchRatio"

CONTRACT = f"""
name = "calo-dqm"
version = 1

[[histograms]]
name = "jet.pt"
path = "{PT}"
kind = "th1"
unit = "GeV"
x = {{ bins = 20, low = 0.0, high = 100.0 }}

[[histograms]]
name = "jet.occupancy"
path = "{OCCUPANCY}"
kind = "th2"
x = {{ bins = 4, low = -2.0, high = 2.0 }}
y = {{ bins = 3, low = 0.0, high = 6.0 }}
unit = "eta"
y_unit = "rad"

[[histograms]]
name = "mismatch"
path = "{MISMATCH}"
kind = "tprofile"
x = {{ bins = 5, low = 0.0, high = 5.0 }}
values = {{ low = 0.0, high = 1.0 }}
"""

ONE_CONTRACT = (
    CONTRACT.split("[[histograms]]", maxsplit=2)[0]
    + "[[histograms]]"
    + CONTRACT.split("[[histograms]]", maxsplit=2)[1]
)
"""Lists `PT` alone."""

BASKET = 3
"""Entries of a basket of the DQMIO files written here."""

Layout = Literal["whole", "named", "headless"]


def contract() -> Contract:
    """The contract of all three elements."""
    return parse_contract(CONTRACT)


def pt_contract() -> Contract:
    """The contract of `PT` alone."""
    return parse_contract(ONE_CONTRACT)


@dataclass(frozen=True)
class Events:
    """Events to fill the three elements of `CONTRACT` with."""

    pt: npt.NDArray[np.float64]
    eta: npt.NDArray[np.float64]
    phi: npt.NDArray[np.float64]
    mismatch: npt.NDArray[np.float64]

    def elements(self) -> dict[str, Any]:
        """Path -> histogram that uproot can write."""
        pt = bh.Histogram(bh.axis.Regular(20, 0, 100)).fill(self.pt)
        occupancy = bh.Histogram(bh.axis.Regular(4, -2, 2), bh.axis.Regular(3, 0, 6)).fill(self.eta, self.phi)
        return {PT: pt, OCCUPANCY: occupancy, MISMATCH: profile(self.pt / 20.0, self.mismatch)}


def events(seed: int, n: int = 4000, scale: float = 1.0) -> Events:
    """Events of one lumisection; `scale` is that of the jet energy."""
    rng = np.random.default_rng(seed)
    return Events(
        pt=rng.exponential(25.0, n) * scale,
        eta=rng.normal(0.0, 1.0, n),
        phi=rng.uniform(0.0, 6.3, n),
        mismatch=(rng.random(n) < 0.05).astype(np.float64),
    )


def profile(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Any:
    """A TProfile of 5 bins from 0 to 5, as ROOT would have filled it."""
    bins = np.clip(np.floor(x).astype(int) + 1, 0, 6)
    entries = np.bincount(bins, minlength=7).astype(np.float64)
    sums = np.bincount(bins, weights=y, minlength=7).astype(np.float64)
    squares = np.bincount(bins, weights=y * y, minlength=7).astype(np.float64)
    return uproot.writing.identify.to_TProfile(
        fName=None,
        fTitle="",
        data=sums,
        fEntries=float(len(x)),
        fTsumw=float(len(x)),
        fTsumw2=float(len(x)),
        fTsumwx=float(x.sum()),
        fTsumwx2=float((x * x).sum()),
        fTsumwy=float(y.sum()),
        fTsumwy2=float((y * y).sum()),
        fSumw2=squares,
        fBinEntries=entries,
        fBinSumw2=np.zeros(0),
        fXaxis=uproot.writing.identify.to_TAxis("xaxis", "", 5, 0.0, 5.0),
    )


def write_classic(path: Path, run: int, lumisections: Mapping[int, Mapping[str, Any]]) -> Path:
    """Write a classic DQM file: lumisection (0: the whole run) -> path -> histogram."""
    with uproot.recreate(path) as file:
        for lumisection, elements in lumisections.items():
            folder = f"By Lumi Section {lumisection}-{lumisection}" if lumisection else "Run summary"
            for element, histogram in elements.items():
                subsystem, rest = element.split("/", 1)
                file[f"DQMData/Run {run}/{subsystem}/{folder}/{rest}"] = histogram
    return path


_TYPES = {"TH1F": 3, "TH1D": 5, "TH2D": 8, "TProfile": 10}


def write_dqmio(
    path: Path,
    rows: Sequence[tuple[int, int, Mapping[str, Any]]],
    *,
    layout: Layout = "whole",
    last_index_plus: int = 0,
) -> Path:
    """Write a DQMIO file: (run, lumisection, path -> histogram) in the order of writing."""
    entries: dict[str, list[tuple[str, bytes]]] = {}
    indices = []
    for run, lumisection, elements in rows:
        by_class: dict[str, list[tuple[str, bytes]]] = {}
        for element, histogram in elements.items():
            writable = to_writable(histogram)
            name = writable.classname
            by_class.setdefault(name, []).append((element, _bytes(writable.serialize(), name, layout)))
        for name, held in by_class.items():
            first = len(entries.setdefault(name, []))
            entries[name] += held
            indices.append((run, lumisection, _TYPES[name], first, len(entries[name]) - 1 + last_index_plus))
        if not elements:
            indices.append((run, lumisection, 1000, 0, 0))
    with uproot.recreate(path) as file:
        # the definitions of the classes are in every file that ROOT writes; here a histogram brings them
        for name in entries:
            every = (one for _, _, elements in rows for one in elements.values())
            file[f"definition_of_{name}"] = next(one for one in every if to_writable(one).classname == name)
        types = dict.fromkeys(("Run", "Lumi", "Type"), "uint32") | dict.fromkeys(
            ("FirstIndex", "LastIndex"), "uint64"
        )
        file.mktree("Indices", types)
        columns = zip(*indices, strict=True)
        file["Indices"].extend(
            {name: np.array(column, dtype=types[name]) for name, column in zip(types, columns, strict=True)}
        )
        for name, held in entries.items():
            file.mktree(f"{name}s", {"FullName": "string", "Value": "var * uint8"})
            for start in range(0, len(held), BASKET):  # each becomes a basket of its own
                part = held[start : start + BASKET]
                file[f"{name}s"].extend(
                    {
                        "FullName": ak.Array([element for element, _ in part]),
                        "Value": ak.Array([np.frombuffer(data, dtype=np.uint8) for _, data in part]),
                    }
                )
    return path


def _bytes(data: bytes, name: str, layout: Layout) -> bytes:
    """What ROOT writes for an object: by itself, as a TBranchObject, or member by member."""
    if layout == "named":
        return bytes([len(name)]) + name.encode() + b"\0" + data
    return data if layout == "whole" else data[6:]


def dials_record(
    run: int, lumisection: int, contents: npt.ArrayLike, *, me: str = PT, **more: Any
) -> dict[str, Any]:
    """One h1d record as DIALS hands it out."""
    data = np.asarray(contents, dtype=np.float64)
    return {
        "hist_id": 1,
        "dataset": "/ZeroBias/Run2024C-PromptReco-v1/DQMIO",
        "me": me,
        "dataset_id": 1,
        "file_id": 1,
        "run_number": run,
        "ls_number": lumisection,
        "me_id": 1,
        "ls_id": lumisection,
        "x_min": 0.0,
        "x_max": 100.0,
        "x_bin": float(data.shape[-1]),
        "entries": int(data.sum()),
        "data": data.tolist(),
    } | more


def write_dials(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Write a page of records."""
    path.write_text(json.dumps({"next": None, "previous": None, "results": list(records)}))
    return path
