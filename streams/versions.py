"""The version of a message's format: what a reader says of one that it does not know. Knows no format.

A format's version grows when a reader of the old one would misunderstand the new one. A reader accepts
the versions that it knows and refuses every other, by a reason that says which side to update.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.errors import MalformedMessage

Version1 = Annotated[int, Field(ge=1, le=1, strict=True)]
"""The version of a format that has had one only."""

_SANE: Final = 1_000_000


def unknown_version(kind: str, found: int, newest: int, reader: str = "worker") -> MalformedMessage:
    """Return the error of a version that is not read.

    Parameters
    ----------
    kind
        What the message is, for example ``batch``.
    found
        The version it names.
    newest
        The newest version that this reader knows.
    reader
        Which program to update.
    """
    if found > _SANE:
        return MalformedMessage(f"{kind} version is a number of absurd size: give {newest}")
    if found > newest:
        return MalformedMessage(
            f"{kind} version {found} is newer than this {reader} reads (up to {newest}): update the {reader}"
        )
    return MalformedMessage(f"{kind} version {max(found, -1)} does not exist: give {newest}")


def check_json(kind: str, payload: bytes, newest: int, reader: str = "worker") -> None:
    """Refuse a JSON message for its version, if that is what is wrong with it.

    To be called where the message is not of the version that the reader knows best: its keys may be those
    of a later format, and then it is the version that explains them.

    Raises
    ------
    MalformedMessage
        It names another version than `newest`.
    """
    try:
        found = _Versioned.model_validate_json(payload).version
    except ValidationError:
        return
    if type(found) is int and found != newest:
        raise unknown_version(kind, found, newest, reader)


def first_problem(error: ValidationError) -> str:
    """Return what is wrong first, as ``key: what``, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    names = ".".join(str(part) for part in first["loc"]) or "message"
    key = "".join(one if one.isprintable() else "?" for one in names)  # it may be the sender's own
    return f"{key:.80}: {first['msg'].removeprefix('Value error, '):.200}"


def printable(text: str) -> str:
    """Refuse, for pydantic, a text that a database or a terminal would stumble over."""
    if not text.isprintable():
        raise ValueError("give printable characters only")
    return text


class _Versioned(BaseModel):
    model_config = ConfigDict(extra="ignore")

    version: Any = None
