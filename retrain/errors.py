"""The errors of this package: one class per cause a caller can act on. Refuses to know how they are shown.

Every message names the thing that is wrong and the cure, in one line.
"""

# The names say what happened; the suffix Error is for the base class.
# ruff: noqa: N818

from __future__ import annotations


class RetrainError(Exception):
    """Base of every error this package raises on purpose."""


class EncoderMismatch(RetrainError):
    """An encoder and a firmware model do not have the same shape, or the encoder cannot be quantised."""


class TrainingFailed(RetrainError):
    """A training did not converge to a usable model, or its settings make no sense."""


class TooFewEvents(RetrainError):
    """There are not enough events to train on, to estimate from or to judge with."""


class ContractMismatch(RetrainError):
    """A dataset or a model was made under another contract."""


class StrategyUnknown(RetrainError):
    """No strategy is registered under this name."""


class JobError(RetrainError):
    """The description of a retraining job is wrong, or one of its files cannot be read or written."""
