"""Secrets in files: made once by this program, or placed by people. Knows not what they open."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from daemon.errors import SettingsError

_SECRET_BYTES = 32
_MINIMUM_LENGTH = 16


def read_or_make_secret(path: Path) -> str:
    """Read a secret of 32 random bytes in hex; make it (mode 0600) when there is none.

    Raises
    ------
    SettingsError
        The file cannot be read or made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(_SECRET_BYTES) + "\n")
        try:
            os.link(temporary, path)  # fails when the secret exists: the first process wins
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: cannot be read or made ({error}); check the rights of state_dir"
        ) from error


def read_private_secret(path: Path, *, key: str) -> str:
    """Read a secret that people have placed.

    Parameters
    ----------
    path
        Nobody but its owner may read it.
    key
        Of lumiwatch.toml, which names the file.

    Raises
    ------
    SettingsError
        The file is missing, readable by others, or too short.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error}); key {key} of lumiwatch.toml names it"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not text; key {key} of lumiwatch.toml names it") from error
    if mode & 0o077:
        raise SettingsError(f"{path}: others can read this secret; run `chmod 600 {path}` (key {key})")
    if len(secret) < _MINIMUM_LENGTH:
        raise SettingsError(
            f"{path}: the secret is shorter than {_MINIMUM_LENGTH} characters; "
            f"make one with `openssl rand -hex 32 > {path}` (key {key})"
        )
    return secret
