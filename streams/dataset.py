"""The dataset: events made under a contract, with their provenance inside, as one NPZ file.

It refuses to know how events were made or what they are for. The bytes of a file are a function of its
content alone: fixed order, fixed timestamps, no compression (compressors differ between machines), so
that the sha256 of the file can serve as the dataset's identity everywhere.
"""

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from streams.contract import Contract
from streams.errors import DatasetError

FORMAT: Final = 1
_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "run": np.int64,
    "lumisection": np.int64,
    "event": np.int64,
    "weight": np.float64,
    "score": np.int32,
    "accept": np.bool_,
}


class SourceFile(BaseModel):
    """One file that events were read from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    entries: int = Field(ge=0)


class Provenance(BaseModel):
    """Where a dataset comes from.

    Attributes
    ----------
    sources
        The files read, by name (no folder), content and entries.
    events_in, events_kept
        Events read and events written.
    dropped
        Reason -> number of events dropped for it.
    made_by
        What made it, with its parameters, for example ``resample seed=7``.
    parents
        Identities of the datasets it was made from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool_version: str
    contract_name: str
    contract_version: int
    contract_hash: str
    sources: list[SourceFile] = Field(default_factory=list)
    events_in: int = Field(ge=0)
    events_kept: int = Field(ge=0)
    dropped: dict[str, int] = Field(default_factory=dict)
    made_by: str
    parents: list[str] = Field(default_factory=list)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    contract_name: str
    contract_version: int
    contract_hash: str
    input_names: list[str]
    provenance: Provenance


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

    def __post_init__(self) -> None:
        if self.inputs.dtype != np.int16 or self.inputs.ndim != 2:
            raise DatasetError(
                f"dataset inputs are {self.inputs.dtype} {self.inputs.shape}: give int16 (events, inputs)"
            )
        if self.inputs.shape[1] != len(self.input_names):
            raise DatasetError(f"dataset has {self.inputs.shape[1]} inputs and {len(self.input_names)} names")
        for name, dtype in _COLUMNS.items():
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
        return hashlib.sha256(self.to_bytes()).hexdigest()

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
        columns = {name: column[which] for name in _COLUMNS if (column := getattr(self, name)) is not None}
        return _derived(
            self, self.inputs[which], columns, made_by, parents=[self.id], events_in=self.n_events
        )

    def to_bytes(self) -> bytes:
        """Return the bytes of the file; the same content gives the same bytes everywhere."""
        header = _Header(
            format=FORMAT,
            contract_name=self.contract_name,
            contract_version=self.contract_version,
            contract_hash=self.contract_hash,
            input_names=list(self.input_names),
            provenance=self.provenance,
        )
        arrays: dict[str, npt.NDArray[Any]] = {
            "header": np.frombuffer(header.model_dump_json().encode(), dtype=np.uint8),
            "inputs": self.inputs,
        }
        arrays |= {name: column for name in _COLUMNS if (column := getattr(self, name)) is not None}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3
                entry.external_attr = 0o644 << 16
                with archive.open(entry, "w", force_zip64=True) as stream:
                    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                    np.lib.format.write_array(stream, np.ascontiguousarray(little), allow_pickle=False)
        return buffer.getvalue()

    def save(self, path: Path | str) -> str:
        """Write the file atomically and return the dataset's identity.

        Raises
        ------
        DatasetError
            The file cannot be written; nothing is left behind.
        """
        content = self.to_bytes()
        write_atomically(Path(path), content)
        return hashlib.sha256(content).hexdigest()

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
            content = path.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{path}: cannot read this dataset ({error.strerror}): check the path"
            ) from error
        return cls.from_bytes(content, source=str(path))

    @classmethod
    def from_bytes(cls, content: bytes, *, source: str = "dataset") -> Self:
        """Read the bytes of a file; `source` names it in errors. Raises as `load`."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays: dict[str, npt.NDArray[Any]] = {name: archive[name] for name in archive.files}
            header = _Header.model_validate_json(arrays.pop("header").tobytes())
            inputs = arrays.pop("inputs")
        except (
            ValueError,
            KeyError,
            OSError,
            EOFError,
            zipfile.BadZipFile,
            AttributeError,
            TypeError,
        ) as error:
            raise DatasetError(f"{source}: not a dataset, or a broken one: convert it again") from error
        unknown = sorted(set(arrays) - set(_COLUMNS))
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
        for name in _COLUMNS
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
    changed: dict[str, Any] = dict.fromkeys(_COLUMNS) | columns
    return replace(origin, inputs=inputs, provenance=provenance, **changed)


def tool_version() -> str:
    """Return the installed version of lumiwatch."""
    try:
        return metadata.version("lumiwatch")
    except metadata.PackageNotFoundError:
        return "not installed"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    DatasetError
        The folder is missing, full or not writable, or the path is no plain file.
    """
    _refuse_special(path)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DatasetError(
            f"{path}: cannot write ({error.strerror}): check that its folder exists and has room"
        ) from error


def check_writable(path: Path) -> None:
    """Find out whether a file can be written, before long work is done for it; leaves nothing behind.

    Raises
    ------
    DatasetError
        As `write_atomically` would.
    """
    _refuse_special(path)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot write ({error.strerror}): check that its folder exists and is writable"
        ) from error


def _refuse_special(path: Path) -> None:
    """Refuse to put a file in the place of a folder or of a device such as /dev/null."""
    if path.is_dir():
        raise DatasetError(f"{path}: cannot write (it is a folder): name a file in it")
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path}: cannot write (it is no plain file): name another")
