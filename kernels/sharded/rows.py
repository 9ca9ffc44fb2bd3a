"""The rows of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.kernels.common.d2_sampling import REDUCTION_ROWS
from rlmba.kernels.sharded.group import Group

__all__ = [
    "ALIGNMENT",
    "RowBlocks",
    "Span",
    "boundaries",
    "owner",
    "require_aligned",
    "span_of",
    "taken",
]

ALIGNMENT = REDUCTION_ROWS
"""Every process but the last holds a multiple of this number of rows."""


class RowBlocks(Protocol):
    """The rows of one process: one or several arrays with the same number of rows."""

    def __len__(self) -> int:
        """The number of rows in this process."""
        ...

    def blocks(self) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """All rows in order, as pairs of the first row's number and the arrays [n, ...] of a block.

        Every block but the last has a multiple of :data:`ALIGNMENT` rows.
        """
        ...

    def take(self, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Some rows of every array, by their numbers in this process."""
        ...


class Span:
    """Where the rows of a process are among all rows.

    Attributes
    ----------
    total : int
        Rows of all processes.
    begin : int
        The position of this process's first row.
    begins : int64 array [processes]
        Those of every process.
    """

    def __init__(self, counts: Sequence[int], rank: int) -> None:
        self.begins = np.cumsum([0, *counts[:-1]])
        self.total = int(sum(counts))
        self.begin = int(self.begins[rank])


def span_of(rows: RowBlocks, group: Group) -> Span:
    """The span of a process's rows; checks that all processes keep :data:`ALIGNMENT`.

    Raises
    ------
    UsageError
        If a process other than the last one with rows has another number of rows than a multiple.
    """
    counts = group.gather(len(rows))
    require_aligned(counts)
    return Span(counts, group.rank)


def require_aligned(counts: Sequence[int]) -> None:
    """See :func:`span_of`."""
    last = max((r for r, count in enumerate(counts) if count), default=0)
    for rank, count in enumerate(counts[:last]):
        if count % ALIGNMENT:
            raise UsageError(
                f"process {rank}: expected a multiple of {ALIGNMENT:,} rows, as in every process but the "
                f"last, got {count:,}; divide the rows with rlmba.kernels.sharded.boundaries"
            )


def boundaries(total: int, processes: int) -> list[int]:
    """Where the parts of ``total`` rows begin, and the end of the last one: [processes + 1].

    The parts differ by at most :data:`ALIGNMENT` rows, apart from the last one, which may be shorter.
    """
    chunks = -(-total // ALIGNMENT)
    ends = [min(total, chunks * p // processes * ALIGNMENT) for p in range(processes + 1)]
    ends[-1] = total
    return ends


def owner(span: Span, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The process that holds each position."""
    found = np.searchsorted(span.begins, positions, side="right") - 1
    return np.asarray(found, dtype=np.int64)


def taken(
    take: Callable[[NDArray[np.int64]], Sequence[NDArray[Any]]],
    positions: NDArray[np.int64],
    span: Span,
    group: Group,
) -> list[NDArray[Any]]:
    """Copy rows of any process to all processes.

    Parameters
    ----------
    take : function
        Returns the arrays of some rows, given their numbers in this process, like :meth:`RowBlocks.take`.
    positions : int64 array
        Positions among all rows, the same in all processes. The copies are in the same order.
    """
    mine = np.flatnonzero(owner(span, positions) == group.rank)
    here = take(positions[mine] - span.begin) if len(mine) else None
    parts = [part for part in group.gather((mine, here)) if part[1] is not None]
    order = np.argsort(np.concatenate([at for at, _ in parts]))
    return [np.concatenate(found)[order] for found in zip(*(p[1] for p in parts), strict=True)]
