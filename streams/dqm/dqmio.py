"""DQM histograms in DQMIO files: the tree ``Indices`` and one tree for each class of histogram.

Each row of ``Indices`` says which entries (``FirstIndex`` to ``LastIndex``, both included) of the tree of a
``Type`` belong to a ``Run`` and ``Lumi`` (0: the whole run). An entry has ``FullName`` and ``Value``, which
is a whole ROOT object. Only the entries asked for are interpreted. The layout is that of CMSSW
(DQMServices/FwkIO, format.h and DQMRootOutputModule).
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import uproot
from uproot.containers import AsContainer
from uproot.interpretation.objects import AsObjects, CannotBeAwkward
from uproot.source.chunk import Chunk
from uproot.source.cursor import Cursor

from streams.dqm.root import Found, histogram_of
from streams.errors import DqmFileError

INDICES: Final = "Indices"
NO_ELEMENTS: Final = 1000
"""Type of a row that only says that a lumisection was processed."""
CLASS_OF_TYPE: Final[Mapping[int, str]] = {
    3: "TH1F",
    4: "TH1S",
    5: "TH1D",
    6: "TH2F",
    7: "TH2S",
    8: "TH2D",
    10: "TProfile",
    12: "TH1I",
    13: "TH2I",
}
"""Type -> class of the objects in the tree that is named after it (``TH1F``: ``TH1Fs``)."""
_BYTE_COUNT: Final = 0x40000000
_HEADER_BYTES: Final = 6


@dataclass(frozen=True)
class Range:
    """One row of ``Indices``: entries `first` to `last`, both included, of the tree of a class."""

    run: int
    lumisection: int
    class_name: str
    first: int
    last: int


def read_trees(file: Any, paths: frozenset[str]) -> Iterator[Found]:
    """Read a DQMIO file.

    Parameters
    ----------
    file
        An open file of uproot that holds `INDICES`.
    paths
        Full names of the elements to read.

    Raises
    ------
    DqmFileError
        The indices point outside of their trees, or an element cannot be read.
    """
    ranges = read_indices(file[INDICES])
    for class_name in sorted({one.class_name for one in ranges}):
        tree = file[f"{class_name}s"]
        names = tree["FullName"].array(library="np")
        wanted = np.fromiter((name in paths for name in names), dtype=np.bool_, count=len(names))
        entries: dict[int, list[Range]] = {}
        for one in (one for one in ranges if one.class_name == class_name):
            if one.last >= len(names):
                raise DqmFileError(
                    f"{INDICES} points at entry {one.last} of {class_name}s, which has {len(names)}: "
                    "the file is broken, write it again"
                )
            for offset in np.flatnonzero(wanted[one.first : one.last + 1]):
                entries.setdefault(one.first + int(offset), []).append(one)
        for entry, unread in read_values(tree["Value"], sorted(entries), class_name):
            path = str(names[entry])
            histogram = histogram_of(unread.model(), class_name, path)
            for one in entries[entry]:
                yield one.run, one.lumisection, path, histogram


def read_indices(tree: Any) -> list[Range]:
    """Read the tree ``Indices``, and leave out what no contract can list.

    Raises
    ------
    DqmFileError
        A row contradicts itself.
    """
    columns: list[npt.NDArray[Any]] = [
        tree[name].array(library="np") for name in ("Run", "Lumi", "Type", "FirstIndex", "LastIndex")
    ]
    ranges = []
    for row in zip(*columns, strict=True):
        run, lumisection, type_, first, last = (int(value) for value in row)
        if type_ not in CLASS_OF_TYPE:
            continue
        if last < first:
            raise DqmFileError(
                f"{INDICES} names entries {first} to {last} for run {run}, LS {lumisection}: "
                "the file is broken, write it again"
            )
        ranges.append(Range(run, lumisection, CLASS_OF_TYPE[type_], first, last))
    return ranges


def read_values(branch: Any, entries: Sequence[int], class_name: str) -> Iterator[tuple[int, "UnreadObject"]]:
    """Read entries of the branch ``Value``, each basket once.

    Parameters
    ----------
    branch
        Branch of whole objects.
    entries
        Numbers of the entries, rising.
    class_name
        Class of the objects.
    """
    interpretation = AsObjects(WholeObject(class_name))
    start = stop = 0
    found: npt.NDArray[np.object_] = np.empty(0, dtype=object)
    baskets = np.asarray(branch.entry_offsets)
    for entry in entries:
        if entry >= stop:
            place = int(np.searchsorted(baskets, entry, side="right"))
            start, stop = int(baskets[place - 1]), int(baskets[place])
            found = branch.array(interpretation, entry_start=start, entry_stop=stop, library="np")
        yield entry, found[entry - start]


@dataclass(frozen=True, eq=False)
class UnreadObject:
    """The bytes of one entry, interpreted when they are asked for: a basket holds many that are not."""

    class_name: str
    data: npt.NDArray[np.uint8]
    origin: int
    context: Mapping[str, Any]
    file: Any

    def model(self) -> Any:
        """Interpret the bytes; returns uproot's model of the object.

        ROOT writes an object into a branch in one of three ways: whole, with its byte count and version;
        behind the name of its class; or without a header of its own, beginning with that of its first base.
        """
        data, origin = self.data.tobytes(), self.origin
        name = self.class_name.encode()
        if data.startswith(bytes([len(name)]) + name + b"\0"):
            data, origin = data[len(name) + 2 :], origin - len(name) - 2
        if len(data) < _HEADER_BYTES:
            raise DqmFileError(f"a {self.class_name} of {len(data)} bytes is none: the file is broken")
        if struct.unpack_from(">I", data)[0] != _BYTE_COUNT | (len(data) - 4):
            version = uproot.model.classname_version(self.file.class_named(self.class_name, "max").__name__)
            data = struct.pack(">IH", _BYTE_COUNT | (len(data) + 2), version) + data
            origin += _HEADER_BYTES
        chunk = Chunk.wrap(self.file.source, np.frombuffer(data, dtype=np.uint8))
        context = {**self.context, "in_TBranch": False}
        model = self.file.class_named(self.class_name)
        return model.read(chunk, Cursor(0, origin=origin), context, self.file, self.file.detached, None)


class WholeObject(AsContainer):  # type: ignore[misc]  # uproot publishes no types
    """Interpretation of a branch whose entries are whole objects of one class, each left unread."""

    def __init__(self, class_name: str) -> None:
        self._class_name = class_name

    def __repr__(self) -> str:
        return f"WholeObject({self._class_name})"

    @property
    def cache_key(self) -> str:
        """What tells this interpretation from others."""
        return repr(self)

    @property
    def typename(self) -> str:
        """Class of the objects."""
        return self._class_name

    def awkward_form(self, file: Any, context: Any) -> Any:  # noqa: ARG002 - uproot's signature
        """Refuse to become an Awkward Array: histograms are none."""
        raise CannotBeAwkward(self._class_name)

    def read(
        self,
        chunk: Any,
        cursor: Any,
        context: Any,
        file: Any,
        selffile: Any,  # noqa: ARG002 - uproot's signature
        parent: Any,  # noqa: ARG002 - uproot's signature
        header: bool = True,  # noqa: ARG002 - uproot's signature
    ) -> UnreadObject:
        """Keep the bytes of one entry, and where they lie in their basket, which references count from."""
        data = np.asarray(chunk.raw_data, dtype=np.uint8)
        return UnreadObject(self._class_name, data, cursor.origin, context, file)
