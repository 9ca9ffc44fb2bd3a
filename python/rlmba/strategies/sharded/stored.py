"""The rows of one process, in memory or in a temporary file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import StorageError
from rlmba.kernels.sharded import ALIGNMENT

__all__ = ["StoredRows"]

_BLOCK_BYTES = 64 << 20


class StoredRows:
    """Arrays with one row a sample, as :class:`rlmba.kernels.sharded.RowBlocks`.

    Rows are appended in order, and then read several times.

    Parameters
    ----------
    rows : int
        How many rows will be appended.
    max_bytes : int
        If the arrays take more, they are kept in temporary files, of which a block at a time is in memory.
    folder : path or None
        For the files; None is the system's folder. They have no names, so nothing is left behind, however
        the process ends.
    """

    def __init__(self, rows: int, max_bytes: int, folder: Path | None = None) -> None:
        self._rows, self._max_bytes, self._folder = rows, max_bytes, folder
        self._arrays: list[Any] = []
        self._filled = 0

    def append(self, block: Sequence[NDArray[Any]]) -> None:
        """Add the next rows of every array.

        Raises
        ------
        StorageError
            If the disk is full.
        """
        if not self._arrays:
            self._arrays = self._made(block)
        stop = self._filled + len(block[0])
        for array, part in zip(self._arrays, block, strict=True):
            array[self._filled : stop] = part
        self._filled = stop

    def none(self) -> list[NDArray[Any]]:
        """No row of every array; an empty list if no block has been appended."""
        return [np.empty((0, *a.shape[1:]), a.dtype) for a in self._arrays]

    def _made(self, block: Sequence[NDArray[Any]]) -> list[Any]:
        shapes = [(self._rows, *part.shape[1:]) for part in block]
        size = sum(
            int(np.prod(shape)) * part.itemsize for shape, part in zip(shapes, block, strict=True)
        )
        if size <= self._max_bytes:
            return [np.empty(s, part.dtype) for s, part in zip(shapes, block, strict=True)]
        return [
            _FileArray(s, part.dtype, self._folder) for s, part in zip(shapes, block, strict=True)
        ]

    def __len__(self) -> int:
        return self._rows

    def blocks(self) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """See :class:`rlmba.kernels.sharded.RowBlocks`."""
        if not self._rows:
            return
        row = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in self._arrays)
        size = max(1, _BLOCK_BYTES // max(row, 1) // ALIGNMENT) * ALIGNMENT
        in_memory = all(isinstance(a, np.ndarray) for a in self._arrays)
        size = self._rows if in_memory else size
        for begin in range(0, self._rows, size):
            yield begin, [a[begin : begin + size] for a in self._arrays]

    def take(self, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """See :class:`rlmba.kernels.sharded.RowBlocks`."""
        return [a[rows] for a in self._arrays]


class _FileArray:
    """An array in a file without a name. It is read and written by calls, not mapped into memory."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None) -> None:
        self.shape, self.dtype = shape, dtype
        self._row = dtype.itemsize * int(np.prod(shape[1:]))
        size = self._row * shape[0]
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            os.posix_fallocate(self._file.fileno(), 0, max(size, 1))
        except OSError as error:
            where = folder or tempfile.gettempdir()
            raise StorageError(
                f"{where}: expected {size / 1e9:.1f} GB of free space for rows that do not fit into memory: "
                f"{error.strerror}; give another folder (--spill-folder), or more memory (--max-memory)"
            ) from error

    def __setitem__(self, rows: slice, values: NDArray[Any]) -> None:
        data = np.ascontiguousarray(values, dtype=self.dtype).data.cast("B")
        at = rows.start * self._row
        while len(data):
            done = os.pwrite(self._file.fileno(), data, at)
            data, at = data[done:], at + done

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        if isinstance(rows, slice):
            begin, end, _ = rows.indices(self.shape[0])
            return self._read(begin, end)
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for k, row in enumerate(rows.tolist()):
            found[k] = self._read(row, row + 1)[0]
        return found

    def _read(self, begin: int, end: int) -> NDArray[Any]:
        found = np.empty((end - begin, *self.shape[1:]), self.dtype)
        data, at = found.data.cast("B"), begin * self._row
        while len(data):
            done = os.preadv(self._file.fileno(), [data], at)
            if not done:
                raise StorageError("a temporary file was cut short by another program; start again")
            data, at = data[done:], at + done
        return found
