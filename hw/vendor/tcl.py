"""Tcl words, lists and settings, quoted so that no value is ever evaluated.

Refuses to know the commands of any tool.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hw.errors import ToolchainError

_PLAIN = re.compile(r"[A-Za-z0-9_./:+,=-]+")
_BRACEABLE = re.compile(r"[A-Za-z0-9_./:+,=*\[\] -]*")

Value = str | tuple[str, ...] | Mapping[str, "Value"]
"""What a setting may hold: a word, a list of words, or a dictionary of settings."""


def word(text: str) -> str:
    """Give text as one Tcl word.

    Raises
    ------
    ToolchainError
        When it holds characters that no name of ours needs.
    """
    if _PLAIN.fullmatch(text):
        return text
    if _BRACEABLE.fullmatch(text):
        return "{" + text + "}"
    raise ToolchainError(
        f"{text!r} cannot stand in a Tcl script: use letters, digits and _ . / : + , = * - [ ]"
    )


def words(items: Iterable[str]) -> str:
    """Give a Tcl list as one word."""
    return "{" + " ".join(word(item) for item in items) + "}"


def settings(values: Mapping[str, Value]) -> str:
    """Give one `set` line for each value, dictionaries as Tcl dictionaries."""
    return "".join(f"set {word(name)} {_value(value)}\n" for name, value in values.items())


def _value(value: Value, indent: str = "") -> str:
    if isinstance(value, str):
        return word(value)
    if isinstance(value, tuple):
        return words(value)
    inner = indent + "    "
    lines = "".join(f"{inner}{word(name)} {_value(item, inner)}\n" for name, item in value.items())
    return f"{{\n{lines}{indent}}}" if lines else "{}"
