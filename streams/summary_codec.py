"""The bytes of a summary, for the wire and for the store. Knows the layout of counts, not their meaning.

Format: the magic ``LWSUM1``, then a zlib stream of: header length (uint32, little endian), header
(JSON), and for inputs, score and maps in turn the bins that are not empty (index uint32, count int64).
A reader needs no contract: the header carries the layout. Whatever arrives is bounded and checked.
"""

import json
import struct
import zlib
from itertools import pairwise
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.errors import MalformedMessage, SummaryError
from streams.summary import N_SCORE_BINS, Axis, Counts, Layout, ObjectMap, SourceOffset, Summary

MAGIC: Final = b"LWSUM1"
MAX_SUMMARY_BYTES: Final = 4 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 32 * 1024 * 1024
MAX_BINS: Final = 2_000_000

_Text = Annotated[str, Field(min_length=1, max_length=128)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Code = Annotated[int, Field(ge=-(2**15), lt=2**15)]
_Width = Annotated[int, Field(ge=1, le=2**16)]
_AxisFields = tuple[_Code, _Width, Annotated[int, Field(ge=1, le=256)]]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: _Text
    contract_hash: _Text
    run: _Number
    lumisection: _Number
    package: _Text
    sources: list[tuple[_Text, _Number, _Count]] = Field(max_length=1_000_000)
    simulated: bool
    n_events: _Count
    n_accept: _Count
    input_names: list[_Text] = Field(max_length=4096)
    minimums: list[_Code]
    maximums: list[_Code]
    maps: list[tuple[_Text, _AxisFields, _AxisFields]] = Field(max_length=256)
    filled: tuple[_Number, _Number, _Number]


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
        "sources": summary.sources,
        "simulated": summary.simulated,
        "n_events": summary.n_events,
        "n_accept": summary.n_accept,
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
    data = _unpack(payload)
    header, body = _split(data)
    layout = Layout(
        input_names=tuple(header.input_names),
        minimums=tuple(header.minimums),
        maximums=tuple(header.maximums),
        maps=tuple(ObjectMap(name, Axis(*eta), Axis(*phi)) for name, eta, phi in header.maps),
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
            sources=_sources(header),
            simulated=header.simulated,
            n_events=header.n_events,
            n_accept=header.n_accept,
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
    if payload[: len(MAGIC)] != MAGIC:
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


def _split(data: bytes) -> tuple[_Header, bytes]:
    length = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if not 0 < length <= len(data) - 4:
        raise MalformedMessage("summary has no header")
    try:
        header = _Header.model_validate_json(data[4 : 4 + length])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "header"
        raise MalformedMessage(f"summary header: {key}: {first['msg']}") from error
    if not len(header.input_names) == len(header.minimums) == len(header.maximums):
        raise MalformedMessage("summary header: names, minimums and maximums differ in number")
    if any(low > high for low, high in zip(header.minimums, header.maximums, strict=True)):
        raise MalformedMessage("summary header: a minimum lies above its maximum")
    return header, data[4 + length :]


def _sources(header: _Header) -> tuple[SourceOffset, ...]:
    sources = tuple(SourceOffset(*source) for source in header.sources)
    if any(first >= second for first, second in pairwise(sources)):
        raise MalformedMessage("summary header: sources are not in order, or one stands twice")
    return sources


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
    """Every event stands once in every input's histogram and once in the score's."""
    totals = np.add.reduceat(inputs, layout.starts[:-1]) if layout.n_inputs else np.zeros(0, dtype=np.int64)
    if (totals != header.n_events).any() or score.sum() != header.n_events:
        raise MalformedMessage(
            f"summary of {header.n_events} events has histograms that do not add up to them"
        )
    if header.n_accept > header.n_events:
        raise MalformedMessage(f"summary accepts {header.n_accept} of {header.n_events} events")
