"""The batch: one Kafka message, a column block of events. Knows no broker and no statistics.

On the wire: an Arrow IPC stream of one schema and one record batch. One int16 column per input under
the input's name, in the contract's order, then ``score`` (int32) and ``accept`` (bool). The schema's
metadata carries who made it, under keys that begin with ``lumiwatch.``. Whatever arrives is checked
before it is used: sizes, schema, contract, nulls; compressed buffers are refused, because their size
cannot be known before they are unpacked (compress at the Kafka level instead).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.contracts.contract import Contract
from streams.errors import MalformedMessage
from streams.events.arrow_headers import check_schema_message, is_compressed
from streams.versions import unknown_version

VERSION: Final = 1
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
MAX_BATCH_EVENTS: Final = 65_536
MAX_TEXT: Final = 128
MAX_NUMBER: Final = 2**31 - 1
MAX_SEQUENCE: Final = 2**53

_PREFIX: Final = "lumiwatch."
_TEXT_KEYS: Final = ("model", "contract", "contract_hash", "source", "package")
_NUMBER_KEYS: Final = ("contract_version", "run", "lumisection", "sequence")
_KEYS: Final = frozenset(_PREFIX + key for key in ("version", "simulated", *_TEXT_KEYS, *_NUMBER_KEYS))
_BOOLEANS: Final = {"true": True, "false": False}


@dataclass(frozen=True, eq=False)
class Batch:
    """Events of one model, run, lumisection and source, with what the firmware said about them.

    Attributes
    ----------
    source
        Who sent it, for example ``replay-0``.
    sequence
        Running number of the batch within its source and run.
    package
        Identity (sha256 hex) of the firmware package that scored these events.
    simulated
        The events come from a replay or a simulation.
    inputs
        int16, shape (n_events, n_inputs). Column-contiguous after `decode_batch`.
    score
        int32, shape (n_events,), the firmware's raw score.
    accept
        bool, shape (n_events,), the firmware's decision.

    Raises
    ------
    MalformedMessage
        Shapes, dtypes or header fields are not those of a batch.
    """

    model: str
    contract_name: str
    contract_version: int
    contract_hash: str
    run: int
    lumisection: int
    source: str
    sequence: int
    package: str
    simulated: bool
    inputs: npt.NDArray[np.int16]
    score: npt.NDArray[np.int32]
    accept: npt.NDArray[np.bool_]
    input_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n_events = self.inputs.shape[0] if self.inputs.ndim == 2 else -1
        if self.inputs.dtype != np.int16 or self.inputs.shape != (n_events, len(self.input_names)):
            raise MalformedMessage(
                f"batch inputs are {self.inputs.dtype} {self.inputs.shape}: "
                f"give int16 (events, {len(self.input_names)})"
            )
        for name, array, dtype in (("score", self.score, np.int32), ("accept", self.accept, np.bool_)):
            if array.dtype != dtype or array.shape != (n_events,):
                raise MalformedMessage(
                    f"batch {name} is {array.dtype} {array.shape}: give {np.dtype(dtype)} ({n_events},)"
                )
        if n_events > MAX_BATCH_EVENTS:
            raise MalformedMessage(f"batch of {n_events} events: send at most {MAX_BATCH_EVENTS}")
        for name in ("model", "contract_name", "contract_hash", "source", "package"):
            _check_text(name, getattr(self, name))
        for name, most in (
            ("contract_version", MAX_NUMBER),
            ("run", MAX_NUMBER),
            ("lumisection", MAX_NUMBER),
            ("sequence", MAX_SEQUENCE),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise MalformedMessage(f"batch {name} is {getattr(self, name)}: give 0 to {most}")

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.score.shape[0])


def encode_batch(batch: Batch) -> bytes:
    """Return the message of a batch.

    Raises
    ------
    MalformedMessage
        The message would be larger than `MAX_BATCH_BYTES`: send fewer events in each.
    """
    columns = np.ascontiguousarray(batch.inputs.T)
    arrays = [pa.array(column) for column in columns]
    arrays += [pa.array(np.ascontiguousarray(batch.score)), pa.array(np.ascontiguousarray(batch.accept))]
    header = {
        "version": str(VERSION),
        "model": batch.model,
        "contract": batch.contract_name,
        "contract_version": str(batch.contract_version),
        "contract_hash": batch.contract_hash,
        "run": str(batch.run),
        "lumisection": str(batch.lumisection),
        "source": batch.source,
        "sequence": str(batch.sequence),
        "package": batch.package,
        "simulated": "true" if batch.simulated else "false",
    }
    schema = _schema(batch.input_names).with_metadata({_PREFIX + key: value for key, value in header.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    payload: bytes = sink.getvalue().to_pybytes()
    if len(payload) > MAX_BATCH_BYTES:
        raise MalformedMessage(
            f"batch of {len(payload)} bytes exceeds {MAX_BATCH_BYTES}: send fewer events in each"
        )
    return payload


def decode_batch(payload: bytes, contract: Contract) -> Batch:
    """Read and check a message.

    Parameters
    ----------
    payload
        The bytes of one Kafka message, from anyone.
    contract
        The contract under which the receiver works.

    Raises
    ------
    MalformedMessage
        Anything about the message is wrong; the reason says what.
    """
    if contract.histograms:
        raise MalformedMessage(
            f"batch for contract '{contract.name}', which lists histograms: send summaries, no events"
        )
    reader, messages = _open(payload)
    header = _header(reader.schema)
    if header["contract_hash"] != contract.hash:
        raise MalformedMessage(
            f"batch made under contract '{header['contract']}' version {header['contract_version']} "
            f"({str(header['contract_hash'])[:12]}), this worker has '{contract.name}' "
            f"version {contract.version} ({contract.hash[:12]}): update one of them"
        )
    _check_schema(reader.schema, contract)
    if len(messages) != 1:
        raise MalformedMessage(f"batch holds {len(messages)} record batches: send exactly one")
    if is_compressed(messages[0]):
        raise MalformedMessage("batch uses Arrow buffer compression: compress at the Kafka level instead")
    try:
        block = reader.read_next_batch()
        block.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise MalformedMessage(f"batch cannot be read as Arrow: {_first_line(error)}") from error
    inputs, score, accept = _columns(block, contract.n_inputs)
    return Batch(
        model=str(header["model"]),
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        run=int(header["run"]),
        lumisection=int(header["lumisection"]),
        source=str(header["source"]),
        sequence=int(header["sequence"]),
        package=str(header["package"]),
        simulated=bool(header["simulated"]),
        inputs=inputs,
        score=score,
        accept=accept,
        input_names=contract.input_names,
    )


def digest(payload: bytes) -> int:
    """Return the CRC-32C of a message (uint32): it tells whether two messages hold the same."""
    return int(crc32c.crc32c(payload))


def batch_model(payload: bytes) -> str:
    """Return the monitored model a message is about, to choose its contract. Raises `MalformedMessage`."""
    return str(_header(_open(payload)[0].schema)["model"])


@lru_cache(maxsize=64)
def _schema(input_names: tuple[str, ...]) -> Any:
    fields = [pa.field(name, pa.int16(), nullable=False) for name in input_names]
    fields += [pa.field("score", pa.int32(), nullable=False), pa.field("accept", pa.bool_(), nullable=False)]
    return pa.schema(fields)


def _open(payload: bytes) -> tuple[Any, list[Any]]:
    """Return a stream reader and the messages behind the schema, nothing unpacked yet."""
    if not payload or len(payload) > MAX_BATCH_BYTES:
        raise MalformedMessage(f"batch of {len(payload)} bytes: send 1 to {MAX_BATCH_BYTES}")
    try:
        reader = pa.ipc.open_stream(pa.py_buffer(payload))
        schema, *messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(payload))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MalformedMessage(f"batch is no Arrow stream: {_first_line(error)}") from error
    check_schema_message(schema)
    return reader, messages


def _header(schema: Any) -> dict[str, str | int | bool]:
    """Check the schema's metadata and return it typed, without the prefix."""
    try:
        found = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    except UnicodeDecodeError as error:
        raise MalformedMessage("batch metadata is not UTF-8: write it as text") from error
    _check_version(found.get(_PREFIX + "version", ""))
    header: dict[str, str | int | bool] = {}
    for key in _TEXT_KEYS:
        header[key] = _check_text(key, found.get(_PREFIX + key, ""))
    for key in _NUMBER_KEYS:
        text = found.get(_PREFIX + key, "")
        if not (text.isascii() and text.isdigit() and len(text) <= 16):
            raise MalformedMessage(f"batch metadata {key} is {text!r:.40}: give a whole number")
        header[key] = int(text)
    simulated = found.get(_PREFIX + "simulated", "")
    if simulated not in _BOOLEANS:
        raise MalformedMessage(f"batch metadata simulated is {simulated!r:.40}: give true or false")
    header["simulated"] = _BOOLEANS[simulated]
    strange = {key for key in found if key.startswith(_PREFIX)} - _KEYS
    if strange:
        raise MalformedMessage(
            f"batch metadata {min(strange)!r:.60} is unknown: begin keys of your own otherwise"
        )
    return header


def _check_version(text: str) -> None:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise MalformedMessage(f"batch metadata version is {text!r:.40}: give {VERSION}")
    if int(text) != VERSION:
        raise unknown_version("batch", int(text), VERSION)


def _check_text(key: str, text: str) -> str:
    if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
        raise MalformedMessage(f"batch {key} is {text!r:.40}: give 1 to {MAX_TEXT} printable characters")
    return text


def _check_schema(schema: Any, contract: Contract) -> None:
    expected = _schema(contract.input_names)
    if len(schema) != len(expected):
        raise MalformedMessage(
            f"batch has {len(schema)} columns, contract '{contract.name}' asks {len(expected)}"
        )
    try:
        columns = [(field.name, field.type) for field in schema]
    except UnicodeDecodeError as error:
        raise MalformedMessage("batch column names are not UTF-8: write them as text") from error
    for position, ((name, kind), want) in enumerate(zip(columns, expected, strict=True)):
        if name != want.name or kind != want.type:
            raise MalformedMessage(
                f"batch column {position} is {name!r:.60} {kind!s:.40}, "
                f"contract '{contract.name}' asks '{want.name}' {want.type}"
            )


def _columns(
    block: Any, n_inputs: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    if block.num_rows > MAX_BATCH_EVENTS:
        raise MalformedMessage(f"batch of {block.num_rows} events: send at most {MAX_BATCH_EVENTS}")
    if any(column.null_count for column in block.columns):
        raise MalformedMessage("batch has missing values: every event needs every input, score and accept")
    columns = np.empty((n_inputs, block.num_rows), dtype=np.int16)
    for row, column in zip(columns, block.columns[:n_inputs], strict=True):
        row[:] = column.to_numpy()
    score = np.array(block.column(n_inputs).to_numpy(), dtype=np.int32)
    accept = np.array(block.column(n_inputs + 1).to_numpy(zero_copy_only=False), dtype=np.bool_)
    for array in (columns, score, accept):
        array.flags.writeable = False
    return columns.T, score, accept


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
