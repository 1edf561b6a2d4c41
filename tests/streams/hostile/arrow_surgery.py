"""Changes Arrow messages where no Arrow library would: in the FlatBuffers of their headers."""

import struct

import pyarrow as pa

CONTINUATION = 0xFFFFFFFF


def split(payload):
    """Return the metadata and body of every message of a stream."""
    return [
        (bytearray(m.metadata.to_pybytes()), m.body.to_pybytes() if m.body is not None else b"")
        for m in pa.ipc.MessageReader.open_stream(payload)
    ]


def join(messages):
    """Make a stream of messages."""
    parts = []
    for metadata, body in messages:
        padded = bytes(metadata) + bytes(-len(metadata) % 8)
        parts += [struct.pack("<II", CONTINUATION, len(padded)), padded, body]
    return b"".join(parts) + struct.pack("<II", CONTINUATION, 0)


def field(buffer, table, index):
    """Return where a field of a table lies."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    return table + struct.unpack_from("<H", buffer, vtable + 4 + 2 * index)[0]


def follow(buffer, position):
    """Return what an offset at a position points to."""
    return position + struct.unpack_from("<I", buffer, position)[0]


def header(buffer):
    """Return where the schema or record batch of a message begins."""
    return follow(buffer, field(buffer, follow(buffer, 0), 2))


def patched(payload, index, change):
    """Change the metadata of one message by a function, in place."""
    messages = split(payload)
    change(messages[index][0])
    return join(messages)


def set_length(value):
    """Declare another number of rows."""
    return lambda b: struct.pack_into("<q", b, field(b, header(b), 0), value)


def set_node(index, at, value):
    """Declare another length (at=0) or null count (at=1) of a column."""
    return lambda b: struct.pack_into(
        "<q", b, follow(b, field(b, header(b), 1)) + 4 + 16 * index + 8 * at, value
    )


def set_buffer(index, at, value):
    """Declare another offset (at=0) or length (at=1) of a buffer."""
    return lambda b: struct.pack_into(
        "<q", b, follow(b, field(b, header(b), 2)) + 4 + 16 * index + 8 * at, value
    )


def set_count(index, value):
    """Declare another number of nodes (index=1) or buffers (index=2)."""
    return lambda b: struct.pack_into("<I", b, follow(b, field(b, header(b), index)), value)


def set_body_length(value):
    """Declare another length of the body."""
    return lambda b: struct.pack_into("<q", b, field(b, follow(b, 0), 3), value)


def big_endian(payload):
    """Put a new head before the schema, which says big-endian and points to the old fields."""
    messages = split(payload)
    old = bytes(messages[0][0])
    fields, keys = (follow(old, field(old, header(old), index)) + 72 for index in (1, 2))
    head = bytearray(72)
    struct.pack_into("<I6H", head, 0, 16, 12, 24, 4, 6, 8, 16)  # root, and what a message's fields are
    struct.pack_into("<ihBxIIq", head, 16, 12, 4, 1, 52 - 24, 0, 0)  # message: version 5, a schema
    struct.pack_into("<5H", head, 40, 10, 16, 4, 8, 12)
    struct.pack_into("<ihxxII", head, 52, 12, 1, fields - 60, keys - 64)  # schema: 1 is big-endian
    messages[0] = (bytearray(head + old), b"")
    return join(messages)
