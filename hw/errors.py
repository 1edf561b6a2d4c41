"""What can go wrong between a model and a board: one class per cause a caller can act on.

Every message names the thing and the cure in one line. This module refuses to know how an error is shown.
"""

# The names say what happened (CompilerMissing, PortInUse); the suffix Error is for the base classes.
# ruff: noqa: N818

from __future__ import annotations


class HardwareError(Exception):
    """Base of every error this package raises on purpose."""


class FormatError(HardwareError):
    """A fixed-point format or a conversion between two formats is not possible."""


class ModelError(HardwareError):
    """A firmware model contradicts itself or cannot be read."""


class OffGridError(ModelError):
    """A parameter is outside the fixed-point format the firmware was built for."""


class ToolchainError(HardwareError):
    """A toolchain could not turn a model into an image."""


class CompilerMissing(ToolchainError):
    """No C++ compiler on this machine."""


class ToolchainAbsent(ToolchainError):
    """A tool of a vendor is not on this machine.

    Parameters
    ----------
    message
        What is absent and the cure.
    commands
        What to run where the tool is; the project they need has been written.
    """

    def __init__(self, message: str, commands: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.commands = commands


class ToolchainUnknown(ToolchainError):
    """No toolchain is registered under this name."""


class ImageError(HardwareError):
    """A compiled image cannot be loaded or answered with an error."""


class KeyFileError(HardwareError):
    """A signing or trusted key cannot be read, or its file is not private."""


class PackageError(HardwareError):
    """A firmware package cannot be read or written."""


class PackageMalformed(PackageError):
    """The archive is damaged, incomplete, too large or holds files it must not hold."""


class PackageTampered(PackageError):
    """A file inside the package is not the one that was signed."""


class SignatureUntrusted(PackageError):
    """The package is not signed by a key this site trusts."""


class ShellMismatch(HardwareError):
    """The package was made for another static part (toolchain, device, partition edges) than the board's."""


class StructureMismatch(HardwareError):
    """The package needs another firmware structure than the one on the board."""


class ContractMismatch(HardwareError):
    """The package was made for another input contract than the one expected."""


class BenchNotPassed(HardwareError):
    """The package carries no bit-accurate bench, or one that found differences."""


class BoardError(HardwareError):
    """The board answered, but refused or failed."""


class BoardUnreachable(BoardError):
    """The board does not answer at its address."""


class BoardBusy(BoardError):
    """Another client holds the part of the board that is needed."""


class BoardRefused(BoardError):
    """The board itself refused a command; the old firmware keeps running."""


class GoldenMismatch(BoardError):
    """The board's scores of the golden vectors differ from the package's."""


class ProtocolError(BoardError):
    """Bytes on the wire that are not IPbus 2.0."""


class FlashDamaged(BoardError):
    """What an emulated board should start with cannot be read or is not what was stored."""


class PortInUse(BoardError):
    """The port an emulated board should listen on is taken."""


class JobError(HardwareError):
    """The description of a build or bench job is wrong."""
