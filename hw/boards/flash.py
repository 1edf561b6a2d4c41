"""What an emulated board starts with after a loss of power: one configuration, replaced as a whole or not.

Refuses to know what a configuration is good for; only proven ones are stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw.archive import unzip_bytes, write_atomically, zip_bytes
from hw.boards.fabric import Configuration, hash_of_bank
from hw.errors import FlashDamaged, OffGridError, PackageError
from hw.package import MAXIMUM_PACKAGE_BYTES, read_board_content
from hw.signing import TrustedKey

_FILE = "configuration.zip"
_PACKAGE, _BANK, _IDENTITY = "package.lwpkg", "bank.bin", "identity.json"
_MAXIMUM_BYTES = 2 * MAXIMUM_PACKAGE_BYTES


class Flash:
    """The flash memory of one board.

    Parameters
    ----------
    folder
        Where it is kept; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _FILE

    def store(self, configuration: Configuration) -> None:
        """Replace what is stored. Whatever happens meanwhile, the old or the new is there, whole.

        Raises
        ------
        OSError
            When it cannot be written; the old one is there.
        """
        content = zip_bytes(
            {
                _PACKAGE: configuration.package.content,
                _BANK: configuration.bank.astype("<i4").tobytes(),
                _IDENTITY: json.dumps(
                    {"package_id": configuration.package_id, "weights_hash": configuration.weights_hash}
                ).encode(),
            }
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.read_bytes() == content:
            return
        write_atomically(self._path, content, mode=0o600)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name survives a loss of power too
        finally:
            os.close(folder)

    def erase(self) -> None:
        """Forget what is stored. Raises `OSError` when that cannot be."""
        self._path.unlink(missing_ok=True)

    def load(self, trusted_keys: Sequence[TrustedKey]) -> Configuration | None:
        """Give what is stored, verified like a package that comes over the wire; None when nothing is.

        Raises
        ------
        FlashDamaged
            When what is stored is not whole, or not signed by a trusted key.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._damaged(error.strerror) from error
        try:
            files = unzip_bytes(content, maximum_bytes=_MAXIMUM_BYTES, maximum_files=3, what=str(self._path))
            package = read_board_content(files[_PACKAGE], trusted_keys)
            bank = np.frombuffer(files[_BANK], dtype="<i4").astype(np.int32)
            identity = json.loads(files[_IDENTITY])
            package_id, weights_hash = str(identity["package_id"]), str(identity["weights_hash"])
            package.model.with_memory(bank)
        except (PackageError, OffGridError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error
        if hash_of_bank(bank) != weights_hash:
            raise self._damaged("the weights are not those that were stored")
        return Configuration(package, bank, package_id, weights_hash)

    def _damaged(self, why: object) -> FlashDamaged:
        return FlashDamaged(
            f"flash {self._folder} cannot be used ({why}): remove {_FILE} there to start with the package"
        )
