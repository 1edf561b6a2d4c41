"""How much memory the embedded broker may take. Loads no client of it."""

import os
from typing import Final

DEFAULT_LIMIT_BYTES: Final = 1 << 30
SMALLEST_LIMIT_BYTES: Final = 16 << 20


def default_limit_bytes() -> int:
    """Return 1 GiB, or an eighth of this machine's memory if that is less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return DEFAULT_LIMIT_BYTES
    return max(SMALLEST_LIMIT_BYTES, min(DEFAULT_LIMIT_BYTES, memory // 8))
