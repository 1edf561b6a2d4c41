"""DQM files as input: which histograms of which lumisections a file holds, whatever its format.

Pure reading: a file in, histograms of the contract's elements out, lumisection by lumisection. Refuses to
know what is done with them, and what was read before. Formats: classic DQM ROOT files, DQMIO ROOT files,
JSON of DIALS. A ROOT file of another kind is refused.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.dqm.dials import MAX_JSON_BYTES, read_records
from streams.dqm.dqmio import INDICES, read_trees
from streams.dqm.histogram_counts import Histogram
from streams.dqm.root import TOP_FOLDER, open_root, read_folders
from streams.errors import DqmFileError, StreamsError

SUFFIXES: Final = (".root", ".json")
"""Endings of the files that are read."""
MAX_SOURCE_LENGTH: Final = 120
_VERSIONED: Final = re.compile(r"DQM_V\d{4}_(?P<rest>.+)")


@dataclass(frozen=True, eq=False)
class DqmLumisection:
    """What a file holds of one lumisection.

    Attributes
    ----------
    lumisection
        0 for what was filled over the whole run.
    source
        Where it comes from: what is read again from there is the same.
    histograms
        Path of the monitor element -> histogram.
    """

    run: int
    lumisection: int
    source: str
    histograms: Mapping[str, Histogram]


def read_dqm(path: Path, paths: Iterable[str]) -> list[DqmLumisection]:
    """Read the monitor elements asked for.

    Parameters
    ----------
    path
        File, its name ending in one of `SUFFIXES`.
    paths
        Full names of the elements.

    Returns
    -------
    One for each run, lumisection and source that has any of them, in that order; not empty.

    Raises
    ------
    DqmFileError
        The file cannot be read, is of no known format, has an element twice, or has none of them.
    """
    wanted = frozenset(paths)
    places: dict[tuple[int, int, str], dict[str, Histogram]] = defaultdict(dict)
    for source, run, lumisection, element, histogram in _read(path, wanted):
        held = places[run, lumisection, source]
        if element in held:
            raise DqmFileError(
                f"{path}: {element} stands twice in run {run}, LS {lumisection}: write it once"
            )
        held[element] = histogram
    if not places:
        raise DqmFileError(f"{path}: has none of the {len(wanted)} monitor elements, not even {min(wanted)}")
    return [DqmLumisection(*place, places[place]) for place in sorted(places)]


def source_of(path: Path) -> str:
    """Return the name under which the content of a ROOT file is counted.

    ``dqm:`` and the file's name without its ending and without ``DQM_V0001_``: a later version of a file
    stands for the same data.
    """
    stem = path.name.removesuffix(path.suffix)
    found = _VERSIONED.fullmatch(stem)
    return _bounded(f"dqm:{found['rest'] if found else stem}")


def _bounded(source: str) -> str:
    """Keep a name short enough for messages, and unique."""
    if len(source) <= MAX_SOURCE_LENGTH:
        return source
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    return f"{source[: MAX_SOURCE_LENGTH - 13]}~{digest}"


def _read(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, int, int, str, Histogram]]:
    """Read a file of whatever format, and name it in every error."""
    if path.suffix not in SUFFIXES:
        raise DqmFileError(f"{path}: ends in none of {', '.join(SUFFIXES)}: rename it, or leave it out")
    try:
        yield from (_read_json if path.suffix == ".json" else _read_root)(path, wanted)
    except StreamsError as error:
        raise DqmFileError(f"{path}: {error}") from error
    except MemoryError as error:
        raise DqmFileError(
            f"{path}: asks for more memory than there is: it is broken, or too large"
        ) from error
    except Exception as error:
        # a broken ROOT file fails in ways that uproot does not name, OSError among them
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise DqmFileError(
            f"{path}: cannot be read ({cause}): it is cut short or broken, write it again"
        ) from error


def _read_root(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, int, int, str, Histogram]]:
    with open_root(str(path)) as file:
        names = set(file.keys(recursive=False, cycle=False))
        if not names & {INDICES, TOP_FOLDER}:
            raise DqmFileError(f"holds neither {TOP_FOLDER} nor {INDICES}: give a DQM or DQMIO file")
        for found in (read_trees if INDICES in names else read_folders)(file, wanted):
            yield source_of(path), *found


def _read_json(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, int, int, str, Histogram]]:
    for record, histogram in read_records(_text(path), wanted):
        source = _bounded(f"dials:{record.dataset}")
        yield source, record.run_number, record.ls_number, record.me, histogram


def _text(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise DqmFileError(f"{size} bytes exceed {MAX_JSON_BYTES}: split it")
    return path.read_bytes()
