import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.errors import ProtocolError
from hw.ipbus import MAXIMUM_TRANSACTIONS, Info, Kind, Reply, Request
from hw.ipbus_packing import pack, unpack

requests = st.lists(
    st.one_of(
        st.builds(
            Request,
            st.sampled_from([Kind.READ, Kind.READ_FIFO]),
            st.integers(0, 999),
            count=st.integers(1, 255),
        ),
        st.builds(
            Request,
            st.sampled_from([Kind.WRITE, Kind.WRITE_FIFO]),
            st.integers(0, 999),
            st.integers(1, 255).map(lambda count: np.arange(count, dtype=np.uint32)),
        ),
        st.builds(Request, st.just(Kind.RMW_BITS), st.just(7), st.just(np.ones(2, np.uint32))),
    ),
    max_size=12,
)


def touched(request):
    """Say what a request does, word by word."""
    moves = request.kind in (Kind.READ, Kind.WRITE)
    count = request.count or len(request.words)
    words = request.words.tolist() or [None] * count
    return [(request.kind, request.address + index * moves, word) for index, word in enumerate(words)]


@given(asked=requests, mtu_bytes=st.sampled_from([32, 64, 1472, 65536]))
def test_every_packet_fits_both_ways_and_nothing_is_lost_or_reordered(asked, mtu_bytes):
    packets = list(pack(asked, mtu_bytes))
    for packet in packets:
        assert 4 * (1 + sum(request.wire_words for request in packet.requests)) <= mtu_bytes
        assert 4 * (1 + sum(request.reply_words for request in packet.requests)) <= mtu_bytes
    sent = [word for packet in packets for request in packet.requests for word in touched(request)]
    assert sent == [word for request in asked for word in touched(request)]


@given(asked=requests)
def test_a_request_that_fits_stays_one_transaction(asked):
    assert sum(len(packet.requests) for packet in pack(asked, 1472)) == len(asked)


def test_the_replies_of_a_cut_request_are_one_again_with_its_first_failure():
    asked = [Request(Kind.READ, 100, count=10), Request(Kind.READ, 0, count=1)]
    packets = list(pack(asked, 32))
    assert [[(r.address, r.count) for r in packet.requests] for packet in packets] == [
        [(100, 5)],
        [(105, 5)],
        [(0, 1)],
    ]

    def reply(request, info=Info.OK):
        words = np.arange(request.address, request.address + request.count, dtype=np.uint32)
        return Reply(request.kind, info, words, request.count)

    answered = [(packet, [reply(request) for request in packet.requests]) for packet in packets]
    whole, single = unpack(asked, answered)
    assert (whole.words.tolist(), whole.count, single.words.tolist()) == (list(range(100, 110)), 10, [0])
    answered[1] = (packets[1], [reply(packets[1].requests[0], Info.READ_ERROR)])
    assert unpack(asked, answered)[0].info is Info.READ_ERROR


def test_transaction_ids_are_not_used_twice_in_a_packet():
    asked = [Request(Kind.READ, 0, count=1)] * (MAXIMUM_TRANSACTIONS + 1)
    assert [len(packet.requests) for packet in pack(asked, 1 << 16)] == [MAXIMUM_TRANSACTIONS, 1]


def test_a_board_that_takes_next_to_nothing_is_refused():
    with pytest.raises(ProtocolError, match="packets of 28 bytes"):
        list(pack([Request(Kind.READ, 0, count=1)], 28))
