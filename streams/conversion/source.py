"""One ROOT file to convert: what it is, what it holds, its columns chunk by chunk. Knows no contract.

The only module here that reads ROOT. A file is a path or anything that fsspec opens, and a tree is a TTree
or an RNTuple. A branch has the name that uproot gives it; ``tree:branch`` names one of another tree with
the same number of events.
"""

import hashlib
import os
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import uproot
from fsspec.core import url_to_fs
from fsspec.registry import get_filesystem_class, known_implementations

from streams.contracts.columns import Column
from streams.conversion.baskets import between_borders, common_cuts, unpack_quickly
from streams.conversion.taking import from_awkward
from streams.errors import ConversionPaused, ConvertError, ExpressionError

_MAGIC: Final = b"root"
_MAX_NAMES: Final = 30
_PROBE: Final = 1000
_UNITS: Final = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
_THREADS: Final = 2
"""That unpack baskets; more than two find nothing to do beside the rest of a conversion."""
_TREES: Final = frozenset({"TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple", "ROOT::Experimental::RNTuple"})

_Tree = tuple[Any, set[str]]  # as uproot gives it, and the keys to read
_Steps = Generator[tuple[Any, ...]]  # the arrays of every tree


@dataclass(frozen=True)
class RootSource:
    """A ROOT file that was looked into.

    Attributes
    ----------
    location
        Where it is, as given.
    tree
        The tree that counts the events.
    keys
        Branch as named -> (tree, key of the branch in that tree).
    entries
        Events in it.
    identity
        What tells it from another version of itself, without reading it: size, ROOT's UUID, time of change.
    """

    location: str
    tree: str
    keys: dict[str, tuple[str, str]]
    entries: int
    identity: str

    @property
    def name(self) -> str:
        """Its name without folder or server."""
        return self.location.rsplit("/", 1)[-1]

    @property
    def is_remote(self) -> bool:
        """Tell whether fsspec opens it."""
        return _is_remote(self.location)

    def sha256(self) -> str:
        """Return the sha256 (hex) of the file, read in pieces.

        Raises
        ------
        ConvertError
            It cannot be read.
        """
        try:
            with _opened(self.location) as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except Exception as error:
            raise _lost(self.location, error) from error

    def check_unchanged(self) -> None:
        """Refuse a local file that was written to since it was looked into. Raises `ConvertError`."""
        if not self.is_remote and not self.identity.startswith(_stamp(self.location)):
            raise ConvertError(
                f"{self.location}: changed while it was read: convert it again when it is whole"
            )

    def chunks(self, step_size: int | str, start: int) -> Generator[tuple[int, dict[str, Column]]]:
        """Yield (number of events, columns by the names asked for) from event `start` on.

        Raises
        ------
        ConvertError
            The file is broken, or a branch holds no numbers.
        """
        done = start
        try:
            with _tree_file(self.location) as file:
                for parts in self._steps(file, step_size, start):
                    columns = {
                        name: from_awkward(parts[tree][key], name) for name, (tree, key) in self.keys.items()
                    }
                    n_events = len(next(iter(columns.values())))
                    done += n_events
                    yield n_events, columns
        except ExpressionError as error:
            raise ConvertError(f"{self.location}: {error}") from error
        except ConvertError:
            raise
        except Exception as error:
            raise _lost(self.location, error) from error
        if done != self.entries:
            raise ConvertError(
                f"{self.location}: gave {done} of {self.entries} events: the file is broken, copy it again"
            )

    def _steps(self, file: Any, step_size: int | str, start: int) -> Generator[dict[str, Any]]:
        """Yield tree -> its arrays, step by step."""
        wanted: dict[str, set[str]] = {}
        for tree, key in self.keys.values():
            wanted.setdefault(tree, set()).add(key)
        trees = [(file[tree], keys) for tree, keys in wanted.items()]
        if isinstance(step_size, str):
            step = _events_in(step_size, *trees[0])
            cuts = common_cuts(trees, step, start)
        else:
            step, cuts = step_size, []
        steps = (
            _slices(trees, cuts, remote=self.is_remote) if cuts else _ahead(_equal_steps(trees, step, start))
        )
        with closing(steps):
            yield from (dict(zip(wanted, parts, strict=True)) for parts in steps)


def _slices(trees: Sequence[_Tree], cuts: Sequence[int], *, remote: bool) -> _Steps:
    """Read what lies between cuts; each slice in a thread of its own, so that none waits for another."""

    def read(first: int, last: int) -> tuple[Any, ...]:
        return tuple(_slice(tree, keys, first, last, remote=remote) for tree, keys in trees)

    pool = ThreadPoolExecutor(_THREADS, "read")
    under_way: deque[Future[tuple[Any, ...]]] = deque()
    try:
        for first, last in pairwise(cuts):
            under_way.append(pool.submit(read, first, last))
            if len(under_way) > _THREADS:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _slice(tree: Any, keys: set[str], first: int, last: int, *, remote: bool) -> dict[str, Any]:
    """Read some events: of a server in one request, of a local file basket by basket where they are plain."""
    found = {} if remote else {key: between_borders(tree[key], first, last) for key in keys}
    left = {key for key in keys if found.get(key) is None}
    if left:
        arrays = tree.arrays(filter_name=_among(left), entry_start=first, entry_stop=last, library="ak")
        found |= {key: arrays[key] for key in left}
    return found


def _equal_steps(trees: Sequence[_Tree], step: int, start: int) -> _Steps:
    """Read so many events at a time; a basket that is cut is unpacked once."""
    with ExitStack() as stack:
        iterators = []
        for tree, keys in trees:
            steps = tree.iterate(
                filter_name=_among(keys),
                step_size=step,
                entry_start=start,
                library="ak",
                decompression_executor=stack.enter_context(ThreadPoolExecutor(_THREADS, "unpack")),
            )
            stack.callback(steps.close)
            iterators.append(steps)
        yield from zip(*iterators, strict=True)


def _ahead(steps: _Steps) -> _Steps:
    """Read the next step while this one is worked on."""
    with ThreadPoolExecutor(1, "read") as pool:
        following: Future[tuple[Any, ...] | None] = pool.submit(next, steps, None)
        while (step := following.result()) is not None:
            following = pool.submit(next, steps, None)
            yield step


def look_into(location: str, tree: str, branches: Sequence[str]) -> RootSource:
    """Check file, tree and branches before anything is converted.

    Raises
    ------
    ConvertError
        The file is missing, empty, broken or no ROOT file, its protocol is not known here, or it has no such
        tree or branch; the message names those it has.
    """
    _check_is_root(location)
    try:
        with _tree_file(location) as file:
            trees = {
                name.split(";")[0] for name, kind in file.classnames(recursive=True).items() if kind in _TREES
            }
            _check_tree(location, tree, trees)
            entries = int(file[tree].num_entries)
            known: dict[str, list[str]] = {}
            for where in {tree, *(name.split(":", 1)[0] for name in branches if ":" in name)} & trees:
                short = {name.removeprefix(f"{where}:") for name in branches}
                known[where] = _keys_of(file[where], short)
            keys = {name: _locate(location, known, tree, name) for name in branches}
            for other in {where for where, _ in keys.values()}:
                _check_length(location, tree, entries, other, int(file[other].num_entries))
            identity = f"{_stamp(location)} {file.file.uuid}"
    except ConvertError:
        raise
    except Exception as error:
        raise ConvertError(f"{location}: a broken ROOT file ({_first_line(error)}): copy it again") from error
    return RootSource(location, tree, keys, entries, identity)


def _locate(location: str, known: Mapping[str, Sequence[str]], tree: str, name: str) -> tuple[str, str]:
    """Find a branch by its full key, or by the last part of it where that is the only one."""
    where, key = tree, name
    if ":" in name and name.split(":", 1)[0] in known:
        where, key = name.split(":", 1)
    if key in known[where]:
        return where, key
    short = [full for full in known[where] if full.rsplit("/", 1)[-1] == key]
    if len(short) == 1:
        return where, short[0]
    raise ConvertError(f"{location}: tree '{where}' has no branch '{key}': it has {_listed(known[where])}")


def _keys_of(tree: Any, names: set[str]) -> list[str]:
    """Return the keys of a tree; of an RNTuple that has all these names only them, for it lists slowly."""
    if "RNTuple" in tree.classname and all(name in tree for name in names):
        return sorted(names)
    return list(tree.keys())


def _events_in(size: str, tree: Any, keys: set[str]) -> int:
    """Return how many events take an amount of memory such as ``"8 MB"``, at least one."""
    if "RNTuple" in tree.classname:
        probe = tree.arrays(filter_name=_among(keys), entry_stop=min(_PROBE, tree.num_entries))
        events, n_bytes = len(probe), probe.nbytes
    else:  # uproot's `num_entries_for` reads the head of every basket for it
        events, n_bytes = tree.num_entries, sum(tree[key].uncompressed_bytes for key in keys)
    number, unit = size.split()
    return max(1, int(float(number) * _UNITS[unit] * max(events, 1) / max(n_bytes, 1)))


def _check_tree(location: str, tree: str, trees: set[str]) -> None:
    if tree not in trees:
        raise ConvertError(f"{location}: has no tree '{tree}': its trees are {_listed(trees)}")


def _check_length(location: str, tree: str, entries: int, other: str, others: int) -> None:
    if entries != others:
        raise ConvertError(
            f"{location}: tree '{tree}' has {entries} events, '{other}' has {others}: read one of them only"
        )


def _tree_file(location: str) -> Any:
    unpack_quickly()
    # uproot's other ways to read a local file keep all of it in the address space, or take longer
    options = {} if _is_remote(location) else {"handler": uproot.MultithreadedFileSource}
    return uproot.open({location: None}, array_cache=None, **options)


def _among(keys: set[str]) -> Any:
    return lambda name: name in keys


def _is_remote(location: str) -> bool:
    return "://" in location or "::" in location


def _opened(location: str) -> Any:
    if not _is_remote(location):
        return Path(location).open("rb")
    filesystem, path = url_to_fs(location)
    return filesystem.open(path, "rb")


def _stamp(location: str) -> str:
    if _is_remote(location):
        filesystem, path = url_to_fs(location)
        return f"{filesystem.size(path)}"
    status = Path(location).stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _check_is_root(location: str) -> None:
    if _is_remote(location):
        _check_protocol(location)
    elif Path(location).is_dir():
        raise ConvertError(f"{location}: is a folder: name the ROOT files in it")
    try:
        with _opened(location) as stream:
            magic = stream.read(len(_MAGIC))
    except FileNotFoundError as error:
        where = "check the server and the path" if _is_remote(location) else "check the path"
        raise ConvertError(f"{location}: there is no such file: {where}") from error
    except Exception as error:
        what = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else _first_line(error)
        cure = "check the server and the path" if _is_remote(location) else "check its permissions"
        raise ConvertError(f"{location}: cannot be read ({what}): {cure}") from error
    if not magic:
        raise ConvertError(f"{location}: is empty: copy it again")
    if magic != _MAGIC:
        raise ConvertError(f"{location}: is not a ROOT file: name ROOT files only")


def _check_protocol(location: str) -> None:
    for part in location.split("::"):
        protocol = part.split("://")[0]
        try:
            get_filesystem_class(protocol)
        except ImportError as error:
            needed = known_implementations.get(protocol, {}).get("err", str(error))
            raise ConvertError(f"{location}: {protocol}:// is not read here yet: {needed}") from error
        except ValueError as error:
            raise ConvertError(
                f"{location}: {protocol}:// is no protocol that fsspec knows: copy the file to this machine"
            ) from error


def _lost(location: str, error: Exception) -> ConvertError:
    if _is_remote(location):
        return ConversionPaused(f"{location}: lost while reading ({_first_line(error)}): go on with --resume")
    return ConvertError(f"{location}: broken while reading ({_first_line(error)}): copy it again")


def _listed(names: Sequence[str] | set[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _MAX_NAMES} more" if len(known) > _MAX_NAMES else ""
    return ", ".join(known[:_MAX_NAMES]) + more if known else "none"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
