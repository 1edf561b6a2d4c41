"""The dead letter: a message that was refused, and why. Knows no broker and no topic's format.

UTF-8 JSON, one for each refused message, with as much of its content as anybody needs to find who sent it.
"""

import base64
import hashlib
from datetime import datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field, ValidationError

from streams import versions
from streams.errors import MalformedMessage

VERSION: Final = 1
MAX_PAYLOAD_BYTES: Final = 64 * 1024
MAX_DEAD_LETTER_BYTES: Final = 256 * 1024

_Number = Annotated[int, Field(ge=0, lt=2**63)]


class DeadLetter(BaseModel):
    """One refused message.

    Attributes
    ----------
    reason
        What is wrong with the message, in one line.
    topic, partition, offset
        Where the message lies.
    size
        Length of its content in bytes; 0 for a message without content.
    sha256
        Of the whole content, hex.
    payload
        The first `MAX_PAYLOAD_BYTES` of the content; base64 in JSON.
    truncated
        The content is longer than `payload`.
    at
        When it was refused, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: versions.Version1 = 1
    reason: str
    topic: str
    partition: _Number
    offset: _Number
    size: _Number
    sha256: str
    payload: Base64Bytes
    truncated: bool
    at: AwareDatetime


def refuse(
    content: bytes | None, reason: str, *, topic: str, partition: int, offset: int, at: datetime
) -> DeadLetter:
    """Make the dead letter of a message.

    Parameters
    ----------
    content
        Of the message; None where it had none.
    reason
        What is wrong with it, in one line.
    at
        Aware UTC.
    """
    content = content or b""
    return DeadLetter(
        reason=reason,
        topic=topic,
        partition=partition,
        offset=offset,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        payload=base64.b64encode(content[:MAX_PAYLOAD_BYTES]),
        truncated=len(content) > MAX_PAYLOAD_BYTES,
        at=at,
    )


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Return the message: UTF-8 JSON."""
    return letter.model_dump_json().encode()


def decode_dead_letter(content: bytes) -> DeadLetter:
    """Read a message.

    Raises
    ------
    MalformedMessage
        It is no dead letter, or one of a version that is not read here.
    """
    if len(content) > MAX_DEAD_LETTER_BYTES:
        raise MalformedMessage(f"dead letter of {len(content)} bytes exceeds {MAX_DEAD_LETTER_BYTES}")
    try:
        return DeadLetter.model_validate_json(content, strict=True)
    except ValidationError as error:
        versions.check_json("dead letter", content, VERSION, "reader")
        raise MalformedMessage(f"dead letter: {versions.first_problem(error)}") from error
