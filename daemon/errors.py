"""Errors of the daemon: one class per cause a caller can act on, each with its HTTP status.

The message of every error names the thing and the cure in one line. This module knows no web
framework: `http_status` is a number that the API happens to use.
"""

# ruff: noqa: N818 - a cause is named as people say it; the base class says that it is an error

from __future__ import annotations

from typing import ClassVar


class DaemonError(Exception):
    """Base of every error the daemon raises on purpose."""

    http_status: ClassVar[int] = 500


class SettingsError(DaemonError):
    """A site cannot be loaded: the message names the file, the key and the cure."""


class PortInUse(DaemonError):
    """The console's address is already taken by another process."""


class DatabaseUnusable(DaemonError):
    """The database cannot be opened, or was written by a newer lumiwatch."""


class ProcessFailed(DaemonError):
    """A process that a command depends on ended, or did not become ready in time."""


class BrokerAway(DaemonError):
    """The Kafka broker does not answer, or lacks a topic."""


class BoardUnknown(DaemonError):
    """Nobody knows where the board of a model is."""

    http_status = 503


class NotFound(DaemonError):
    """No such incident, response, model, package or lineage node."""

    http_status = 404


class NotAuthenticated(DaemonError):
    """The caller showed no valid operator token and no valid session."""

    http_status = 401


class NotPermitted(DaemonError):
    """The operator is known, but is not listed for this action on this model."""

    http_status = 403


class ProviderAway(DaemonError):
    """Single sign-on does not answer, or not as a provider should."""

    http_status = 503


class TooManyTries(DaemonError):
    """Somebody tries too often; `retry_after_s` says how long to wait."""

    http_status = 429

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many tries: wait {retry_after_s} s and try again")
        self.retry_after_s = retry_after_s


class DecisionRefused(DaemonError):
    """The decision came too late or twice: the response no longer waits for one."""

    http_status = 409


class NotPossibleNow(DaemonError):
    """The action does not fit the present state of the incident or response."""

    http_status = 409


class InvalidChoice(DaemonError):
    """The decision names a strategy or an alternative that the proposal does not offer."""

    http_status = 422


class StepFailed(DaemonError):
    """A step of a response could not be done; the response says why and what was left untouched."""


class ChildFailed(StepFailed):
    """A child process (retraining, build) ended without its result."""


class VerificationFailed(StepFailed):
    """The windows after reconfiguration do not agree with the reference; the response rolls back."""


class BackupFailed(DaemonError):
    """A backup cannot be made or written, or the program that makes it is not there."""


class BackupRefused(DaemonError):
    """A backup cannot be restored: it is damaged, forged or too large, or the place is taken."""


class CheckFailed(DaemonError):
    """The check that a command made did not pass; the command ends with exit code 1."""


class DaemonUnreachable(DaemonError):
    """No daemon answers at its address."""


class RequestRefused(DaemonError):
    """The daemon refused a request; the message is the daemon's own reason."""


class DemoFolderInUse(DaemonError):
    """The demo's folder holds something that the demo did not make."""


class DemoFolderUnusable(DaemonError):
    """The demo's folder cannot be made or written."""


class DemoFailed(DaemonError):
    """The demo waited for something that did not happen."""
