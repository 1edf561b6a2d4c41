"""Boards that something happens to in the middle of an access: around the real device and the real server.

The device computes and refuses as ever; the fault is a fake and falls on a numbered access, so that it can be
repeated.
"""

import os
import random
import signal
import time
from contextlib import contextmanager

from hw.boards.device import LEASE_S, Device
from hw.boards.flash import Flash
from hw.boards.ipbus import IPbusBus
from hw.boards.server import BoardServer


class Clock:
    """Monotonic seconds that a test can let pass."""

    def __init__(self):
        self._passed = 0.0

    def __call__(self):
        return time.monotonic() + self._passed

    def outlast_leases(self):
        self._passed += LEASE_S


class FragileDevice:
    """A device to which `fault` happens right before its access number `at`, the first being 1."""

    def __init__(self, device):
        self.device = device
        self.accesses = 0
        self.at, self.fault = 0, None

    def happen(self, at, fault):
        """Plan a fault, counting from now on."""
        self.accesses, self.at, self.fault = 0, at, fault

    def read(self, address, count):
        return self._access(self.device.read, address, count)

    def read_fifo(self, address, count):
        return self._access(self.device.read_fifo, address, count)

    def write(self, address, words):
        self._access(self.device.write, address, words)

    def write_fifo(self, address, words):
        self._access(self.device.write_fifo, address, words)

    def flip_bit(self, choice):
        self.device.flip_bit(choice)

    def _access(self, method, *arguments):
        self.accesses += 1
        if self.accesses == self.at:
            self.fault()
        return method(*arguments)


class FragileBoard:
    """A board with a flash in this process, whose server a test can end and start again.

    Usable in a `with` statement.
    """

    def __init__(self, packages, flash, **options):
        self._packages, self._flash, self._options = packages, Flash(flash), options
        self.clock = Clock()
        self._start()

    @property
    def address(self):
        return self.server.address

    @property
    def udp_address(self):
        return self.server.udp_address

    def happen(self, at, fault):
        """Let a fault happen at an access: `cut`, `flip`, `slow` or `power`."""
        self.device.happen(at, getattr(self, f"_{fault}"))

    def restart(self):
        """Give power again: the device forgets everything and starts with its flash."""
        self.server.close()
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.server.close()

    def _start(self):
        device = Device(self._packages.first, self._packages.trusted, clock=self.clock, flash=self._flash)
        self.device = FragileDevice(device)
        self.server = BoardServer(self.device, **self._options)

    def _cut(self):
        self.server.disconnect()

    def _flip(self):
        self.device.flip_bit(random.Random(self.device.at))

    def _slow(self):
        time.sleep(0.08)

    def _power(self):
        self.device.happen(1, self._off)
        self._off()

    def _off(self):
        self.device.accesses = 0
        self.server.disconnect()
        raise ConnectionAbortedError  # ends the connection without an answer


@contextmanager
def killed_client(at):
    """Kill the process that works with a board at its access number `at`; for a fork."""
    run, calls = IPbusBus.run, 0

    def counted(bus, *accesses):
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return run(bus, *accesses)

    IPbusBus.run = counted
    try:
        yield
    finally:
        IPbusBus.run = run
