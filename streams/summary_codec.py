"""The bytes of a summary, for the wire and for the store. Knows the layout of counts, not their meaning.

Format: the magic ``LWSUM2``, then a zlib stream of: header length (uint32, little endian), header
(JSON), and for inputs, score and maps in turn the bins that are not empty (index uint32, count int64).
A reader needs no contract: the header carries the layout. Whatever arrives is bounded and checked.
``LWSUM1``, whose header named Kafka offsets instead of a batch, is still read: windows and references
of older sites are stored in it.
"""

import json
import struct
import zlib
from typing import Annotated, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streams.errors import MalformedMessage, SummaryError
from streams.fill import Counts
from streams.layout import N_SCORE_BINS, Axis, Layout, ObjectMap
from streams.summary import BatchId, Summary

MAGIC: Final = b"LWSUM2"
_MAGIC_1: Final = b"LWSUM1"
MAX_SUMMARY_BYTES: Final = 4 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 32 * 1024 * 1024
MAX_BINS: Final = 2_000_000

_Text = Annotated[str, Field(min_length=1, max_length=128)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Code = Annotated[int, Field(ge=-(2**15), lt=2**15)]
_Width = Annotated[int, Field(ge=1, le=2**16)]
_AxisFields = tuple[_Code, _Width, Annotated[int, Field(ge=1, le=256)]]


_Batch = tuple[_Text, _Count, Annotated[int, Field(ge=0, lt=2**32)]]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: _Text
    contract_hash: _Text
    run: _Number
    lumisection: _Number
    package: _Text
    batch: _Batch | None
    simulated: bool
    n_events: _Count
    n_accept: _Count
    n_checked: _Count
    n_mismatched: _Count
    own_totals: bool
    input_names: list[_Text] = Field(max_length=4096)
    minimums: list[_Code]
    maximums: list[_Code]
    maps: list[tuple[_Text, _AxisFields, _AxisFields]] = Field(max_length=256)
    filled: tuple[_Number, _Number, _Number]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not len(self.input_names) == len(self.minimums) == len(self.maximums):
            raise ValueError("names, minimums and maximums differ in number")
        if any(low > high for low, high in zip(self.minimums, self.maximums, strict=True)):
            raise ValueError("a minimum lies above its maximum")
        if not (self.n_accept <= self.n_events and self.n_mismatched <= self.n_checked <= self.n_events):
            raise ValueError(
                f"of {self.n_events} events, {self.n_accept} are accepted, {self.n_checked} checked and "
                f"{self.n_mismatched} mismatched: a part is larger than its whole"
            )
        return self


def encode_summary(summary: Summary) -> bytes:
    """Return the bytes of a summary. Equal summaries give equal bytes.

    Raises
    ------
    MalformedMessage
        They would exceed `MAX_SUMMARY_BYTES`.
    """
    filled = [np.flatnonzero(counts) for counts in (summary.inputs, summary.score, summary.maps)]
    header = {
        "model": summary.model,
        "contract_hash": summary.contract_hash,
        "run": summary.run,
        "lumisection": summary.lumisection,
        "package": summary.package,
        "batch": summary.batch,
        "simulated": summary.simulated,
        "n_events": summary.n_events,
        "n_accept": summary.n_accept,
        "n_checked": summary.n_checked,
        "n_mismatched": summary.n_mismatched,
        "own_totals": summary.layout.own_totals,
        "input_names": summary.layout.input_names,
        "minimums": summary.layout.minimums,
        "maximums": summary.layout.maximums,
        "maps": summary.layout.maps,
        "filled": [len(index) for index in filled],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = [struct.pack("<I", len(text)), text]
    for index, counts in zip(filled, (summary.inputs, summary.score, summary.maps), strict=True):
        parts += [index.astype("<u4").tobytes(), counts[index].astype("<i8").tobytes()]
    payload = MAGIC + zlib.compress(b"".join(parts), level=1)
    if len(payload) > MAX_SUMMARY_BYTES:
        raise MalformedMessage(
            f"summary of {len(payload)} bytes exceeds {MAX_SUMMARY_BYTES}: narrow the contract"
        )
    return payload


def decode_summary(payload: bytes) -> Summary:
    """Read and check a summary.

    Raises
    ------
    MalformedMessage
        The bytes are no summary, or its counts contradict each other.
    """
    version = payload[: len(MAGIC)]
    header, body = _split(_unpack(payload), version)
    layout = Layout(
        input_names=tuple(header.input_names),
        minimums=tuple(header.minimums),
        maximums=tuple(header.maximums),
        maps=tuple(ObjectMap(name, Axis(*eta), Axis(*phi)) for name, eta, phi in header.maps),
        own_totals=header.own_totals,
    )
    sizes = (layout.n_input_bins, N_SCORE_BINS, layout.n_map_bins)
    if sum(sizes) > MAX_BINS:
        raise MalformedMessage(f"summary of {sum(sizes)} bins exceeds {MAX_BINS}: narrow the contract")
    if len(body) != 12 * sum(header.filled):
        raise MalformedMessage(
            f"summary body has {len(body)} bytes, its header says {12 * sum(header.filled)}"
        )
    arrays = []
    for size, filled in zip(sizes, header.filled, strict=True):
        arrays.append(_read_counts(body[: 12 * filled], filled, size))
        body = body[12 * filled :]
    inputs, score, maps = arrays
    _check_totals(header, layout, inputs, score)
    try:
        return Summary(
            model=header.model,
            contract_hash=header.contract_hash,
            run=header.run,
            lumisection=header.lumisection,
            package=header.package,
            batch=BatchId(*header.batch) if header.batch is not None else None,
            simulated=header.simulated,
            n_events=header.n_events,
            n_accept=header.n_accept,
            n_checked=header.n_checked,
            n_mismatched=header.n_mismatched,
            layout=layout,
            inputs=inputs,
            score=score,
            maps=maps,
        )
    except SummaryError as error:
        raise MalformedMessage(f"summary: {error}") from error


def _unpack(payload: bytes) -> bytes:
    if len(payload) > MAX_SUMMARY_BYTES:
        raise MalformedMessage(f"summary of {len(payload)} bytes exceeds {MAX_SUMMARY_BYTES}")
    if payload[: len(MAGIC)] not in (MAGIC, _MAGIC_1):
        raise MalformedMessage(
            f"summary begins with {payload[:8]!r}, not with {MAGIC!r}: not a summary of this version"
        )
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(payload[len(MAGIC) :], MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise MalformedMessage(f"summary cannot be unpacked: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedMessage("summary is cut short, too long, or followed by other bytes")
    return data


def _split(data: bytes, version: bytes) -> tuple[_Header, bytes]:
    length = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if not 0 < length <= len(data) - 4:
        raise MalformedMessage("summary has no header")
    text = data[4 : 4 + length]
    try:
        header = _Header.model_validate_json(text if version == MAGIC else _upgraded(text))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "header"
        raise MalformedMessage(f"summary header: {key}: {first['msg']}") from error
    return header, data[4 + length :]


def _upgraded(text: bytes) -> bytes:
    """Turn a header of `LWSUM1` into one of `LWSUM2`: what it counted then had no identity yet."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage("summary header: no JSON") from error
    if not isinstance(header, dict):
        raise MalformedMessage("summary header: no object")
    header.pop("sources", None)
    unknown_then = {"batch": None, "n_checked": 0, "n_mismatched": 0, "own_totals": False}
    return json.dumps(header | unknown_then).encode()


def _read_counts(body: bytes, filled: int, size: int) -> Counts:
    index = np.frombuffer(body, dtype="<u4", count=filled).astype(np.int64)
    values = np.frombuffer(body, dtype="<i8", count=filled, offset=4 * filled)
    if filled and (index[-1] >= size or (np.diff(index) <= 0).any()):
        raise MalformedMessage("summary has bins out of order or out of range")
    if (values <= 0).any() or (values >= 2**53).any():
        raise MalformedMessage("summary has a count that is negative, zero or absurd")
    counts = np.zeros(size, dtype=np.int64)
    counts[index] = values
    return counts


def _check_totals(header: _Header, layout: Layout, inputs: Counts, score: Counts) -> None:
    """Every event stands once in every input's histogram and once in the score's, unless filled elsewhere."""
    if layout.own_totals:
        if score.any():
            raise MalformedMessage("summary of histograms filled elsewhere has scores: it can have none")
        return
    totals = np.add.reduceat(inputs, layout.starts[:-1]) if layout.n_inputs else np.zeros(0, dtype=np.int64)
    if (totals != header.n_events).any() or score.sum() != header.n_events:
        raise MalformedMessage(
            f"summary of {header.n_events} events has histograms that do not add up to them"
        )
