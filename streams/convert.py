"""From ROOT files to a dataset under a contract. The only module here that reads ROOT; knows no stream.

Files are read in chunks. Each event's objects are sorted, cut or padded to the contract's number, and
digitised. Events with a value that has no code (NaN, infinity) are dropped and counted by reason.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from streams import expression
from streams.contract import Contract, ObjectGroup, digitise
from streams.dataset import Dataset, Provenance, SourceFile, check_writable, tool_version
from streams.errors import ConvertError, DatasetError, ExpressionError

Progress = Callable[[int, int], None]

_KEPT: Final[dict[str, type[np.generic]]] = {
    "run": np.int64,
    "lumisection": np.int64,
    "event": np.int64,
    "weight": np.float64,
}
_MAGIC: Final = b"root"
_MAX_NAMES: Final = 30
_TREES: Final = frozenset({"TTree", "TNtuple", "ROOT::RNTuple"})


def convert(
    sources: Sequence[Path | str],
    contract: Contract,
    out: Path | str,
    *,
    step_size: int | str = "50 MB",
    progress: Progress | None = None,
) -> Dataset:
    """Convert ROOT files to a dataset file.

    Parameters
    ----------
    sources
        Local ROOT files, in order.
    contract
        What to read and how to digitise it.
    out
        The dataset file to write. It appears whole, or not at all.
    step_size
        How much to read at a time: a number of events, or an amount of memory such as ``"50 MB"``.
    progress
        Called with (events read, events in all files) after every chunk.

    Returns
    -------
    The dataset, as written.

    Raises
    ------
    ConvertError
        A file is missing or broken, or has no such tree or branch; the message names those it has.
        Or `out` cannot be written, which is found out before anything is read.
    """
    contract.require_events("a conversion")
    if not sources:
        raise ConvertError("nothing to convert: name at least one ROOT file")
    paths = [Path(source) for source in sources]
    try:
        check_writable(Path(out))
    except DatasetError as error:
        raise ConvertError(str(error)) from error
    branches = sorted(_branches(contract))
    entries = [_inspect(path, contract.tree, branches) for path in paths]
    total = sum(entries)
    chunks: list[_Chunk] = []
    read = 0
    for path, expected in zip(paths, entries, strict=True):
        before = read
        for columns in _iterate(path, contract.tree, branches, step_size):
            chunk = _convert_chunk(columns, contract, path)
            chunks.append(chunk)
            read += chunk.events_in
            if progress is not None:
                progress(read, total)
        if read - before != expected:
            raise ConvertError(
                f"{path}: gave {read - before} of {expected} events: the file is broken, copy it again"
            )
    dataset = _join(chunks, contract, paths, entries)
    try:
        dataset.save(out)
    except DatasetError as error:
        raise ConvertError(str(error)) from error
    return dataset


@dataclass(frozen=True)
class _Chunk:
    events_in: int
    inputs: npt.NDArray[np.int16]
    kept: dict[str, npt.NDArray[Any]]
    dropped: Counter[str] = field(default_factory=Counter)


def _branches(contract: Contract) -> set[str]:
    found: set[str] = set()
    for group in contract.objects:
        for quantity in group.quantities:
            found |= expression.names(quantity.expression)
    for name in _KEPT:
        if (text := getattr(contract, name)) is not None:
            found |= expression.names(text)
    return found


def _inspect(path: Path, tree_name: str, branches: list[str]) -> int:
    """Check file, tree and branches before anything is converted; return the number of events."""
    if "://" in str(path) or ":/" in str(path):
        raise ConvertError(f"{path}: remote files are not read: copy it to this machine first")
    _check_is_root(path)
    try:
        with uproot.open(path) as file:
            trees = {name.split(";")[0] for name, kind in file.classnames().items() if kind in _TREES}
            known = trees and tree_name in trees
            keys = list(file[tree_name].keys()) if known else []
            entries = int(file[tree_name].num_entries) if known else 0
    except Exception as error:
        raise ConvertError(f"{path}: a broken ROOT file ({_first_line(error)}): copy it again") from error
    if not known:
        raise ConvertError(f"{path}: has no tree '{tree_name}': its trees are {_listed(trees)}")
    missing = [branch for branch in branches if branch not in set(keys)]
    if missing:
        raise ConvertError(f"{path}: tree '{tree_name}' has no branch '{missing[0]}': it has {_listed(keys)}")
    return entries


def _check_is_root(path: Path) -> None:
    if path.is_dir():
        raise ConvertError(f"{path}: is a folder: name the ROOT files in it")
    if not path.exists():
        raise ConvertError(f"{path}: there is no such file: check the path")
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(_MAGIC))
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    if not magic:
        raise ConvertError(f"{path}: is empty: copy it again")
    if magic != _MAGIC:
        raise ConvertError(f"{path}: is not a ROOT file: name ROOT files only")


def _iterate(path: Path, tree: str, branches: list[str], step_size: int | str) -> Iterator[Any]:
    try:
        with uproot.open(path) as file:
            wanted = set(branches)
            yield from file[tree].iterate(
                filter_name=lambda name: name in wanted, step_size=step_size, library="ak"
            )
    except Exception as error:
        raise ConvertError(f"{path}: broken while reading ({_first_line(error)}): copy it again") from error


def _convert_chunk(columns: Any, contract: Contract, path: Path) -> _Chunk:
    n_events = len(columns)
    fields = {name: columns[name] for name in ak.fields(columns)}
    good = np.ones(n_events, dtype=np.bool_)
    dropped: Counter[str] = Counter()

    def drop(bad: npt.NDArray[np.bool_], reason: str) -> None:
        dropped[reason] += int(np.count_nonzero(bad & good))
        good[bad] = False

    try:
        blocks = [_convert_group(group, fields, n_events, drop) for group in contract.objects]
        kept = {
            name: _per_event(text, fields, n_events)
            for name in _KEPT
            if (text := getattr(contract, name)) is not None
        }
    except ExpressionError as error:
        raise ConvertError(f"{path}: {error}") from error
    for name, values in kept.items():
        drop(~np.isfinite(values), f"{name} is not finite")
    inputs = np.concatenate(blocks, axis=1)[good]
    typed = {name: values[good].astype(_KEPT[name]) for name, values in kept.items()}
    return _Chunk(n_events, inputs, typed, +dropped)


def _convert_group(
    group: ObjectGroup,
    fields: dict[str, Any],
    n_events: int,
    drop: Callable[[npt.NDArray[np.bool_], str], None],
) -> npt.NDArray[np.int16]:
    """Return the codes of one kind of object: int16, shape (n_events, count * quantities)."""
    values = {one.name: _per_object(one.expression, fields, n_events, group.name) for one in group.quantities}
    numbers = {name: ak.num(array, axis=1) for name, array in values.items()}
    first = next(iter(numbers))
    for name, number in numbers.items():
        if not bool(ak.all(number == numbers[first])):
            raise ExpressionError(
                f"'{group.name}.{name}' and '{group.name}.{first}' differ in number of objects"
            )
    for name, array in values.items():
        drop(~ak.to_numpy(ak.all(np.isfinite(array), axis=1)), f"{group.name}.{name} is not finite")
    if group.sort_by is not None:
        order = ak.argsort(values[group.sort_by], axis=1, ascending=False, stable=True)
        values = {name: array[order] for name, array in values.items()}
    codes: list[npt.NDArray[np.int16]] = []
    for quantity in group.quantities:
        padded = ak.fill_none(ak.pad_none(values[quantity.name], group.count, axis=1, clip=True), 0.0)
        plain = ak.to_numpy(padded).astype(np.float64)
        codes.append(digitise(np.where(np.isfinite(plain), plain, 0.0), quantity))
    _clear_missing(codes, group)
    return np.stack(codes, axis=2).reshape(n_events, -1)


def _clear_missing(codes: list[npt.NDArray[np.int16]], group: ObjectGroup) -> None:
    """Clear all quantities of an object whose pt has the code of a missing one."""
    names = [quantity.name for quantity in group.quantities]
    if "pt" not in names:
        return
    missing = codes[names.index("pt")] == group.quantities[names.index("pt")].padding()
    for quantity, array in zip(group.quantities, codes, strict=True):
        array[missing] = quantity.padding()


def _per_object(text: str, fields: dict[str, Any], n_events: int, name: str) -> Any:
    """Evaluate to a jagged array (n_events, var); one value for each event becomes one object."""
    result = _evaluate(text, fields, n_events)
    if result.ndim == 1:
        return ak.from_regular(result[:, np.newaxis], axis=1)
    if result.ndim != 2:
        raise ExpressionError(
            f"expression '{text}' of '{name}' has {result.ndim} dimensions: give one or two"
        )
    return (
        ak.from_regular(result, axis=1)
        if isinstance(ak.type(result).content, ak.types.RegularType)
        else result
    )


def _per_event(text: str, fields: dict[str, Any], n_events: int) -> npt.NDArray[np.float64]:
    result = _evaluate(text, fields, n_events)
    if result.ndim != 1:
        raise ExpressionError(f"expression '{text}' gives a list for each event: give one number")
    values: npt.NDArray[np.float64] = ak.to_numpy(result).astype(np.float64)
    return values


def _evaluate(text: str, fields: dict[str, Any], n_events: int) -> Any:
    result = expression.parse(text).evaluate(fields)
    return ak.Array(np.full(n_events, result)) if np.isscalar(result) else result


def _join(chunks: list[_Chunk], contract: Contract, paths: list[Path], entries: list[int]) -> Dataset:
    inputs = np.concatenate([np.zeros((0, contract.n_inputs), np.int16), *(chunk.inputs for chunk in chunks)])
    columns = {
        name: np.concatenate([np.zeros(0, dtype), *(chunk.kept[name] for chunk in chunks)])
        for name, dtype in _KEPT.items()
        if getattr(contract, name) is not None
    }
    dropped: Counter[str] = Counter()
    for chunk in chunks:
        dropped += chunk.dropped
    provenance = Provenance(
        tool_version=tool_version(),
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        sources=[
            SourceFile(name=path.name, sha256=_sha256(path), entries=n)
            for path, n in zip(paths, entries, strict=True)
        ],
        events_in=sum(entries),
        events_kept=len(inputs),
        dropped=dict(sorted(dropped.items())),
        made_by="convert",
    )
    return Dataset(
        inputs=inputs,
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        input_names=contract.input_names,
        provenance=provenance,
        **columns,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _listed(names: Sequence[str] | set[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _MAX_NAMES} more" if len(known) > _MAX_NAMES else ""
    return ", ".join(known[:_MAX_NAMES]) + more if known else "none"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
