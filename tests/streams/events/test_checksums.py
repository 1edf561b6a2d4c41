"""The checksum of two pieces is that of the whole."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from streams.events.checksums import crc32_of_both


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_checksum_of_both_is_that_of_the_whole(first, second):
    both = crc32_of_both(zlib.crc32(first), zlib.crc32(second), len(second))
    assert both == zlib.crc32(first + second)


def test_long_pieces_too():
    second = bytes(range(256)) * 40_000
    assert crc32_of_both(zlib.crc32(b"head"), zlib.crc32(second), len(second)) == zlib.crc32(b"head" + second)
