"""Why something from the chat was not done: a bounded name to count, and a sentence for the person.

Refuses to know HTTP and the chat's protocol.
"""

# ruff: noqa: N818 - a cause is named as people say it; the base class says that it is an error

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from daemon.errors import (
    DaemonError,
    DecisionRefused,
    InvalidChoice,
    NotFound,
    NotPermitted,
    NotPossibleNow,
)


class Reason(StrEnum):
    """What was wrong; the label of `lumiwatch_chat_refused_total`."""

    FORGED = "forged"
    EXPIRED = "expired"
    USED = "used"
    UNLISTED = "unlisted"
    CHANNEL = "channel"
    FOREIGN = "foreign"
    SUPERSEDED = "superseded"
    DECIDED = "decided"
    RESOLVED = "resolved"
    NOT_PERMITTED = "not_permitted"
    NOT_POSSIBLE = "not_possible"
    UNKNOWN = "unknown"
    INVALID = "invalid"
    NO_DIALOG = "no_dialog"
    TOKEN = "token"  # noqa: S105 - the name of a cause
    MALFORMED = "malformed"


class Refused(DaemonError):
    """Something from the chat was not done; the message is for the person who asked.

    Attributes
    ----------
    reason
        Bounded name of the cause.
    """

    http_status: ClassVar[int] = 403

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_REASONS: dict[type[DaemonError], Reason] = {
    NotPermitted: Reason.NOT_PERMITTED,
    DecisionRefused: Reason.DECIDED,
    NotPossibleNow: Reason.NOT_POSSIBLE,
    NotFound: Reason.UNKNOWN,
    InvalidChoice: Reason.INVALID,
}


def refusal_of(error: DaemonError) -> Refused:
    """Say an error of an operation as a refusal; what is not the person's doing is raised again."""
    if isinstance(error, Refused):
        return error
    if error.http_status >= 500:
        raise error
    return Refused(_REASONS.get(type(error), Reason.NOT_POSSIBLE), str(error))
