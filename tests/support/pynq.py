"""A fake of the package `pynq`: overlays and windows on registers, with the emulated device as the fabric.

A bitstream is a file that names a package and, for a partial one, a partition; the device computes with the
images of that package.
"""

from pathlib import Path

import numpy as np

from hw.boards.device import BusError, Device
from hw.package import board_content, read_board_content
from hw.registers import Register

BASE, RANGE = 0x4000_0000, 0x100_0000
_FIFOS = {Register.EVENT_IN, Register.EVENT_OUT, Register.BOOT_DATA}


def bitstreams(name, *partitions):
    """Give the bitstreams of a package as artefacts; the content of each is a name."""
    return {
        f"bitstreams/{part}{suffix}": f"{name} {part} {suffix}".encode()
        for part in ("full", *partitions)
        for suffix in (".bit", ".hwh")
    }


class FakePynq:
    """Stands for the package on a board of its own.

    Parameters
    ----------
    packages
        By the name that their bitstreams hold.
    trusted
        The trusted keys.
    """

    def __init__(self, packages, trusted):
        self.packages, self.trusted = packages, trusted
        self.device, self.package = None, None
        self.downloads = []

    def Overlay(self, bitfile_name):  # noqa: N802 - PYNQ's own name
        return _Overlay(self, bitfile_name)

    def MMIO(self, base_addr, length):  # noqa: N802 - PYNQ's own name
        assert (base_addr, length) == (BASE, RANGE)
        return _Mmio(self)

    def configure(self, path, partition=None):
        """Make the fabric what a bitstream says; its memory holds another package's weights then."""
        name, part, _ = Path(path).read_text().split()
        if not Path(path).with_suffix(".hwh").exists():
            raise RuntimeError("no description")
        if part != (partition or "full"):
            raise RuntimeError(f"{part} does not fit into {partition}")
        wanted = self.packages[name]
        if partition is not None:
            content = board_content(wanted, {partition})
            wanted = read_board_content(content, self.trusted, installed=self.package)
        self.device, self.package = Device(wanted, self.trusted), wanted
        for bank in self.device._fabric.banks:
            bank[:] = 0
        self.downloads.append((name, part))


class _Overlay:
    def __init__(self, pynq, bitfile_name):
        self._pynq = pynq
        self._pynq.configure(bitfile_name)
        self.ip_dict = {"lumiwatch_0": {"phys_addr": BASE, "addr_range": RANGE, "type": "lumiwatch"}}

    def pr_download(self, partial_region, partial_bit):
        self._pynq.configure(partial_bit, partial_region)


class _Mmio:
    def __init__(self, pynq):
        self._pynq = pynq

    def read(self, offset):
        return int(self._do("read", offset, 1)[0])

    def write(self, offset, data):
        self._do("write", offset, np.array([data], np.uint32))

    def _do(self, what, offset, argument):
        assert offset % 4 == 0
        assert offset < RANGE
        address = offset // 4
        method = f"{what}_fifo" if address in _FIFOS else what
        try:
            return getattr(self._pynq.device, method)(address, argument)
        except BusError as error:
            raise OSError(14, "bus error") from error
