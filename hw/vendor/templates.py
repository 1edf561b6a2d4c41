"""Files that are the same in every project: Tcl procedures, and Python scripts for other environments.

They lie in `scripts/` and are never imported here. Refuses to know what is filled in beside them.
"""

from __future__ import annotations

from importlib.resources import files


def template(name: str) -> bytes:
    """Read a file of `scripts/`."""
    return (files("hw.vendor") / "scripts" / name).read_bytes()
