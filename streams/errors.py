"""The errors of this package, one class per cause a caller can act on. Knows nothing else.

Every message names the thing that is wrong and the cure, in one line, because the command line
prints it as it stands.
"""


class StreamsError(Exception):
    """Base of every error that this package raises on purpose."""


class ContractError(StreamsError):
    """A contract cannot be read, contradicts itself, or is asked for an input it does not have."""


class ExpressionError(StreamsError):
    """An expression of a contract is not in the small language, or cannot be evaluated."""


class ConvertError(StreamsError):
    """A ROOT file cannot be turned into a dataset."""


class ConversionPaused(ConvertError):  # noqa: N818 - named for what it is
    """A conversion stopped for a reason that may pass; what is done is kept, and it can be resumed."""


class DatasetError(StreamsError):
    """A dataset file is missing, broken, or made under another contract."""


class EffectError(StreamsError):
    """A detector effect is unknown or badly written."""


class ResampleError(StreamsError):
    """A dataset cannot be resampled exactly under its contract."""


class ReplayError(StreamsError):
    """A replay cannot start or cannot deliver what it produced."""


class SummaryError(StreamsError):
    """Two summaries do not belong together, or counts contradict each other."""


class MalformedMessage(StreamsError):  # noqa: N818 - named for what arrived
    """A message breaks its format; it belongs in the dead letters.

    Attributes
    ----------
    reason
        One line that says what is wrong with the message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DatabaseError(StreamsError):
    """The database cannot be opened."""


class BrokerError(StreamsError):
    """The broker cannot be started or reached."""


class PortInUse(BrokerError):  # noqa: N818 - named for what is wrong
    """Another program listens on the broker's port."""


class ReferenceProblem(StreamsError):  # noqa: N818 - `ReferenceError` is Python's own
    """A reference cannot be built, read or found."""


class BacktestError(StreamsError):
    """A backtest cannot answer what it is asked."""


class RecorderError(StreamsError):
    """Recent events cannot be kept or found."""


class WorkerError(StreamsError):
    """A worker's settings are wrong, or it cannot run."""


class DqmFileError(StreamsError):
    """A DQM file cannot be read, or does not hold what a contract asks for."""


class HistogramError(StreamsError):
    """A histogram cannot be counted under a contract."""


class WatchError(StreamsError):
    """A folder cannot be watched, or what was done with its files cannot be remembered."""
