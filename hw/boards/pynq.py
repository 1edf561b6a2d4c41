"""A PYNQ board: the register map behind AXI, bitstreams through PYNQ's own Overlay. Runs on the board itself.

The package says by sha256 which bitstreams belong to it; their files lie on the board, where
`install_bitstreams` puts them. Nothing is downloaded before the package's signature and every file it needs
have been checked. Refuses to know what the firmware computes, and imports PYNQ only when a board is opened.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from hw.archive import write_atomically
from hw.board import BoardIdentity
from hw.boards.bus import NO_WORDS, Access, Words
from hw.boards.register_board import RegisterBoard
from hw.errors import BoardError, BoardRefused, BoardUnreachable, PackageError
from hw.package import Package, read_board_content
from hw.signing import TrustedKey

_WORD_BYTES = 4
_FULL = "full"
_ARTEFACTS, _BITSTREAMS = "artefacts/", "bitstreams/"
_SUFFIXES = (".bit", ".hwh")
_FAILURES = (OSError, ValueError, MemoryError, RuntimeError)
"""What PYNQ raises when an access or a download does not work."""


class Mmio(Protocol):
    """PYNQ's window on the registers; offsets are in bytes."""

    def read(self, offset: int) -> int:
        """Read a 32-bit word."""
        ...

    def write(self, offset: int, data: int) -> None:
        """Write a 32-bit word."""
        ...


class Overlay(Protocol):
    """PYNQ's handle of a bitstream that has been downloaded."""

    ip_dict: Mapping[str, Mapping[str, Any]]

    def pr_download(self, partial_region: str, partial_bit: str) -> None:
        """Replace the content of one region."""
        ...


class Pynq(Protocol):
    """The part of the package `pynq` that is used."""

    def Overlay(self, bitfile_name: str) -> Overlay:  # noqa: N802 - PYNQ's own name
        """Download a bitstream."""
        ...

    def MMIO(self, base_addr: int, length: int) -> Mmio:  # noqa: N802 - PYNQ's own name
        """Open a window."""
        ...


def find_pynq() -> Pynq:
    """Give the package `pynq`.

    Raises
    ------
    BoardUnreachable
        When it is not there: this is no PYNQ board.
    """
    try:
        return cast("Pynq", importlib.import_module("pynq"))
    except ImportError as error:
        raise BoardUnreachable(
            f"a PYNQ board is reached from its own Linux only, and pynq is not here ({error}): run lumiwatch "
            "on the board, whose image brings pynq, or use the board over IPbus"
        ) from error


class MmioBus:
    """Registers behind AXI.

    Parameters
    ----------
    address
        Where the board is, for people.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._mmio: Mmio | None = None

    def open(self, mmio: Mmio) -> None:
        """Use another window from now on."""
        self._mmio = mmio

    def run(self, *accesses: Access) -> list[Words]:
        """Do accesses in order, word by word, and give what each of them read."""
        if self._mmio is None:
            raise BoardUnreachable(f"board at {self.address} has no firmware yet: boot a package")
        try:
            return [_access(self._mmio, access) for access in accesses]
        except _FAILURES as error:
            raise BoardError(
                f"board at {self.address}: an access failed ({error}): check the overlay's register map"
            ) from error

    def close(self) -> None:
        """End nothing: the window belongs to the overlay."""


class PynqBoard(RegisterBoard):
    """A PYNQ board, on which this process runs.

    Parameters
    ----------
    block
        Name of the IP block with the register map, as in the overlay's `ip_dict`.
    bitstreams
        Folder with the bitstreams of packages, from `install_bitstreams`.
    trusted_keys
        Whose packages are booted.
    package
        What runs, or is to run: its bitstream is downloaded, as it is not known what the fabric holds.
    pynq
        PYNQ itself; left out, the installed package.
    timeout_s
        Longest time to wait for answers to events.

    Raises
    ------
    BoardUnreachable
        When this is no PYNQ board.
    BoardRefused
        When the package has no bitstream here.
    """

    def __init__(
        self,
        block: str,
        bitstreams: Path,
        trusted_keys: Sequence[TrustedKey],
        package: bytes,
        *,
        pynq: Pynq | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._mmio_bus = MmioBus(f"pynq://{block}")
        super().__init__(self._mmio_bus, timeout_s=timeout_s)
        self._block = block
        self._bitstreams = bitstreams
        self._trusted_keys = tuple(trusted_keys)
        self._pynq = pynq or find_pynq()
        self._installed = self._read_package(package, None)
        self._overlay = self._download(self._installed)
        self._load(self._installed)

    def boot(self, package: bytes) -> BoardIdentity:
        """Download a package's whole bitstream and load its weights.

        Raises
        ------
        BoardRefused
            When the package or its bitstream may not be used; the old firmware runs on.
        BoardError
            When the download fails: boot a package that is known to be good.
        """
        with self.exclusive():
            wanted = self._read_package(package, None)
            self._bitfile(wanted, _FULL, wanted.manifest.structure_hash)
            self._overlay = self._download(wanted)
            self._installed = wanted
            return self._load(wanted)

    def replace(self, package: bytes) -> BoardIdentity:
        """Download the partial bitstreams of the partitions that changed, then load the weights.

        Raises
        ------
        BoardRefused
            When the package or a bitstream may not be used; the old partitions run on.
        BoardError
            When a download fails: boot a package that is known to be good.
        """
        with self.exclusive():
            wanted = self._read_package(package, self._installed)
            if wanted.manifest.shell_hash != self._installed.manifest.shell_hash:
                raise BoardRefused(
                    f"board at {self.address} runs another static part: replace the whole firmware instead"
                )
            entries = zip(wanted.manifest.partitions, self._installed.manifest.partitions, strict=True)
            changed = [new for new, old in entries if new.structure_hash != old.structure_hash]
            files = [
                (entry.name, self._bitfile(wanted, entry.name, entry.structure_hash)) for entry in changed
            ]
            try:
                for name, path in files:
                    self._overlay.pr_download(name, str(path))
            except _FAILURES as error:
                raise self._broken(error) from error
            self._installed = wanted
            return self._load(wanted)

    def _read_package(self, content: bytes, installed: Package | None) -> Package:
        try:
            return read_board_content(content, self._trusted_keys, installed=installed)
        except PackageError as error:
            raise BoardRefused(f"board at {self.address} refused the package: {error}") from error

    def _download(self, package: Package) -> Overlay:
        path = self._bitfile(package, _FULL, package.manifest.structure_hash)
        try:
            overlay = self._pynq.Overlay(str(path))
            block = overlay.ip_dict[self._block]
            self._mmio_bus.open(self._pynq.MMIO(int(block["phys_addr"]), int(block["addr_range"])))
        except KeyError as error:
            raise BoardError(
                f"board at {self.address}: the overlay has no block {error}: name that of the register map"
            ) from error
        except _FAILURES as error:
            raise self._broken(error) from error
        return overlay

    def _load(self, package: Package) -> BoardIdentity:
        """Give fresh fabric its weights: what its memory holds after a download is not the package's."""
        structure, words = package.manifest.structure_hash, package.model.memory()
        with self.exclusive():
            if self.identify().structure_hash != structure:
                raise BoardError(
                    f"board at {self.address}: the bitstream lacks structure {structure[:12]}: build it again"
                )
            self.load_inactive(words)
            return self.switch(
                structure_hash=structure, weights_hash=package.manifest.weights_hash, package_id=package.id
            )

    def _bitfile(self, package: Package, name: str, structure_hash: str) -> Path:
        """Give a bitstream's file after comparing it, and its description, with the signed manifest."""
        for suffix in _SUFFIXES:
            digest = package.manifest.files.get(_artefact(name, suffix))
            path = self._bitstreams / f"{structure_hash}{suffix}"
            if digest is None:
                raise BoardRefused(
                    f"package {package.short_id} has no {_BITSTREAMS}{name}{suffix}: build it for PYNQ"
                )
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise BoardRefused(
                    f"{path} is missing or not the one of package {package.short_id}: install its bitstreams"
                )
        return self._bitstreams / f"{structure_hash}.bit"

    def _broken(self, error: BaseException) -> BoardError:
        return BoardError(
            f"board at {self.address}: a download failed ({error}): boot a package that is known to be good"
        )


def install_bitstreams(package: Package, folder: Path) -> list[Path]:
    """Write a package's bitstreams where `PynqBoard` looks for them.

    Parameters
    ----------
    package
        A whole package; its artefacts `bitstreams/full.bit` and `bitstreams/<partition>.bit`, each with its
        description `.hwh`, are written.
    folder
        On the board; made when missing.

    Returns
    -------
    list of pathlib.Path
        What was written.
    """
    names = {_FULL: package.manifest.structure_hash}
    names |= {entry.name: entry.structure_hash for entry in package.manifest.partitions}
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, structure_hash in names.items():
        for suffix in _SUFFIXES:
            content = package.artefacts.get(f"{_BITSTREAMS}{name}{suffix}")
            if content is not None:
                written.append(folder / f"{structure_hash}{suffix}")
                write_atomically(written[-1], content)
    return written


def _artefact(name: str, suffix: str) -> str:
    return f"{_ARTEFACTS}{_BITSTREAMS}{name}{suffix}"


def _access(mmio: Mmio, access: Access) -> Words:
    count = access.count or len(access.words)
    offsets = [_WORD_BYTES * (access.address + (0 if access.fifo else index)) for index in range(count)]
    if access.count:
        return np.array([mmio.read(offset) for offset in offsets], dtype=np.uint32)
    for offset, word in zip(offsets, access.words.tolist(), strict=True):
        mmio.write(offset, word)
    return NO_WORDS
