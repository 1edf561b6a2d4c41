"""A small IPbus 2.0 client: registers and FIFOs of a board by address, many transactions at once.

Refuses to know what the registers mean.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from hw.errors import BoardError, BoardUnreachable
from hw.ipbus import MAXIMUM_COUNT, Info, Kind, Reply, Request, Words
from hw.ipbus_tcp import TcpLink
from hw.ipbus_udp import UdpLink

_ADDRESS = re.compile(r"(?:(?P<transport>tcp|udp)://)?(?P<host>\[[^\]]+\]|[^:/\s\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class BoardAddress:
    """Where a board listens, and how it is spoken to.

    Parameters
    ----------
    transport
        `tcp` or `udp`.
    host
        Name or IP address.
    port
        1 to 65535.
    """

    transport: Literal["tcp", "udp"]
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> BoardAddress:
        """Read `udp://host:port`, `tcp://host:port` or `host:port`, which is TCP.

        Raises
        ------
        BoardUnreachable
            When it is none of them.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise BoardUnreachable(
                f"board address {text!r} is not host:port, tcp://host:port or udp://host:port: "
                "write e.g. 127.0.0.1:50001"
            )
        transport: Literal["tcp", "udp"] = "udp" if found["transport"] == "udp" else "tcp"
        return cls(transport, found["host"].strip("[]"), int(found["port"]))


class Link(Protocol):
    """What carries requests to a board; it raises `OSError` or `EOFError` when the board is silent."""

    def exchange(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests in order and give all replies, which may say that they failed."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def read(address: int, count: int = 1) -> list[Request]:
    """Ask for `count` words from consecutive addresses."""
    return [
        Request(Kind.READ, address + start, count=min(MAXIMUM_COUNT, count - start))
        for start in range(0, count, MAXIMUM_COUNT)
    ]


def read_fifo(address: int, count: int) -> list[Request]:
    """Ask for `count` words from one address."""
    return [
        Request(Kind.READ_FIFO, address, count=min(MAXIMUM_COUNT, count - start))
        for start in range(0, count, MAXIMUM_COUNT)
    ]


def write(address: int, words: Words | int) -> list[Request]:
    """Write words to consecutive addresses."""
    data = np.atleast_1d(np.asarray(words, dtype=np.uint32))
    return [
        Request(Kind.WRITE, address + start, data[start : start + MAXIMUM_COUNT])
        for start in range(0, len(data), MAXIMUM_COUNT)
    ]


def write_fifo(address: int, words: Words) -> list[Request]:
    """Write words to one address."""
    return [
        Request(Kind.WRITE_FIFO, address, words[start : start + MAXIMUM_COUNT])
        for start in range(0, len(words), MAXIMUM_COUNT)
    ]


class IPbusClient:
    """The way to one board. It connects at the first use, and again after a failure; thread-safe.

    Parameters
    ----------
    address
        `host:port` or `tcp://host:port`, or `udp://host:port` for a board that has one client.
    timeout_s
        Longest time to wait for the board at any point.

    Raises
    ------
    BoardUnreachable
        When the address is none.
    """

    def __init__(self, address: str, *, timeout_s: float = 5.0) -> None:
        self.address = address
        self._target = BoardAddress.parse(address)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._link: Link | None = None

    def close(self) -> None:
        """End the connection; the next call connects again."""
        with self._lock:
            self._disconnect()

    def dispatch(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests in order, in as few packets as the board allows, and wait for all answers.

        Raises
        ------
        BoardUnreachable
            When the board does not answer in time.
        BoardBusy
            When another client disturbs the order of packets, which only UDP needs.
        BoardError
            When a transaction fails on the bus.
        ProtocolError
            When the answers are no IPbus 2.0.
        """
        with self._lock:
            try:
                replies = self._connected().exchange(requests)
            except (OSError, EOFError) as error:
                self._disconnect()
                raise BoardUnreachable(
                    f"board at {self.address} does not answer ({error or 'timeout'}): "
                    "check that it is running and that the address is right"
                ) from error
            except BaseException:
                # answers of an exchange that was cut short, by Ctrl-C for instance, are not for later ones
                self._disconnect()
                raise
        for request, reply in zip(requests, replies, strict=True):
            if reply.info is not Info.OK:
                raise BoardError(
                    f"board at {self.address}: {request.kind.name} at {request.address:#x} failed with "
                    f"{reply.info.name}: check that client and firmware use the same register map"
                )
        return replies

    def read(self, address: int, count: int = 1) -> Words:
        """Read `count` words from consecutive addresses: uint32, (count,)."""
        return _joined(self.dispatch(read(address, count)))

    def read_fifo(self, address: int, count: int) -> Words:
        """Read `count` words from one address: uint32, (count,)."""
        return _joined(self.dispatch(read_fifo(address, count)))

    def write(self, address: int, words: Words | int) -> None:
        """Write one word, or words to consecutive addresses."""
        self.dispatch(write(address, words))

    def rmw_bits(self, address: int, and_term: int, or_term: int) -> int:
        """Do `X = (X & and_term) | or_term` in one step and give the old X."""
        terms = np.array([and_term, or_term], dtype=np.uint32)
        return int(self.dispatch([Request(Kind.RMW_BITS, address, terms)])[0].words[0])

    def rmw_sum(self, address: int, addend: int) -> int:
        """Do `X = X + addend`, in 32 bits, in one step and give the old X."""
        term = np.array([addend], dtype=np.uint32)
        return int(self.dispatch([Request(Kind.RMW_SUM, address, term)])[0].words[0])

    def _connected(self) -> Link:
        if self._link is None:
            target = self._target
            if target.transport == "udp":
                self._link = UdpLink(target.host, target.port, self._timeout_s)
            else:
                self._link = TcpLink(target.host, target.port, self._timeout_s)
        return self._link

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _joined(replies: Sequence[Reply]) -> Words:
    return np.concatenate([np.empty(0, np.uint32), *(reply.words for reply in replies)])
