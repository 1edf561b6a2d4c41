from hw.boards.packet_order import PacketOrder


def test_only_the_next_packet_is_accepted_and_zero_always():
    order = PacketOrder(1472, 16)
    assert order.status().next_packet_id == 1
    assert [order.accept(packet_id) for packet_id in (2, 1, 1, 0, 3, 2, 0)] == [
        False, True, False, True, False, True, True,
    ]  # fmt: skip
    assert order.status().next_packet_id == 3


def test_after_the_last_id_comes_one():
    order = PacketOrder(1472, 16)
    assert all(order.accept(packet_id) for packet_id in range(1, 65536))
    assert order.status().next_packet_id == 1
    assert order.accept(1)


def test_the_last_replies_can_be_had_again_and_no_others():
    order = PacketOrder(1472, 2)
    for packet_id in (1, 2, 3):
        assert order.accept(packet_id)
        order.replied(packet_id, b"reply %d" % packet_id)
    order.accept(0)
    order.replied(0, b"nobody asks for this")
    assert [order.resend(packet_id) for packet_id in (0, 1, 2, 3, 4)] == [
        None, None, b"reply 2", b"reply 3", None,
    ]  # fmt: skip


def test_the_status_tells_what_came_and_went():
    order = PacketOrder(1472, 16)
    order.accept(5)
    order.accept(1)
    order.replied(1, b"reply")
    order.resend(1)
    order.resend(9)
    order.refused()
    status = order.status()
    assert (status.mtu_bytes, status.buffers) == (1472, 16)
    assert status.traffic == (0,) * 10 + (0x42, 0x02, 0x04, 0x44, 0x45, 0x03)
    assert status.received == (0, 0, 0, 0x200001F0)
    assert status.sent == (0, 0, 0, 0x200001F0)
