"""The older bytes of a summary, ``LWSUM2`` and ``LWSUM1``, turned into the present ones. Only read.

Format: the magic, then a zlib stream of: header length (uint32, little endian), header (JSON), and for
inputs, score and maps in turn the bins that are not empty: their indices (uint32 each), their counts (int64
each). The header of ``LWSUM2`` is that of ``LWSUM3`` without ``widths`` and ``n_paired``; that of ``LWSUM1``
named Kafka offsets (``sources``) and knew no batch, no integrity and no ``own_totals``. Neither knew pairs.
"""

import json
import struct
import zlib
from typing import Any, Final

import numpy as np

from streams.errors import MalformedMessage

MAGICS: Final = (b"LWSUM1", b"LWSUM2")
_WIDTHS: Final = (4, 8)
_UNKNOWN_TO_1: Final = {"batch": None, "n_checked": 0, "n_mismatched": 0, "own_totals": False}


def upgraded(payload: bytes, max_unpacked_bytes: int) -> tuple[bytes, bytes]:
    """Return header and body as those of `streams.counting.codec`, for it to check.

    Raises
    ------
    MalformedMessage
        The bytes cannot be unpacked, or lead to no header or to other bins than it says.
    """
    data = _unpack(payload, max_unpacked_bytes)
    length = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if not 0 < length <= len(data) - 4:
        raise MalformedMessage("summary has no header")
    header = _object(data[4 : 4 + length])
    if payload.startswith(MAGICS[0]):
        header.pop("sources", None)
        header |= _UNKNOWN_TO_1
    filled = header.get("filled")
    if not (
        isinstance(filled, list)
        and len(filled) == 3
        and all(type(number) is int and 0 <= number <= len(data) for number in filled)
    ):
        raise MalformedMessage("summary header: filled: give three whole numbers")
    body = data[4 + length :]
    if len(body) != sum(_WIDTHS) * sum(filled):
        raise MalformedMessage(
            f"summary body has {len(body)} bytes, its header says {sum(_WIDTHS) * sum(filled)}"
        )
    header |= {"n_paired": 0, "filled": [*filled, 0], "widths": [_WIDTHS] * 4}
    return json.dumps(header).encode(), _sections(body, filled)


def _unpack(payload: bytes, max_unpacked_bytes: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(payload[len(MAGICS[0]) :], max_unpacked_bytes)
    except zlib.error as error:
        raise MalformedMessage(f"summary cannot be unpacked: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedMessage("summary is cut short, too long, or followed by other bytes")
    return data


def _object(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage("summary header: no JSON") from error
    if not isinstance(header, dict):
        raise MalformedMessage("summary header: no object")
    return header


def _sections(body: bytes, filled: list[int]) -> bytes:
    parts, begin = [], 0
    for number in filled:
        bins = np.frombuffer(body, "<u4", number, begin).astype(np.int64)
        counts = np.frombuffer(body, "<i8", number, begin + _WIDTHS[0] * number)
        gaps = np.diff(bins, prepend=-1) - 1
        if (gaps < 0).any() or (counts <= 0).any():
            raise MalformedMessage("summary has bins out of order, or counts that are negative or zero")
        for numbers, kind, width in ((gaps, "<u4", _WIDTHS[0]), (counts, "<u8", _WIDTHS[1])):
            parts.append(numbers.astype(kind).view(np.uint8).reshape(number, width).T.tobytes())
        begin += sum(_WIDTHS) * number
    return b"".join(parts)
