"""The CRC-32 of two pieces put together, from those of the pieces. Knows no file.

A CRC-32 is the remainder of the message, read as a polynomial over GF(2), by a fixed polynomial of degree
32. Putting n bytes behind a message multiplies it by ``x**(8 n)``, so the remainder of the whole follows
from the two remainders and n alone: what was summed while it was written need not be read again.
"""

from typing import Final

_POLYNOMIAL: Final = 0xEDB88320
"""That of ISO 3309 (zip, zlib, PNG), lowest power in the highest bit; ``x**32`` is left out."""
_ONE: Final = 1 << 31
_X: Final = 1 << 30


def crc32_of_both(first: int, second: int, n_bytes: int) -> int:
    """Return the CRC-32 of two pieces one behind the other.

    Parameters
    ----------
    first, second
        Of the pieces, as `zlib.crc32` gives them.
    n_bytes
        Length of the second piece.
    """
    return _product(first, _power_of_x(8 * n_bytes)) ^ second


def _product(one: int, two: int) -> int:
    """Multiply two polynomials modulo the fixed one."""
    result = 0
    while one:
        if one & _ONE:
            result ^= two
        one = (one << 1) & 0xFFFFFFFF
        two = two >> 1 ^ (_POLYNOMIAL if two & 1 else 0)
    return result


def _power_of_x(exponent: int) -> int:
    """Return ``x**exponent`` modulo the fixed polynomial, by repeated squaring."""
    result, square = _ONE, _X
    while exponent:
        if exponent & 1:
            result = _product(result, square)
        square = _product(square, square)
        exponent >>= 1
    return result
