"""A query in one of several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rlmba.kernels.common.arrays import require_finite
from rlmba.kernels.sharded import Group, agreed
from rlmba.strategies.sharded.local import LocalPool
from rlmba.strategies.sharded.stored import StoredRows
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Query"]


@dataclass(frozen=True, eq=False)
class Query:
    """A query in one process: its rows, the other processes, and the storage of rows."""

    strategy: Any
    pool: LocalPool
    context: QueryContext
    group: Group
    max_bytes: int
    spill_folder: Path | None = None

    def stored(self, made: Callable[[PoolOutputs], Sequence[NDArray[Any]]]) -> StoredRows:
        """Store the result of a function for each block. Every process must call this."""
        pool = self.pool
        rows = StoredRows(pool.end - pool.begin, self.max_bytes, self.spill_folder)

        def finite(block: PoolOutputs) -> Sequence[NDArray[Any]]:
            arrays = made(block)
            for a in arrays:
                require_finite(a, "features")
            return arrays

        with agreed(self.group):
            for _, arrays in pool.each(finite):
                rows.append(arrays)
        return rows
