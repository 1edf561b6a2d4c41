"""A bad network in front of a UDP server: datagrams get lost, doubled, late and overtaken. Seeded."""

import heapq
import itertools
import random
import selectors
import socket
import threading
import time

HOST = "127.0.0.1"


class BadNetwork:
    """Hands on datagrams between clients and a server on loopback. A context manager.

    Parameters
    ----------
    port
        Where the server listens.
    lost, doubled, late
        Shares of datagrams, in each direction. A late one comes up to 30 ms later than those behind it.

    Attributes: `largest`, bytes of the largest datagram so far; `lose_next`, a function that may be given to
    say of each content whether it gets lost.
    """

    def __init__(self, port, *, lost=0.0, doubled=0.0, late=0.0, seed=0):
        self._server = (HOST, port)
        self._lost, self._doubled, self._late = lost, doubled, late
        self._random = random.Random(seed)
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind((HOST, 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._front, selectors.EVENT_READ)
        self._upstream = {}
        self._waiting, self._count = [], itertools.count()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="bad-network", daemon=True)
        self.largest = 0
        self.lose_next = None

    @property
    def address(self):
        """Where clients send to."""
        return f"udp://{HOST}:{self._front.getsockname()[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._stop = True
        self._thread.join()
        for each in (self._front, *self._upstream.values(), self._selector):
            each.close()

    def _run(self):
        while not self._stop:
            wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else 0.02
            for key, _ in self._selector.select(min(wait, 0.02)):
                if key.fileobj is self._front:
                    content, client = self._front.recvfrom(1 << 16)
                    self._plan(content, self._to_server(client).send)
                else:
                    try:
                        content = key.fileobj.recv(1 << 16)
                    except ConnectionError:
                        continue
                    client = key.data
                    self._plan(content, lambda content, client=client: self._front.sendto(content, client))
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, content, send = heapq.heappop(self._waiting)
                try:
                    send(content)
                except ConnectionError:
                    continue

    def _to_server(self, client):
        if client not in self._upstream:
            upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            upstream.connect(self._server)
            self._selector.register(upstream, selectors.EVENT_READ, client)
            self._upstream[client] = upstream
        return self._upstream[client]

    def _plan(self, content, send):
        self.largest = max(self.largest, len(content))
        if (self.lose_next and self.lose_next(content)) or self._random.random() < self._lost:
            return
        for _ in range(2 if self._random.random() < self._doubled else 1):
            delay = self._random.uniform(0, 0.03) if self._random.random() < self._late else 0.0
            heapq.heappush(self._waiting, (time.monotonic() + delay, next(self._count), content, send))
