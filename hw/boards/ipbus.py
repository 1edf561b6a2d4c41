"""A board that implements lumiwatch's register map, reached over IPbus.

Refuses to know whether it is hardware or emulated, and which package is good for it.
"""

from __future__ import annotations

import numpy as np

from hw.boards.bus import NO_WORDS, Access, Words
from hw.boards.register_board import RegisterBoard
from hw.ipbus import Request
from hw.ipbus_client import IPbusClient, read, read_fifo, write, write_fifo


class IPbusBus:
    """Registers behind IPbus.

    Parameters
    ----------
    address
        `host:port`, `tcp://host:port` or `udp://host:port`.
    timeout_s
        Longest time to wait for an answer.
    """

    def __init__(self, address: str, *, timeout_s: float) -> None:
        self._client = IPbusClient(address, timeout_s=timeout_s)

    @property
    def address(self) -> str:
        """Where the board is."""
        return self._client.address

    def run(self, *accesses: Access) -> list[Words]:
        """Do accesses in order, all of them under way at once, and give what each of them read."""
        requests = [_requests(access) for access in accesses]
        replies = iter(self._client.dispatch([request for each in requests for request in each]))
        return [np.concatenate([NO_WORDS, *(next(replies).words for _ in each)]) for each in requests]

    def close(self) -> None:
        """End the connection; the next call connects again."""
        self._client.close()


class IPbusBoard(RegisterBoard):
    """A board behind IPbus.

    Parameters
    ----------
    address
        `host:port` or `tcp://host:port`; `udp://host:port` for a board that has no other client.
    timeout_s
        Longest time to wait for an answer.

    Examples
    --------
    >>> board = IPbusBoard("127.0.0.1:50001")  # doctest: +SKIP
    >>> board.identify().package_id  # doctest: +SKIP
    """

    def __init__(self, address: str, *, timeout_s: float = 5.0) -> None:
        super().__init__(IPbusBus(address, timeout_s=timeout_s), timeout_s=timeout_s)


def _requests(access: Access) -> list[Request]:
    if access.count:
        return (read_fifo if access.fifo else read)(access.address, access.count)
    return (write_fifo if access.fifo else write)(access.address, access.words)
