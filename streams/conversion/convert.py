"""From ROOT files to a dataset under a contract, chunk by chunk. Knows no stream.

Threads read ahead, one takes the sha256 of the source, one makes codes. What is done lies in a spool
beside the output until the dataset file is put together, so memory does not grow with the files and an
interrupted conversion can go on where it stood.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from streams.contracts.contract import Contract
from streams.conversion.chunk import Converter, branches_of, kept_columns
from streams.conversion.source import RootSource, look_into
from streams.conversion.spool import Spool
from streams.errors import ConversionPaused, ConvertError, DatasetError, ExpressionError
from streams.events.dataset import Dataset
from streams.events.dataset_file import archive, check_writable, write_pieces_atomically
from streams.events.provenance import Provenance, SourceFile, header_member, provenance_of, tool_version

Progress = Callable[[int, int], None]

STEP: Final = "8 MB"
"""How much of the branches' numbers is read at a time, up to the border of baskets next to it."""


@dataclass(frozen=True)
class Conversion:
    """A dataset file that a conversion made.

    Attributes
    ----------
    path
        The file.
    id
        Identity of the dataset: sha256 (hex) of the file.
    provenance
        What was read, kept and dropped.
    """

    path: Path
    id: str
    provenance: Provenance


def convert(
    sources: Sequence[Path | str],
    contract: Contract,
    out: Path | str,
    *,
    step_size: int | str = STEP,
    progress: Progress | None = None,
    resume: bool = False,
) -> Dataset:
    """Convert ROOT files as `convert_files` does, and load the dataset, which must fit into memory."""
    convert_files(sources, contract, out, step_size=step_size, progress=progress, resume=resume)
    return Dataset.load(out)


def convert_files(
    sources: Sequence[Path | str],
    contract: Contract,
    out: Path | str,
    *,
    step_size: int | str = STEP,
    progress: Progress | None = None,
    resume: bool = False,
) -> Conversion:
    """Convert ROOT files to a dataset file.

    Parameters
    ----------
    sources
        ROOT files, in order: paths, or what fsspec opens (``root://...``, ``https://...``).
    contract
        What to read and how to digitise it.
    out
        The dataset file to write. It appears whole, or not at all.
    step_size
        How much to read at a time: a number of events, or an amount of memory such as ``"8 MB"``. The result
        does not depend on it.
    progress
        Called with (events read, events in all files) after every chunk.
    resume
        Go on with an interrupted conversion of the same files under the same contract; the result is the
        same as without an interruption. Where nothing was begun, start.

    Returns
    -------
    What was written; the events are not held in memory.

    Raises
    ------
    ConvertError
        A file is missing or broken, or has no such tree or branch; the message names those it has. Or `out`
        cannot be written, which is found out before anything is read. What was begun is removed.
    ConversionPaused
        A server was lost or the disk is full; `resume` goes on.
    ContractError
        The contract lists histograms.
    """
    contract.require_events("a conversion")
    out = Path(out)
    if not sources:
        raise ConvertError("nothing to convert: name at least one ROOT file")
    try:
        check_writable(out)
    except DatasetError as error:
        raise ConvertError(str(error)) from error
    branches = sorted(branches_of(contract))
    if not branches:
        raise ConvertError(f"contract '{contract.name}' reads no branch: name one in an expression")
    found = [look_into(str(source), contract.tree, branches) for source in sources]
    types: dict[str, tuple[type[np.generic], int]] = {"inputs": (np.int16, contract.n_inputs)}
    types |= {name: (dtype, 0) for name, dtype in kept_columns(contract).items()}
    with Spool.opened(out, types, _identity(found, contract), resume=resume) as spool:
        try:
            _read_all(found, contract, spool, step_size, progress)
            result = _put_together(contract, spool, out)
        except ConversionPaused:
            if spool.is_empty:
                spool.discard()
            raise
        except ConvertError:
            spool.discard()
            raise
        spool.discard()
    return result


def _identity(sources: Sequence[RootSource], contract: Contract) -> str:
    content = [tool_version(), contract.hash]
    content += [f"{one.name} {one.entries} {one.identity}" for one in sources]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read_all(
    sources: Sequence[RootSource],
    contract: Contract,
    spool: Spool,
    step_size: int | str,
    progress: Progress | None,
) -> None:
    total = sum(source.entries for source in sources)
    read = sum(source.entries for source in spool.journal.finished) + spool.journal.entry
    converter = Converter(contract)
    with ThreadPoolExecutor(1, "sha256") as pool:
        for source in sources[len(spool.journal.finished) :]:
            digest = pool.submit(source.sha256)
            for n_events in _read_one(source, converter, spool, step_size):
                read += n_events
                if progress is not None:
                    progress(read, total)
            source.check_unchanged()
            spool.finish_source(SourceFile(name=source.name, sha256=digest.result(), entries=source.entries))


def _read_one(source: RootSource, converter: Converter, spool: Spool, step_size: int | str) -> Iterator[int]:
    """Bring the rest of one source in; yield the number of events of each chunk."""
    for n_events, columns in source.chunks(step_size, spool.journal.entry):
        try:
            chunk = converter.convert(columns, n_events)
        except ExpressionError as error:
            raise ConvertError(f"{source.location}: {error}") from error
        made = {"inputs": chunk.inputs, **chunk.kept}
        spool.append(made, len(chunk.inputs), Counter(chunk.dropped), spool.journal.entry + n_events)
        yield n_events


def _put_together(contract: Contract, spool: Spool, out: Path) -> Conversion:
    journal = spool.journal
    provenance = provenance_of(contract, journal.finished, journal.events_kept, journal.dropped)
    members = [header_member(contract.input_names, provenance), *spool.members()]
    try:
        digest = write_pieces_atomically(out, archive(members))
    except DatasetError as error:
        raise ConversionPaused(f"{error}; go on with --resume") from error
    return Conversion(out, digest, provenance)
