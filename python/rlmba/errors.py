"""The hierarchy of the package's errors and warnings.

Every message says what was expected, what was found and what to do. The command line exits with 2
for a :class:`UsageError` and with 1 for any other :class:`RlmbaError`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

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
    "UnfitError",
    "UsageError",
    "WorkerError",
]


class RlmbaError(Exception):
    """Base class of all errors that this package raises deliberately."""


class UsageError(RlmbaError, ValueError):
    """An invalid request: an unknown name, an invalid option, a batch larger than the pool."""


class BackendError(UsageError):
    """A kernel backend that was requested by name cannot serve the call."""


class ShapeError(UsageError, TypeError):
    """An array has the wrong rank, shape or dtype."""


class DataError(RlmbaError, ValueError):
    """Data are missing, unreadable, out of range or of unequal length."""


class UnfitError(UsageError, DataError):
    """The data have fewer samples or classes than the settings need.

    Attributes
    ----------
    settings : mapping of str to value
        Settings by key that fit the data; empty if none do.
    """

    def __init__(self, message: str, settings: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.settings = dict(settings)

    def __reduce__(self) -> tuple[type[UnfitError], tuple[str, dict[str, Any]]]:
        """Pickle both arguments."""
        return type(self), (str(self), self.settings)

    @classmethod
    def joined(cls, errors: Sequence[UnfitError]) -> UnfitError:
        """One error with the messages of all, and with all settings unless one of them cannot be met."""
        settings = {key: value for error in errors for key, value in error.settings.items()}
        if not all(error.settings for error in errors):
            settings = {}
        whole = cls("", settings)
        advice = f"These settings fit: {shlex.join(whole.flags)}" if settings else "Add samples"
        return cls("\n".join([*map(str, errors), advice]), settings)

    @property
    def flags(self) -> list[str]:
        """The settings as words of a command line: ``--set``, ``key=value``, ..."""
        said = (f"{key}={json.dumps(value)}" for key, value in self.settings.items())
        return [word for setting in said for word in ("--set", setting)]


class NonFiniteError(DataError):
    """NaN or infinity was found where finite numbers are required.

    Attributes
    ----------
    row : int
        Position of the first invalid row in the array that was passed.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[str, int]]:
        """Pickle both arguments, so that the error can be sent to another process."""
        return type(self), (str(self), self.row)


class WorkerError(RlmbaError):
    """A process that loads data or runs experiments of a comparison has died."""


class PeerError(RlmbaError):
    """Another process of a distributed run ended before the run did."""


class RunFolderError(RlmbaError):
    """A run folder is not ours, is damaged or belongs to another configuration."""


class CheckpointError(RunFolderError):
    """A checkpoint does not match the model or policy that it is loaded into."""


class StorageError(RlmbaError, OSError):
    """Writing to disk failed; existing files are unchanged."""


class SweepError(RlmbaError):
    """Some runs of a comparison failed; the others are complete."""


class AnnotatorError(RlmbaError):
    """An annotator cannot be reached, or its data are missing, damaged or rejected."""


class PluginError(RlmbaError):
    """A plug-in from another package raised an exception or returned an invalid result."""


class TrustError(RlmbaError):
    """A folder needs permission that its user has not given, to run code or to send data to a server."""


class RlmbaWarning(UserWarning):
    """Base class of the package's warnings."""
