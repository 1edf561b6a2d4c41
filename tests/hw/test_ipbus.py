from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.errors import ProtocolError
from hw.ipbus import (
    Info,
    Kind,
    PacketKind,
    Reply,
    Request,
    decode_replies,
    decode_requests,
    encode_replies,
    encode_requests,
)

word = st.integers(0, 2**32 - 1)
words = st.lists(word, min_size=1, max_size=255).map(lambda values: np.array(values, dtype=np.uint32))
requests = st.lists(
    st.one_of(
        st.builds(Request, st.sampled_from([Kind.READ, Kind.READ_FIFO]), word, count=st.integers(1, 255)),
        st.builds(Request, st.sampled_from([Kind.WRITE, Kind.WRITE_FIFO]), word, words),
        st.builds(Request, st.just(Kind.RMW_SUM), word, words.map(lambda values: values[:1])),
        st.builds(Request, st.just(Kind.RMW_BITS), word, words.map(lambda v: np.resize(v, 2))),
    ),
    max_size=6,
)


def same(one, other):
    return (one.kind, one.address, one.count, one.words.tolist()) == (
        other.kind, other.address, other.count, other.words.tolist(),
    )  # fmt: skip


def hexadecimal(content):
    return " ".join(f"{value:08x}" for value in np.frombuffer(content, ">u4"))


def test_a_read_and_a_write_look_as_the_protocol_says():
    data = np.array([0xCAFE], dtype=np.uint32)
    packet = encode_requests(7, [Request(Kind.READ, 0x10, count=3), Request(Kind.WRITE, 0x20, data)])
    assert hexadecimal(packet) == "200007f0 2000030f 00000010 2001011f 00000020 0000cafe"
    read = np.array([1, 2, 3], dtype=np.uint32)
    answer = encode_replies(
        decode_requests(packet), [Reply(Kind.READ, Info.OK, read, 3), Reply(Kind.WRITE, Info.OK, count=1)]
    )
    assert hexadecimal(answer) == "200007f0 20000300 00000001 00000002 00000003 20010110"


def test_a_reply_carries_the_number_its_request_had():
    packet = decode_requests(bytes.fromhex("200000f0 2abc010f 00000010"))
    answer = encode_replies(packet, [Reply(Kind.READ, Info.OK, np.array([5], np.uint32), 1)])
    assert hexadecimal(answer) == "200000f0 2abc0100 00000005"


@given(packet_id=st.integers(0, 65535), asked=requests)
def test_requests_survive_the_wire_in_both_byte_orders(packet_id, asked):
    content = encode_requests(packet_id, asked)
    for little_endian in (False, True):
        wire = np.frombuffer(content, ">u4").astype("<u4").tobytes() if little_endian else content
        packet = decode_requests(wire)
        assert (packet.packet_id, packet.kind, packet.bad_header) == (packet_id, PacketKind.CONTROL, False)
        assert packet.little_endian is little_endian
        assert len(packet.requests) == len(asked)
        assert all(same(one, other) for one, other in zip(packet.requests, asked, strict=True))


@given(content=st.binary(max_size=200))
def test_any_bytes_are_requests_or_a_protocol_error(content):
    with suppress(ProtocolError):
        decode_requests(content)


@given(content=st.binary(max_size=200))
def test_any_bytes_behind_a_good_header_are_read_without_harm(content):
    packet = decode_requests(b"\x20\x00\x00\xf0" + content[: len(content) // 4 * 4])
    assert packet.bad_header or len(content) < 8 or packet.requests


@given(content=st.binary(max_size=100))
def test_any_bytes_are_replies_or_a_protocol_error(content):
    asked = [Request(Kind.READ, 0, count=2), Request(Kind.READ, 0, count=1)]
    with suppress(ProtocolError):
        assert len(decode_replies(b"\x20\x00\x00\xf0" + content, 0, asked)) == 2


def test_a_wrong_transaction_header_ends_the_packet_and_is_answered():
    good = encode_requests(0, [Request(Kind.READ, 1, count=1)])
    packet = decode_requests(good + bytes.fromhex("1000010f00000000"))
    assert packet.bad_header
    assert len(packet.requests) == 1
    answer = encode_replies(packet, [Reply(Kind.READ, Info.OK, np.array([9], np.uint32), 1)])
    assert hexadecimal(answer) == "200000f0 20000100 00000009 20000001"


def test_transactions_count_on_from_any_number_in_12_bits():
    asked = [Request(Kind.READ, 1, count=1), Request(Kind.READ, 2, count=1)]
    packet = encode_requests(9, asked, first_transaction=0xFFF)
    assert hexadecimal(packet) == "200009f0 2fff010f 00000001 2000010f 00000002"
    answer = encode_replies(
        decode_requests(packet), [Reply(Kind.READ, Info.OK, np.array([n], np.uint32), 1) for n in (5, 6)]
    )
    assert [int(r.words[0]) for r in decode_replies(answer, 9, asked, first_transaction=0xFFF)] == [5, 6]
    with pytest.raises(ProtocolError, match="reconnect"):
        decode_replies(answer, 9, asked, first_transaction=0xFFE)


@pytest.mark.parametrize("count", [0, 256])
def test_more_words_than_a_header_can_say_are_refused(count):
    with pytest.raises(ProtocolError, match="1 to 255"):
        encode_requests(0, [Request(Kind.READ, 0, count=count)])


def test_a_resend_request_names_the_packet_it_asks_about():
    packet = decode_requests(bytes.fromhex("200102f2"))
    assert (packet.kind, packet.packet_id, packet.requests) == (PacketKind.RESEND, 0x0102, ())
    with pytest.raises(ProtocolError, match="no IPbus"):
        decode_requests(bytes.fromhex("200001f3"))
