"""The bytes of a summary, for the wire and for the store. Knows the layout of counts, not their meaning.

Format ``LWSUM3``, all integers unsigned and little endian:

- 6 bytes: the magic ``LWSUM3``;
- 4 bytes: length of what follows once it is unpacked, at most `MAX_UNPACKED_BYTES`;
- one Zstandard frame. Unpacked it is the length of the header (4 bytes), the header (JSON, UTF-8, the keys
  of `_Header`), and four sections: input counts, score counts, map counts, counts of pairs of inputs.

A section lists the bins that are not empty, in rising order: first all gaps, then all counts. A gap is the
number of empty bins since the bin before (for the first bin: its index). ``filled`` of the header says how
many bins each section lists, ``widths`` how many bytes each of its gaps and each of its counts has (1, 2, 4
or 8). Numbers of several bytes lie in planes: the lowest byte of every number, then the next of every
number, and so on; the high ones are mostly zero and vanish in the compression.

A reader needs no contract: the header carries the layout. Whatever arrives is bounded and checked.
``LWSUM2`` (see `streams.counting.codec_2`) and ``LWSUM1`` are still read: windows and references of older
sites are stored in them.
"""

import json
import struct
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streams import versions
from streams.counting import codec_2 as summary_codec_2
from streams.counting.fill import Counts
from streams.counting.layout import N_SCORE_BINS, Axis, Layout, ObjectMap
from streams.counting.summary import BatchId, Summary
from streams.errors import MalformedMessage, SummaryError
from streams.events.batch import MAX_SEQUENCE

VERSION: Final = 3
MAGIC: Final = b"LWSUM3"
MAX_SUMMARY_BYTES: Final = 4 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 32 * 1024 * 1024
MAX_BINS: Final = 2_000_000
MAX_COUNT: Final = 2**46
"""All bins of an input at this count still add up within 64 bits: no total can wrap around."""

_PREFIX: Final = len(MAGIC) + 4
_CODEC: Final[Any] = pa.Codec("zstd", compression_level=1)

_Text = Annotated[str, Field(min_length=1, max_length=128)]
_Name = Annotated[_Text, AfterValidator(versions.printable)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Count = Annotated[int, Field(ge=0, lt=MAX_COUNT)]
_Code = Annotated[int, Field(ge=-(2**15), lt=2**15)]
_AxisFields = tuple[_Code, Annotated[int, Field(ge=1, le=2**16)], Annotated[int, Field(ge=1, le=256)]]
_Sequence = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]
_Batch = tuple[_Name, _Sequence, Annotated[int, Field(ge=0, lt=2**32)]]
_Filled = Annotated[int, Field(ge=0, le=MAX_BINS)]
_Widths = tuple[Literal[1, 2, 4], Literal[1, 2, 4, 8]]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: _Name
    contract_hash: _Name
    run: _Number
    lumisection: _Number
    package: _Name
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
    n_paired: _Count
    filled: tuple[_Filled, _Filled, _Filled, _Filled]
    widths: tuple[_Widths, _Widths, _Widths, _Widths]

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
        if self.n_paired > self.n_events:
            raise ValueError(f"{self.n_paired} paired events are more than all {self.n_events}")
        return self


def encode_summary(summary: Summary) -> bytes:
    """Return the bytes of a summary. Equal summaries give equal bytes.

    Raises
    ------
    MalformedMessage
        They would exceed `MAX_SUMMARY_BYTES`.
    """
    sections = [_section(counts) for counts in (summary.inputs, summary.score, summary.maps, summary.pairs)]
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
        "n_paired": summary.n_paired,
        "filled": [filled for filled, _, _ in sections],
        "widths": [widths for _, widths, _ in sections],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    data = b"".join([struct.pack("<I", len(text)), text, *(content for _, _, content in sections)])
    payload: bytes = MAGIC + struct.pack("<I", len(data)) + _CODEC.compress(data, asbytes=True)
    if len(payload) > MAX_SUMMARY_BYTES or len(data) > MAX_UNPACKED_BYTES:
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
    if len(payload) > MAX_SUMMARY_BYTES:
        raise MalformedMessage(f"summary of {len(payload)} bytes exceeds {MAX_SUMMARY_BYTES}")
    if payload[: len(MAGIC)] in summary_codec_2.MAGICS:
        return _read(*summary_codec_2.upgraded(payload, MAX_UNPACKED_BYTES))
    _check_magic(payload)
    return _read(*_split(_unpack(payload)))


def _read(text: bytes, body: bytes) -> Summary:
    header = _header(text)
    layout = _layout(
        tuple(header.input_names),
        tuple(header.minimums),
        tuple(header.maximums),
        tuple(header.maps),
        header.own_totals,
    )
    sizes = (
        layout.n_input_bins,
        N_SCORE_BINS,
        layout.n_map_bins,
        layout.n_pairs if header.n_paired else 0,
    )
    if sum(sizes) > MAX_BINS:
        raise MalformedMessage(f"summary of {sum(sizes)} bins exceeds {MAX_BINS}: narrow the contract")
    lengths = [n * sum(widths) for n, widths in zip(header.filled, header.widths, strict=True)]
    if len(body) != sum(lengths):
        raise MalformedMessage(f"summary body has {len(body)} bytes, its header says {sum(lengths)}")
    arrays, begin = [], 0
    for size, filled, widths, length in zip(sizes, header.filled, header.widths, lengths, strict=True):
        arrays.append(_counts(body[begin : begin + length], filled, widths, size))
        begin += length
    inputs, score, maps, pairs = arrays
    _check_totals(header, layout, inputs, score)
    _check_pairs(header.n_paired, layout, pairs)
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
            n_paired=header.n_paired,
            pairs=pairs,
        )
    except SummaryError as error:
        raise MalformedMessage(f"summary: {error}") from error


def _check_magic(payload: bytes) -> None:
    if payload[: len(MAGIC)] == MAGIC:
        return
    if payload[:5] == MAGIC[:5] and payload[5:6].isdigit():
        raise versions.unknown_version("summary", int(payload[5:6]), VERSION)
    raise MalformedMessage(f"summary begins with {payload[:8]!r}, not with {MAGIC!r}: it is none")


def _unpack(payload: bytes) -> bytes:
    if len(payload) < _PREFIX:
        raise MalformedMessage("summary is cut short")
    (length,) = struct.unpack_from("<I", payload, len(MAGIC))
    if length > MAX_UNPACKED_BYTES:
        raise MalformedMessage(f"summary of {length} unpacked bytes exceeds {MAX_UNPACKED_BYTES}")
    try:
        # asks for exactly this length: a frame that holds more, less or other bytes is an error
        data: bytes = _CODEC.decompress(pa.py_buffer(payload)[_PREFIX:], length, asbytes=True)
    except (pa.ArrowException, OSError) as error:
        raise MalformedMessage(f"summary cannot be unpacked: {str(error).splitlines()[0]:.100}") from error
    return data


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Return header and body."""
    length = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if not 0 < length <= len(data) - 4:
        raise MalformedMessage("summary has no header")
    return data[4 : 4 + length], data[4 + length :]


def _header(text: bytes) -> _Header:
    try:
        return _Header.model_validate_json(text)
    except ValidationError as error:
        raise MalformedMessage(f"summary header: {versions.first_problem(error)}") from error


@lru_cache(maxsize=16)
def _layout(
    input_names: tuple[str, ...],
    minimums: tuple[int, ...],
    maximums: tuple[int, ...],
    maps: tuple[tuple[str, _AxisFields, _AxisFields], ...],
    own_totals: bool,
) -> Layout:
    """Return a layout; the same one for every summary of a contract, so that its sums are made once."""
    return Layout(
        input_names=input_names,
        minimums=minimums,
        maximums=maximums,
        maps=tuple(ObjectMap(name, Axis(*eta), Axis(*phi)) for name, eta, phi in maps),
        own_totals=own_totals,
    )


def _section(counts: Counts) -> tuple[int, tuple[int, int], bytes]:
    """Return how many bins are not empty, the widths of their gaps and counts, and the bytes of both."""
    bins = np.flatnonzero(counts)
    gaps = np.diff(bins, prepend=-1) - 1
    filled = counts[bins]
    widths = (_width(gaps), _width(filled))
    return len(bins), widths, _planes(gaps, widths[0]) + _planes(filled, widths[1])


def _width(numbers: Counts) -> int:
    largest = int(numbers.max(initial=0))
    return next(width for width in (1, 2, 4, 8) if largest < 1 << 8 * width)


def _planes(numbers: Counts, width: int) -> bytes:
    columns = numbers.astype(f"<u{width}").view(np.uint8).reshape(len(numbers), width)
    return columns.T.tobytes()


def _numbers(data: bytes, filled: int, width: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    planes = np.frombuffer(data, dtype=np.uint8, count=filled * width).reshape(width, filled)
    return np.ascontiguousarray(planes.T).view(f"<u{width}").ravel()


def _counts(data: bytes, filled: int, widths: tuple[int, int], size: int) -> Counts:
    """Return one flat array of counts from the bytes of its section."""
    gaps = _numbers(data, filled, widths[0])
    values = _numbers(data[filled * widths[0] :], filled, widths[1])
    bins = np.cumsum(gaps, dtype=np.int64) + np.arange(filled)
    if filled and bins[-1] >= size:
        raise MalformedMessage("summary has bins out of range")
    if not values.all() or (widths[1] == 8 and (values >= MAX_COUNT).any()):
        raise MalformedMessage("summary has a count that is zero or absurd")
    counts = np.zeros(size, dtype=np.int64)
    counts[bins] = values
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


def _check_pairs(n_paired: int, layout: Layout, pairs: Counts) -> None:
    """Two of `n_paired` events' marks overlap as often as their numbers allow, and no more."""
    if not n_paired:
        return
    if not layout.n_pairs:
        raise MalformedMessage(f"summary of {n_paired} paired events has a layout without pairs: give 0")
    first, second = layout.pair_places
    alone = first == second
    marked = np.zeros(layout.n_inputs, dtype=np.int64)
    marked[first[alone]] = pairs[alone]
    one, other = marked[first], marked[second]
    if (pairs > np.minimum(one, other)).any() or (pairs < one + other - n_paired).any():
        raise MalformedMessage(
            f"summary of {n_paired} paired events has pairs that more or fewer of them share than can be"
        )
