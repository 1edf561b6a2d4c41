"""DQM histograms in ROOT files: classic folders, and how a ROOT object becomes a `Histogram`.

A classic file keeps ``DQMData/Run N/<Subsystem>/Run summary/<folder>/<element>``, and elements of single
lumisections under ``By Lumi Section L-L`` instead of ``Run summary``. Only the elements asked for are read.
DQMIO files, which keep them in trees, are read by `streams.dqm.dqmio`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import uproot

from streams.contracts.histograms import HistogramKind
from streams.dqm.histogram_counts import EXACT_WHOLE_NUMBERS, Floats, Histogram, Profile
from streams.errors import DqmFileError

MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
TOP_FOLDER: Final = "DQMData"

KIND_OF_CLASS: Final[Mapping[str, HistogramKind]] = {
    **{f"TH1{letter}": "th1" for letter in "CSIFD"},
    **{f"TH2{letter}": "th2" for letter in "CSIFD"},
    "TProfile": "tprofile",
}
"""ROOT class -> kind, for all that can be counted."""
_EXACT_BELOW: Final = {"C": 2.0**7 - 1, "S": 2.0**15 - 1, "I": 2.0**31 - 1, "F": 2.0**24}
"""Last letter of the class -> content where counting stops being exact; a float32 stops at 2^24."""
_RUN_FOLDER: Final = re.compile(r"Run (\d{1,10})")
_LUMI_FOLDER: Final = re.compile(r"By Lumi Section (\d{1,10})-(\d{1,10})")
_RUN_SUMMARY: Final = "Run summary"

Found = tuple[int, int, str, Histogram]
"""Run, lumisection (0: the whole run), path of the element, and the element."""


def read_folders(file: Any, paths: frozenset[str]) -> Iterator[Found]:
    """Read a classic DQM file.

    Parameters
    ----------
    file
        An open file of uproot that holds `TOP_FOLDER`.
    paths
        Full names of the elements to read.

    Raises
    ------
    DqmFileError
        An element cannot be read or is of a class that cannot be counted.
    """
    top = file[TOP_FOLDER]
    for run_name, run in _folders(top, _RUN_FOLDER):
        subsystems = {path.split("/", 1)[0] for path in paths}
        for subsystem in sorted(subsystems & set(_names(top[run_name]))):
            folder = top[f"{run_name}/{subsystem}"]
            wanted = sorted(path for path in paths if path.startswith(f"{subsystem}/"))
            for part_name, lumisection in _parts(folder):
                part = folder[part_name]
                for path in wanted:
                    element = path.split("/", 1)[1]
                    if element in part:
                        yield int(run[1]), lumisection, path, _read_key(part.key(element), path)


def histogram_of(model: Any, class_name: str, path: str) -> Histogram:
    """Turn what uproot read into a `Histogram`.

    Parameters
    ----------
    model
        The object.
    class_name
        Its ROOT class, a key of `KIND_OF_CLASS`.
    path
        Full name of the element, for errors.

    Raises
    ------
    DqmFileError
        The class cannot be counted.
    """
    kind = KIND_OF_CLASS.get(class_name)
    if kind is None:
        raise DqmFileError(
            f"{path}: a {class_name} cannot be counted: a contract lists TH1, TH2 and TProfile only"
        )
    x = _edges(model.member("fXaxis"), path)
    y = _edges(model.member("fYaxis"), path) if kind == "th2" else None
    shape: tuple[int, ...] = (len(x) + 1,) if y is None else (len(y) + 1, len(x) + 1)
    if kind == "tprofile":
        # a TProfile is a TH1D of sums of y; its own TH1 part keeps sums of y^2, which are not needed
        entries = _shaped(model.member("fBinEntries"), shape, path)
        squares = model.member("fBinSumw2") if model.has_member("fBinSumw2") else ()
        profile = Profile(entries, _shaped(squares, shape, path) if len(squares) else None)
        return Histogram(kind, x, y, _shaped(model.bases[0].bases[-1], shape, path), profile=profile)
    squares = model.member("fSumw2")
    return Histogram(
        kind,
        x,
        y,
        _shaped(model.bases[-1], shape, path),
        squared_weights=_shaped(squares, shape, path) if len(squares) else None,
        limit=_EXACT_BELOW.get(class_name[-1], EXACT_WHOLE_NUMBERS),
    )


def _folders(directory: Any, pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    for name in _names(directory):
        found = pattern.fullmatch(name)
        if found is not None:
            yield name, found


def _names(directory: Any) -> list[str]:
    return list(dict.fromkeys(directory.keys(recursive=False, cycle=False)))


def _parts(subsystem: Any) -> Iterator[tuple[str, int]]:
    """Name of each folder with elements, and its lumisection."""
    names = _names(subsystem)
    if _RUN_SUMMARY in names:
        yield _RUN_SUMMARY, 0
    for name, found in _folders(subsystem, _LUMI_FOLDER):
        first, last = int(found[1]), int(found[2])
        if first != last:
            raise DqmFileError(
                f"folder '{name}' holds several lumisections together: write one folder for each"
            )
        yield name, first


def _read_key(key: Any, path: str) -> Histogram:
    if key.fClassName not in KIND_OF_CLASS:
        raise DqmFileError(
            f"{path}: a {key.fClassName} cannot be counted: a contract lists TH1, TH2 and TProfile only"
        )
    if key.fObjlen > MAX_OBJECT_BYTES:
        raise DqmFileError(f"{path}: {key.fObjlen} bytes exceed {MAX_OBJECT_BYTES}: rebin the element")
    return histogram_of(key.get(), key.fClassName, path)


def _edges(axis: Any, path: str) -> Floats:
    bins = int(axis.member("fNbins"))
    edges = np.asarray(axis.member("fXbins"), dtype=np.float64)
    if len(edges):
        return edges
    if not 1 <= bins <= MAX_OBJECT_BYTES:
        raise DqmFileError(f"{path}: an axis of {bins} bins is none: the file is broken, write it again")
    return np.linspace(axis.member("fXmin"), axis.member("fXmax"), bins + 1)


def _shaped(array: Any, shape: tuple[int, ...], path: str) -> Floats:
    values = np.asarray(array, dtype=np.float64)
    if values.size != np.prod(shape):
        raise DqmFileError(
            f"{path}: {values.size} contents for {np.prod(shape)} bins: the file is broken, write it again"
        )
    return values.reshape(shape)


def open_root(path: str) -> Any:
    """Open a ROOT file without caches, so that watching many keeps memory flat. Errors are uproot's own."""
    return uproot.open(path, object_cache=None, array_cache=None)
