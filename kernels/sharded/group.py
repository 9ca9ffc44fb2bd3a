"""Processes that work on one selection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import RlmbaError

__all__ = ["Alone", "Group", "agreed"]


class Group(Protocol):
    """The processes that take part, numbered from 0, such as ``rlmba.training.ProcessGroup``."""

    @property
    def rank(self) -> int:
        """The number of this process."""
        ...

    @property
    def size(self) -> int:
        """How many processes there are."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """One value of each process, in order of rank; every process calls this at the same point."""
        ...

    def add_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the arrays of all processes, in any order, for sums without rounding errors."""
        ...

    def exchange(self, sent: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Send one array [n, k] to each process; return the arrays sent to this process, by rank."""
        ...


class Alone:
    """A single process."""

    rank = 0
    size = 1

    def gather(self, value: Any) -> list[Any]:
        """The value itself."""
        return [value]

    def add_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values unchanged."""
        return values

    def exchange(self, sent: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Return the arrays that were sent."""
        return list(sent)


@contextlib.contextmanager
def agreed(group: Group) -> Iterator[None]:
    """Run a block in every process; if it fails in one of them, all raise the error of the first.

    Without this, the other processes would wait for the one that has failed.
    """
    error: RlmbaError | None = None
    try:
        yield
    except RlmbaError as raised:
        error = raised
    errors = [e for e in group.gather(error) if e is not None]
    if error is not None and error is errors[0]:
        raise error
    if errors:
        raise errors[0]
