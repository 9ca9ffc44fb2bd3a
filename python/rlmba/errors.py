"""Errors and warnings of the package: one small tree.

Every message says what was expected, what was got, and what to do. The command line maps
:class:`UsageError` to exit code 2 and every other :class:`RlmbaError` to exit code 1.
"""

from __future__ import annotations

__all__ = [
    "AnnotatorError",
    "BackendError",
    "CheckpointError",
    "DataError",
    "NonFiniteError",
    "PeerError",
    "PluginError",
    "RlmbaError",
    "RlmbaWarning",
    "RunFolderError",
    "ShapeError",
    "StorageError",
    "SweepError",
    "TrustError",
    "UsageError",
    "WorkerError",
]


class RlmbaError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(RlmbaError, ValueError):
    """A request that cannot be met as asked: an unknown name, a bad option, a batch beyond the pool."""


class BackendError(UsageError):
    """A kernel backend that was asked for by name cannot serve the call."""


class ShapeError(UsageError, TypeError):
    """An array of the wrong rank, shape or dtype."""


class DataError(RlmbaError, ValueError):
    """Data that cannot be used: missing, of unequal length, out of range, unreadable."""


class NonFiniteError(DataError):
    """NaN or infinity where finite numbers are needed.

    Attributes
    ----------
    row : int
        Position of the first offending row in the array that was passed.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[str, int]]:
        """Both arguments, so that the error passes from one process to another."""
        return type(self), (str(self), self.row)


class WorkerError(RlmbaError):
    """A process that loads data, or makes runs of a comparison, has died."""


class PeerError(RlmbaError):
    """Another of the processes that a run is spread over has ended before the run did."""


class RunFolderError(RlmbaError):
    """A run folder that is foreign, damaged, or belongs to another configuration."""


class CheckpointError(RunFolderError):
    """A checkpoint that does not fit the model or policy it is loaded into."""


class StorageError(RlmbaError, OSError):
    """Writing to disk failed; what was on disk before is unharmed."""


class SweepError(RlmbaError):
    """Runs of a comparison have failed; the others are complete."""


class AnnotatorError(RlmbaError):
    """Those who label cannot be reached, or what they keep is missing, damaged or refused."""


class PluginError(RlmbaError):
    """A strategy or an annotator of another package raised, or returned something it must not."""


class TrustError(RlmbaError):
    """A folder asks for what only its user may allow, and has not: code to run, a server to send data to."""


class RlmbaWarning(UserWarning):
    """Base of the package's warnings."""
