"""TOML files of a site: how they are read, laid over each other, and how what is wrong with them is said.

Knows no key.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from daemon.errors import SettingsError


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    SettingsError
        It is missing, cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file; give a site folder (deploy/site is an example)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{file}: cannot be read ({error}); check the file and its permissions"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML ({error}); mend that line") from error


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested keys over others; those of `top` win."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def origin(file: Path, error: ValidationError) -> Path | str:
    """Tell whether the first wrong key was set in the environment, which wins over the file."""
    path = "__".join(str(part) for part in error.errors()[0]["loc"])
    variable = f"LUMIWATCH_{path}".upper()
    return f"environment variable {variable}" if variable in {name.upper() for name in os.environ} else file


def explain(file: Path | str, error: ValidationError) -> str:
    """Say in one line which key is wrong, and why."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "(the whole file)"
    cause = {
        "missing": "is missing: add it",
        "extra_forbidden": "is unknown: remove it or correct its name",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{file}: key {key}: {cause}{more}"
