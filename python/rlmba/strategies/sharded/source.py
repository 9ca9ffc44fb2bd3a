"""What a pool in shards must offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ColumnType", "ShardSource"]


class ColumnType(Protocol):
    """The type of a column's entry."""

    @property
    def width(self) -> int | None:
        """Values of an entry; None for a single one."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type."""
        ...


class ShardSource(Protocol):
    """Rows of named columns that are read in parts, such as :class:`rlmba.data.shards.ShardedPool`."""

    rows: int

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """All columns."""
        ...

    @property
    def digest(self) -> str:
        """A checksum that differs between different pools. Processes compare it before they start."""
        ...

    def blocks(
        self, names: Sequence[str], begin: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """Rows [begin, end) of some columns in order, with the number of each block's first row."""
        ...

    def take(self, names: Sequence[str], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Some rows of some columns, in the given order."""
        ...

    def place(self, row: int) -> str:
        """A row for messages."""
        ...
