import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.errors import ProtocolError
from hw.ipbus import PacketKind, decode_requests
from hw.ipbus_status import (
    Status,
    decode_status,
    encode_resend_request,
    encode_status,
    encode_status_request,
    packet_id_after,
    packets_between,
)

packet_ids = st.integers(1, 65535)


def test_the_packets_look_as_the_protocol_says():
    assert encode_status_request() == bytes.fromhex("200000f1") + bytes(60)
    assert encode_resend_request(0x1234) == bytes.fromhex("201234f2")
    content = encode_status(Status(1472, 16, 3, tuple(range(16)), (1, 2, 3, 4), (5, 6, 7, 8)))
    words = [f"{word:08x}" for word in np.frombuffer(content, ">u4")]
    assert words[:4] == ["200000f1", "000005c0", "00000010", "200003f0"]
    assert words[4:8] == ["00010203", "04050607", "08090a0b", "0c0d0e0f"]
    assert [int(word, 16) for word in words[8:]] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_status_survives_the_wire_in_both_byte_orders():
    status = Status(1472, 16, 65535, tuple(range(16)), (0, 0, 0, 0x200001F0), (0, 0, 7, 0x200001F0))
    assert decode_requests(encode_status_request()).kind is PacketKind.STATUS
    for little_endian in (False, True):
        assert decode_status(encode_status(status, little_endian=little_endian)) == status
    with pytest.raises(ProtocolError, match="status"):
        decode_status(encode_status(status)[:-4])
    with pytest.raises(ProtocolError, match="status"):
        decode_status(bytes.fromhex("200000f0") + bytes(60))


def test_ids_go_round_without_zero():
    assert [packet_id_after(1), packet_id_after(65534), packet_id_after(65535)] == [2, 65535, 1]
    assert packets_between(65534, 2) == 3


@given(first=packet_ids, steps=st.integers(0, 40))
def test_steps_on_the_ring_are_counted(first, steps):
    last = first
    for _ in range(steps):
        last = packet_id_after(last)
    assert packets_between(first, last) == steps
