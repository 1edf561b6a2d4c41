"""What the headers of Arrow messages say before anything is unpacked. Knows no column and no batch.

pyarrow verifies the FlatBuffers of each message but does not show these facts, or only after unpacking.
Tables and fields: Arrow's format/Message.fbs and Schema.fbs.
"""

import struct
from typing import Any

from streams.errors import MalformedMessage

_HEADER = 2
_SCHEMA_ENDIANNESS, _SCHEMA_METADATA = 0, 2
_RECORD_BATCH_COMPRESSION = 3


def check_schema_message(message: Any) -> None:
    """Refuse a schema whose bytes are in the other order, or that gives a key of its metadata twice.

    Raises
    ------
    MalformedMessage
        It says what the schema is.
    """
    metadata, table = _header_of(message, "schema")
    try:
        position = _field(metadata, table, _SCHEMA_ENDIANNESS)
        if position is not None and struct.unpack_from("<h", metadata, position)[0] != 0:
            raise MalformedMessage("batch is big-endian: write it little-endian")
        position = _field(metadata, table, _SCHEMA_METADATA)
        if position is None:
            return
        vector = position + struct.unpack_from("<I", metadata, position)[0]
        keys = [_key(metadata, vector + 4 + 4 * index) for index in range(_length(metadata, vector))]
    except struct.error as error:
        raise MalformedMessage("batch has a broken schema: write it with an Arrow library") from error
    seen: set[bytes] = set()
    for key in keys:
        if key in seen:
            raise MalformedMessage(f"batch metadata gives {key!r:.60} twice: give each key once")
        seen.add(key)


def is_compressed(message: Any) -> bool:
    """Tell whether a record batch names a compression codec.

    Raises
    ------
    MalformedMessage
        The message is no record batch.
    """
    metadata, table = _header_of(message, "record batch")
    try:
        return _field(metadata, table, _RECORD_BATCH_COMPRESSION) is not None
    except struct.error as error:
        raise MalformedMessage(
            "batch has a broken record batch header: write it with an Arrow library"
        ) from error


def _header_of(message: Any, kind: str) -> tuple[bytes, int]:
    """Return the FlatBuffer of a message and where its header's table begins."""
    if message.type != kind:
        raise MalformedMessage(
            f"batch holds a message of type '{message.type}': send a schema, then one record batch"
        )
    metadata: bytes = message.metadata.to_pybytes()
    try:
        table = struct.unpack_from("<I", metadata, 0)[0]
        header = _field(metadata, table, _HEADER)
        if header is None:
            raise MalformedMessage(f"batch has a {kind} without a header: write it with an Arrow library")
        return metadata, header + struct.unpack_from("<I", metadata, header)[0]
    except struct.error as error:
        raise MalformedMessage(f"batch has a broken {kind} header: write it with an Arrow library") from error


def _field(buffer: bytes, table: int, index: int) -> int | None:
    """Return where field `index` of a FlatBuffers table lies, or None when it is absent."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    if vtable < 0:
        raise struct.error("vtable outside of the buffer")
    position = 4 + 2 * index
    if position >= struct.unpack_from("<H", buffer, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", buffer, vtable + position)[0]
    return table + int(offset) if offset else None


def _length(buffer: bytes, vector: int) -> int:
    length: int = struct.unpack_from("<I", buffer, vector)[0]
    if length > len(buffer) // 4:
        raise struct.error("vector outside of the buffer")
    return length


def _key(buffer: bytes, position: int) -> bytes:
    """Return the key of the KeyValue that an element of a vector points to."""
    table = position + struct.unpack_from("<I", buffer, position)[0]
    field = _field(buffer, table, 0)
    if field is None:
        return b""
    text = field + struct.unpack_from("<I", buffer, field)[0]
    return buffer[text + 4 : text + 4 + struct.unpack_from("<I", buffer, text)[0]]
