"""The dataset: events made under a contract, with their provenance inside, as one NPZ file.

It refuses to know how events were made or what they are for. How the file is laid out is the business of
`streams.events.dataset_file`; the sha256 of the file serves as the dataset's identity everywhere.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from streams.contracts.contract import Contract
from streams.errors import DatasetError
from streams.events.dataset_file import (
    Member,
    Piece,
    archive,
    check_writable,
    read_arrays,
    sha256_of,
    write_atomically,
    write_pieces_atomically,
)
from streams.events.provenance import FORMAT, Header, Provenance, SourceFile, header_member, tool_version

__all__ = [
    "COLUMNS",
    "FORMAT",
    "Dataset",
    "Provenance",
    "SourceFile",
    "check_writable",
    "concatenate",
    "dataset_of",
    "tool_version",
    "write_atomically",
]

COLUMNS: Final[dict[str, type[np.generic]]] = {
    "run": np.int64,
    "lumisection": np.int64,
    "event": np.int64,
    "weight": np.float64,
    "score": np.int32,
    "accept": np.bool_,
    "label": np.int64,
}
"""What may stand beside the inputs, in the order of the file."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Events of one contract.

    Attributes
    ----------
    inputs
        int16, shape (n_events, n_inputs).
    run, lumisection, event
        int64, shape (n_events,), or None where unknown.
    weight
        float64, shape (n_events,), or None.
    score, accept
        int32 and bool, shape (n_events,), what the firmware said, or None.
    label
        int64, shape (n_events,), what a supervised model should say, or None.

    Raises
    ------
    DatasetError
        An array has the wrong dtype or shape.
    """

    inputs: npt.NDArray[np.int16]
    contract_name: str
    contract_version: int
    contract_hash: str
    input_names: tuple[str, ...]
    provenance: Provenance
    run: npt.NDArray[np.int64] | None = None
    lumisection: npt.NDArray[np.int64] | None = None
    event: npt.NDArray[np.int64] | None = None
    weight: npt.NDArray[np.float64] | None = None
    score: npt.NDArray[np.int32] | None = None
    accept: npt.NDArray[np.bool_] | None = None
    label: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.inputs.dtype != np.int16 or self.inputs.ndim != 2:
            raise DatasetError(
                f"dataset inputs are {self.inputs.dtype} {self.inputs.shape}: give int16 (events, inputs)"
            )
        if self.inputs.shape[1] != len(self.input_names):
            raise DatasetError(f"dataset has {self.inputs.shape[1]} inputs and {len(self.input_names)} names")
        for name, dtype in COLUMNS.items():
            column = getattr(self, name)
            if column is not None and (column.dtype != dtype or column.shape != (self.n_events,)):
                raise DatasetError(
                    f"dataset column '{name}' is {column.dtype} {column.shape}: "
                    f"give {np.dtype(dtype)} ({self.n_events},)"
                )
        if self.provenance.events_kept != self.n_events:
            raise DatasetError(
                f"dataset of {self.n_events} events says {self.provenance.events_kept}: mend its provenance"
            )

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.inputs.shape[0])

    @cached_property
    def id(self) -> str:
        """Identity: sha256 (hex) of the file that `save` writes."""
        return sha256_of(self._pieces())

    def check_contract(self, contract: Contract) -> None:
        """Refuse another contract than the one these events were made under.

        Raises
        ------
        DatasetError
            The contracts differ in content.
        """
        if self.contract_hash != contract.hash:
            raise DatasetError(
                f"dataset made under contract '{self.contract_name}' version {self.contract_version} "
                f"({self.contract_hash[:12]}), not '{contract.name}' version {contract.version} "
                f"({contract.hash[:12]}): convert it again"
            )

    def take(self, which: npt.NDArray[np.intp] | npt.NDArray[np.bool_], *, made_by: str) -> "Dataset":
        """Return the chosen events as a dataset whose parent is this one.

        Parameters
        ----------
        which
            Event numbers, in the order wanted, or a mask of shape (n_events,).
        made_by
            How they were chosen, for the provenance.
        """
        columns = {name: column[which] for name in COLUMNS if (column := getattr(self, name)) is not None}
        return _derived(
            self, self.inputs[which], columns, made_by, parents=[self.id], events_in=self.n_events
        )

    def to_bytes(self) -> bytes:
        """Return the bytes of the file; the same content gives the same bytes everywhere."""
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        arrays = {"inputs": self.inputs}
        arrays |= {name: column for name in COLUMNS if (column := getattr(self, name)) is not None}
        members = [Member.of_array(name, array) for name, array in arrays.items()]
        return archive([header_member(self.input_names, self.provenance), *members])

    def save(self, path: Path | str) -> str:
        """Write the file atomically and return the dataset's identity.

        Raises
        ------
        DatasetError
            The file cannot be written; nothing is left behind.
        """
        return write_pieces_atomically(Path(path), self._pieces())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a file.

        Raises
        ------
        DatasetError
            It is missing, broken, or not a dataset.
        """
        path = Path(path)
        try:
            with path.open("rb") as stream:
                return cls._read(stream, str(path))
        except OSError as error:
            raise DatasetError(
                f"{path}: cannot read this dataset ({error.strerror}): check the path"
            ) from error

    @classmethod
    def from_bytes(cls, content: bytes, *, source: str = "dataset") -> Self:
        """Read the bytes of a file; `source` names it in errors. Raises as `load`."""
        return cls._read(io.BytesIO(content), source)

    @classmethod
    def _read(cls, stream: IO[bytes], source: str) -> Self:
        try:
            arrays = read_arrays(stream)
            header = Header.model_validate_json(arrays.pop("header").tobytes())
            inputs = arrays.pop("inputs")
        except (DatasetError, KeyError, ValidationError) as error:
            raise DatasetError(f"{source}: not a dataset, or a broken one: convert it again") from error
        unknown = sorted(set(arrays) - set(COLUMNS))
        if header.format != FORMAT or unknown:
            what = f"column '{unknown[0]}'" if unknown else f"format {header.format}"
            raise DatasetError(f"{source}: unknown {what}: update lumiwatch, or convert it again")
        try:
            return cls(
                inputs=inputs,
                contract_name=header.contract_name,
                contract_version=header.contract_version,
                contract_hash=header.contract_hash,
                input_names=tuple(header.input_names),
                provenance=header.provenance,
                **arrays,
            )
        except DatasetError as error:
            raise DatasetError(f"{source}: {error}") from error


def dataset_of(
    contract: Contract,
    inputs: npt.NDArray[np.int16],
    *,
    made_by: str,
    parents: Sequence[str] = (),
    **columns: npt.NDArray[Any] | None,
) -> Dataset:
    """Make a dataset of events that were not read from files.

    Parameters
    ----------
    inputs
        int16, shape (n_events, n_inputs).
    made_by, parents
        For the provenance.
    **columns
        ``run``, ``lumisection``, ``event``, ``weight``, ``score``, ``accept``, as in `Dataset`.

    Raises
    ------
    DatasetError
        An array has the wrong dtype or shape.
    """
    provenance = Provenance(
        tool_version=tool_version(),
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        events_in=len(inputs),
        events_kept=len(inputs),
        made_by=made_by,
        parents=list(parents),
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


def concatenate(datasets: Sequence[Dataset], *, made_by: str) -> Dataset:
    """Join datasets of one contract, in order; columns that only some of them have are left out.

    Raises
    ------
    DatasetError
        There is none, or their contracts differ.
    """
    if not datasets:
        raise DatasetError("nothing to join: give at least one dataset")
    first = datasets[0]
    if any(other.contract_hash != first.contract_hash for other in datasets):
        raise DatasetError(
            "datasets of different contracts cannot be joined: convert them under one contract"
        )
    columns = {
        name: np.concatenate([getattr(one, name) for one in datasets])
        for name in COLUMNS
        if all(getattr(one, name) is not None for one in datasets)
    }
    inputs = np.concatenate([one.inputs for one in datasets])
    parents = [one.id for one in datasets]
    return _derived(first, inputs, columns, made_by, parents=parents, events_in=len(inputs))


def _derived(
    origin: Dataset,
    inputs: npt.NDArray[np.int16],
    columns: dict[str, npt.NDArray[Any]],
    made_by: str,
    *,
    parents: list[str],
    events_in: int,
) -> Dataset:
    provenance = Provenance(
        tool_version=tool_version(),
        contract_name=origin.contract_name,
        contract_version=origin.contract_version,
        contract_hash=origin.contract_hash,
        events_in=events_in,
        events_kept=len(inputs),
        made_by=made_by,
        parents=parents,
    )
    changed: dict[str, Any] = dict.fromkeys(COLUMNS) | columns
    return replace(origin, inputs=inputs, provenance=provenance, **changed)
