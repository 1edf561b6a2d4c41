"""What an emulated board computes with: the images of one package, two weight banks and who they belong to.

Refuses to know registers, locks and flash.
"""

from __future__ import annotations

import hashlib
import logging
import random
import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.chain import ImageChain
from hw.errors import ImageError, OffGridError
from hw.package import Package
from hw.registers import MAXIMUM_PARTITIONS, Result

_log = logging.getLogger(__name__)

_WORD_BITS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """All that a board needs to compute the same again after a loss of power.

    Parameters
    ----------
    package
        The firmware: images and structure.
    bank
        The weights, int32, (n_words,).
    package_id, weights_hash
        The package that the weights are from, and their sha256.
    """

    package: Package
    bank: npt.NDArray[np.int32] = field(repr=False)
    package_id: str
    weights_hash: str

    @classmethod
    def of(cls, package: Package) -> Configuration:
        """Give a package as it was built."""
        return cls(package, package.model.memory(), package.id, package.model.weights_hash)


class Fabric:
    """The running firmware. It starts with both banks alike and bank 0 active.

    Parameters
    ----------
    configuration
        What it starts with.

    Raises
    ------
    ImageError
        When an image does not run here.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.package = configuration.package
        self.model = configuration.package.model
        if len(self.model.partitions()) > MAXIMUM_PARTITIONS:
            raise ImageError(f"the board has room for {MAXIMUM_PARTITIONS} partitions: use fewer")
        self._images = ImageChain.from_bytes(self.package.images, self.model)
        self.banks = [configuration.bank.copy(), configuration.bank.copy()]
        self.identities = [(configuration.package_id, configuration.weights_hash)] * 2
        self.active = 0

    def run(self, inputs: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Score int16 events (n, n_inputs) with the active bank: int64 scores and bool decisions."""
        return self._images.run(inputs, self.banks[self.active])

    def switch(self, *, structure_hash: str, weights_hash: str, package_id: str, crc: int) -> Result:
        """Make the inactive bank the active one, if it is what is asked for."""
        bank = self.banks[1 - self.active]
        if structure_hash != self.model.structure_hash:
            return Result.WRONG_STRUCTURE
        if zlib.crc32(bank.astype(">i4").tobytes()) != crc or hash_of_bank(bank) != weights_hash:
            return Result.BAD_CHECKSUM
        try:
            self.model.with_memory(bank)
        except OffGridError as error:
            _log.warning("%s", error)
            return Result.OFF_GRID
        self.active = 1 - self.active
        self.identities[self.active] = (package_id, weights_hash)
        return Result.DONE

    def configuration(self) -> Configuration | None:
        """Give what runs; nothing when the active bank no longer holds what was switched to."""
        bank = self.banks[self.active]
        package_id, weights_hash = self.identities[self.active]
        if hash_of_bank(bank) != weights_hash:
            return None
        return Configuration(self.package, bank.copy(), package_id, weights_hash)

    def proves_itself(self) -> bool:
        """Whether the golden vectors come out as they must; for a package that runs as it was built."""
        scores, accepts = self.run(self.package.golden_inputs)
        expected = self.package.golden_scores
        return bool(
            np.array_equal(scores, expected) and np.array_equal(accepts, expected > self.model.threshold_raw)
        )

    def flip_bit(self, choice: random.Random) -> None:
        """Flip one bit of one bank, as radiation does."""
        bank = self.banks[choice.randrange(2)]
        if not len(bank):
            return
        place, bit = choice.randrange(len(bank)), choice.randrange(_WORD_BITS)
        bank.view(np.uint32)[place] ^= np.uint32(1 << bit)
        _log.warning("fault: bit %d of word %d flipped", bit, place)


def hash_of_bank(bank: npt.NDArray[np.int32]) -> str:
    """Give the sha256 of a bank's words, least significant byte first, in hex."""
    return hashlib.sha256(bank.astype("<i4").tobytes()).hexdigest()
