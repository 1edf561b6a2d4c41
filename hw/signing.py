"""Ed25519 keys: who may sign a package, and who is trusted to have signed one.

A private key is a PEM file that only its owner may read; a trusted key is a `.pub` PEM file whose stem is its
name. Refuses to know what is signed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hw.archive import write_atomically
from hw.errors import KeyFileError

SIGNATURE_BYTES = 64
_MAXIMUM_KEY_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key and the name it is known by."""

    name: str
    key: Ed25519PublicKey = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the sha256 of the raw public key."""
        raw = self.key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return hashlib.sha256(raw).hexdigest()[:16]

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Say whether `signature` over `content` was made by the owner of this key."""
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    def write(self, path: Path) -> None:
        """Write the public key as PEM, atomically."""
        pem = self.key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_atomically(path, pem)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its name."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)

    @property
    def trusted(self) -> TrustedKey:
        """The public half."""
        return TrustedKey(self.name, self.key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Sign `content`; the same content always gives the same 64 bytes."""
        return self.key.sign(content)


def create_signing_key(path: Path) -> SigningKey:
    """Make a new private key in a new file that only its owner may read (mode 0600).

    Parameters
    ----------
    path
        The file to create, e.g. `signing.key`; its folder must exist.

    Raises
    ------
    KeyFileError
        When the file exists or cannot be written.
    """
    key = SigningKey(path.stem, Ed25519PrivateKey.generate())
    pem = key.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{path} exists: load it, or choose another name for a new key") from error
    except OSError as error:
        raise KeyFileError(f"{path} cannot be created ({error.strerror}): check the folder") from error
    with os.fdopen(handle, "wb") as stream:
        stream.write(pem)
    return key


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key.

    Raises
    ------
    KeyFileError
        When the file is missing, readable by others, or no Ed25519 private key.
    """
    content = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"{path} can be read by others: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path} is no unencrypted PEM private key: create a key with lumiwatch"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is no Ed25519 key: create a key with lumiwatch")
    return SigningKey(path.stem, key)


def load_trusted_key(path: Path) -> TrustedKey:
    """Read a public key.

    Raises
    ------
    KeyFileError
        When the file is missing or no Ed25519 public key.
    """
    try:
        key = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} is no PEM public key: copy the signer's .pub file again") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} is no Ed25519 public key: copy the signer's .pub file again")
    return TrustedKey(path.stem, key)


def load_trusted_keys(folder: Path) -> tuple[TrustedKey, ...]:
    """Read every `*.pub` file of a folder, in order of their names.

    Raises
    ------
    KeyFileError
        When the folder is missing, holds no key, or a file in it is no key.
    """
    if not folder.is_dir():
        raise KeyFileError(f"{folder} is no folder: create it and put the trusted .pub files there")
    keys = tuple(load_trusted_key(path) for path in sorted(folder.glob("*.pub")))
    if not keys:
        raise KeyFileError(
            f"{folder} holds no .pub file: copy the public key of whoever signs packages there"
        )
    return keys


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAXIMUM_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(
            f"{path} cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
